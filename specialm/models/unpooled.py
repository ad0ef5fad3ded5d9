"""A byte-pooled model as one of the usual kind, for runtimes that know no other."""

import dataclasses
import math

import jax

from specialm.models.config import Config
from specialm.models.parts import norms, pooled
from specialm.models.transformer import Params


def unpooled(params: Params, config: Config) -> tuple[Params, Config]:
    """The same function with a row for each piece, which embedder and head share; models that have
    one already, and those that predict the bytes of a piece, as they are.
    """
    if config.head != "pooled":
        return params, config
    # The factor of `pooled.head_rows` goes into the norms before the heads.
    factor = 1 / math.sqrt(config.d_model)
    rows_VxD = jax.jit(pooled.rows, static_argnums=1)(params["embed"], config)
    heads = {
        name: {**head, "norm": norms.scaled(config.norm, head["norm"], factor)}
        for name, head in params["heads"].items()
    }
    usual = dataclasses.replace(config, embedder="tokens", head="tied")
    return {**params, "embed": {"tokens": rows_VxD}, "heads": heads}, usual
