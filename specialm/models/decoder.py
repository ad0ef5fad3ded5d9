"""Decoding: the transformer's parts for the tokens that follow a cache of keys and values.

The rows of a cache share its columns: a step writes one column, the same for all rows, and what a
row has seen are the columns just before it. So rows of different lengths need no index of their
own, and a text that is read from the middle of a run of others only has to be written in front of
the next column.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from specialm.models import tensors, transformer
from specialm.models.config import Config
from specialm.models.operations import Transposed
from specialm.models.parts import attention
from specialm.models.parts.attention import Cache, Places
from specialm.models.transformer import LAST, Params

Caches = tuple[Cache, ...]  # one for each layer


def laid_out(params: Params, config: Config) -> Params:
    """The parameters as `decode` reads them, on one device: a tree for each layer, linear maps
    `Transposed`, matrices in `config.dtype`, without the heads after inner layers.
    """
    declared = dict(tensors.flatten(transformer.declare_layer(config)))
    layers = transformer.all_layers(params, config)

    def layer(index: int) -> Params:
        made: Params = {}
        for path, tensor in declared.items():
            # By NumPy: nothing is compiled for it.
            value: Any = np.asarray(tensors.get(layers, path))[index]
            if tensor.inputs:
                value = Transposed.of(value.astype(jnp.dtype(config.dtype)), tensor.inputs)
            made = tensors.updated(made, path, jax.tree.map(jnp.asarray, value))
        return made

    ends = {name: part for name, part in params.items() if name not in ("layers", "heads")}
    ends["heads"] = {LAST: params["heads"][LAST]}
    whole = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf)), ends)
    return {**whole, "layers": tuple(layer(index) for index in range(config.num_layers))}


def init_caches(config: Config, rows: int, columns: int) -> Caches:
    """Empty ones."""
    heads, size = rows * config.kv_heads, config.size_of_head
    shapes = (heads, size, columns), (heads, columns, size)
    return tuple(
        Cache(*(jnp.zeros(shape, config.dtype) for shape in shapes))
        for _ in range(config.num_layers)
    )


def decode(
    params: Params, tokens_BxL: jax.Array, caches: Caches, column, held_B: jax.Array, config: Config
) -> tuple[jax.Array, Caches]:
    """(states [B, L, D], caches): the final, normed states of L more tokens of each row, which are
    written to the columns from `column` on.

    Args:
      params: see `laid_out`.
      column: int32 []; `column` + L must not pass the end of the cache.
      held_B: int32, tokens of each row in the columns right before. A negative number -n says that
        the first n of the new tokens are padding, which is never seen.
    """
    length, columns = tokens_BxL.shape[1], caches[0].v_ZxzxA.shape[1]
    x_TxD = transformer.embedded(params, tokens_BxL, held_B, config)
    column_z = jnp.arange(columns)
    since_Bxz = column_z >= (column - held_B)[:, None]
    until_Lxz = column_z <= column + jnp.arange(length)[:, None]
    places = Places(held_B, column, since_Bxz[:, None] & until_Lxz)
    written = []
    local_Y = attention.local_layers(config)
    for index, (w, cache) in enumerate(zip(params["layers"], caches, strict=True)):
        is_local = None if local_Y is None else bool(local_Y[index])

        def attend(weights, normed, cache=cache, is_local=is_local):
            return attention.decode(weights, normed, length, cache, places, config, is_local)

        x_TxD, cache = transformer.block(w, x_TxD, attend, config)
        written.append(cache)
    x_TxD = transformer.normed(params, LAST, x_TxD, config)
    return x_TxD.reshape(*tokens_BxL.shape, config.d_model), tuple(written)


def scores(params: Params, x_BxD: jax.Array, config: Config) -> jax.Array:
    """float32 [B, V]: the logits of what follows states."""
    if not transformer.has_matrix(config):
        meets = transformer.head_meets(params, config)
        return transformer.HEADS[config.head].logits(x_BxD, meets, config)
    head_VxD = transformer.head_meets(params, config).astype(x_BxD.dtype)
    contracted = (((1,), (1,)), ((), ()))
    return jax.lax.dot_general(head_VxD, x_BxD, contracted, preferred_element_type=jnp.float32).T


def moved(caches: Caches, row_B: jax.Array, shift, columns: int, config: Config) -> Caches:
    """The caches with rows `row_B` of these, and each column `shift` further right in `columns`.

    What comes from outside is a copy of something else; no row that is there sees it.
    """
    head_Z = (row_B[:, None] * config.kv_heads + jnp.arange(config.kv_heads)).reshape(-1)

    def along(x: jax.Array, axis: int) -> jax.Array:
        source_z = jnp.clip(jnp.arange(columns) - shift, 0, x.shape[axis] - 1)
        return jnp.take(jnp.take(x, head_Z, axis=0), source_z, axis=axis)

    return tuple(Cache(along(cache.k_ZxAxz, 2), along(cache.v_ZxzxA, 1)) for cache in caches)
