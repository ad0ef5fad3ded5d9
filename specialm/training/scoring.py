"""Negative log-likelihood of windows: exact sums, whatever the batch size and padding."""

from dataclasses import dataclass

import jax
import numpy as np

from specialm.common.errors import UserError
from specialm.common.progress import bar
from specialm.data.store import WindowStore
from specialm.training import sharding


@dataclass(frozen=True)
class Score:
    """Sums over a set of windows. Tokens include the end of each document."""

    nll: float  # nats
    tokens: int
    bytes: int
    windows: int

    @property
    def nll_per_token(self) -> float:
        """Mean negative log-likelihood, nats."""
        return self.nll / self.tokens

    @property
    def perplexity(self) -> float:
        """Of the tokens of this vocabulary."""
        return float(np.exp(self.nll_per_token))

    @property
    def bits_per_byte(self) -> float:
        """Sum of nats / (ln 2 * UTF-8 bytes of the text): comparable between vocabularies."""
        return self.nll / (np.log(2) * self.bytes)


def score(
    score_step,
    params,
    store: WindowStore,
    indices_N: np.ndarray,
    batch_size: int,
    mesh: jax.sharding.Mesh,
    title: str = "",
) -> Score:
    """Scores the windows of a store; sums are formed in float64.

    The last batch is filled up with windows that count nothing. Each process reads the windows of
    its own devices; all get the same sums.

    Args:
      score_step: from `step.make_score_step`.
      title: of a progress bar; "" shows none.

    Raises:
      UserError: no windows.
    """
    if not len(indices_N):
        raise UserError(f"{store.path}: no windows to score; the set is empty.")
    devices = sharding.parts(mesh, "batch")
    batch_size = max(devices, batch_size // devices * devices)
    pending: jax.Array | None = None
    total, rows_b = 0.0, sharding.rows(mesh, batch_size)
    with bar(len(indices_N), title, "window") as progress:
        for start in range(0, len(indices_N), batch_size):
            indices_B = indices_N[start : start + batch_size]
            own_b = indices_B[rows_b[rows_b < len(indices_B)]]
            batch = _filled(store.batch(own_b), len(rows_b))
            scored = score_step(params, sharding.put_batch(mesh, batch))
            if pending is not None:
                total += _sum(pending)
            pending = scored
            progress.update(len(indices_B))
    total += _sum(pending) if pending is not None else 0.0
    return Score(
        total,
        int(store.sizes_N[indices_N].sum()),
        int(store.bytes_N[indices_N].sum()),
        len(indices_N),
    )


def _sum(nll_B: jax.Array) -> float:
    return float(np.asarray(nll_B, np.float64).sum())


def _filled(batch: dict[str, np.ndarray], size: int) -> dict[str, np.ndarray]:
    missing = size - len(batch["inputs"])
    return {k: np.pad(v, ((0, missing), (0, 0))) for k, v in batch.items()} if missing else batch
