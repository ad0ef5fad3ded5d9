"""The command `specialm generate`: prompts from the command line or a file, text to the terminal as
it comes.
"""

import json
import sys
from pathlib import Path
from typing import Any, TextIO

from ml_collections import ConfigDict

from specialm.common import runtime
from specialm.common.errors import UserError
from specialm.models import families
from specialm.serving import chat, generate
from specialm.serving.decoding.sampling import NAMES, Sampling
from specialm.serving.decoding.sequence import Delta
from specialm.serving.generate import Completion
from specialm.training import runs


def prompts(prompt: str, file: str) -> list[str]:
    """The prompts that --prompt and --prompts give.

    Raises:
      UserError: both are given, or the file cannot be read.
    """
    if not file:
        return [prompt]
    if prompt:
        raise UserError("--prompt and --prompts are both given; leave one out.")
    try:
        lines = Path(file).read_bytes().decode().splitlines()
    except OSError as error:
        raise UserError(f"--prompts={file}: cannot be read ({error.strerror}).") from error
    except UnicodeDecodeError as error:
        raise UserError(f"--prompts={file}: is not UTF-8 ({error}); convert it.") from error
    found = [_of_json(line, file) for line in lines] if file.endswith(".jsonl") else lines
    if not found:
        raise UserError(f"--prompts={file}: is empty; write one prompt a line.")
    return found


def _of_json(line: str, file: str) -> str:
    try:
        found = json.loads(line)
    except ValueError as error:
        raise UserError(f"--prompts={file}: {line[:40]!r} is not JSON ({error}).") from error
    if not isinstance(found, str):
        raise UserError(f"--prompts={file}: {line[:40]!r} is not a string of JSON.")
    return found


def run(
    model: runs.Model, texts: list[str], config: ConfigDict, is_chat: bool, out: TextIO | None
) -> dict[str, Any]:
    """Continues the prompts; what --json prints.

    Args:
      out: where text is written as it comes; None for nowhere.

    Raises:
      UserError: see `generate.encode`, `chat.encode` and `Sampling`.
    """
    runtime.keep_small_programs()
    sampling = Sampling(seed=config.seed % (1 << 32), **_settings(config))
    sizes, vocabulary = families.dense(model.config), model.vocabulary
    encoded = [_encode(model, text, sampling, is_chat) for text in texts]
    for text in texts:
        if vocabulary.changes(text):
            _note(
                "the model's vocabulary does not hold all of the prompt; it reads something else."
            )
    engine = generate.engine(model.params, sizes, vocabulary)
    del model  # the engine has the parameters in a layout of its own
    if out is not None and len(texts) == 1:
        text = "" if is_chat else texts[0]
        found = [_streamed(engine, encoded[0], sampling, is_chat, text, out)]
    else:
        found = generate.complete(engine, encoded, sampling, is_chat)
        for text, completion in zip(texts, found, strict=True):
            if out is not None:
                out.write(f"{'' if is_chat else text}{completion.text}\n\n")
    if any(each.is_context_full for each in found):
        _note(
            f"the text ends where the model's context of {sizes.context:,} tokens does; "
            "--config.generate.slide=True goes on."
        )
    texts = ["" if is_chat else text for text in texts]
    rows = [_row(text, each) for text, each in zip(texts, found, strict=True)]
    return rows[0] if len(rows) == 1 else {"completions": rows}


def _settings(config: ConfigDict) -> dict[str, Any]:
    return {name: config.generate[name] for name in NAMES if name in config.generate}


def _encode(model: runs.Model, text: str, sampling: Sampling, is_chat: bool) -> list[int]:
    sizes = families.dense(model.config)
    if not is_chat:
        return generate.encode(model.vocabulary, sizes, text, sampling)
    generate.utf8(text)
    return chat.encode(model.vocabulary, [{"role": "user", "content": text}])


def _streamed(engine, prompt: list[int], sampling: Sampling, bare: bool, text: str, out: TextIO):
    out.write(text)
    whole = Delta()
    for sequence, delta in generate.stream(engine, prompt, sampling, bare):
        out.write(delta.text)
        out.flush()
        whole.text += delta.text
        whole.tokens += delta.tokens
        ended = sequence
    return generate.completion(ended, whole.text, whole.tokens)


def _row(prompt: str, completion: Completion) -> dict[str, Any]:
    return {
        "text": prompt + completion.text,
        "finish": completion.finish,
        "prompt_tokens": completion.prompt_tokens,
        "tokens": [token.id for token in completion.tokens],
        "logprobs": [token.logp for token in completion.tokens],
        "top_logprobs": [dict(token.top) for token in completion.tokens],
    }


def _note(text: str) -> None:
    print(f"specialm: {text}", file=sys.stderr)
