"""What clients get, in the form of OpenAI's interface."""

import json
import secrets
import time
from typing import Any

from specialm.serving.decoding.sequence import Delta, Token
from specialm.serving.server.requests import Request

DONE = b"data: [DONE]\n\n"


class Answer:
    """The answer to one request: identity, choices, usage."""

    def __init__(self, request: Request):
        self._request, self._is_chat = request, request.is_chat
        self._contents = request.model.vocabulary.token_bytes
        self.drawn = 0  # tokens, of all choices
        self._started = [False] * len(request.prompts)
        self._offsets = [len(text) for text in request.echo]
        kind = "chat.completion" if self._is_chat else "text_completion"
        self._head = {
            "id": f"{'chatcmpl' if self._is_chat else 'cmpl'}-{secrets.token_hex(12)}",
            "object": kind,
            "created": int(time.time()),
            "model": request.model.name,
        }

    def whole(self, deltas: list[Delta]) -> dict[str, Any]:
        """The body, of all that each choice has become."""
        choices = []
        for index, delta in enumerate(deltas):
            self.drawn += len(delta.tokens)
            text = self._request.echo[index] + delta.text
            said: dict[str, Any] = {"text": text}
            if self._is_chat:
                said = {"message": {"role": "assistant", "content": text}}
            choices.append(self._choice(index, said, delta))
        return {**self._head, "choices": choices, "usage": self.usage()}

    def event(self, index: int, delta: Delta) -> bytes:
        """An event of a stream: what one choice has gained."""
        first, self._started[index] = not self._started[index], True
        self.drawn += len(delta.tokens)
        text = (self._request.echo[index] if first else "") + delta.text
        said: dict[str, Any] = {"text": text}
        if self._is_chat:
            said = {"delta": {**({"role": "assistant"} if first else {}), "content": text}}
        kind = {"object": "chat.completion.chunk"} if self._is_chat else {}
        return event({**self._head, **kind, "choices": [self._choice(index, said, delta)]})

    def last_event(self) -> bytes:
        """The event with the usage."""
        kind = {"object": "chat.completion.chunk"} if self._is_chat else {}
        return event({**self._head, **kind, "choices": [], "usage": self.usage()})

    def usage(self) -> dict[str, int]:
        """Tokens: those of a prompt count once, however many continuations it has."""
        prompts = self._request.prompts
        different = [ids for i, ids in enumerate(prompts) if not i or ids is not prompts[i - 1]]
        read = sum(map(len, different))
        return {
            "prompt_tokens": read,
            "completion_tokens": self.drawn,
            "total_tokens": read + self.drawn,
        }

    def _choice(self, index: int, said: dict, delta: Delta) -> dict[str, Any]:
        logprobs = None
        if self._request.logprobs:
            logprobs = self._of_chat(delta) if self._is_chat else self._of_text(index, delta)
        return {"index": index, **said, "logprobs": logprobs, "finish_reason": delta.finish or None}

    def _of_chat(self, delta: Delta) -> dict[str, Any]:
        def entry(content: bytes, logp: float) -> dict[str, Any]:
            return {"token": shown(content), "logprob": logp, "bytes": list(content)}

        return {
            "content": [
                {
                    **entry(token.content, token.logp),
                    "top_logprobs": [entry(self._content(i), logp) for i, logp in token.top],
                }
                for token in delta.tokens
            ]
        }

    def _of_text(self, index: int, delta: Delta) -> dict[str, Any]:
        def top(token: Token) -> dict[str, float]:
            found: dict[str, float] = {}
            for i, logp in token.top:  # several may be shown alike: the likeliest stands
                found.setdefault(shown(self._content(i)), logp)
            return found

        offsets = []
        for token in delta.tokens:
            offsets.append(self._offsets[index])
            # A character counts where it begins.
            self._offsets[index] += sum(byte & 0xC0 != 0x80 for byte in token.content)
        wants_top = bool(self._request.samplings[index].top_logprobs)
        return {
            "tokens": [shown(token.content) for token in delta.tokens],
            "token_logprobs": [token.logp for token in delta.tokens],
            "top_logprobs": [top(token) for token in delta.tokens] if wants_top else None,
            "text_offset": offsets,
            "bytes": [list(token.content) for token in delta.tokens],
        }

    def _content(self, token: int) -> bytes:
        return self._contents[token] if token < len(self._contents) else b""


def shown(content: bytes) -> str:
    """A token as text; one that is a part of a character as OpenAI writes it."""
    try:
        return content.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in content)


def event(content: dict) -> bytes:
    """An event of a stream."""
    return b"data: " + json.dumps(content, ensure_ascii=False).encode() + b"\n\n"
