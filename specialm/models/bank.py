"""Parameter banks: one set of parameters that holds a small transformer for every domain.

The MLPs of some layers have a leading axis r over the bank's h sets of weights; a family turns
what is known of a group of windows (its *features*) into coefficients c[l, r], and

    W_l = sum_r c[l, r] T_l[r]                                            (`project`)

gives an ordinary dense transformer. Attention, norms, embeddings and the other layers are shared.
The families differ only in their coefficients (`coefficients`):

- projected (SLM-pn, arXiv 2402.01093 section 3): features p over the k clusters (one-hot for a
  cluster), c = p E M_l: "W[a,b] = sum_q sum_r E[i,q] M_l[q,r] T_l[a,b,r]".
- hypernetwork (SLM-hn, named in version 1 of the paper): c is a small network of the cluster's
  centroid. Our reading: v2 calls SLM-pn a hyper-network whose secondary network is linear; here it
  has a hidden layer, as in Ha et al. 2017.
- soup (Soup-of-Experts, arXiv 2502.01804): c is a small network of a histogram over the clusters.
- dense: h = 1 and c = 1.

A hard mixture, every tensor its own, is in `mixture.py`.

Letters: G groups of windows, C features, S layers in the bank, h weights in the bank (rank), k
experts (clusters), m size of an expert's code, U hidden units, D d_model, F d_ff.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from specialm.models import transformer
from specialm.models.tensors import Tensor

FAMILIES = ("dense", "projected", "hypernetwork", "soup")


@dataclass(frozen=True)
class Config:
    """Sizes of a bank. Hashable, so that it can be a static argument of `jax.jit`."""

    model: transformer.Config  # of what is projected
    family: str  # one of FAMILIES
    num_experts: int  # k
    rank: int  # h
    code: int  # projected: m
    layers: tuple[int, ...]  # the layers whose MLPs are in the bank
    features: int = 0  # C of the hypernetwork: size of a centroid
    hidden: int = 64  # U of the hypernetwork and the soup
    spread: float = 1.0  # see `declare`

    @property
    def others(self) -> tuple[int, ...]:
        """The layers outside of the bank."""
        return tuple(y for y in range(self.model.num_layers) if y not in self.layers)

    @property
    def num_features(self) -> int:
        return self.features if self.family == "hypernetwork" else self.num_experts


@flax.struct.dataclass
class Mlp:
    """MLP weights, [S, h, ...] in a bank and [G, S, ...] when they are projected."""

    up: jax.Array
    up_bias: jax.Array
    down: jax.Array
    down_bias: jax.Array


@flax.struct.dataclass
class Bank:
    shared: transformer.Params  # its MLP tensors hold the layers outside of the bank, or are None
    mlp: Mlp
    mixer: dict[str, jax.Array]  # what the coefficients are computed with


def declare(config: Config) -> Bank:
    """A tree of `Tensor`: every parameter's shape, logical axes and initialiser.

    All experts start as one and the same dense model, with its activations' scale: the first of
    the bank's weights is drawn as a dense model's and has the coefficient 1, the others are 0. So
    no derivation of a variance over the sum is needed, and an expert's weights differ from the
    shared ones by exactly what its data has taught it.

    The other coefficients decide how fast experts part. Adam moves each T_r by about the learning
    rate a step whatever its gradient's scale, hence a projected weight by sum_r |c_r| times that:
    1 from the shared weights plus `spread` from the rest. So |c_r| is spread over r >= 1 with sum
    `spread` (projected: all of it at one r as long as k <= h - 1).
    """
    y = transformer.declare(config.model)
    sizes, rank = len(config.layers), config.rank

    def banked(tensor: Tensor) -> Tensor:
        def init(key, shape):
            first = tensor.init(key, (shape[0], *shape[2:]))
            return jnp.zeros(shape, jnp.float32).at[:, 0].set(first)

        (*axes,) = tensor.axes[1:]
        # Each is divided along one axis: d_ff, for the bias of the output d_model.
        where, name = (axes.index("mlp"), "bank") if "mlp" in axes else (0, "bank_bias")
        axes = [(name if i == where else None) for i in range(len(axes))]
        return Tensor((sizes, rank, *tensor.shape[1:]), ("layers", None, *axes), init)

    def outside(tensor: Tensor) -> Tensor | None:
        count = len(config.others)
        return Tensor((count, *tensor.shape[1:]), tensor.axes, tensor.init) if count else None

    names = Mlp.__dataclass_fields__
    mlp = {name: getattr(y.layers, name) for name in names}
    layers = y.layers.replace(**{name: outside(tensor) for name, tensor in mlp.items()})
    return Bank(
        y.replace(layers=layers),
        Mlp(**{n: banked(t) for n, t in mlp.items()}),
        _MIXERS[config.family](config),
    )


def _dense(config: Config) -> dict[str, Tensor]:
    return {}


def _projected(config: Config) -> dict[str, Tensor]:
    k, m, h, s = config.num_experts, config.code, config.rank, len(config.layers)

    def code(key, shape):
        """[1 | spread * code]: one entry for each of the first m - 1 experts, then pairs."""
        codes_kxm = np.zeros(shape, np.float32)
        codes_kxm[:, 0] = 1
        for expert in range(k if m > 1 else 0):
            turn, place = divmod(expert, m - 1)
            codes_kxm[expert, 1 + place] += config.spread / 2
            codes_kxm[expert, 1 + (place + turn) % (m - 1)] += config.spread / 2
        return jnp.asarray(codes_kxm)

    def mix(key, shape):
        mix_mxh = np.zeros((m, h), np.float32)
        mix_mxh[0, 0] = 1
        for entry in range(1, m if h > 1 else 1):
            mix_mxh[entry, 1 + (entry - 1) % (h - 1)] = 1
        return jnp.broadcast_to(mix_mxh, shape)

    return {
        "code": Tensor((k, m), (None, None), code),
        "mix": Tensor((s, m, h), ("layers", None, None), mix),
    }


def _network(config: Config) -> dict[str, Tensor]:
    c, u, h, s = config.num_features, config.hidden, config.rank, len(config.layers)

    def inputs(key, shape):
        return jax.random.normal(key, shape, jnp.float32) * math.sqrt(c)

    def outputs(key, shape):
        # u hidden values of mean square about 1/2 give a coefficient its deviation.
        deviation = config.spread / max(h - 1, 1) / math.sqrt(2 / math.pi) * math.sqrt(2 / u)
        return (deviation * jax.random.normal(key, shape, jnp.float32)).at[..., 0].set(0)

    def first(key, shape):
        return jnp.zeros(shape, jnp.float32).at[:, 0].set(1)

    return {
        "hidden": Tensor((c, u), (None, None), inputs),
        "hidden_bias": Tensor((u,), (None,), lambda key, shape: jnp.zeros(shape)),
        "out": Tensor((s, u, h), ("layers", None, None), outputs),
        "out_bias": Tensor((s, h), ("layers", None), first),
    }


_MIXERS: dict[str, Callable[[Config], dict]] = {
    "dense": _dense,
    "projected": _projected,
    "hypernetwork": _network,
    "soup": _network,
}


def coefficients(mixer: dict[str, jax.Array], features_GxC: jax.Array, config: Config) -> jax.Array:
    """[G, S, h]: the coefficients of the bank's weights for each group.

    Args:
      features_GxC: histograms over the clusters (one-hot for a cluster), or for the hypernetwork
        centroids.
    """
    if config.family == "dense":
        return jnp.ones((len(features_GxC), len(config.layers), config.rank))
    if config.family == "projected":
        code_Gxm = features_GxC @ mixer["code"]
        return jnp.einsum("Gm,Smh->GSh", code_Gxm, mixer["mix"])
    hidden_GxU = jnp.tanh(features_GxC @ mixer["hidden"] + mixer["hidden_bias"])
    return jnp.einsum("GU,SUh->GSh", hidden_GxU, mixer["out"]) + mixer["out_bias"]


def mix(mlp: Mlp, coefficients_GxSxh: jax.Array) -> Mlp:
    """[G, S, ...]: sum_r c[r] T[r] for every group and layer, one matrix product each."""

    def mixed(leaf_Sxh):
        # A product for each layer: a CPU takes twice as long for the batched one.
        layers = [
            coefficients_GxSxh[:, s] @ leaf_h.reshape(len(leaf_h), -1)
            for s, leaf_h in enumerate(leaf_Sxh)
        ]
        made_GxS = jnp.stack(layers, axis=1)
        return made_GxS.reshape(*made_GxS.shape[:2], *leaf_Sxh.shape[2:])

    return jax.tree.map(mixed, mlp)


def assemble(shared: transformer.Params, mlp: Mlp, config: Config) -> transformer.Params:
    """The dense parameters of one group: the shared ones with the mixed MLPs [S, ...] in place."""
    order = np.argsort(np.array([*config.others, *config.layers]))

    def placed(outside, mixed):
        if outside is None:
            return mixed
        return jnp.concatenate([outside, mixed])[order]

    layers = shared.layers
    return shared.replace(
        layers=layers.replace(
            **{
                name: placed(getattr(layers, name), getattr(mlp, name))
                for name in Mlp.__dataclass_fields__
            }
        )
    )


def project(bank: Bank, coefficients_Sxh: jax.Array, config: Config) -> transformer.Params:
    """The parameters of one ordinary dense transformer."""
    mixed = mix(bank.mlp, coefficients_Sxh[None])
    return assemble(bank.shared, jax.tree.map(lambda leaf: leaf[0], mixed), config)
