"""Which windows make up a batch: a pure function of (seed, step).

All sampling is drawing a cluster from a distribution, then a window uniformly inside it; with one
cluster it is plain uniform sampling. Draws are arranged in epochs of as many slots as the store
has windows: a cluster gets its share of the slots, and inside it every window comes once before
any comes again. So uniform sampling is shuffled epochs, and importance sampling repeats the
windows of a cluster evenly, while each slot's distribution is exactly the wanted one.

With `group` > 1 a slot is a group of that many windows of one cluster, drawn in the same way: every
window's distribution, and so the expected gradient, is that of single windows.

Nothing is stored but the cluster lists: resuming needs only the step, and the order does not
depend on the number of processes: each takes its rows of the batch.
"""

from functools import lru_cache
from typing import Any, Protocol

import numpy as np

from specialm.common.errors import UserError

_ROUNDS = 4
_MIX_1, _MIX_2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


class BatchSampler(Protocol):
    """What the training loop asks for: the windows of every step, in groups that a bank has
    features of.
    """

    @property
    def batch_size(self) -> int:
        """B, windows a step over all processes."""

    @property
    def num_groups(self) -> int:
        """G, groups of windows that share features; 1 if there are no features."""

    def indices(self, step: int) -> np.ndarray:
        """int64 [B]: the windows of this step, group after group."""

    def features(self, step: int) -> np.ndarray | None:
        """float32 [G, C]: of each group of this step; None if there are none."""


def _mix(value: Any) -> Any:
    """SplitMix64's finaliser: every output bit depends on every input bit."""
    value = (value ^ (value >> np.uint64(30))) * _MIX_1
    value = (value ^ (value >> np.uint64(27))) * _MIX_2
    return value ^ (value >> np.uint64(31))


def permute(index: np.ndarray, size: np.ndarray | int, key: np.ndarray) -> np.ndarray:
    """Apply a pseudo-random permutation of [0, size) under `key` to `index`, elementwise.

    A Feistel network over the next even power of two, walked until it falls inside; a permutation
    of billions of windows needs no memory.
    """
    index, size, key = np.broadcast_arrays(*(np.asarray(a, np.uint64) for a in (index, size, key)))
    bits = np.maximum(np.ceil(np.log2(np.maximum(size, 2).astype(np.float64)) / 2), 1)
    half = bits.astype(np.uint64)
    low = (np.uint64(1) << half) - np.uint64(1)
    value, todo = index.copy(), np.ones(index.shape, bool)
    with np.errstate(over="ignore"):
        while todo.any():
            left, right = value[todo] >> half[todo], value[todo] & low[todo]
            for turn in range(_ROUNDS):
                mixed = _mix(right + key[todo] * _MIX_1 + np.uint64(turn + 1) * _MIX_2)
                left, right = right, left ^ (mixed & low[todo])
            value[todo] = (left << half[todo]) | right
            todo = value >= size
    return value.astype(np.int64)


def with_replay(probability_K: np.ndarray, size_K: np.ndarray, fraction: float) -> np.ndarray:
    """float64 [K]: a mixture of two distributions over windows, as one over their clusters: with
    probability `fraction` all windows alike, else a cluster by `probability_K`.

    It is exact, for inside of a cluster both draw uniformly.

    Args:
      probability_K: of each cluster.
      size_K: windows of each cluster.
      fraction: between 0 and 1.

    """
    if not fraction:
        return probability_K
    return (1 - fraction) * probability_K + fraction * size_K / np.sum(size_K)


class Sampler:
    """Draws windows; see the head of this file.

    Args:
      windows: N, the number of windows to draw from.
      batch_size: B, windows a step over all processes.
      seed: of the order.
      cluster_N: int [N], the cluster of each window; None for one cluster of all.
      probability_K: float [K], probability of each cluster, summing to 1; needed with clusters.
      group: W, windows of one cluster that are drawn together.
      epoch: slots of an epoch; 0 for as many as there are windows. With all planned draws in one
        epoch no window comes more often than it is expected, rounded up.

    Raises:
      UserError: nothing to draw from, or a cluster with positive probability has no window.

    """

    def __init__(
        self,
        windows: int,
        batch_size: int,
        seed: int,
        cluster_N: np.ndarray | None = None,
        probability_K: np.ndarray | None = None,
        group: int = 1,
        epoch: int = 0,
    ):
        if windows < 1:
            raise UserError(
                "there are no windows to train on; look at the counts of `specialm prepare`."
            )
        if cluster_N is None:
            cluster_N, probability_K = np.zeros(windows, np.int32), np.ones(1)
        assert probability_K is not None, "probability_K belongs to cluster_N"
        if len(cluster_N) != windows:
            raise UserError(
                f"{len(cluster_N)} clusters were given for {windows} windows: the "
                "clusters belong to another store."
            )
        self.windows, self.batch_size, self.seed = windows, batch_size, seed
        self.cluster_N = np.asarray(cluster_N)
        self.probability_K = np.asarray(probability_K, np.float64) / np.sum(probability_K)
        self.size_K = np.bincount(cluster_N, minlength=len(probability_K)).astype(np.int64)
        empty = np.flatnonzero((self.size_K == 0) & (np.asarray(probability_K) > 0))
        if len(empty):
            raise UserError(f"clusters {empty[:5].tolist()} have probability but no window.")
        self._members = np.argsort(cluster_N, kind="stable")
        self._first_K = np.concatenate([[0], np.cumsum(self.size_K)[:-1]])
        edges = np.cumsum(self.probability_K)
        self.group, self.epoch = group, max(1, (epoch or windows) // group)
        self._edges = np.concatenate([[0.0], edges / edges[-1]]) * self.epoch
        self._slots = lru_cache(maxsize=4)(self._slots_of_epoch)

    def _slots_of_epoch(self, epoch: int) -> np.ndarray:
        """int64 [K + 1]: first slot of each cluster. Systematic resampling: a shared uniform
        shift makes every count right in expectation and never off by more than one.
        """
        shift = np.random.default_rng([self.seed, epoch, 1]).random()
        slots = np.floor(self._edges + shift).astype(np.int64)
        slots[0], slots[-1] = 0, self.epoch
        return slots

    def draws(self, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        """(windows [G W], cluster [G]), int64, of groups start..stop of the endless stream."""
        position = np.arange(start, stop, dtype=np.int64)
        window_GxW = np.empty((len(position), self.group), np.int64)
        cluster_G = np.empty_like(position)
        epoch_G = position // self.epoch
        for epoch in np.unique(epoch_G):
            rows = np.flatnonzero(epoch_G == epoch)
            slots = self._slots(int(epoch))
            slot = permute(position[rows] % self.epoch, self.epoch, self._key(epoch, 0))
            c = np.searchsorted(slots, slot, side="right") - 1
            place = ((slot - slots[c]) * self.group)[:, None] + np.arange(self.group)
            turn, rank = np.divmod(place, self.size_K[c][:, None])
            member = permute(rank, self.size_K[c][:, None], self._key(epoch, 1 + turn))
            window_GxW[rows] = self._members[self._first_K[c][:, None] + member]
            cluster_G[rows] = c
        return window_GxW.reshape(-1), cluster_G

    def _key(self, epoch: int, stream) -> np.ndarray:
        with np.errstate(over="ignore"):
            seed = _mix(np.uint64(self.seed) + np.uint64(0x9E3779B97F4A7C15))
            return _mix(seed + _mix(np.uint64(epoch)) + np.asarray(stream, np.uint64) * _MIX_2)

    def indices(self, step: int) -> np.ndarray:
        """int64 [B]: the windows of this step."""
        groups = self.batch_size // self.group
        return self.draws(step * groups, (step + 1) * groups)[0]

    @property
    def num_groups(self) -> int:
        """1: windows share no features."""
        return 1

    def features(self, step: int) -> np.ndarray | None:
        """None: there are none."""
        return None
