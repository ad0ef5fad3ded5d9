"""k-means in JAX: k-means++ start, Lloyd's iterations over all rows or over mini-batches.

The first iterations go over a sample, which doubles as soon as the centroids move less than they
are uncertain by (after Newling and Fleuret, "Nested Mini-Batch K-Means", 2016). Once all rows have
been gone over, a CPU sorts them by cluster and compares the rows of a block with the NEAR nearest
centroids alone (after Agustsson et al., "k2-means", 2017). The end, whose inertia is reported, is
the nearest of all centroids again.

The result depends on the data, the seed, the settings and the kind of device alone; another number
of devices changes only the rounding.

Letters: N rows, D dimensions, K clusters, S blocks, B rows of a block, M rows of the sample that
the start is made on, C candidates (of the start, or centroids near a block).
"""

import math
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from specialm.clustering import passes
from specialm.common.errors import UserError
from specialm.common.progress import bar

START_ROWS, START_ROWS_PER_CLUSTER = 4096, 8  # that the start is chosen among
FIRST_ROWS_PER_CLUSTER = 32  # that the first iterations go over, and at least START_ROWS
NEAR = {"cpu": 64}  # centroids that late iterations compare with, if K is at least four times that
NEAR_AFTER = 1, 4, 16, 64  # iterations over all rows; then they are looked for, by a whole pass
NEAR_ROWS = 64, 1024  # of a block then, at least and at most
ASSIGN_ROWS = 1 << 17  # that `assign` brings to the devices at a time
SETTLE_ROUNDS = 10  # of re-seeding after the last iteration, at most


@dataclass(frozen=True)
class KMeansResult:
    """Attributes:
    centroids_KxD: float32.
    inertia: sum over the rows of the squared distance to the nearest centroid.
    iterations: done.
    sizes_K: int64, rows of each cluster.
    converged: the centroids stopped moving before the limit of iterations.
    """

    centroids_KxD: np.ndarray
    inertia: float
    iterations: int
    sizes_K: np.ndarray
    converged: bool


def fit(
    x_NxD: np.ndarray,
    k: int,
    seed: int = 0,
    method: str = "full",
    iterations: int = 50,
    tolerance: float = 1e-4,
    batch_size: int = 8192,
    devices: list | None = None,
) -> KMeansResult:
    """Clusters the rows of a float32 array or memory map.

    Args:
      method: "full" keeps all rows on the devices and goes over a growing sample of them, then
        over all; "minibatch" goes over `batch_size` rows drawn anew and reads them where they are.
      iterations: at most ("full", those over samples included), or the number of mini-batches.
      tolerance: "full" stops when the squared movements of the centroids sum to at most this
        times the mean variance of a column, as in scikit-learn.
      devices: to split the rows over; all local ones by default.

    Raises:
      UserError: fewer rows than `clustering.k`; unknown `clustering.method`; values not finite.

    """
    if not 1 <= k <= len(x_NxD):
        raise UserError(
            f"clustering.k={k}: must be at least 1 and at most the number of windows, {len(x_NxD)}."
        )
    if method not in ("full", "minibatch"):
        raise UserError(f"clustering.method={method!r}: must be full or minibatch.")
    mesh = passes.make_mesh(devices)
    sample_MxD = sample(x_NxD, max(START_ROWS, START_ROWS_PER_CLUSTER * k), seed)
    centroids_KxD = plus_plus(sample_MxD, k, seed, mesh.devices.flat[0])
    if method == "full":
        limit = tolerance * float(sample_MxD.var(axis=0).mean())
        centroids_KxD, done, converged = _full(x_NxD, centroids_KxD, seed, iterations, limit, mesh)
    else:
        centroids_KxD = _minibatch(x_NxD, centroids_KxD, seed, iterations, batch_size, mesh)
        done, converged = iterations, False
    centroids_KxD, cluster_N, distance_N = _settle(x_NxD, centroids_KxD, mesh)
    inertia = float(np.square(distance_N, dtype=np.float64).sum())
    if not math.isfinite(inertia):
        raise UserError(
            "the embeddings to cluster hold values that are not finite; remove the "
            "file with the embeddings and embed again."
        )
    return KMeansResult(
        centroids_KxD, inertia, done, np.bincount(cluster_N, minlength=k), converged
    )


def assign(
    x_NxD: np.ndarray, centroids_KxD: np.ndarray, devices: list | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Nearest centroid of each row: (int32 [N], its Euclidean distance, float32 [N]).

    Rows are read ASSIGN_ROWS at a time; of equally near centroids the first is taken.
    """
    mesh = passes.make_mesh(devices)
    cluster_N = np.empty(len(x_NxD), np.int32)
    distance_N = np.empty(len(x_NxD), np.float32)
    for start in range(0, len(x_NxD), ASSIGN_ROWS):
        rows = slice(start, min(start + ASSIGN_ROWS, len(x_NxD)))
        count = rows.stop - rows.start
        x_SxBxD = passes.blocks(x_NxD[rows], len(centroids_KxD), mesh)
        found = passes.step(mesh)(x_SxBxD, count, centroids_KxD, None)
        cluster_N[rows] = np.asarray(found.cluster_SxB).reshape(-1)[:count]
        distance_N[rows] = np.sqrt(np.asarray(found.squared_SxB).reshape(-1)[:count])
    return cluster_N, distance_N


def plus_plus(x_MxD: np.ndarray, k: int, seed: int, device: jax.Device | None = None) -> np.ndarray:
    """k-means++ start with greedy candidates: float32 [K, D], rows of `x_MxD`.

    Each next centroid is drawn in proportion to the squared distance to those chosen so far; of
    2 + ln K draws the one that lowers the inertia most is kept, as in scikit-learn.
    """
    x_MxD = jax.device_put(x_MxD, device)
    chosen_K = choose_start(x_MxD, jax.random.key(seed), k, len(x_MxD))
    return np.asarray(x_MxD[chosen_K])


@partial(jax.jit, static_argnums=2)
def choose_start(x_MxD: jax.Array, key: jax.Array, k: int, count: jax.Array) -> jax.Array:
    """int32 [K]: the rows that `plus_plus` chooses, among the first `count` ones."""
    candidates = 2 + int(math.log(k))
    x_MxD = x_MxD - x_MxD.mean(0)
    square_M = jnp.square(x_MxD).sum(1)
    first = jax.random.randint(jax.random.fold_in(key, 0), (), 0, count)
    valid_M = jnp.arange(len(x_MxD)) < count

    def to(rows_C):
        product_CxM = jnp.dot(x_MxD[rows_C], x_MxD.T, precision="highest")
        squared_CxM = jnp.maximum(square_M - 2 * product_CxM + square_M[rows_C, None], 0)
        return jnp.where(valid_M, squared_CxM, 0)

    def choose(i, state):
        chosen_K, nearest_M = state
        edges_M = jnp.cumsum(nearest_M)
        draws_C = jax.random.uniform(jax.random.fold_in(key, i), (candidates,)) * edges_M[-1]
        rows_C = jnp.minimum(jnp.searchsorted(edges_M, draws_C, side="right"), count - 1)
        nearest_CxM = jnp.minimum(nearest_M, to(rows_C))
        best = nearest_CxM.sum(1).argmin()
        return chosen_K.at[i].set(rows_C[best]), nearest_CxM[best]

    start = jnp.full(k, first), to(first[None])[0]
    return jax.lax.fori_loop(1, k, choose, start)[0]


def _full(
    x_NxD, centroids_KxD: np.ndarray, seed: int, iterations: int, limit: float, mesh: Mesh
) -> tuple[np.ndarray, int, bool]:
    """Lloyd's iterations. Returns centroids, iterations done, whether they stopped moving."""
    total, k = x_NxD.shape[0], len(centroids_KxD)
    # Rows in random order, so that the first ones are a sample.
    place_N = np.random.default_rng([seed, 1 << 30]).permutation(total)
    x_SxBxD = passes.blocks(x_NxD, k, mesh, place_N)
    near_SxC, near, whole = None, NEAR.get(jax.default_backend(), k), 0
    count = min(max(START_ROWS, FIRST_ROWS_PER_CLUSTER * k), total)
    with bar(iterations, "k-means", unit="iteration") as b:
        for done in range(1, iterations + 1):
            found = passes.step(mesh)(x_SxBxD, count, centroids_KxD, near_SxC)
            counts_K = np.asarray(found.counts_K)
            means_KxD = np.asarray(found.sums_KxD) / np.maximum(counts_K, 1)[:, None]
            new_KxD = np.where(counts_K[:, None] > 0, means_KxD, centroids_KxD).astype(np.float32)
            squared_SxB = found.squared_SxB
            moved = counts_K.min() == 0 and _reseed(
                new_KxD, counts_K, x_NxD, np.asarray(squared_SxB).reshape(-1)[place_N]
            )
            shift = float(np.square(new_KxD - centroids_KxD).sum())
            centroids_KxD = new_KxD
            b.update(1)
            if count == total and shift <= limit and not moved:
                return centroids_KxD, done, True
            # The squared standard error of a mean is the variance of its rows over their number.
            error = float(squared_SxB.sum()) / count * (1 / np.maximum(counts_K, 1)).sum()
            whole += count == total
            if count < total:
                if shift <= error:
                    count = 2 * count if 4 * count <= total else total
            elif 4 * near <= k <= total // 8 and (moved or whole in NEAR_AFTER):
                cluster_N = np.asarray(found.cluster_SxB).reshape(-1)[place_N]
                place_N[np.argsort(cluster_N, kind="stable")] = np.arange(total)
                rows = int(np.clip(1 << (total // k).bit_length() - 1, *NEAR_ROWS))
                del x_SxBxD, found, squared_SxB  # the rows are on the devices once
                x_SxBxD = passes.blocks(x_NxD, k, mesh, place_N, rows)
                near_SxC = passes.nearby(mesh, near)(x_SxBxD, count, centroids_KxD)
    return centroids_KxD, iterations, False


def _minibatch(
    x_NxD, centroids_KxD: np.ndarray, seed: int, iterations: int, batch_size: int, mesh: Mesh
) -> np.ndarray:
    """Sculley (2010): each centroid is the mean of all batches' rows that it was nearest to."""
    total_K = np.zeros(len(centroids_KxD), np.int64)
    batch_size = min(batch_size, len(x_NxD))
    with bar(iterations, "k-means", unit="batch") as b:
        for i in range(iterations):
            rows = np.random.default_rng([seed, i]).integers(len(x_NxD), size=batch_size)
            x_BxD = np.asarray(x_NxD[np.sort(rows)])
            x_SxBxD = passes.blocks(x_BxD, len(centroids_KxD), mesh)
            found = passes.step(mesh)(x_SxBxD, batch_size, centroids_KxD, None)
            counts_K = np.asarray(found.counts_K)
            total_K += counts_K
            pull_KxD = np.asarray(found.sums_KxD) - counts_K[:, None] * centroids_KxD
            centroids_KxD = centroids_KxD + (pull_KxD / np.maximum(total_K, 1)[:, None]).astype(
                np.float32
            )
            _reseed(centroids_KxD, total_K, x_BxD, found.squared_SxB)
            b.update(1)
    return centroids_KxD


def _settle(x_NxD, centroids_KxD: np.ndarray, mesh: Mesh):
    """(centroids, cluster_N, distance_N) with no cluster empty, as far as the rows differ."""
    for left in reversed(range(SETTLE_ROUNDS)):
        cluster_N, distance_N = assign(x_NxD, centroids_KxD, list(mesh.devices.flat))
        sizes_K = np.bincount(cluster_N, minlength=len(centroids_KxD))
        reseeded_KxD = centroids_KxD.copy()
        if left == 0 or not _reseed(reseeded_KxD, sizes_K, x_NxD, distance_N):
            return centroids_KxD, cluster_N, distance_N
        centroids_KxD = reseeded_KxD


def _reseed(centroids_KxD: np.ndarray, counts_K: np.ndarray, x_NxD, distance) -> int:
    """Puts empty clusters onto the rows farthest from their centroid, in place; how many.

    A row on its centroid is not taken, and of equal rows only one: with fewer different rows than
    clusters some stay empty.
    """
    empty = np.flatnonzero(counts_K == 0)
    if len(empty) == 0:
        return 0
    distance_N = np.asarray(distance).reshape(-1)[: len(x_NxD)]
    farthest = np.argsort(-distance_N, kind="stable")
    farthest = farthest[distance_N[farthest] > 0][: 4 * len(empty)]
    rows_RxD = np.asarray(x_NxD[farthest])
    _, first = np.unique(rows_RxD, axis=0, return_index=True)
    rows_RxD = rows_RxD[np.sort(first)[: len(empty)]]
    centroids_KxD[empty[: len(rows_RxD)]] = rows_RxD
    return len(rows_RxD)


def sample(x_NxD, size: int, seed: int) -> np.ndarray:
    """float32 [M, D]: `size` different rows drawn from the seed, or all."""
    if len(x_NxD) <= size:
        return np.asarray(x_NxD, np.float32)
    rows = np.random.default_rng([seed, 1 << 31]).choice(len(x_NxD), size, replace=False)
    return np.asarray(x_NxD[np.sort(rows)], np.float32)
