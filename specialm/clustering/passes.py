"""One pass of k-means over rows: which centroid is the nearest, and the sums of each cluster.

Rows are taken in blocks, so the distances of all rows to all centroids are never whole, and each
block is split over the devices.

Letters: N rows, D dimensions, K clusters, S blocks, B rows of a device's part of a block, C
centroids near such a part.
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
START_ROWS, START_ROWS_PER_CLUSTER = 4096, 8  # that the start is chosen among


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Found:
    cluster_SxB: jax.Array  # K for rows behind `count`
    squared_SxB: jax.Array  # squared distance to the nearest centroid, 0 for them
    sums_KxD: jax.Array
    counts_K: jax.Array


@cache
def step(mesh: Mesh):
    """The jitted pass over the first `count` rows, see `_pass`: (x_SxBxD, count, centroids_KxD,
    near_SxC or None) -> Found.
    """
    split, same = PartitionSpec(None, "data"), PartitionSpec()
    return jax.jit(
        jax.shard_map(
            _pass,
            mesh=mesh,
            in_specs=(split, same, same, split),
            out_specs=Found(split, split, same, same),
            check_vma=False,
        )
    )


@cache
def nearby(mesh: Mesh, near: int):
    """The jitted (x_SxBxD, count, centroids_KxD) -> near_SxC, a device's part of a block each: the
    centroids that are nearest to one of its rows, or least farther than its nearest.
    """
    split, same = PartitionSpec(None, "data"), PartitionSpec()

    def local(x_SxBxD, count, centroids_KxD):
        rows_of, centroids_KxD, offset_K, _ = _centred(x_SxBxD, count, centroids_KxD)

        def block(i):
            x_BxD, valid_B = rows_of(i)
            score_BxK = _scores(x_BxD, centroids_KxD, offset_K)
            ahead_BxK = score_BxK - score_BxK.max(1, keepdims=True)
            return jax.lax.top_k(jnp.where(valid_B[:, None], ahead_BxK, -jnp.inf).max(0), near)[1]

        return jax.lax.map(block, jnp.arange(len(x_SxBxD)))

    return jax.jit(
        jax.shard_map(
            local, mesh=mesh, in_specs=(split, same, same), out_specs=split, check_vma=False
        )
    )


def _pass(
    x_SxBxD: jax.Array, count: jax.Array, centroids_KxD: jax.Array, near_SxC: jax.Array | None
) -> Found:
    """One device's part of a pass: the nearest centroids of its rows (among those near the block,
    if given), and over all devices the sums and numbers of each cluster's rows.
    """
    k, (blocks, rows, _) = len(centroids_KxD), x_SxBxD.shape
    rows_of, centroids_KxD, offset_K, centre_D = _centred(x_SxBxD, count, centroids_KxD)

    def block(i, found):
        cluster_SxB, squared_SxB, sums_KxD, counts_K = found
        x_BxD, valid_B = rows_of(i)
        if near_SxC is None:
            cluster_B, squared_B = nearest(x_BxD, centroids_KxD, offset_K)
        else:
            near_C = near_SxC[i]
            among_B, squared_B = nearest(x_BxD, centroids_KxD[near_C], offset_K[near_C])
            cluster_B = near_C[among_B]
        cluster_B = jnp.where(valid_B, cluster_B, k)
        more_KxD, more_K = add(x_BxD, cluster_B, k)
        return (
            cluster_SxB.at[i].set(cluster_B),
            squared_SxB.at[i].set(jnp.where(valid_B, squared_B, 0)),
            sums_KxD + more_KxD,
            counts_K + more_K,
        )

    start = (
        jnp.full((blocks, rows), k, jnp.int32),
        jnp.zeros((blocks, rows), x_SxBxD.dtype),
        jnp.zeros_like(centroids_KxD),
        jnp.zeros(k, jnp.int32),
    )
    together = rows * jax.lax.axis_size("data")
    cluster_SxB, squared_SxB, sums_KxD, counts_K = jax.lax.fori_loop(
        0, (count + together - 1) // together, block, start
    )
    sums_KxD, counts_K = jax.lax.psum((sums_KxD + counts_K[:, None] * centre_D, counts_K), "data")
    return Found(cluster_SxB, squared_SxB, sums_KxD, counts_K)


def _centred(x_SxBxD: jax.Array, count: jax.Array, centroids_KxD: jax.Array):
    """(block number -> (rows, whether they are among the first `count`), centroids, half their
    squared lengths, centre), all but the centre relative to it so that little cancels.
    """
    rows = x_SxBxD.shape[1]
    centre_D = centroids_KxD.mean(0)
    centroids_KxD = centroids_KxD - centre_D

    def rows_of(i):
        part = i * jax.lax.axis_size("data") + jax.lax.axis_index("data")
        return x_SxBxD[i] - centre_D, part * rows + jnp.arange(rows) < count

    return rows_of, centroids_KxD, jnp.square(centroids_KxD).sum(1) / 2, centre_D


def nearest(
    x_BxD: jax.Array, centroids_KxD: jax.Array, offset_K: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """(int32 [B], float32 [B]): the nearest centroid of each row, and its squared distance.

    Args:
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
    """float32 [B, K]: the larger, the nearer."""
    return jnp.dot(x_BxD, centroids_KxD.T, precision="highest") - offset_K


def add(x_BxD: jax.Array, cluster_B: jax.Array, k: int) -> tuple[jax.Array, jax.Array]:
    """Sum and number of the rows of each cluster; clusters beyond K are dropped."""
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
    """[S, B, D]: row n is at `place_N[n]`, in blocks of `rows` rows (0: as is fast) on each device,
    the last one filled up with zeros.
    """
    count, dim = x_NxD.shape
    devices = mesh.devices.size
    scores = BLOCK_SCORES.get(jax.default_backend(), BLOCK_SCORES_ACCELERATOR)
    together = (rows or max(min(scores // k, -(-count // devices)), 1)) * devices
    x_SxBxD = np.zeros((-(-count // together), together, dim), np.float32)
    x_SxBxD.reshape(-1, dim)[:count][place_N] = x_NxD
    return jax.device_put(x_SxBxD, NamedSharding(mesh, PartitionSpec(None, "data")))


def make_mesh(devices: list | None = None) -> Mesh:
    """The devices (all local ones by default) as a mesh of one axis, `data`."""
    devices = list(devices or jax.local_devices())
    return jax.make_mesh((len(devices),), ("data",), (AxisType.Auto,), devices=devices)
