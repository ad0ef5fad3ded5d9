"""Training one level of a tree of clusters: the k-means of every node's rows.

Nodes are many small problems; each is solved on one device, by one program for nodes of all sizes.
"""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from specialm.clustering import kmeans, passes
from specialm.common.progress import bar

ROWS_PER_CHILD = 256  # that a node below the first level is trained on, at most
START_ROWS_PER_CHILD = 32  # that its first centroids are chosen from
TRAIN_ROWS = 256  # of a block in training
# Nodes, and rows, of a group trained by one call on a device: few, so that they stay in the cache.
GROUP, GROUP_ROWS, GROUP_ROWS_OTHER = 64, {"cpu": 1 << 13}, 1 << 20


def fit_level(
    x_MxD: np.ndarray,
    node_M: np.ndarray,
    width: int,
    parents: int,
    train,
    mesh: Mesh,
    rng: np.random.Generator,
    title: str,
) -> np.ndarray:
    """Return float32 [P, b, D]: the k-means of every node's rows.

    Args:
      x_MxD: rows of the sample.
      node_M: int, the node of each.
      width: children of a node.
      parents: number of nodes.
      train: (x_nxrxD, place_nxpx3) -> centroids_nxpxbxD, see `train_groups`.
      mesh: of one axis, `data`.
      rng: chooses the rows of large nodes.
      title: of the progress bar.

    """
    order_M = rng.permutation(len(x_MxD))  # so that a node's first rows are a sample of its rows
    order_M = order_M[np.argsort(node_M[order_M], kind="stable")]
    edges = np.searchsorted(node_M[order_M], np.arange(parents + 1))
    count_P = np.minimum(np.diff(edges), ROWS_PER_CHILD * width)
    room = max(ROWS_PER_CHILD * width, GROUP_ROWS.get(jax.default_backend(), GROUP_ROWS_OTHER))
    groups = _groups(count_P, room)
    # After the last node come rows of zeros, which a block or a start may reach into.
    shape = mesh.size, room + max(START_ROWS_PER_CHILD * width, TRAIN_ROWS), x_MxD.shape[1]
    centroids_PxbxD = np.zeros((parents, width, x_MxD.shape[1]), np.float32)
    with bar(int(count_P.sum()), title, unit="window") as b:
        for start in range(0, len(groups), mesh.size):
            x_nxrxD, place_nxpx3 = np.zeros(shape, np.float32), np.zeros((mesh.size, GROUP, 3), int)
            for s, group in enumerate(groups[start : start + mesh.size]):
                offset_p = np.cumsum(count_P[group]) - count_P[group]
                place_nxpx3[s, : len(group)] = np.stack([offset_p, count_P[group], group], 1)
                rows = [order_M[edges[node] : edges[node] + count_P[node]] for node in group]
                x_nxrxD[s, : count_P[group].sum()] = x_MxD[np.concatenate(rows)]
            trained_nxpxbxD = np.asarray(train(x_nxrxD, place_nxpx3.astype(np.int32)))
            for s, group in enumerate(groups[start : start + mesh.size]):
                centroids_PxbxD[group] = trained_nxpxbxD[s, : len(group)]
                b.update(int(count_P[group].sum()))
    return centroids_PxbxD


def _groups(count_P: np.ndarray, room: int) -> list[np.ndarray]:
    """Return the nodes that have rows, the largest first, in groups of at most `room` rows."""
    groups: list[list[int]] = [[]]
    rows = 0
    order = np.argsort(-count_P, kind="stable")
    for node in order[count_P[order] > 0]:
        if rows + count_P[node] > room or len(groups[-1]) == GROUP:
            groups.append([])
            rows = 0
        groups[-1].append(node)
        rows += count_P[node]
    return [np.array(group) for group in groups]


@cache
def train_groups(mesh: Mesh, width: int):
    """Return the jitted training of a group of nodes on each device.

    It is (key, iterations, tolerance, x_nxrxD, place_nxpx3) -> centroids_nxpxbxD; `place` has where
    the rows of each node begin, how many they are (0: no node), and the node's number.
    """

    def local(key, iterations, tolerance, x_1xrxD, place_1xpx3):
        def train_one(place):
            return jax.lax.cond(
                place[1] > 0,
                lambda: _train_node(x_1xrxD[0], *place, key, width, iterations, tolerance),
                lambda: jnp.zeros((width, x_1xrxD.shape[2]), x_1xrxD.dtype),
            )

        for_each = jax.lax.map if jax.default_backend() == "cpu" else lambda f, xs: jax.vmap(f)(xs)
        return for_each(train_one, place_1xpx3[0])[None]

    split, same = PartitionSpec("data"), PartitionSpec()
    return jax.jit(
        jax.shard_map(
            local,
            mesh=mesh,
            in_specs=(same, same, same, split, split),
            out_specs=split,
            check_vma=False,
        )
    )


def _train_node(
    x_rxD: jax.Array,
    offset: jax.Array,
    count: jax.Array,
    name: jax.Array,
    key: jax.Array,
    width: int,
    iterations: jax.Array,
    tolerance: jax.Array,
) -> jax.Array:
    """Return float32 [b, D]: k-means of `count` rows from `offset` on, as `kmeans.fit` does it."""
    sample = jnp.minimum(count, START_ROWS_PER_CHILD * width)
    x_MxD = jax.lax.dynamic_slice_in_dim(x_rxD, offset, START_ROWS_PER_CHILD * width)
    valid_Mx1 = jnp.arange(len(x_MxD))[:, None] < sample
    centre_D = jnp.where(valid_Mx1, x_MxD, 0).sum(0) / sample
    x_MxD = jnp.where(valid_Mx1, x_MxD - centre_D, 0)
    limit = tolerance * jnp.square(x_MxD).sum() / sample / x_MxD.shape[1]
    start_b = kmeans.choose_start(x_MxD, jax.random.fold_in(key, name), width, sample)
    over_blocks = _blocks(x_rxD, offset, count, centre_D)

    def improve(state):
        done, old_bxD, _ = state
        new_bxD, moved = _improve(over_blocks, old_bxD)
        return done + 1, new_bxD, jnp.where(moved, jnp.inf, jnp.square(new_bxD - old_bxD).sum())

    return (
        centre_D
        + jax.lax.while_loop(
            lambda state: (state[0] < iterations) & (state[2] > limit),
            improve,
            (0, x_MxD[start_b], jnp.inf),
        )[1]
    )


def _blocks(x_rxD: jax.Array, offset: jax.Array, count: jax.Array, centre_D: jax.Array):
    """Return the function (add, centroids_bxD, state) -> state that visits a node's rows.

    It calls `add(state, rows_BxD, child_B, squared_B)` with the rows of a block, their nearest
    child (b after the last row) and its squared distance. In blocks nodes of all sizes share one
    program and none is padded.
    """

    def over_blocks(add, centroids_bxD, state):
        half_b = jnp.square(centroids_bxD).sum(1) / 2

        def block(i, state):
            rows_BxD = (
                jax.lax.dynamic_slice_in_dim(x_rxD, offset + i * TRAIN_ROWS, TRAIN_ROWS) - centre_D
            )
            valid_B = i * TRAIN_ROWS + jnp.arange(TRAIN_ROWS) < count
            child_B, squared_B = passes.nearest(rows_BxD, centroids_bxD, half_b)
            return add(
                state,
                rows_BxD,
                jnp.where(valid_B, child_B, len(centroids_bxD)),
                jnp.where(valid_B, squared_B, 0),
            )

        return jax.lax.fori_loop(0, -(-count // TRAIN_ROWS), block, state)

    return over_blocks


def _improve(over_blocks, old_bxD: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Run one of Lloyd's iterations; return centroids and whether an empty one was moved."""
    width = len(old_bxD)
    zero_bxD, zero_b = jnp.zeros_like(old_bxD), jnp.zeros(width, jnp.int32)

    def means(state, rows_BxD, child_B, _):
        return jax.tree.map(jnp.add, state, passes.add(rows_BxD, child_B, width))

    def farthest(state, rows_BxD, _, squared_B):
        squared_b, row_b = jax.lax.top_k(jnp.concatenate([state[0], squared_B]), width)
        return squared_b, jnp.concatenate([state[1], rows_BxD])[row_b]

    sums_bxD, count_b = over_blocks(means, old_bxD, (zero_bxD, zero_b))
    empty_b = count_b == 0
    new_bxD = jnp.where(empty_b[:, None], old_bxD, sums_bxD / jnp.maximum(count_b, 1)[:, None])

    def reseed():
        squared_b, row_bxD = over_blocks(farthest, old_bxD, (jnp.zeros(width), zero_bxD))
        rank_b = jnp.cumsum(empty_b) - 1
        moved_b = empty_b & (squared_b[rank_b] > 0)
        return jnp.where(moved_b[:, None], row_bxD[rank_b], new_bxD), moved_b.any()

    return jax.lax.cond(empty_b.any(), reseed, lambda: (new_bxD, jnp.array(False)))
