"""A new vocabulary for a trained model: what is trained, and how it comes back into the model.

The standard approach (Artetxe et al., arXiv 1910.11856) learns the rows of the new tokens through
the whole model, whose body stays as it is. Mini-model adaptation (Marchisio et al., arXiv
2212.10503) learns them through a shallow model that reads and writes the same embeddings: the first
layers with a head that pretraining put behind them (MiniJoint, section 3.1), or the first layers
with a few more and a head that are trained afterwards (MiniPost, section 3.2). The rows are then
put into the whole model.
"""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from specialm.common.errors import UserError
from specialm.models import tensors, transformer
from specialm.specialize import embedding_init
from specialm.specialize.tuning_step import ParameterMap

VOCAB = "vocab"  # the axis whose rows are tokens
EMBED = ("embed", "tokens")
OUT = ("heads", transformer.LAST, "out")


def check(config: transformer.Config) -> None:
    """Raises UserError for a model that has no rows for its tokens."""
    embedder, head = config.embedder, config.head
    if "tokens" not in transformer.EMBEDDERS[embedder].declare(config):
        raise UserError(
            f"model.embedder={embedder!r}: has no row for each token, so there is none to learn; "
            "it reads the bytes of any vocabulary."
        )
    if transformer.EMBEDDERS[embedder].before(config):
        raise UserError(
            f"model.embedder={embedder!r}: its tables know n-grams of the old vocabulary's tokens; "
            "train a model of the new one's."
        )
    if not transformer.has_matrix(config):
        raise UserError(
            f"model.head={head!r}: has no row for each token, so there is none to learn; adapt "
            "takes the heads tied and untied."
        )


def row_tensors(config: transformer.Config) -> dict[tuple[str, ...], tensors.Tensor]:
    """{path: declaration} of what has a row for each token: embeddings, heads that are not tied."""
    found = tensors.flatten(transformer.declare(config))
    return {path: tensor for path, tensor in found if tensor.axes[0] == VOCAB}


def with_rows(
    params: Any, config: transformer.Config, weights: Any, seed: int
) -> tuple[Any, transformer.Config]:
    """The model with the rows of a new vocabulary in place of its own.

    Args:
      weights: [V', V], see `embedding_init.weights`.
      seed: of the rows that are drawn.
    """
    for path in row_tensors(config):
        old_VxD = np.asarray(tensors.get(params, path))[: weights.shape[1]]
        drawn = np.random.SeedSequence([seed, *"/".join(path).encode()]).generate_state(1)[0]
        params = tensors.updated(
            params, path, embedding_init.embeddings(weights, old_VxD, int(drawn))
        )
    return params, dataclasses.replace(config, vocab_size=weights.shape[0])


def rows_alone(config: transformer.Config, params: Any) -> ParameterMap:
    """The rows of tokens are trained, all else stays as it is."""
    declared: tensors.Tree = {}
    start: dict[str, Any] = {}
    for path, tensor in row_tensors(config).items():
        declared = tensors.updated(declared, path, tensor)
        start = tensors.updated(start, path, tensors.get(params, path))
    fixed, fixed_axes = tensors.without(params, declared), tensors.without(_axes(config), declared)
    matrices = config.num_layers * sum(_layer_matrices(config))
    # Matrices that stay get no gradient: as many operations as they take forward.
    flops = transformer.flops_per_token(config, train=True) - 2 * matrices
    return ParameterMap(
        config, start, declared, tensors.joined, flops, fixed, fixed_axes, places=True
    )


def layers_above(config: transformer.Config, params: Any, first: int) -> ParameterMap:
    """The layers after the first ones are trained, and the norm of the last head; embeddings, the
    first layers and rows of the head stay.
    """
    declared = transformer.declare(config)
    norm = ("heads", transformer.LAST, "norm")
    above = dataclasses.replace(config, num_layers=config.num_layers - first)
    of_above = transformer.declare(above)
    trained = tensors.updated({"layers": of_above["layers"]}, norm, tensors.get(declared, norm))
    start = {
        "layers": jax.tree.map(lambda leaf: leaf[first:], params["layers"]),
        "heads": {transformer.LAST: {"norm": tensors.get(params, norm)}},
    }
    below = jax.tree.map(lambda leaf: leaf[:first], params["layers"])
    fixed = tensors.without(params, trained) | {"layers": below}
    fixed_axes = tensors.without(_axes(config), trained) | {"layers": _axes(config)["layers"]}

    def to_params(trained: Any, fixed: Any) -> Any:
        layers = jax.tree.map(
            lambda below, above: jnp.concatenate([below, above]), fixed["layers"], trained["layers"]
        )
        return tensors.joined({**trained, "layers": {}}, {**fixed, "layers": layers})

    whole, head = transformer.flops_per_token(config, train=False), _head_flops(config)
    layer = (whole - head) // config.num_layers
    flops = first * layer + 3 * (config.num_layers - first) * layer + 3 * head
    return ParameterMap(config, start, trained, to_params, flops, fixed, fixed_axes, places=True)


def _head_flops(config: transformer.Config) -> int:
    return transformer.HEADS[config.head].flops(config)


def _layer_matrices(config: transformer.Config) -> list[int]:
    layer = tensors.flatten(transformer.declare_layer(config))
    return [math.prod(tensor.shape) for _, tensor in layer if tensor.inputs]


def _axes(config: transformer.Config) -> Any:
    return transformer.logical_axes(config)


def shallow(params: Any, config: transformer.Config, layer: int) -> tuple[Any, transformer.Config]:
    """The model of the first layers with the head behind them: MiniJoint, or the whole model with
    its last head alone.

    Raises:
      UserError: there is no such layer, or no head behind it.
    """
    if not 1 <= layer <= config.num_layers:
        raise UserError(f"--layer={layer}: must be between 1 and {config.num_layers}.")
    if layer < config.num_layers and layer not in config.exits:
        heads = f"behind {config.exits}" if config.exits else "behind the last layer alone"
        raise UserError(
            f"--layer={layer}: --via=mini_joint needs a head behind this layer, and the model has "
            f"heads {heads}. Pretrain it with --config.model.exits='({layer},)', or use "
            "--via=mini_post."
        )
    return transformer.first_layers(params, config, layer)


def heightened(
    params: Any, config: transformer.Config, layer: int, new_layers: int, seed: int
) -> tuple[Any, transformer.Config]:
    """The model of the first layers, new ones on top and a new norm before the head: where MiniPost
    starts from.

    Raises:
      UserError: no such layer, or no new ones.
    """
    if not 1 <= layer < config.num_layers:
        raise UserError(
            f"--layer={layer}: --via=mini_post keeps some of the first layers of a model of "
            f"{config.num_layers}, 1 to {config.num_layers - 1}."
        )
    if new_layers < 1:
        raise UserError(f"--new_layers={new_layers}: must be at least 1.")
    params, config = transformer.unshared(params, config)
    config = dataclasses.replace(config, num_layers=layer + new_layers, exits=())
    fresh = transformer.init(config, jax.random.key(seed))
    layers = jax.tree.map(
        lambda old, new: jnp.concatenate([old[:layer], new[layer:]]),
        params["layers"],
        fresh["layers"],
    )
    norm = ("heads", transformer.LAST, "norm")
    heads = {transformer.LAST: params["heads"][transformer.LAST]}
    made = {**params, "layers": layers, "heads": heads}
    return tensors.updated(made, norm, tensors.get(fresh, norm)), config


def put_back(
    params: Any, config: transformer.Config, learnt: Any, start: Any, head: str, old: Any
) -> Any:
    """The whole model with rows that were learnt through a shallow one.

    The rows of a head that is not tied come from the head that they were learnt in. Where that is
    another one (MiniJoint), what it learnt is taken over by the linear map that best takes its old
    rows to those of the last head (our reading; the paper's heads are tied).

    Args:
      params: the whole model, with its last head alone, and the rows that the rule gave.
      learnt: the shallow model afterwards.
      start: the shallow model before.
      head: of the whole model, that the shallow one's is.
      old: the whole model with all heads and the rows of the old vocabulary.
    """
    params = tensors.updated(params, EMBED, tensors.get(learnt, EMBED))
    if OUT not in row_tensors(config):
        return params
    out = tensors.get(learnt, OUT)
    if head == transformer.LAST:
        return tensors.updated(params, OUT, out)
    rows = {name: np.asarray(old["heads"][name]["out"]) for name in (head, transformer.LAST)}
    map_DxD = np.linalg.lstsq(rows[head], rows[transformer.LAST], rcond=None)[0]
    change_VxD = np.asarray(out) - np.asarray(tensors.get(start, OUT))
    last_VxD = np.asarray(tensors.get(params, OUT)) + change_VxD @ map_DxD
    return tensors.updated(params, OUT, last_VxD.astype(np.float32))
