"""Continuing prompts: one or many, whole or as they come."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from specialm.common.errors import UserError
from specialm.data.vocabularies import Vocabulary
from specialm.models import transformer
from specialm.models.config import Config
from specialm.serving.decoding.engine import Engine, check_length
from specialm.serving.decoding.sampling import Sampling
from specialm.serving.decoding.sequence import LENGTH, Delta, Token
from specialm.serving.decoding.sequence import Sequence as Growing

MOST_ROWS = 16  # texts that are continued at the same time


@dataclass(frozen=True)
class Completion:
    """What follows a prompt.

    Attributes:
      text: without the prompt, and without a stop string that ended it.
      finish: "stop" after a token or a string that ends the text; "length" after as many tokens as
        were wanted, or at the end of the context.
      is_context_full: whether it was the end of the context.
      prompt_tokens: how many tokens the prompt has.
    """

    text: str
    tokens: tuple[Token, ...]
    finish: str
    is_context_full: bool
    prompt_tokens: int

    @property
    def logprobs(self) -> np.ndarray:
        """float64: natural logarithm of each token's probability under the model."""
        return np.array([token.logp for token in self.tokens], np.float64)


def engine(
    params: transformer.Params,
    config: Config,
    vocabulary: Vocabulary,
    rows: int = MOST_ROWS,
    seconds: float = 0.03,
) -> Engine:
    """See `Engine`."""
    return Engine(params, config, vocabulary, rows, seconds)


def encode(vocabulary: Vocabulary, config: Config, prompt: str, sampling: Sampling) -> list[int]:
    """The token ids of a prompt.

    Raises:
      UserError: it is not a Unicode text, or fills the model's window and must not slide.
    """
    content = utf8(prompt)
    longest = max(map(len, vocabulary.token_bytes))
    if not sampling.slide and len(content) > longest * config.context:
        raise UserError(
            f"prompt: has {len(content):,} bytes, and the model reads at most {config.context:,} "
            "tokens; give a shorter one, or generate.slide=True to read its end."
        )
    ids = vocabulary.encode([prompt])[0]
    check_length(len(ids), config, sampling)
    return ids


def utf8(prompt: str) -> bytes:
    """The bytes of a text.

    Raises:
      UserError: it holds halves of surrogate pairs, or what was not UTF-8 when it was read.
    """
    try:
        return prompt.encode()
    except UnicodeEncodeError as error:
        raise UserError(
            f"prompt: is not UTF-8 from character {error.start} on; convert it, for example with "
            "iconv."
        ) from error


def complete(
    engine: Engine, prompts: Sequence[list[int]], sampling: Sampling, bare: bool = False
) -> list[Completion]:
    """What follows each prompt of token ids; each is what it would be alone.

    Args:
      bare: see `Engine.add`.

    Raises:
      UserError: a prompt fills the model's window and must not slide.
    """
    sequences = [engine.add(prompt, sampling, bare) for prompt in prompts]
    found = {sequence: Delta() for sequence in sequences}
    while not engine.is_idle:
        for sequence, delta in engine.step():
            found[sequence].text += delta.text
            found[sequence].tokens += delta.tokens
    return [completion(each, found[each].text, found[each].tokens) for each in sequences]


def completion(sequence: Growing, text: str, tokens: list[Token]) -> Completion:
    """What has become of a sequence."""
    prompt_tokens = len(sequence.tokens) - sequence.drawn
    is_full = sequence.finish == LENGTH and sequence.is_context_full
    return Completion(text, tuple(tokens), sequence.finish, is_full, prompt_tokens)


def stream(
    engine: Engine, prompt: list[int], sampling: Sampling, bare: bool = False
) -> Iterator[tuple[Growing, Delta]]:
    """What follows a prompt of token ids, as it comes; the last one says why it ends.

    Raises:
      UserError: see `complete`.
    """
    sequence = engine.add(prompt, sampling, bare)
    try:
        while not sequence.finish:
            yield from engine.step()
    finally:
        if not sequence.finish:  # nobody wants the rest
            sequence.cancelled = True
            engine.step()
