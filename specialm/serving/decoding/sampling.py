"""How a text is to be continued: what is drawn from, and where it ends."""

from dataclasses import dataclass, fields
from typing import Any

from specialm.common.errors import UserError
from specialm.common.setting import near

MOST_STOPS, MOST_STOP_BYTES, MOST_TOP = 16, 1024, 20
SEEDS = 1 << 32


@dataclass(frozen=True)
class Sampling:
    """One request's choices, checked when they are made.

    The order is that of transformers: penalty, temperature, top-k, top-p, min-p. Tokens of equal
    probability are kept or left out together.

    Raises:
      UserError: a value out of its range, by name.
    """

    tokens: int = 64  # at most
    temperature: float = 0.0  # 0 takes the likeliest token
    top_k: int = 0  # likeliest tokens that are drawn from; 0 for all
    top_p: float = 1.0  # the fewest likeliest tokens with this probability together
    min_p: float = 0.0  # those at least this fraction as likely as the likeliest
    repetition_penalty: float = 1.0  # logits of tokens that were there: above 0 / it, below 0 * it
    seed: int = 0
    stop: tuple[str, ...] = ()  # the text ends before the first of these
    slide: bool = False  # beyond the context the oldest text is forgotten
    top_logprobs: int = 0  # likeliest tokens that are reported with each one

    def __post_init__(self) -> None:
        for name, least, most in (
            ("tokens", 0, None),
            ("temperature", 0, 100),
            ("top_k", 0, None),
            ("min_p", 0, 1),
            ("seed", 0, SEEDS - 1),
            ("top_logprobs", 0, MOST_TOP),
        ):
            value = getattr(self, name)
            if not (value >= least and (most is None or value <= most)):
                upper = "at least {}" if most is None else "between {} and {}"
                raise self._error(name, upper.format(least, most))
        if not 0 < self.top_p <= 1:
            raise self._error("top_p", "above 0 and at most 1")
        if not 0.01 <= self.repetition_penalty <= 100:
            raise self._error("repetition_penalty", "between 0.01 and 100")
        long = [text for text in self.stop if not 0 < len(text.encode()) <= MOST_STOP_BYTES]
        if len(self.stop) > MOST_STOPS or long:
            raise self._error(
                "stop", f"at most {MOST_STOPS} texts of 1 to {MOST_STOP_BYTES} bytes each"
            )

    def _error(self, name: str, wanted: str) -> UserError:
        return UserError(f"generate.{name}={getattr(self, name)}: must be {wanted}.")

    @property
    def filters(self) -> bool:
        """Whether some tokens are left out."""
        return self.temperature > 0 and (self.top_k > 0 or self.top_p < 1)


NAMES = tuple(field.name for field in fields(Sampling))


def of(**given: Any) -> Sampling:
    """A `Sampling` of values by name; one stop text may stand for a list of them.

    Raises:
      UserError: an unknown name, or a value out of its range.
    """
    for name in given:
        if name not in NAMES:
            raise UserError(f"generate.{name}: no such setting.{near(name, NAMES)}")
    stop = given.get("stop", ())
    return Sampling(**{**given, "stop": (stop,) if isinstance(stop, str) else tuple(stop)})
