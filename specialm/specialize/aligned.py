"""Distillation between two vocabularies: how likely a model with the old one finds each stretch of
text that ends where tokens of both end.

Approximate likelihood matching (Minixhofer et al., arXiv 2503.20083, section 3): of a stretch with
probability p under the teacher and q under the student the loss is the divergence of two-valued
distributions, KL(p' || q') + KL(1 - p' || 1 - q'), with p' = p^(1/T), T = 100. Our readings: it is
multiplied by T, which makes nats of it; both models read the same window and nothing before it; and
stretches are not chosen by how alike their ends are tokenised, as the paper's debiasing does.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from specialm.common.errors import UserError
from specialm.common.progress import bar
from specialm.data.store import WindowStore
from specialm.data.vocabularies import Vocabulary
from specialm.models import transformer
from specialm.training.objectives import Objective

TEMPERATURE = 100.0
BATCH = 16  # windows that the teacher reads at once
LEAST = 1e-6  # nats of a stretch, so that the divergence is finite


@dataclass(frozen=True)
class Taught:
    """What a teacher finds of windows.

    Attributes:
      nll_NxL: float32, its nats of the stretch that ends with each token.
      ends_NxL: float32, 1 for the tokens that end one.
      tokens: of its own that it read.
    """

    nll_NxL: np.ndarray
    ends_NxL: np.ndarray
    tokens: int

    def columns(self, rows_B: np.ndarray) -> dict[str, np.ndarray]:
        """`taught` and `ends` [B, L] of these windows."""
        return {"taught": self.nll_NxL[rows_B], "ends": self.ends_NxL[rows_B]}


def common_ends(ours: list[bytes], theirs: list[bytes]) -> tuple[np.ndarray, np.ndarray]:
    """The tokens of each of two ways to cut a text that end at the same byte, int64 both.

    Of tokens without bytes none ends anything.
    """
    ends = [np.cumsum([len(each) for each in tokens]) for tokens in (ours, theirs)]
    has_text = [[len(each) > 0 for each in tokens] for tokens in (ours, theirs)]
    places = [np.flatnonzero(has) for has in has_text]
    _, first, second = np.intersect1d(ends[0][places[0]], ends[1][places[1]], return_indices=True)
    return places[0][first], places[1][second]


def teach(
    teacher: transformer.Config,
    params: Any,
    theirs: Vocabulary,
    ours: Vocabulary,
    windows: WindowStore,
    indices_N: np.ndarray,
    title: str = "",
) -> Taught:
    """What the teacher finds of these windows of a store that was cut with `ours`.

    Where its own tokens of a window do not fit into its context, it finds nothing of the rest.

    Args:
      title: of a progress bar; "" shows none.
    """

    def score(inputs_BxL, targets_BxL):
        return transformer.token_nll(params, inputs_BxL, targets_BxL, teacher)

    step = jax.jit(score)
    taught = np.zeros((len(indices_N), windows.context), np.float32)
    ends = np.zeros_like(taught)
    tokens = 0
    with bar(len(indices_N), title, "window") as progress:
        for start in range(0, len(indices_N), BATCH):
            batch = windows.batch(indices_N[start : start + BATCH])
            sizes = batch["mask"].sum(1).astype(int)
            rows = [row[:size].tolist() for row, size in zip(batch["targets"], sizes, strict=True)]
            read = [theirs.encode_bytes(ours.decode_bytes(row)) for row in rows]
            read = [each[: teacher.context] for each in read]
            tokens += sum(map(len, read))
            nll_BxM = np.asarray(step(*_padded(read, teacher.context, theirs.start)))
            for number, (row, other) in enumerate(zip(rows, read, strict=True)):
                mine, yours = common_ends(
                    [ours.token_bytes[token] for token in row],
                    [theirs.token_bytes[token] for token in other],
                )
                total = np.cumsum(nll_BxM[number, : len(other)], dtype=np.float64)[yours]
                taught[start + number, mine] = np.diff(total, prepend=0)
                ends[start + number, mine] = 1
            progress.update(len(rows))
    return Taught(taught, ends, tokens)


def _padded(rows: list[list[int]], length: int, first: int) -> tuple[np.ndarray, np.ndarray]:
    """(inputs, targets), int32 [BATCH, length]."""
    targets_BxL = np.zeros((BATCH, length), np.int32)
    for number, row in enumerate(rows):
        targets_BxL[number, : len(row)] = row
    inputs_BxL = np.full_like(targets_BxL, first)
    inputs_BxL[:, 1:] = targets_BxL[:, :-1]
    return inputs_BxL, targets_BxL


def stretches(nll_BxL: jax.Array, ends_BxL: jax.Array) -> jax.Array:
    """float32 [B, L]: the sum of nats since the end before, at the tokens where `ends` is 1."""
    sums_BxL = jnp.cumsum(nll_BxL, axis=1)
    # Sums grow, so that the last one at an end is the largest.
    until_BxL = jax.lax.cummax(jnp.where(ends_BxL > 0, sums_BxL, 0), axis=1)
    before_BxL = jnp.pad(until_BxL[:, :-1], ((0, 0), (1, 0)))
    return (sums_BxL - before_BxL) * ends_BxL


def divergence(taught: jax.Array, nll: jax.Array) -> jax.Array:
    """T (KL(p' || q') + KL(1 - p' || 1 - q')) of stretches, elementwise, in nats."""
    a, b = (jnp.maximum(each, LEAST) / TEMPERATURE for each in (taught, nll))
    log_not_a, log_not_b = (jnp.log(-jnp.expm1(-each)) for each in (a, b))
    p = jnp.exp(-a)
    return TEMPERATURE * (p * (b - a) + (1 - p) * (log_not_a - log_not_b))


def objective(config: transformer.Config, taught: Taught, weight: float) -> Objective:
    """(1 - weight) * -log p of each token + weight * the divergence of each stretch, of a causal
    model.
    """

    def sum_loss(params, batch, _, place):
        if place.model > 1:
            raise UserError(f"--distill={weight:g}: mesh.model={place.model} must be 1.")
        nll_BxL = transformer.token_nll(params, batch["inputs"], batch["targets"], config, place)
        found_BxL = stretches(nll_BxL * batch["mask"], batch["ends"])
        apart_BxL = divergence(batch["taught"], found_BxL) * batch["ends"]
        return jnp.sum((1 - weight) * nll_BxL * batch["mask"] + weight * apart_BxL)

    return Objective(sum_loss, columns=taught.columns)


Made = tuple[Objective, float]  # with the FLOPs that it took


def from_teacher(
    read: Callable[[], tuple[Any, transformer.Config, Vocabulary]],
    ours: Vocabulary,
    windows: WindowStore,
    indices_N: np.ndarray,
    weight: float,
) -> Callable[[transformer.Config], Made]:
    """A function that makes the objective for a model, with what the teacher's reading cost.

    Args:
      read: () -> the teacher: parameters, sizes, vocabulary.
      windows: the training windows are these `indices_N` of it, cut with `ours`.
    """

    def make(config: transformer.Config) -> Made:
        params, teacher, theirs = read()
        title = "reading with the old vocabulary"
        taught = teach(teacher, params, theirs, ours, windows, indices_N, title)
        flops = taught.tokens * transformer.flops_per_token(teacher, train=False)
        return objective(config, taught, weight), flops

    return make
