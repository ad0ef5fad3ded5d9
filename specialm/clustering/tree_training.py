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
START_ROWS_PER_CHILD = 32  # that its start is chosen among
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
    """float32 [P, B, D]: the k-means of every node's rows."""
    order_M = rng.permutation(len(x_MxD))  # so that a node's first rows are a sample of its rows
    order_M = order_M[np.argsort(node_M[order_M], kind="stable")]
    edges = np.searchsorted(node_M[order_M], np.arange(parents + 1))
    count_P = np.minimum(np.diff(edges), ROWS_PER_CHILD * width)
    room = max(ROWS_PER_CHILD * width, GROUP_ROWS.get(jax.default_backend(), GROUP_ROWS_OTHER))
    groups = _groups(count_P, room)
    # Behind the last node lie rows that a block, or the rows of a start, may reach into.
    shape = mesh.size, room + max(START_ROWS_PER_CHILD * width, TRAIN_ROWS), x_MxD.shape[1]
    centroids_PxBxD = np.zeros((parents, width, x_MxD.shape[1]), np.float32)
    with bar(int(count_P.sum()), title, unit="window") as b:
        for start in range(0, len(groups), mesh.size):
            x_SxFxD, place_SxGx3 = np.zeros(shape, np.float32), np.zeros((mesh.size, GROUP, 3), int)
            for s, group in enumerate(groups[start : start + mesh.size]):
                offset_G = np.cumsum(count_P[group]) - count_P[group]
                place_SxGx3[s, : len(group)] = np.stack([offset_G, count_P[group], group], 1)
                rows = [order_M[edges[node] : edges[node] + count_P[node]] for node in group]
                x_SxFxD[s, : count_P[group].sum()] = x_MxD[np.concatenate(rows)]
            made_SxGxBxD = np.asarray(train(x_SxFxD, place_SxGx3.astype(np.int32)))
            for s, group in enumerate(groups[start : start + mesh.size]):
                centroids_PxBxD[group] = made_SxGxBxD[s, : len(group)]
                b.update(int(count_P[group].sum()))
    return centroids_PxBxD


def _groups(count_P: np.ndarray, room: int) -> list[np.ndarray]:
    """The nodes that have rows, the largest first, in groups of at most `room` rows."""
    groups, rows = [[]], 0
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
    """The jitted (key, iterations, tolerance, x_SxFxD, place_SxGx3) -> centroids_SxGxBxD: a group
    for each device.

    place: where the rows of each node begin, how many they are (0: no node), the node's number.
    """

    def local(key, iterations, tolerance, x_1xFxD, place_1xGx3):
        def one(place):
            return jax.lax.cond(
                place[1] > 0,
                lambda: _train_node(x_1xFxD[0], *place, key, width, iterations, tolerance),
                lambda: jnp.zeros((width, x_1xFxD.shape[2]), x_1xFxD.dtype),
            )

        many = jax.lax.map if jax.default_backend() == "cpu" else lambda f, xs: jax.vmap(f)(xs)
        return many(one, place_1xGx3[0])[None]

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
    x_FxD: jax.Array,
    offset: jax.Array,
    count: jax.Array,
    name: jax.Array,
    key: jax.Array,
    width: int,
    iterations: jax.Array,
    tolerance: jax.Array,
) -> jax.Array:
    """float32 [B, D]: k-means of `count` rows from `offset` on, as `kmeans.fit` does it."""
    sample = jnp.minimum(count, START_ROWS_PER_CHILD * width)
    x_MxD = jax.lax.dynamic_slice_in_dim(x_FxD, offset, START_ROWS_PER_CHILD * width)
    valid_Mx1 = jnp.arange(len(x_MxD))[:, None] < sample
    centre_D = jnp.where(valid_Mx1, x_MxD, 0).sum(0) / sample
    x_MxD = jnp.where(valid_Mx1, x_MxD - centre_D, 0)
    limit = tolerance * jnp.square(x_MxD).sum() / sample / x_MxD.shape[1]
    start_B = kmeans.choose_start(x_MxD, jax.random.fold_in(key, name), width, sample)
    over_blocks = _blocks(x_FxD, offset, count, centre_D)

    def improve(state):
        done, old_BxD, _ = state
        new_BxD, moved = _improve(over_blocks, old_BxD)
        return done + 1, new_BxD, jnp.where(moved, jnp.inf, jnp.square(new_BxD - old_BxD).sum())

    return (
        centre_D
        + jax.lax.while_loop(
            lambda state: (state[0] < iterations) & (state[2] > limit),
            improve,
            (0, x_MxD[start_B], jnp.inf),
        )[1]
    )


def _blocks(x_FxD: jax.Array, offset: jax.Array, count: jax.Array, centre_D: jax.Array):
    """The function (add, centroids_BxD, state) -> state that goes over a node's rows:
    `add(state, rows_RxD, child_R, squared_R)` has rows, nearest child (B behind the last row) and
    squared distance. In blocks nodes of all sizes share one program and none is padded.
    """

    def over_blocks(add, centroids_BxD, state):
        half_B = jnp.square(centroids_BxD).sum(1) / 2

        def block(i, state):
            rows_RxD = (
                jax.lax.dynamic_slice_in_dim(x_FxD, offset + i * TRAIN_ROWS, TRAIN_ROWS) - centre_D
            )
            valid_R = i * TRAIN_ROWS + jnp.arange(TRAIN_ROWS) < count
            child_R, squared_R = passes.nearest(rows_RxD, centroids_BxD, half_B)
            return add(
                state,
                rows_RxD,
                jnp.where(valid_R, child_R, len(centroids_BxD)),
                jnp.where(valid_R, squared_R, 0),
            )

        return jax.lax.fori_loop(0, -(-count // TRAIN_ROWS), block, state)

    return over_blocks


def _improve(over_blocks, old_BxD: jax.Array) -> tuple[jax.Array, jax.Array]:
    """One of Lloyd's iterations: (centroids, whether an empty one was moved onto a far row)."""
    width = len(old_BxD)
    nothing_BxD, none_B = jnp.zeros_like(old_BxD), jnp.zeros(width, jnp.int32)

    def means(state, rows_RxD, child_R, _):
        return jax.tree.map(jnp.add, state, passes.add(rows_RxD, child_R, width))

    def farthest(state, rows_RxD, _, squared_R):
        squared_B, at_B = jax.lax.top_k(jnp.concatenate([state[0], squared_R]), width)
        return squared_B, jnp.concatenate([state[1], rows_RxD])[at_B]

    sums_BxD, count_B = over_blocks(means, old_BxD, (nothing_BxD, none_B))
    empty_B = count_B == 0
    new_BxD = jnp.where(empty_B[:, None], old_BxD, sums_BxD / jnp.maximum(count_B, 1)[:, None])

    def reseed():
        squared_B, row_BxD = over_blocks(farthest, old_BxD, (jnp.zeros(width), nothing_BxD))
        rank_B = jnp.cumsum(empty_B) - 1
        moved_B = empty_B & (squared_B[rank_B] > 0)
        return jnp.where(moved_B[:, None], row_BxD[rank_B], new_BxD), moved_B.any()

    return jax.lax.cond(empty_B.any(), reseed, lambda: (new_BxD, jnp.array(False)))
