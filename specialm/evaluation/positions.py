"""What a model makes of its context: its loss by position in the window.

A model that hardly looks back is as bad at the end of a window as after its first few tokens, and
an n-gram model is so from its order on.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from specialm.common.errors import UserError
from specialm.common.progress import bar
from specialm.data.store import WindowStore
from specialm.models import families, transformer
from specialm.training import runs

BATCH = 16  # windows at a time


@dataclass(frozen=True)
class Positions:
    """The tokens at some positions of all windows.

    Attributes:
      first, last: positions, counted from 1.
      tokens: how many there are.
      nll_per_token: in nats.
      bits_per_byte: by the bytes of each token in the vocabulary.
    """

    first: int
    last: int
    tokens: int
    nll_per_token: float
    bits_per_byte: float


def edges(context: int) -> list[int]:
    """Where ranges of positions end: 1, 2, 4, ... and the context's length."""
    powers = [1 << n for n in range(context.bit_length()) if 1 << n < context]
    return [*powers, context]


def of_losses(
    nll_NxL: np.ndarray, mask_NxL: np.ndarray, bytes_NxL: np.ndarray, ends: Sequence[int]
) -> list[Positions]:
    """Sums over ranges of positions.

    Args:
      nll_NxL: nats of each token.
      mask_NxL: bool, where there is a token.
      bytes_NxL: bytes of each token.
      ends: of the ranges, rising; the first begins at 0. A range without a token is left out.
    """
    nll_L, tokens_L, bytes_L = (
        np.where(mask_NxL, values, 0).sum(0, dtype=np.float64)
        for values in (nll_NxL, mask_NxL, bytes_NxL)
    )
    found = []
    for start, end in zip([0, *ends[:-1]], ends, strict=True):
        nll, tokens, size = (float(v[start:end].sum()) for v in (nll_L, tokens_L, bytes_L))
        if tokens:
            bits = nll / np.log(2) / size if size else float("nan")
            found.append(Positions(start + 1, end, int(tokens), nll / tokens, bits))
    return found


def token_nll(model: runs.Model, store: WindowStore, indices_N: np.ndarray) -> np.ndarray:
    """float32 [N, L]: nats of each token of some windows, 0 behind their ends.

    Raises:
      UserError: the model is not causal.
    """
    config = families.dense(model.config)
    if not config.causal:
        raise UserError("model.causal=False: only causal models give each token a probability.")

    @jax.jit
    def step(params, batch):
        nll_BxL = transformer.token_nll(params, batch["inputs"], batch["targets"], config)
        return nll_BxL * batch["mask"]

    found = []
    with bar(len(indices_N), "losses by position", "window") as progress:
        for start in range(0, len(indices_N), BATCH):
            own_B = indices_N[start : start + BATCH]
            filled_B = np.resize(own_B, BATCH)  # one program for all batches
            nll_BxL = step(
                model.params, {k: jnp.asarray(v) for k, v in store.batch(filled_B).items()}
            )
            found.append(np.asarray(nll_BxL)[: len(own_B)])
            progress.update(len(own_B))
    return np.concatenate(found)


def by_position(model: runs.Model, store: WindowStore, indices_N: np.ndarray) -> list[Positions]:
    """The losses of a dense model on windows of a store, by position.

    Raises:
      UserError: the model is not causal, or there are no windows.
    """
    if not len(indices_N):
        raise UserError(f"{store.path}: no windows to score; the set is empty.")
    nll_NxL = token_nll(model, store, indices_N)
    mask_NxL = np.arange(store.context) < store.sizes_N[indices_N][:, None]
    bytes_NxL = model.vocabulary.piece_bytes[store.read(indices_N)]
    return of_losses(nll_NxL, mask_NxL, bytes_NxL, edges(store.context))


def table(found: dict[str, list[Positions]]) -> str:
    """Nats per token and bits per byte of each set by position, as text."""
    width = max(16, *(len(name) for name in found))
    lines = [f"{'by position':{width}} {'tokens':>10} {'nats/token':>11} {'bits/byte':>10}"]
    for name, ranges in found.items():
        for each in ranges:
            where = f"{each.first}-{each.last}" if each.last > each.first else f"{each.first}"
            lines.append(
                f"{name:{width - 10}} {where:>9} {each.tokens:10,} "
                f"{each.nll_per_token:11.3f} {each.bits_per_byte:10.3f}"
            )
    return "\n".join(lines)
