"""Parameter banks: one set of parameters that holds a small transformer for every domain.

Some parts of some layers (the MLPs) have a leading axis r over the bank's h sets of weights; a
family turns what is known of a group of windows (its *features*) into coefficients c[l, r], and

    W_l = sum_r c[l, r] T_l[r]                                            (`project`)

gives an ordinary dense transformer. All other tensors are shared. The families differ in their
coefficients alone (`record.py`). A hard mixture, every tensor its own, is in `mixture.py`.
"""

from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from specialm.models import sharing, tensors, transformer
from specialm.models.families import record
from specialm.models.target import platform
from specialm.models.tensors import Tensor

# Logical axes that a bank is divided along, and the axis of a layer's tensor that becomes "bank".
DIVIDED, ALONG = ("bank", "bank_bias"), "mlp"


@dataclass(frozen=True)
class Config:
    """Sizes of a bank. Hashable, so that it can be a static argument of `jax.jit`."""

    model: transformer.Config  # of what is projected
    family: str  # one of record.FAMILIES
    num_experts: int  # k
    rank: int  # h
    code: int  # projected: m
    # The layers that are in the bank; where layers share what it holds, these sets of weights.
    layers: tuple[int, ...]
    features: int = 0  # C of a family that reads centroids: their size
    hidden: int = 64  # U of the families that have a network
    spread: float = 1.0  # see `declare`
    parts: tuple[str, ...] = ("mlp",)  # of a layer: what is in the bank

    @property
    def others(self) -> tuple[int, ...]:
        """The layers, or sets of weights, outside of the bank."""
        stored = {row for part in self.parts for row in sharing.rows(part, self.model)}
        return tuple(y for y in sorted(stored) if y not in self.layers)

    @property
    def num_features(self) -> int:
        """Numbers that are known of a group, C."""
        of_centroid = record.get(self.family).features == record.CENTROID
        return self.features if of_centroid else self.num_experts


def declare(config: Config) -> tensors.Tree:
    """{shared, bank, mixer}: every parameter's shape, logical axes, initialiser and treatment.

    `shared` is a transformer whose banked parts hold the layers outside of the bank alone (and are
    absent if there are none); `bank` is {part: [S, h, ...]}.

    All experts start as one and the same dense model, with its activations' scale: the first of
    the bank's weights is drawn as a dense model's and has the coefficient 1, the others are 0. So
    no derivation of a variance over the sum is needed, and an expert's weights differ from the
    shared ones by exactly what its data has taught it.

    The other coefficients decide how fast experts part. Adam moves each T_r by about the learning
    rate a step whatever its gradient's scale, hence a projected weight by sum_r |c_r| times that:
    1 from the shared weights plus `spread` from the rest. So |c_r| is spread over r >= 1 with sum
    `spread` (projected: all of it at one r as long as k <= h - 1).
    """
    dense = transformer.declare(config.model)
    layers = {name: part for name, part in dense["layers"].items() if name not in config.parts}
    if config.others:
        # In the order of a dense model, on which initial values depend.
        layers = {
            name: _outside(part, config) if name in config.parts else part
            for name, part in dense["layers"].items()
        }
    banked = {name: _banked(dense["layers"][name], config) for name in config.parts}
    mixer = record.get(config.family).mixer(config)
    return {"shared": {**dense, "layers": layers}, "bank": banked} | (
        {"mixer": mixer} if mixer else {}
    )


def _outside(part: tensors.Tree, config: Config) -> tensors.Tree:
    """The declaration of a part in the layers outside of the bank."""
    count = len(config.others)
    return tensors.map_tensors(
        lambda tensor: replace(tensor, shape=(count, *tensor.shape[1:])), part
    )


def _banked(part: tensors.Tree, config: Config) -> tensors.Tree:
    """The declaration of a part in the bank: an axis of h after that of the layers."""

    def banked(tensor: Tensor) -> Tensor:
        def init(key, shape):
            first = tensor.init(key, (shape[0], *shape[2:]))
            return jnp.zeros(shape, jnp.float32).at[:, 0].set(first)

        # Each is divided along one axis: d_ff, for the bias of the output d_model.
        names = tensor.axes[1:]
        where, name = (names.index(ALONG), "bank") if ALONG in names else (0, "bank_bias")
        axes = tuple(name if i == where else None for i in range(len(names)))
        shape = (len(config.layers), config.rank, *tensor.shape[1:])
        return replace(
            tensor, shape=shape, axes=("layers", None, *axes), init=init, leading=tensor.leading + 1
        )

    return tensors.map_tensors(banked, part)


def from_dense(params: transformer.Params, config: Config, key: jax.Array) -> Any:
    """Parameters whose every expert is the given dense model, to the bit: its banked parts are the
    first of the bank's weights, whose coefficient is 1, and the others are 0 (see `declare`).

    Args:
      key: of the mixer's initial values.
    """

    def banked(leaf_Y: jax.Array) -> jax.Array:
        first_S = leaf_Y[np.array(config.layers)]
        shape = (len(config.layers), config.rank, *leaf_Y.shape[1:])
        return jnp.zeros(shape, leaf_Y.dtype).at[:, 0].set(first_S)

    layers, outside = params["layers"], np.array(config.others)
    shared = {name: part for name, part in layers.items() if name not in config.parts}
    if config.others:
        shared |= {
            name: jax.tree.map(lambda leaf: leaf[outside], layers[name]) for name in config.parts
        }
    bank = {name: jax.tree.map(banked, layers[name]) for name in config.parts}
    mixer = tensors.init(record.get(config.family).mixer(config), key)
    return {"shared": {**params, "layers": shared}, "bank": bank} | (
        {"mixer": mixer} if mixer else {}
    )


def coefficients(mixer: Any, features_GxC: jax.Array, config: Config) -> jax.Array:
    """[G, S, h]: the coefficients of the bank's weights for each group.

    Args:
      mixer: the bank's, {} if its family has none.
      features_GxC: what the family reads: clusters one-hot, centroids, or histograms.
    """
    return record.get(config.family).coefficients(mixer, features_GxC, config)


def mix(banked: Any, coefficients_GxSxh: jax.Array) -> Any:
    """{part: [G, S, ...]}: sum_r c[r] T[r] for every group and layer, one matrix product each."""

    def mixed(leaf_Sxh):
        # On a TPU all layers at once, their axes as they are: no copies in other layouts, and a
        # quarter of the compiling. A CPU takes twice as long for that.
        if platform() == "tpu":
            return jnp.einsum("gsr,sr...->gs...", coefficients_GxSxh, leaf_Sxh)
        layers = [
            coefficients_GxSxh[:, s] @ leaf_h.reshape(len(leaf_h), -1)
            for s, leaf_h in enumerate(leaf_Sxh)
        ]
        mixed_GxS = jnp.stack(layers, axis=1)
        return mixed_GxS.reshape(*mixed_GxS.shape[:2], *leaf_Sxh.shape[2:])

    return jax.tree.map(mixed, banked)


def assemble(shared: transformer.Params, mixed: Any, config: Config) -> transformer.Params:
    """The dense parameters of one group: the shared ones with the mixed parts [S, ...] in place."""
    if not config.others:
        return {**shared, "layers": {**shared["layers"], **mixed}}
    order = np.argsort(np.array([*config.others, *config.layers]))
    parts = {
        name: jax.tree.map(
            lambda outside, inside: jnp.concatenate([outside, inside])[order],
            shared["layers"][name],
            mixed[name],
        )
        for name in config.parts
    }
    return {**shared, "layers": {**shared["layers"], **parts}}


def project(params: Any, coefficients_Sxh: jax.Array, config: Config) -> transformer.Params:
    """The parameters of one ordinary dense transformer."""
    mixed = mix(params["bank"], coefficients_Sxh[None])
    return assemble(params["shared"], jax.tree.map(lambda leaf: leaf[0], mixed), config)
