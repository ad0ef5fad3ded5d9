"""Decoding: the transformer's parts for the tokens that follow a cache of keys and values.

The rows of a cache share its columns: a step writes one column, the same for all rows, and what a
row has seen are the columns just before it. So rows of different lengths need no index of their
own, and a text that is read from the middle of a run of others only has to be written in front of
the next column.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from specialm.models import tensors, transformer
from specialm.models.config import Config
from specialm.models.operations import Transposed
from specialm.models.parts import attention
from specialm.models.parts.attention import Cache, Places
from specialm.models.parts.embedders import EMBEDDERS
from specialm.models.transformer import LAST, Params


class Caches(NamedTuple):
    """What a model has of the tokens before the next ones.

    Attributes:
      layers: one for each.
      tokens_BxC: int32, the tokens themselves for an embedder that reads what is before them, from
        so many columns before the first on; else None.
    """

    layers: tuple[Cache, ...] = ()
    tokens_BxC: jax.Array | None = None


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
    whole["embed"] = EMBEDDERS[config.embedder].computed(whole["embed"], config)
    return {**whole, "layers": tuple(layer(index) for index in range(config.num_layers))}


def init_caches(config: Config, rows: int, columns: int) -> Caches:
    """Empty ones."""
    heads, size = rows * config.kv_heads, config.size_of_head
    shapes = (heads, size, columns), (heads, columns, size)
    layers = tuple(
        Cache(*(jnp.zeros(shape, config.dtype) for shape in shapes))
        for _ in range(config.num_layers)
    )
    before = EMBEDDERS[config.embedder].before(config)
    return Caches(layers, jnp.zeros((rows, before + columns), jnp.int32) if before else None)


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
    length, columns = tokens_BxL.shape[1], caches.layers[0].v_ZxzxA.shape[1]
    kept_BxC, before_BxN = caches.tokens_BxC, None
    if kept_BxC is not None:
        before = EMBEDDERS[config.embedder].before(config)
        tokens_BxL, before_BxN, kept_BxC = _with_tokens(
            kept_BxC, tokens_BxL, column, held_B, before
        )
    x_TxD = transformer.embedded(params, tokens_BxL, held_B, config, before_BxN)
    column_z = jnp.arange(columns)
    since_Bxz = column_z >= (column - held_B)[:, None]
    until_Lxz = column_z <= column + jnp.arange(length)[:, None]
    places = Places(held_B, column, since_Bxz[:, None] & until_Lxz)
    written = []
    local_Y = attention.local_layers(config)
    for index, (w, cache) in enumerate(zip(params["layers"], caches.layers, strict=True)):
        is_local = None if local_Y is None else bool(local_Y[index])

        def attend(weights, normed, cache=cache, is_local=is_local):
            return attention.decode(weights, normed, length, cache, places, config, is_local)

        x_TxD, cache = transformer.block(w, x_TxD, attend, config)
        written.append(cache)
    x_TxD = transformer.normed(params, LAST, x_TxD, config)
    return x_TxD.reshape(*tokens_BxL.shape, config.d_model), Caches(tuple(written), kept_BxC)


def _with_tokens(kept_BxC, tokens_BxL: jax.Array, column, held_B: jax.Array, before: int):
    """(new tokens, those before them, the cached ones with the new): 0 where no text has begun."""
    is_text_BxM = jnp.arange(-before, tokens_BxL.shape[1]) >= -held_B[:, None]
    tokens_BxL = jnp.where(is_text_BxM[:, before:], tokens_BxL, 0)
    kept_BxC = jax.lax.dynamic_update_slice(
        kept_BxC, tokens_BxL.astype(jnp.int32), (0, column + before)
    )
    before_BxN = jax.lax.dynamic_slice_in_dim(kept_BxC, column, before, axis=1)
    return tokens_BxL, jnp.where(is_text_BxM[:, :before], before_BxN, 0), kept_BxC


def scores(params: Params, x_BxD: jax.Array, config: Config) -> jax.Array:
    """float32 [B, V]: the logits of what follows states."""
    if not transformer.has_matrix(config):
        meets = transformer.head_meets(params, config)
        return transformer.HEADS[config.head].logits(x_BxD, meets, config)
    head_VxD = transformer.head_meets(params, config).astype(x_BxD.dtype)
    contracted = (((1,), (1,)), ((), ()))
    return jax.lax.dot_general(head_VxD, x_BxD, contracted, preferred_element_type=jnp.float32).T


def placed(caches: Caches, own: Caches, row, column, config: Config) -> Caches:
    """The caches with those of a single text in a row, from a column on."""
    head = row * config.kv_heads
    layers = tuple(
        Cache(
            jax.lax.dynamic_update_slice(old.k_ZxAxz, new.k_ZxAxz, (head, 0, column)),
            jax.lax.dynamic_update_slice(old.v_ZxzxA, new.v_ZxzxA, (head, column, 0)),
        )
        for old, new in zip(caches.layers, own.layers, strict=True)
    )
    kept_BxC = caches.tokens_BxC
    if kept_BxC is not None and own.tokens_BxC is not None:
        kept_BxC = jax.lax.dynamic_update_slice(kept_BxC, own.tokens_BxC, (row, column))
    return Caches(layers, kept_BxC)


def moved(caches: Caches, row_B: jax.Array, shift, columns: int, config: Config) -> Caches:
    """The caches with rows `row_B` of these, and each column `shift` further right in `columns`.

    What comes from outside is a copy of something else; no row that is there sees it.
    """
    head_Z = (row_B[:, None] * config.kv_heads + jnp.arange(config.kv_heads)).reshape(-1)

    def along(x: jax.Array, axis: int, rows: jax.Array = head_Z, more: int = 0) -> jax.Array:
        source_z = jnp.clip(jnp.arange(more + columns) - shift, 0, x.shape[axis] - 1)
        return jnp.take(jnp.take(x, rows, axis=0), source_z, axis=axis)

    layers = tuple(Cache(along(c.k_ZxAxz, 2), along(c.v_ZxzxA, 1)) for c in caches.layers)
    kept_BxC, before = caches.tokens_BxC, EMBEDDERS[config.embedder].before(config)
    return Caches(layers, None if kept_BxC is None else along(kept_BxC, 1, row_B, before))
