"""k-means in JAX: k-means++ start, Lloyd's iterations over all rows or over mini-batches.

The first iterations go over a sample, which doubles as soon as the centroids move less than they
are uncertain by (after Newling and Fleuret, "Nested Mini-Batch K-Means", 2016). Once all rows have
been visited, a CPU sorts them by cluster and compares the rows of a block with the NEAR nearest
centroids only (after Agustsson et al., "k2-means", 2017). The last pass, whose inertia is reported,
compares with all centroids again.

The result depends only on the data, the seed, the settings and the kind of device; another number
of devices changes only the rounding.
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

START_ROWS, START_ROWS_PER_CLUSTER = 4096, 8  # that the first centroids are chosen from
FIRST_ROWS_PER_CLUSTER = 32  # of the first iterations; they use at least START_ROWS rows
NEAR = {"cpu": 64}  # centroids that late iterations compare with, if K is at least four times that
NEAR_AFTER = 1, 4, 16, 64  # iterations over all rows after which the near ones are computed anew
NEAR_ROWS = 64, 1024  # of a block then, at least and at most
ASSIGN_ROWS = 1 << 17  # that `assign` brings to the devices at a time
RESEED_ROUNDS = 10  # after the last iteration, at most


@dataclass(frozen=True)
class KMeansResult:
    """Clusters and how they were result.

    Attributes:
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
    """Cluster the rows of a float32 array or memory map.

    Args:
      x_NxD: rows.
      k: number of clusters.
      seed: of all random choices.
      method: "full" holds all rows on the devices and uses a growing sample of them, then all;
        "minibatch" reads `batch_size` rows, drawn anew, in each iteration.
      iterations: at most ("full", those over samples included), or the number of mini-batches.
      batch_size: rows of a mini-batch.
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
    centroids_KxD, cluster_N, distance_N = _assign_without_empty(x_NxD, centroids_KxD, mesh)
    inertia = float(np.square(distance_N, dtype=np.float64).sum())
    if not math.isfinite(inertia):
        raise UserError(
            "the embeddings to cluster hold values that are not finite; remove the stage "
            "`embeddings` from the work folder and run the command again."
        )
    return KMeansResult(
        centroids_KxD, inertia, done, np.bincount(cluster_N, minlength=k), converged
    )


def assign(
    x_NxD: np.ndarray, centroids_KxD: np.ndarray, devices: list | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the nearest centroid of each row, int32 [N], and its Euclidean distance, float32 [N].

    Rows are read ASSIGN_ROWS at a time; of equally near centroids the first is taken.
    """
    mesh = passes.make_mesh(devices)
    cluster_N = np.empty(len(x_NxD), np.int32)
    distance_N = np.empty(len(x_NxD), np.float32)
    for start in range(0, len(x_NxD), ASSIGN_ROWS):
        rows = slice(start, min(start + ASSIGN_ROWS, len(x_NxD)))
        count = rows.stop - rows.start
        x_sxBxD = passes.blocks(x_NxD[rows], len(centroids_KxD), mesh)
        result = passes.step(mesh)(x_sxBxD, count, centroids_KxD, None)
        cluster_N[rows] = np.asarray(result.cluster_sxB).reshape(-1)[:count]
        distance_N[rows] = np.sqrt(np.asarray(result.squared_sxB).reshape(-1)[:count])
    return cluster_N, distance_N


def plus_plus(x_MxD: np.ndarray, k: int, seed: int, device: jax.Device | None = None) -> np.ndarray:
    """Return the greedy k-means++ start: float32 [K, D], rows of `x_MxD`.

    Each next centroid is drawn in proportion to the squared distance to those chosen so far; of
    2 + ln K candidates the one that lowers the inertia most is taken, as in scikit-learn.
    """
    x_MxD = jax.device_put(x_MxD, device)
    chosen_K = choose_start(x_MxD, jax.random.key(seed), k, len(x_MxD))
    return np.asarray(x_MxD[chosen_K])


@partial(jax.jit, static_argnums=2)
def choose_start(x_MxD: jax.Array, key: jax.Array, k: int, count: jax.Array) -> jax.Array:
    """Return int32 [K]: the rows that `plus_plus` chooses, among the first `count` ones."""
    candidates = 2 + int(math.log(k))
    x_MxD = x_MxD - x_MxD.mean(0)
    square_M = jnp.square(x_MxD).sum(1)
    first = jax.random.randint(jax.random.fold_in(key, 0), (), 0, count)
    valid_M = jnp.arange(len(x_MxD)) < count

    def squared_distances(rows_a):
        product_axM = jnp.dot(x_MxD[rows_a], x_MxD.T, precision="highest")
        squared_axM = jnp.maximum(square_M - 2 * product_axM + square_M[rows_a, None], 0)
        return jnp.where(valid_M, squared_axM, 0)

    def choose(i, state):
        chosen_K, nearest_M = state
        edges_M = jnp.cumsum(nearest_M)
        draws_a = jax.random.uniform(jax.random.fold_in(key, i), (candidates,)) * edges_M[-1]
        rows_a = jnp.minimum(jnp.searchsorted(edges_M, draws_a, side="right"), count - 1)
        nearest_axM = jnp.minimum(nearest_M, squared_distances(rows_a))
        best = nearest_axM.sum(1).argmin()
        return chosen_K.at[i].set(rows_a[best]), nearest_axM[best]

    start = jnp.full(k, first), squared_distances(first[None])[0]
    return jax.lax.fori_loop(1, k, choose, start)[0]


def _full(
    x_NxD, centroids_KxD: np.ndarray, seed: int, iterations: int, limit: float, mesh: Mesh
) -> tuple[np.ndarray, int, bool]:
    """Run Lloyd's iterations; return centroids, iterations done, whether they stopped moving."""
    total, k = x_NxD.shape[0], len(centroids_KxD)
    # Rows in random order, so that the first ones are a sample.
    place_N = np.random.default_rng([seed, 1 << 30]).permutation(total)
    x_sxBxD = passes.blocks(x_NxD, k, mesh, place_N)
    near_sxa, near, full_passes = None, NEAR.get(jax.default_backend(), k), 0
    count = min(max(START_ROWS, FIRST_ROWS_PER_CLUSTER * k), total)
    with bar(iterations, "k-means", unit="iteration") as b:
        for done in range(1, iterations + 1):
            result = passes.step(mesh)(x_sxBxD, count, centroids_KxD, near_sxa)
            counts_K = np.asarray(result.counts_K)
            means_KxD = np.asarray(result.sums_KxD) / np.maximum(counts_K, 1)[:, None]
            new_KxD = np.where(counts_K[:, None] > 0, means_KxD, centroids_KxD).astype(np.float32)
            squared_sxB = result.squared_sxB
            moved = counts_K.min() == 0 and _reseed(
                new_KxD, counts_K, x_NxD, np.asarray(squared_sxB).reshape(-1)[place_N]
            )
            shift = float(np.square(new_KxD - centroids_KxD).sum())
            centroids_KxD = new_KxD
            b.update(1)
            if count == total and shift <= limit and not moved:
                return centroids_KxD, done, True
            # The squared standard error of a mean is the variance of its rows over their number.
            error = float(squared_sxB.sum()) / count * (1 / np.maximum(counts_K, 1)).sum()
            full_passes += count == total
            if count < total:
                if shift <= error:
                    count = 2 * count if 4 * count <= total else total
            elif 4 * near <= k <= total // 8 and (moved or full_passes in NEAR_AFTER):
                cluster_N = np.asarray(result.cluster_sxB).reshape(-1)[place_N]
                place_N[np.argsort(cluster_N, kind="stable")] = np.arange(total)
                rows = int(np.clip(1 << (total // k).bit_length() - 1, *NEAR_ROWS))
                del x_sxBxD, result, squared_sxB  # so that the rows are on the devices only once
                x_sxBxD = passes.blocks(x_NxD, k, mesh, place_N, rows)
                near_sxa = passes.nearby(mesh, near)(x_sxBxD, count, centroids_KxD)
    return centroids_KxD, iterations, False


def _minibatch(
    x_NxD, centroids_KxD: np.ndarray, seed: int, iterations: int, batch_size: int, mesh: Mesh
) -> np.ndarray:
    """Run Sculley's iterations (2010): a centroid is the mean of all rows it was nearest to."""
    total_K = np.zeros(len(centroids_KxD), np.int64)
    batch_size = min(batch_size, len(x_NxD))
    with bar(iterations, "k-means", unit="batch") as b:
        for i in range(iterations):
            rows = np.random.default_rng([seed, i]).integers(len(x_NxD), size=batch_size)
            x_BxD = np.asarray(x_NxD[np.sort(rows)])
            x_sxBxD = passes.blocks(x_BxD, len(centroids_KxD), mesh)
            result = passes.step(mesh)(x_sxBxD, batch_size, centroids_KxD, None)
            counts_K = np.asarray(result.counts_K)
            total_K += counts_K
            change_KxD = np.asarray(result.sums_KxD) - counts_K[:, None] * centroids_KxD
            centroids_KxD = centroids_KxD + (change_KxD / np.maximum(total_K, 1)[:, None]).astype(
                np.float32
            )
            _reseed(centroids_KxD, total_K, x_BxD, result.squared_sxB)
            b.update(1)
    return centroids_KxD


def _assign_without_empty(x_NxD, centroids_KxD: np.ndarray, mesh: Mesh):
    """Return (centroids, cluster_N, distance_N); no cluster is empty, as far as the rows differ."""
    for left in reversed(range(RESEED_ROUNDS)):
        cluster_N, distance_N = assign(x_NxD, centroids_KxD, list(mesh.devices.flat))
        sizes_K = np.bincount(cluster_N, minlength=len(centroids_KxD))
        reseeded_KxD = centroids_KxD.copy()
        if left == 0 or not _reseed(reseeded_KxD, sizes_K, x_NxD, distance_N):
            return centroids_KxD, cluster_N, distance_N
        centroids_KxD = reseeded_KxD


def _reseed(centroids_KxD: np.ndarray, counts_K: np.ndarray, x_NxD, distance) -> int:
    """Put empty clusters onto the rows farthest from their centroid, in place; return how many.

    A row on its centroid is not taken, and of equal rows only one: with fewer different rows than
    clusters some stay empty.
    """
    empty = np.flatnonzero(counts_K == 0)
    if len(empty) == 0:
        return 0
    distance_N = np.asarray(distance).reshape(-1)[: len(x_NxD)]
    farthest = np.argsort(-distance_N, kind="stable")
    farthest = farthest[distance_N[farthest] > 0][: 4 * len(empty)]
    rows_BxD = np.asarray(x_NxD[farthest])
    _, first = np.unique(rows_BxD, axis=0, return_index=True)
    rows_BxD = rows_BxD[np.sort(first)[: len(empty)]]
    centroids_KxD[empty[: len(rows_BxD)]] = rows_BxD
    return len(rows_BxD)


def sample(x_NxD, size: int, seed: int) -> np.ndarray:
    """Return float32 [M, D]: `size` different rows drawn from the seed, or all."""
    if len(x_NxD) <= size:
        return np.asarray(x_NxD, np.float32)
    rows = np.random.default_rng([seed, 1 << 31]).choice(len(x_NxD), size, replace=False)
    return np.asarray(x_NxD[np.sort(rows)], np.float32)
