"""Greedy descent of a tree of clusters: each row goes to the nearest child of its node.

Rows are sorted by node and cut into blocks that have one node each, so that a block is one matrix
product with its node's children. All of it is one program for each level, split over the devices
by rows, which need nothing of each other.

Letters: N rows, D dimensions, P nodes of a level, B children of each, S blocks of R rows each.
"""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from specialm.clustering import passes

# Rows compared together by one step: one block on a CPU, where it stays in the cache.
STEP_ROWS, STEP_ROWS_OTHER = {"cpu": 1}, 1 << 17
MOST_ROWS, LEAST_ROWS = 4096, 16  # of a block


def descender(
    centroids: tuple[np.ndarray, ...], children: tuple[np.ndarray, ...], most: int, mesh: Mesh
):
    """The function (rows [N, D], N at most `most`; nodes to start from, 0 by default) ->
    (int32 [N], node of the last level; float32 [N], distance to its centroid).

    Args:
      centroids, children: of each level, see `tree.Tree`; they are copied to every device.

    """
    split, same = (NamedSharding(mesh, PartitionSpec(*axis)) for axis in (("data",), ()))
    every_level = jax.device_put(tuple(zip(centroids, children, strict=True)), same)
    padded = -(-most // mesh.size) * mesh.size

    def descend(x_NxD, node_N=0):
        filled_NxD = np.zeros((padded, x_NxD.shape[1]), np.float32)
        filled_NxD[: len(x_NxD)] = x_NxD
        nodes_N = np.zeros(padded, np.int32)
        nodes_N[: len(x_NxD)] = node_N
        filled_NxD, nodes_N = jax.device_put((filled_NxD, nodes_N), split)
        for level in every_level:
            nodes_N, squared_N = _descent(mesh)(filled_NxD, nodes_N, *level)
        return (np.asarray(nodes_N)[: len(x_NxD)], np.sqrt(np.asarray(squared_N)[: len(x_NxD)]))

    return descend


@cache
def _descent(mesh: Mesh):
    split, same = PartitionSpec("data"), PartitionSpec()
    return jax.jit(
        jax.shard_map(
            _one_level,
            mesh=mesh,
            in_specs=(split, split, same, same),
            out_specs=split,
            check_vma=False,
        )
    )


def _one_level(
    x_NxD: jax.Array, node_N: jax.Array, centroids_PxBxD: jax.Array, children_P: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """(nearest child of each row's node, numbered over the level; its squared distance)."""
    count, (parents, width, _) = len(x_NxD), centroids_PxBxD.shape
    rows = _block_rows(count, parents, width)
    together = max(STEP_ROWS.get(jax.default_backend(), STEP_ROWS_OTHER) // rows, 1)
    blocks = count // rows + min(parents, count)  # at most; each node pads its last one
    blocks = -(-blocks // together) * together
    order_N = jnp.argsort(node_N) if parents > 1 else jnp.arange(count)
    edges = jnp.searchsorted(node_N[order_N], jnp.arange(parents + 1), side="left")
    last_P = jnp.cumsum(-(-jnp.diff(edges) // rows))  # behind each node's blocks
    first_P = jnp.concatenate([jnp.zeros(1, last_P.dtype), last_P[:-1]])
    node_S = jnp.minimum(jnp.searchsorted(last_P, jnp.arange(blocks), side="right"), parents - 1)
    sorted_N = node_N[order_N]
    slot_N = first_P[sorted_N] * rows + jnp.arange(count) - edges[sorted_N]
    row_SxR = jnp.zeros(blocks * rows, jnp.int32).at[slot_N].set(order_N).reshape(blocks, rows)
    child_B = jnp.arange(width)

    def compare(row_R, node):
        centroids_BxD = centroids_PxBxD[node]
        centre_D = centroids_BxD.mean(0)
        centroids_BxD = centroids_BxD - centre_D
        half_B = jnp.where(
            child_B < children_P[node], jnp.square(centroids_BxD).sum(1) / 2, jnp.inf
        )
        return passes.nearest(x_NxD[row_R] - centre_D, centroids_BxD, half_B)

    def step(i, found):
        at = i * together
        made = jax.vmap(compare)(
            jax.lax.dynamic_slice_in_dim(row_SxR, at, together),
            jax.lax.dynamic_slice_in_dim(node_S, at, together),
        )
        return jax.tree.map(
            lambda whole, part: jax.lax.dynamic_update_slice_in_dim(whole, part, at, 0), found, made
        )

    empty = jnp.zeros((blocks, rows), jnp.int32), jnp.zeros((blocks, rows), x_NxD.dtype)
    child_SxR, squared_SxR = jax.lax.fori_loop(0, -(-last_P[-1] // together), step, empty)
    slot_N = jnp.zeros(count, jnp.int32).at[order_N].set(slot_N)
    return (node_N * width + child_SxR.reshape(-1)[slot_N]), squared_SxR.reshape(-1)[slot_N]


def _block_rows(count: int, parents: int, width: int) -> int:
    """Rows of a block: half to all of what a node has on average, so that little is padded, within
    what is fast.
    """
    scores = passes.BLOCK_SCORES.get(jax.default_backend(), passes.BLOCK_SCORES_ACCELERATOR)
    share = 1 << max((count // parents).bit_length() - 1, 0)
    return max(min(share, scores // width, MOST_ROWS, count), LEAST_ROWS)
