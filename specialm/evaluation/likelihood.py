"""log p of a text after another one, under a dense model of any vocabulary.

A text is scored with the tokens of the whole, context and continuation together; those of the
continuation begin where the whole stops agreeing with the context alone, so a token across the
boundary counts in full. The end of the document is not among them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from specialm.common.errors import UserError
from specialm.common.progress import bar
from specialm.models import families, transformer
from specialm.training import runs

BATCH = 16  # windows at a time
SHORTEST = 16  # tokens of a window, which is filled up to a power of two


@dataclass(frozen=True)
class Scored:
    """A continuation.

    Attributes:
      nats: -log p of its tokens.
      greedy: whether each of them is the likeliest one.
      cut: whether the model's window did not hold all of the context.
    """

    nats: float
    greedy: bool
    cut: bool


@dataclass(frozen=True)
class _Window:
    """Tokens that are read together, of which those from `first` on are counted for a text."""

    text: int
    tokens: list[int]
    first: int


class Likelihoods:
    """The continuations of a model.

    Raises:
      UserError: the model is not causal.
    """

    def __init__(self, model: runs.Model):
        self.config = families.dense(model.config)
        if not self.config.causal:
            raise UserError("model.causal=False: only causal models give a text a probability.")
        self.vocabulary, self._params = model.vocabulary, model.params

    def starts(self, contexts: Sequence[str], wholes: Sequence[str]) -> list[tuple[list[int], int]]:
        """Of each text its tokens, and how many of them are the context's."""
        alone, together = (self.vocabulary.encode([*texts]) for texts in (contexts, wholes))
        return [(b, _agreeing(a, b)) for a, b in zip(alone, together, strict=True)]

    def score(self, texts: Sequence[tuple[list[int], int]], title: str = "") -> list[Scored]:
        """Of each (tokens, how many of them are context).

        Args:
          title: of a progress bar; "" shows none.
        """
        windows = [
            window
            for number, (tokens, first) in enumerate(texts)
            for window in _windows(number, tokens, first, self.config.context)
        ]
        nats, greedy = np.zeros(len(texts)), np.ones(len(texts), bool)
        order = sorted(range(len(windows)), key=lambda i: -len(windows[i].tokens))
        with bar(len(order), title, "text") as progress:
            for start in range(0, len(order), BATCH):
                part = [windows[i] for i in order[start : start + BATCH]]
                for window, (total, likeliest) in zip(part, self._batch(part), strict=True):
                    nats[window.text] += total
                    greedy[window.text] &= likeliest
                progress.update(len(part))
        return [
            Scored(float(nats[i]), bool(greedy[i]), len(tokens) > self.config.context)
            for i, (tokens, _) in enumerate(texts)
        ]

    def _batch(self, windows: list[_Window]) -> list[tuple[float, bool]]:
        longest = max(len(window.tokens) for window in windows)
        length = SHORTEST
        while length < longest:
            length *= 2
        shape = BATCH, min(length, self.config.context)
        targets_BxL = np.zeros(shape, np.int32)
        counted_BxL = np.zeros(shape, bool)
        for row, window in enumerate(windows):
            targets_BxL[row, : len(window.tokens)] = window.tokens
            counted_BxL[row, window.first : len(window.tokens)] = True
        inputs_BxL = np.full(shape, self.vocabulary.start, np.int32)
        inputs_BxL[:, 1:] = targets_BxL[:, :-1]
        nll_BxL, best_BxL = map(np.asarray, self._step(self._params, inputs_BxL, targets_BxL))
        nats_B = np.where(counted_BxL, nll_BxL, 0).astype(np.float64).sum(1)
        greedy_B = (best_BxL == targets_BxL) | ~counted_BxL
        return [(float(nats_B[i]), bool(greedy_B[i].all())) for i in range(len(windows))]

    @cached_property
    def _step(self):
        import jax
        import jax.numpy as jnp

        config = self.config

        def step(params, inputs_BxL, targets_BxL):
            nll_BxL = transformer.token_nll(params, inputs_BxL, targets_BxL, config)
            return nll_BxL, jnp.argmax(transformer.logits(params, inputs_BxL, config), axis=-1)

        return jax.jit(step)


def _agreeing(a: list[int], b: list[int]) -> int:
    """How many tokens two texts begin with alike."""
    for number, (one, other) in enumerate(zip(a, b, strict=False)):
        if one != other:
            return number
    return min(len(a), len(b))


def _windows(number: int, tokens: list[int], first: int, context: int) -> list[_Window]:
    """One window that ends with the text; of a continuation longer than a window several, one
    after the other.
    """
    if len(tokens) <= context:
        return [_Window(number, tokens, first)]
    if len(tokens) - first <= context:
        return [_Window(number, tokens[-context:], first - (len(tokens) - context))]
    return [
        _Window(number, tokens[start : start + context], 0)
        for start in range(first, len(tokens), context)
    ]
