"""Greedy descent of a tree of clusters: each row goes to the nearest child of its node.

Rows are sorted by node and cut into blocks that have one node each, so that a block is one matrix
product with its node's children. Each level is one program, split over the devices by rows, which
are independent of each other.
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
    """Return the function that brings rows down the levels.

    It takes rows [N, D], N at most `most`, and the nodes to start from, 0 by default; it returns
    int32 [N], the node of the last level, and float32 [N], the distance to its centroid.

    Args:
      centroids: of each level, see `tree.Tree`; they are copied to every device.
      children: of each level, likewise.
      most: rows of one call, at most.
      mesh: of one axis, `data`.

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
    x_NxD: jax.Array, node_N: jax.Array, centroids_PxbxD: jax.Array, children_P: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Return the nearest child of each row's node, numbered over the level, and the distances.

    Args:
      x_NxD: rows of one device.
      node_N: int32, the node of each row.
      centroids_PxbxD: of the children of each node.
      children_P: int32, how many children each node has.

    Returns:
      int32 [N] and float32 [N], squared distances.

    """
    count, (parents, width, _) = len(x_NxD), centroids_PxbxD.shape
    rows = _block_rows(count, parents, width)
    together = max(STEP_ROWS.get(jax.default_backend(), STEP_ROWS_OTHER) // rows, 1)
    blocks = count // rows + min(parents, count)  # at most; each node pads its last one
    blocks = -(-blocks // together) * together
    order_N = jnp.argsort(node_N) if parents > 1 else jnp.arange(count)
    edges = jnp.searchsorted(node_N[order_N], jnp.arange(parents + 1), side="left")
    last_P = jnp.cumsum(-(-jnp.diff(edges) // rows))  # after each node's blocks
    first_P = jnp.concatenate([jnp.zeros(1, last_P.dtype), last_P[:-1]])
    node_s = jnp.minimum(jnp.searchsorted(last_P, jnp.arange(blocks), side="right"), parents - 1)
    sorted_N = node_N[order_N]
    slot_N = first_P[sorted_N] * rows + jnp.arange(count) - edges[sorted_N]
    row_sxB = jnp.zeros(blocks * rows, jnp.int32).at[slot_N].set(order_N).reshape(blocks, rows)
    child_b = jnp.arange(width)

    def compare(row_B, node):
        centroids_bxD = centroids_PxbxD[node]
        centre_D = centroids_bxD.mean(0)
        centroids_bxD = centroids_bxD - centre_D
        half_b = jnp.where(
            child_b < children_P[node], jnp.square(centroids_bxD).sum(1) / 2, jnp.inf
        )
        return passes.nearest(x_NxD[row_B] - centre_D, centroids_bxD, half_b)

    def step(i, results):
        start = i * together
        nearest = jax.vmap(compare)(
            jax.lax.dynamic_slice_in_dim(row_sxB, start, together),
            jax.lax.dynamic_slice_in_dim(node_s, start, together),
        )
        return jax.tree.map(
            lambda whole, part: jax.lax.dynamic_update_slice_in_dim(whole, part, start, 0),
            results,
            nearest,
        )

    empty = jnp.zeros((blocks, rows), jnp.int32), jnp.zeros((blocks, rows), x_NxD.dtype)
    child_sxB, squared_sxB = jax.lax.fori_loop(0, -(-last_P[-1] // together), step, empty)
    slot_N = jnp.zeros(count, jnp.int32).at[order_N].set(slot_N)
    return (node_N * width + child_sxB.reshape(-1)[slot_N]), squared_sxB.reshape(-1)[slot_N]


def _block_rows(count: int, parents: int, width: int) -> int:
    """Return the rows of a block: half to all of a node's average, so that little is padded.

    Args:
      count: rows of one device.
      parents: nodes of the level.
      width: children of each.

    """
    scores = passes.BLOCK_SCORES.get(jax.default_backend(), passes.BLOCK_SCORES_ACCELERATOR)
    share = 1 << max((count // parents).bit_length() - 1, 0)
    return max(min(share, scores // width, MOST_ROWS, count), LEAST_ROWS)
