"""What a body of JSON asks for, in the words of OpenAI's interface."""

import dataclasses
import json
import secrets
from dataclasses import dataclass
from typing import Any

from specialm.common.errors import UserError
from specialm.serving import chat, generate
from specialm.serving.decoding.sampling import MOST_TOP, SEEDS, Sampling
from specialm.serving.server.limits import Limits, Refused
from specialm.serving.server.served import Served

COMPLETION_TOKENS = 16  # where a request does not say how many, as OpenAI has it
# What changes an answer and is not offered: asking for it is an error, its plain value is not.
NOT_OFFERED: dict[str, tuple] = {
    "suffix": (None, ""),
    "best_of": (None, 1),
    "frequency_penalty": (None, 0),
    "presence_penalty": (None, 0),
    "logit_bias": (None, {}),
    "response_format": (None, {"type": "text"}),
    "tools": (None, []),
    "tool_choice": (None, "none", "auto"),
    "functions": (None, []),
}
NUMBERS = {"temperature": 1.0, "top_p": 1.0, "min_p": 0.0, "repetition_penalty": 1.0}


@dataclass(frozen=True)
class Request:
    """One body, checked.

    Attributes:
      prompts: token ids, `n` in a row of each; samplings: one for each of them.
      echo: the text of each, which stands before its continuation; "" where nobody asked.
    """

    model: Served
    prompts: list[list[int]]
    samplings: list[Sampling]
    echo: list[str]
    is_chat: bool
    stream: bool
    logprobs: bool
    usage_at_end: bool  # of a stream


def model_of(given: dict[str, Any]) -> str:
    """The name of the model that a request names; "" for none.

    Raises:
      Refused: it is no text (400).
    """
    return _text(given, "model")


def parse(given: dict[str, Any], model: Served, limits: Limits, is_chat: bool) -> Request:
    """What a request asks for.

    Args:
      given: its body.
      model: that it names.

    Raises:
      Refused: it asks for what there is not (400).
    """
    for name, plain in NOT_OFFERED.items():
        if given.get(name) not in plain:
            raise Refused(400, f"{name}: is not offered here; leave it out.", name)
    count = _whole(given, "n", 1, 1, limits.prompts)
    stream_options = given.get("stream_options") or {}
    if not isinstance(stream_options, dict):
        raise Refused(400, "stream_options: must be an object.", "stream_options")
    logprobs, top = _logprobs(given, is_chat)
    sampling = _sampling(given, model, limits, is_chat, top)
    try:
        read = _conversation if is_chat else _prompts
        texts, prompts = read(given, model, sampling)
    except UserError as error:
        raise Refused(400, str(error), "messages" if is_chat else "prompt") from error
    if len(prompts) * count > limits.prompts:
        raise Refused(
            400, f"prompt: {len(prompts)} with n={count} is more than {limits.prompts}.", "prompt"
        )
    echo = not is_chat and _flag(given, "echo")
    if echo and logprobs:
        raise Refused(
            400, "echo: with logprobs it is not offered; POST the text to /score.", "echo"
        )
    each = [(text, ids, i) for text, ids in zip(texts, prompts, strict=True) for i in range(count)]
    return Request(
        model,
        [ids for _, ids, _ in each],
        [dataclasses.replace(sampling, seed=(sampling.seed + i) % SEEDS) for *_, i in each],
        [text if echo else "" for text, *_ in each],
        is_chat,
        _flag(given, "stream"),
        logprobs,
        _flag(stream_options, "include_usage"),
    )


def read_object(body: bytes) -> dict[str, Any]:
    """The object of a body of JSON.

    Raises:
      Refused: it is something else (400).
    """
    try:
        given = json.loads(body.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise Refused(400, f"the body is not UTF-8 from byte {error.start} on.") from error
    except (ValueError, RecursionError) as error:
        raise Refused(400, f"the body is not JSON ({error}).") from error
    if not isinstance(given, dict):
        raise Refused(400, "the body must be an object of JSON.")
    return given


def scored(given: dict[str, Any], limits: Limits) -> str:
    """The text that a request wants scored.

    Raises:
      Refused: there is none, or it is too long (400).
    """
    text = _text(given, "text")
    try:
        size = len(generate.utf8(text))
    except UserError as error:
        raise Refused(400, str(error).replace("prompt", "text", 1), "text") from error
    if not 0 < size <= limits.scored_bytes:
        raise Refused(
            400, f"text: has {size:,} bytes; must have 1 to {limits.scored_bytes:,}.", "text"
        )
    return text


def _prompts(given: dict, model: Served, sampling: Sampling) -> tuple[list[str], list[list[int]]]:
    prompt = given.get("prompt", "")
    many = prompt if isinstance(prompt, list) and prompt and not _is_id(prompt[0]) else [prompt]
    found = [_encoded(each, model, sampling) for each in many]
    return [text for text, _ in found], [ids for _, ids in found]


def _is_id(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _encoded(prompt: Any, model: Served, sampling: Sampling) -> tuple[str, list[int]]:
    if isinstance(prompt, str):
        return prompt, generate.encode(model.vocabulary, model.config, prompt, sampling)
    if not isinstance(prompt, list) or not all(map(_is_id, prompt)):
        raise UserError("prompt: must be a text, a list of texts, or token ids.")
    wrong = [token for token in prompt if not 0 <= token < model.vocabulary.size]
    if wrong:
        raise UserError(
            f"prompt: the token {wrong[0]} is not in the vocabulary of {model.name}, which has "
            f"{model.vocabulary.size:,}; are these another model's?"
        )
    generate.check_length(len(prompt), model.config, sampling)
    return model.vocabulary.decode(prompt), prompt


def _conversation(given: dict, model: Served, sampling: Sampling):
    messages = given.get("messages")
    if not isinstance(messages, list) or not messages:
        raise UserError("messages: must be a list of at least one message.")
    ids = chat.encode(model.vocabulary, [_message(each) for each in messages])
    generate.check_length(len(ids), model.config, sampling)
    return [""], [ids]


def _message(message: Any) -> dict[str, str]:
    if not isinstance(message, dict) or not isinstance(message.get("role"), str):
        raise UserError("messages: each must be an object with role and content.")
    content = message.get("content")
    if isinstance(content, list):  # of parts, of which we take texts
        parts = [part.get("text") if isinstance(part, dict) else None for part in content]
        texts = [text for text in parts if isinstance(text, str)]
        content = "".join(texts) if len(texts) == len(parts) else None
    if not isinstance(content, str):
        raise UserError("messages: the content of each must be text.")
    generate.utf8(content)
    generate.utf8(message["role"])
    return {"role": message["role"], "content": content}


def _sampling(given: dict, model: Served, limits: Limits, is_chat: bool, top: int) -> Sampling:
    default = min(model.config.context, limits.tokens) if is_chat else COMPLETION_TOKENS
    name = (
        "max_completion_tokens" if given.get("max_completion_tokens") is not None else "max_tokens"
    )
    seed = given.get("seed")
    seed = secrets.randbelow(SEEDS) if seed is None else _whole(given, "seed", 0, -(2**63), 2**63)
    try:
        return Sampling(
            tokens=_whole(given, name, default, 0, limits.tokens),
            top_k=max(0, _whole(given, "top_k", 0, -1, 1 << 30)),
            seed=seed % SEEDS,
            stop=_stops(given),
            slide=_flag(given, "slide"),
            top_logprobs=top,
            **{name: _number(given, name, default) for name, default in NUMBERS.items()},
        )
    except UserError as error:
        raise Refused(400, str(error).removeprefix("generate.")) from error


def _stops(given: dict) -> tuple[str, ...]:
    stop = given.get("stop")
    stops = [] if stop is None else [stop] if isinstance(stop, str) else stop
    if not isinstance(stops, list) or not all(isinstance(each, str) for each in stops):
        raise Refused(400, "stop: must be a text or a list of texts.", "stop")
    for each in stops:
        generate.utf8(each)
    return tuple(stops)


def _logprobs(given: dict, is_chat: bool) -> tuple[bool, int]:
    """(whether log-probabilities are wanted, of how many of the likeliest tokens)."""
    if is_chat:
        return _flag(given, "logprobs"), _whole(given, "top_logprobs", 0, 0, MOST_TOP)
    if given.get("logprobs") is None or given["logprobs"] is False:
        return False, 0
    return True, _whole(given, "logprobs", 0, 0, MOST_TOP)


def _text(given: dict, name: str) -> str:
    value = given.get(name)
    if not isinstance(value, str | None):
        raise Refused(400, f"{name}: must be text.", name)
    return value or ""


def _flag(given: dict, name: str) -> bool:
    value = given.get(name)
    if not isinstance(value, bool | None):
        raise Refused(400, f"{name}: must be true or false.", name)
    return bool(value)


def _whole(given: dict, name: str, default: int, least: int, most: int) -> int:
    value = given.get(name)
    if value is None:
        return default
    if not _is_id(value) or not least <= value <= most:
        raise Refused(400, f"{name}: must be a whole number between {least} and {most}.", name)
    return value


def _number(given: dict, name: str, default: float) -> float:
    value = given.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Refused(400, f"{name}: must be a number.", name)
    return float(value)
