"""One pass of k-means over rows: which centroid is the nearest, and the sums of each cluster.

Rows are taken in blocks, so the distances of all rows to all centroids are never in memory at once;
each block is split over the devices.
"""

from dataclasses import dataclass
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

# Scores (rows x centroids) of a block: on a CPU they have to stay in the cache.
BLOCK_SCORES = {"cpu": 1 << 18}
BLOCK_SCORES_ACCELERATOR = 1 << 26


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class PassResult:
    """What one pass over the rows found.

    Attributes:
      cluster_sxB: int32, nearest cluster of each row; K for rows after the first `count`.
      squared_sxB: float32, squared distance to its centroid; 0 for those rows.
      sums_KxD: float32, sum of the rows of each cluster.
      counts_K: int32, their number.

    """

    cluster_sxB: jax.Array
    squared_sxB: jax.Array
    sums_KxD: jax.Array
    counts_K: jax.Array


@cache
def step(mesh: Mesh):
    """Return the jitted pass over the first `count` rows, see `_pass`.

    It is (x_sxBxD, count, centroids_KxD, near_sxa or None) -> PassResult.
    """
    split, same = PartitionSpec(None, "data"), PartitionSpec()
    run = jax.shard_map(
        _pass,
        mesh=mesh,
        in_specs=(split, same, same, split),
        out_specs=(split, split, same, same),
        check_vma=False,
    )
    return jax.jit(lambda *arguments: PassResult(*run(*arguments)))


@cache
def nearby(mesh: Mesh, near: int):
    """Return the jitted (x_sxBxD, count, centroids_KxD) -> near_sxa.

    near_sxa holds, for each device's part of a block, the `near` centroids that are nearest to one
    of its rows, or least farther than its nearest.
    """
    split, same = PartitionSpec(None, "data"), PartitionSpec()

    def local(x_sxBxD, count, centroids_KxD):
        rows_of, centroids_KxD, offset_K, _ = _centred(x_sxBxD, count, centroids_KxD)

        def block(i):
            x_BxD, valid_B = rows_of(i)
            score_BxK = _scores(x_BxD, centroids_KxD, offset_K)
            ahead_BxK = score_BxK - score_BxK.max(1, keepdims=True)
            return jax.lax.top_k(jnp.where(valid_B[:, None], ahead_BxK, -jnp.inf).max(0), near)[1]

        return jax.lax.map(block, jnp.arange(len(x_sxBxD)))

    return jax.jit(
        jax.shard_map(
            local, mesh=mesh, in_specs=(split, same, same), out_specs=split, check_vma=False
        )
    )


def _pass(
    x_sxBxD: jax.Array, count: jax.Array, centroids_KxD: jax.Array, near_sxa: jax.Array | None
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Find the nearest centroids of one device's rows; add up the clusters over all devices.

    Args:
      x_sxBxD: this device's part of each block.
      count: rows of all devices; those after them are padding.
      centroids_KxD: of all clusters.
      near_sxa: the centroids to compare with, of each block; None for all.

    Returns:
      The fields of `PassResult`.

    """
    k, (blocks, rows, _) = len(centroids_KxD), x_sxBxD.shape
    rows_of, centroids_KxD, offset_K, centre_D = _centred(x_sxBxD, count, centroids_KxD)

    def block(i, results):
        cluster_sxB, squared_sxB, sums_KxD, counts_K = results
        x_BxD, valid_B = rows_of(i)
        if near_sxa is None:
            cluster_B, squared_B = nearest(x_BxD, centroids_KxD, offset_K)
        else:
            near_a = near_sxa[i]
            among_B, squared_B = nearest(x_BxD, centroids_KxD[near_a], offset_K[near_a])
            cluster_B = near_a[among_B]
        cluster_B = jnp.where(valid_B, cluster_B, k)
        more_KxD, more_K = add(x_BxD, cluster_B, k)
        return (
            cluster_sxB.at[i].set(cluster_B),
            squared_sxB.at[i].set(jnp.where(valid_B, squared_B, 0)),
            sums_KxD + more_KxD,
            counts_K + more_K,
        )

    start = (
        jnp.full((blocks, rows), k, jnp.int32),
        jnp.zeros((blocks, rows), x_sxBxD.dtype),
        jnp.zeros_like(centroids_KxD),
        jnp.zeros(k, jnp.int32),
    )
    together = rows * jax.lax.axis_size("data")
    cluster_sxB, squared_sxB, sums_KxD, counts_K = jax.lax.fori_loop(
        0, (count + together - 1) // together, block, start
    )
    sums_KxD, counts_K = jax.lax.psum((sums_KxD + counts_K[:, None] * centre_D, counts_K), "data")
    return cluster_sxB, squared_sxB, sums_KxD, counts_K


def _centred(x_sxBxD: jax.Array, count: jax.Array, centroids_KxD: jax.Array):
    """Move rows and centroids so that the mean of the centroids is 0 and little cancels.

    Returns:
      (rows_of, centroids_KxD, half their squared lengths [K], the mean [D]); `rows_of(i)` is the
      rows of a block and whether each is among the first `count`.

    """
    rows = x_sxBxD.shape[1]
    centre_D = centroids_KxD.mean(0)
    centroids_KxD = centroids_KxD - centre_D

    def rows_of(i):
        part = i * jax.lax.axis_size("data") + jax.lax.axis_index("data")
        return x_sxBxD[i] - centre_D, part * rows + jnp.arange(rows) < count

    return rows_of, centroids_KxD, jnp.square(centroids_KxD).sum(1) / 2, centre_D


def nearest(
    x_BxD: jax.Array, centroids_KxD: jax.Array, offset_K: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Return the nearest centroid of each row, int32 [B], and its squared distance, float32 [B].

    Args:
      x_BxD: rows.
      centroids_KxD: to compare with.
      offset_K: half the squared length of each centroid; inf for one not to be taken.

    """
    k = len(centroids_KxD)
    score_BxK = _scores(x_BxD, centroids_KxD, offset_K)
    best_Bx1 = score_BxK.max(1, keepdims=True)
    # Comparing with the maximum and taking the least index is much faster on a CPU than argmax.
    index_K = jnp.arange(k, dtype=jnp.float32)
    cluster_B = jnp.where(score_BxK == best_Bx1, index_K, k - 1.0).min(1).astype(jnp.int32)
    return cluster_B, jnp.square(x_BxD - centroids_KxD[cluster_B]).sum(1)


def _scores(x_BxD: jax.Array, centroids_KxD: jax.Array, offset_K: jax.Array) -> jax.Array:
    """Return float32 [B, K]: the larger, the nearer."""
    return jnp.dot(x_BxD, centroids_KxD.T, precision="highest") - offset_K


def add(x_BxD: jax.Array, cluster_B: jax.Array, k: int) -> tuple[jax.Array, jax.Array]:
    """Return sum [K, D] and number [K] of each cluster's rows; clusters from k on are dropped."""
    if jax.default_backend() == "cpu":
        counts_K = jax.ops.segment_sum(jnp.ones_like(cluster_B), cluster_B, k)
        return jax.ops.segment_sum(x_BxD, cluster_B, k), counts_K
    # On an accelerator a scatter adds in any order, and slowly; a matrix product does neither.
    member_KxB = jnp.arange(k)[:, None] == cluster_B
    sums_KxD = jnp.dot(member_KxB.astype(jnp.float32), x_BxD, precision="highest")
    return sums_KxD, member_KxB.sum(1, dtype=jnp.int32)


def blocks(
    x_NxD, k: int, mesh: Mesh, place_N: np.ndarray | slice = slice(None), rows: int = 0
) -> jax.Array:
    """Return [s, B, D] on the devices: row n is at `place_N[n]`; zeros fill up the last block.

    Args:
      x_NxD: rows.
      k: clusters that they will be compared with.
      mesh: of one axis, `data`.
      place_N: a permutation of the rows.
      rows: of a block on each device; 0 chooses a fast number.

    """
    count, dim = x_NxD.shape
    devices = mesh.devices.size
    scores = BLOCK_SCORES.get(jax.default_backend(), BLOCK_SCORES_ACCELERATOR)
    together = (rows or max(min(scores // k, -(-count // devices)), 1)) * devices
    x_sxBxD = np.zeros((-(-count // together), together, dim), np.float32)
    x_sxBxD.reshape(-1, dim)[:count][place_N] = x_NxD
    return jax.device_put(x_sxBxD, NamedSharding(mesh, PartitionSpec(None, "data")))


def make_mesh(devices: list | None = None) -> Mesh:
    """Return the devices (all local ones by default) as a mesh of one axis, `data`."""
    devices = list(devices or jax.local_devices())
    return jax.make_mesh((len(devices),), ("data",), (AxisType.Auto,), devices=devices)
