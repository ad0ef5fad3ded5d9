"""What clients may ask for at most, and what the answer is beyond it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Of a server; of each model where that is said."""

    body_bytes: int = 1 << 20  # of a request
    prompts: int = 16  # of a request, each with all of its `n` continuations
    tokens: int = 4096  # drawn for one prompt
    rows: int = 16  # texts of a model that are continued at the same time
    waiting: int = 256  # texts of a model that wait for a row
    seconds: float = 120.0  # of a request
    held: int = 8  # models of a bundle's domains in memory
    scored_bytes: int = 64 << 10  # of a text that is scored


class Refused(Exception):
    """An answer with a status other than 200, in the form of OpenAI's errors."""

    def __init__(self, status: int, message: str, param: str | None = None, retry: bool = False):
        super().__init__(message)
        self.status, self.message, self.param, self.retry = status, message, param, retry

    def to_json(self) -> dict:
        """The body."""
        kinds = {401: "authentication_error", 404: "not_found_error"}
        kind = kinds.get(
            self.status, "invalid_request_error" if self.status < 500 else "server_error"
        )
        return {
            "error": {
                "message": self.message,
                "type": kind,
                "param": self.param,
                "code": self.status,
            }
        }
