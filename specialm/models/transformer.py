"""The transformer: pure functions over a pytree of parameters, of the parts that a config names.

Parameters are `{embed, position, layers: {norm1, attention, norm2, mlp}, heads}`, with post_norms
also layers.post_norm1 and post_norm2. The layers are stacked on a leading axis and run by
`lax.scan`, one scan for each segment between heads; what several layers share is stored once
(`expansion.py`).
Parameters are float32; matrix products run in `Config.dtype`; softmax, norms and the loss are
float32.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from specialm.models import expansion, segments, tensors
from specialm.models.config import Config
from specialm.models.dropout import Dropout
from specialm.models.parts import attention
from specialm.models.parts.embedders import EMBEDDERS
from specialm.models.parts.heads import HEADS
from specialm.models.parts.mlps import MLPS
from specialm.models.parts.norms import NORMS
from specialm.models.parts.pieces import CONSTANTS
from specialm.models.parts.positions import POSITIONS
from specialm.models.placement import WHOLE, Placement, remat_policy
from specialm.models.target import platform

Params = dict[str, Any]
LAST = "last"  # the head after the last layer
# On a CPU, up to this many layers are written out instead of looped over: nothing is copied into
# and out of stacked residuals, and few layers compile as fast as the loop.
UNROLLED_LAYERS = 8


def declare(config: Config) -> tensors.Tree:
    """A tree of `Tensor`: every parameter's shape, logical axes, initialiser and treatment.

    Initial values as in GPT-2: normal with standard deviation 0.02, the outputs of the 2 Y residual
    blocks smaller by sqrt(2 Y), so that the residual stream's variance does not grow with depth.
    """
    declared = {
        "embed": EMBEDDERS[config.embedder].declare(config),
        "position": POSITIONS[config.positions].declare(config),
        "layers": expansion.declare(declare_layer(config), config),
        "heads": {name: HEADS[config.head].declare(config) for name in head_layers(config)},
    }
    return {name: part for name, part in declared.items() if part}


def declare_layer(config: Config) -> tensors.Tree:
    """Of one layer, a tree of `Tensor`."""
    norm = NORMS[config.norm].declare
    layer = {
        "norm1": norm(config.d_model),
        "attention": attention.declare(config),
        "norm2": norm(config.d_model),
        "mlp": MLPS[config.mlp].declare(config),
    }
    if config.post_norms:
        layer |= {name: norm(config.d_model) for name in ("post_norm1", "post_norm2")}
    return layer


def head_layers(config: Config) -> dict[str, int]:
    """{head: the layer after which it reads, counted from 1}: the last one first."""
    return {LAST: config.num_layers, **{f"layer{layer}": layer for layer in config.exits}}


def abstract(config: Config) -> Params:
    """Shapes and dtypes of the parameters; nothing is allocated."""
    return tensors.abstract(declare(config))


def logical_axes(config: Config) -> Params:
    """For each parameter the tuple of its axes' names: "layers", "vocab", "embed", "mlp",
    "heads", "kv_heads", "position" or None.
    """
    return tensors.logical_axes(declare(config))


def init(config: Config, key: jax.Array, pieces: list[bytes | None] | None = None) -> Params:
    """Initial parameters, float32, a pure function of the key.

    Args:
      pieces: of the vocabulary, for parts that read their bytes.
    """
    return tensors.init(declare(config), key, constants(config, pieces))


def constants(config: Config, pieces: list[bytes | None] | None) -> dict[str, Any]:
    """The values of what is given and not drawn, for `tensors.init`.

    Args:
      pieces: `Vocabulary.pieces`.

    Raises:
      UserError: the pieces do not fit the architecture.
    """
    names = {tensor.constant for _, tensor in tensors.flatten(declare(config)) if tensor.constant}
    return {} if pieces is None else {name: CONSTANTS[name](pieces, config) for name in names}


def num_params(config: Config) -> int:
    """Number of scalars of all parameters; a tied head is counted once."""
    return tensors.count(declare(config))


def params_by_part(config: Config) -> dict[str, int]:
    """{embed, position, layers, heads: number of scalars}; a tied head has its norm alone."""
    return {name: tensors.count(part) for name, part in declare(config).items()}


def flops_per_token(config: Config, train: bool) -> int:
    """Floating-point operations of the matrix products per token of a full window.

    The sum over the parts; for GPT-2's Y (8 D^2 + 4 D F + 4 L D) + 2 D V with L = context; a
    multiply-add counts as two. Causal attention is counted in full (half of it is masked away), as
    is usual for MFU. Training counts three times the forward pass, without recomputation, and the
    heads after inner layers, which only training reads.
    """
    layer = attention.flops(config) + MLPS[config.mlp].flops(config)
    head = HEADS[config.head].flops(config)
    forward = EMBEDDERS[config.embedder].flops(config) + config.num_layers * layer + head
    return 3 * (forward + len(config.exits) * head) if train else forward


def gather_ends(params: Params, config: Config, place: Placement) -> Params:
    """The parameters with all but the layers gathered."""
    axes = logical_axes(config)
    ends = {
        # What is there beside the parameters lies whole everywhere.
        name: place.gather(
            part, {**dict.fromkeys(part, ()), **axes[name]}, config.dtype, apart=True
        )
        for name, part in params.items()
        if name != "layers"
    }
    return {**params, **ends}


def layer_axes(config: Config, place: Placement) -> tensors.Tree:
    """Logical axes of one layer's tensors; none where every device holds them whole."""

    def axes(declared: tensors.Tree, whole: bool) -> tensors.Tree:
        return tensors.map_tensors(lambda tensor: () if whole else tensor.axes, declared)

    layer = declare_layer(config)
    return {part: axes(declared, part in place.whole) for part, declared in layer.items()}


def all_layers(params: Params, config: Config, place: Placement = WHOLE) -> Params:
    """All layers' weights on a leading axis, those that are shared too."""
    return expansion.expanded(params["layers"], declare_layer(config), config, place)


def embedded(
    params: Params, inputs_BxL: jax.Array, first, config: Config, before_BxN=None
) -> jax.Array:
    """[T, D] in `config.dtype`: what enters the first layer.

    Args:
      before_BxN: the tokens before, as many as the embedder reads; None if nothing is there, for
        which token 0 stands.
    """
    embedder, tokens_BxM = EMBEDDERS[config.embedder], inputs_BxL
    if count := embedder.before(config):
        if before_BxN is None:
            before_BxN = jnp.zeros((len(inputs_BxL), count), inputs_BxL.dtype)
        tokens_BxM = jnp.concatenate([before_BxN, inputs_BxL], axis=1)
    x_BxLxD = embedder.apply(params["embed"], tokens_BxM, config)
    x_BxLxD = POSITIONS[config.positions].add(params.get("position"), x_BxLxD, first)
    return x_BxLxD.astype(config.dtype).reshape(-1, config.d_model)


def normed(params: Params, head: str, x_TxD: jax.Array, config: Config) -> jax.Array:
    """What a head reads of the states."""
    norm = params["heads"][head]["norm"]
    return NORMS[config.norm].apply(norm, x_TxD, config.norm_epsilon)


def head_meets(params: Params, config: Config, head: str = LAST) -> Any:
    """What the final states of a head meet: [V, D], or a tree of arrays."""
    return HEADS[config.head].meets(params["heads"][head], params["embed"], config)


def has_matrix(config: Config) -> bool:
    """Whether final states meet a matrix [V, D], so that logits are products."""
    return HEADS[config.head].is_matrix


def block(
    w: Params,
    x_TxD: jax.Array,
    attend,
    config: Config,
    place: Placement = WHOLE,
    drop=lambda x_TxD, number: x_TxD,
):
    """(x [T, D], what else `attend` returns): attention, then the MLP, each of the normed state.

    Args:
      attend: (weights of the attention, normed state) -> ([T, D], anything).
      drop: (what is added, 0 of the attention and 1 of the MLP) -> it with dropout.
    """

    def norm(name: str, x_TxD: jax.Array) -> jax.Array:
        return NORMS[config.norm].apply(w[name], x_TxD, config.norm_epsilon)

    def result(name: str, x_TxD: jax.Array) -> jax.Array:
        return norm(name, x_TxD) if config.post_norms else x_TxD

    mixed, more = attend(w["attention"], place.to_model_parallel(norm("norm1", x_TxD)))
    x_TxD += drop(result("post_norm1", mixed), 0)
    normed = place.to_model_parallel(norm("norm2", x_TxD))
    changed = result("post_norm2", MLPS[config.mlp].apply(w["mlp"], normed, place))
    return x_TxD + drop(changed, 1), more


def _layer(
    config: Config,
    length: int,
    place: Placement,
    mask_BxL: jax.Array | None,
    dropout: Dropout | None,
):
    """(x [T, D], (one layer's weights, whether it is local, its place of dropout)) -> x; as the
    body of a scan.
    """
    axes = layer_axes(config, place)

    def layer(x_TxD, part):
        w, is_local, first = part

        def drop(x_TxD, number):
            return x_TxD if dropout is None else dropout.apply(x_TxD, first + number)

        def attend(w, normed):
            return attention.apply(w, normed, length, config, place, mask_BxL, is_local), None

        return block(place.layer(w, axes, config.dtype), x_TxD, attend, config, place, drop)

    if config.remat != "none" or place.fsdp > 1:
        return jax.checkpoint(layer, prevent_cse=False, policy=remat_policy(config.remat))
    return layer


def hidden(
    params: Params,
    inputs_BxL: jax.Array,
    config: Config,
    place: Placement = WHOLE,
    mask_BxL: jax.Array | None = None,
    heads: tuple[str, ...] = (LAST,),
    dropout: Dropout | None = None,
    frozen: int = 0,
) -> dict[str, jax.Array]:
    """The final, normed states that the named heads read, {head: [T, D]} in `config.dtype`.

    Args:
      place: how the layers lie, inside of a `jax.shard_map`; all else is whole (`gather_ends`).
      mask_BxL: of attention that is not causal: 1 for the tokens that are there.
      dropout: while it is trained; None drops nothing.
      frozen: so many of the first layers, and what enters them, get no gradient.
    """
    ends = head_layers(config)
    passed = passed_states(
        params, inputs_BxL, config, place, mask_BxL, {ends[head] for head in heads}, dropout, frozen
    )
    return {head: normed(params, head, passed[ends[head]], config) for head in heads}


def passed_states(
    params: Params,
    inputs_BxL: jax.Array,
    config: Config,
    place: Placement,
    mask_BxL: jax.Array | None,
    counts: set[int],
    dropout: Dropout | None = None,
    frozen: int = 0,
) -> dict[int, jax.Array]:
    """{so many layers of `counts`: the state [T, D] after them}; see `hidden`."""
    x_TxD, places_Y = embedded(params, inputs_BxL, 0, config), None
    if dropout is not None:
        x_TxD, places_Y = dropout.apply(x_TxD, 0), 1 + 2 * jnp.arange(config.num_layers)
    few = platform() == "cpu" and config.num_layers <= UNROLLED_LAYERS
    parts = segments.of(params["layers"], declare_layer(config), config, place)
    of_layers = (attention.local_layers(config), places_Y)

    def run(x_TxD: jax.Array, part: segments.Segment) -> jax.Array:
        layer = _layer(config, inputs_BxL.shape[1], part.place, mask_BxL, dropout)
        more = jax.tree.map(lambda leaf: leaf[part.first : part.end], of_layers)
        unroll = part.end - part.first if few else 1
        return jax.lax.scan(layer, x_TxD, (part.weights, *more), unroll=unroll)[0]

    found, first = {}, 0
    for end in sorted(counts | {frozen} if frozen else counts):
        for part in parts:
            if part.first < end and first < part.end:
                x_TxD = run(x_TxD, part.part(first, end))
        x_TxD = jax.lax.stop_gradient(x_TxD) if end and end == frozen else x_TxD
        found[end], first = x_TxD, end
    return found


def states(
    params: Params,
    inputs_BxL: jax.Array,
    config: Config,
    place: Placement,
    mask_BxL: jax.Array | None = None,
    heads: tuple[str, ...] = (LAST,),
    dropout: Dropout | None = None,
    frozen: int = 0,
) -> dict[str, tuple[jax.Array, Any]]:
    """{head: ([T, D], [V, D])}: the final states of this device's share of the tokens, and what
    they meet (see `head_meets`); inside of a `jax.shard_map`.
    """
    params = gather_ends(params, config, place)
    found = hidden(params, inputs_BxL, config, place, mask_BxL, heads, dropout, frozen)
    return {
        head: (
            place.token_share(place.to_model_parallel(x_TxD)),
            jax.tree.map(place.to_model_parallel, head_meets(params, config, head)),
        )
        for head, x_TxD in found.items()
    }


def logits(
    params: Params, inputs_BxL: jax.Array, config: Config, mask_BxL: jax.Array | None = None
) -> jax.Array:
    """float32 [B, L, V]: the last head's scores, if causal of the token after each position."""
    x_TxD = hidden(params, inputs_BxL, config, mask_BxL=mask_BxL)[LAST]
    x_BxLxD = x_TxD.reshape(*inputs_BxL.shape, config.d_model)
    return HEADS[config.head].logits(x_BxLxD, head_meets(params, config), config)


def token_nll(
    params: Params,
    inputs_BxL: jax.Array,
    targets_BxL: jax.Array,
    config: Config,
    place: Placement = WHOLE,
    mask_BxL: jax.Array | None = None,
) -> jax.Array:
    """float32 [B, L]: -log p(target) of each token under the last head, in nats."""
    params = gather_ends(params, config, place)
    x_TxD = hidden(params, inputs_BxL, config, place, mask_BxL)[LAST]
    met, targets_T = head_meets(params, config), targets_BxL.reshape(-1)
    nll_T = HEADS[config.head].token_nll(x_TxD, met, targets_T, config)
    return nll_T.reshape(targets_BxL.shape)


def sum_nll(
    params: Params,
    inputs_BxL: jax.Array,
    targets_BxL: jax.Array,
    mask_BxL: jax.Array,
    config: Config,
    place: Placement = WHOLE,
    present_BxL: jax.Array | None = None,
    dropout: Dropout | None = None,
    frozen: int = 0,
) -> jax.Array:
    """Sum of mask * nats over all tokens; differentiable, the logits are never whole.

    With heads after inner layers: (1 - exit_weight) times the last head's sum, plus exit_weight
    times the mean of the others'.

    Args:
      place: how the parameters lie, inside of a `jax.shard_map`. Along `model` the sum is over
        this device's part of the tokens.
      present_BxL: of attention that is not causal: 1 for the tokens that are there; None for those
        that the mask counts.
      dropout, frozen: see `hidden`.
    """
    present_BxL = mask_BxL if present_BxL is None else present_BxL
    weights = head_weights(config)
    targets_T, mask_T = (place.token_share(a.reshape(-1)) for a in (targets_BxL, mask_BxL))
    found = states(params, inputs_BxL, config, place, present_BxL, tuple(weights), dropout, frozen)
    sums = {
        head: HEADS[config.head].sum_nll(x_TxD, met, targets_T, mask_T, config)
        for head, (x_TxD, met) in found.items()
    }
    if weights == {LAST: 1.0}:
        return sums[LAST]
    weighted = [weight * sums[head] for head, weight in weights.items()]
    return jnp.sum(jnp.stack(weighted))


def head_weights(config: Config) -> dict[str, float]:
    """{head: its weight in the loss}, those of weight 0 left out."""
    if not config.exits or not config.exit_weight:
        return {LAST: 1.0}
    exits = [head for head in head_layers(config) if head != LAST]
    weights = {
        LAST: 1 - config.exit_weight,
        **dict.fromkeys(exits, config.exit_weight / len(exits)),
    }
    return {head: weight for head, weight in weights.items() if weight}


def loss(
    params: Params,
    inputs_BxL: jax.Array,
    targets_BxL: jax.Array,
    mask_BxL: jax.Array,
    config: Config,
) -> jax.Array:
    """Mean nats over the tokens where the mask is 1 (0 when there is none); differentiable."""
    total = sum_nll(params, inputs_BxL, targets_BxL, mask_BxL, config)
    return total / jnp.maximum(jnp.sum(mask_BxL), 1.0)


def unshared(params: Params, config: Config) -> tuple[Params, Config]:
    """The same function with every layer's weights its own."""
    return {**params, "layers": all_layers(params, config)}, expansion.without_sharing(config)


def first_layers(params: Params, config: Config, count: int) -> tuple[Params, Config]:
    """The shallower model of the first `count` layers, with the head after them if there is one,
    else the last head.
    """
    head = f"layer{count}" if count in config.exits else LAST
    params, config = unshared(params, config)
    layers = jax.tree.map(lambda leaf: leaf[:count], params["layers"])
    shallow = {**params, "layers": layers, "heads": {LAST: params["heads"][head]}}
    return shallow, dataclasses.replace(config, num_layers=count, exits=())
