"""Embedders that compute a token's vector, as a table of the vectors: for runtimes that know no
other.
"""

import dataclasses

import jax
import jax.numpy as jnp

from specialm.models.config import Config
from specialm.models.parts import norms
from specialm.models.parts.embedders import EMBEDDERS
from specialm.models.transformer import Params, has_matrix


def as_table(params: Params, config: Config) -> tuple[Params, Config]:
    """The same function with a row for each token; models that have one, those whose vectors are of
    more than one token, and those that predict the bytes of a piece, as they are.
    """
    if "tokens" in params["embed"] or not has_matrix(config):
        return params, config
    embedder, heads = EMBEDDERS[config.embedder], params["heads"]
    embed = jax.jit(embedder.apply, static_argnums=2)
    rows_VxD = embed(params["embed"], jnp.arange(config.vocab_size)[None], config)[0]
    if config.head == "tied":
        factor = embedder.scale(config)  # goes into the norms before the heads
        heads = {
            name: {**head, "norm": norms.scaled(config.norm, head["norm"], factor)}
            for name, head in heads.items()
        }
    usual = dataclasses.replace(config, embedder="tokens", embed_rank=0)
    return {**params, "embed": {"tokens": rows_VxD}, "heads": heads}, usual
