"""How a model's tensors lie on a mesh, as the model sees it from inside of a `jax.shard_map`.

Two ways of splitting parameters, both exact:

- `fsdp`: every device has a part of each matrix and gathers the whole one just before it is used, a
  layer at a time, in the dtype of the arithmetic; its gradient is summed and scattered back in
  float32. The gathered weights are not saved for the backward pass but gathered again.
- `model` (tensor parallelism): a device has some of the heads and hidden units and computes with
  these alone; activations are summed after each block. The tokens' losses are divided as well.

With one device along an axis nothing is exchanged and the program is that of a single device.

Parts of a layer that other devices compute (a bank's) are fetched just before the layer too; they
are saved for the backward pass, as rounded as they came.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax

FSDP, MODEL = "fsdp", "model"
MODEL_AXES = ("heads", "kv_heads", "mlp")  # logical axes along `model`, as training/layout.py has
PRODUCT = "product"  # name of the results of linear maps
ATTENDED = "attended"  # name of what an attention kernel keeps for its own
FETCHED = "fetched"  # name of what other devices have sent
SENT = "sent"  # beside the parts of the layers: what is sent of those that do not lie here


@dataclass(frozen=True)
class Sent:
    """Layers some of whose parts come from other devices."""

    layers: tuple[int, ...]
    parts: tuple[str, ...]
    fetch: Callable[[Any], Any]  # {part: what this device sends for one layer} -> whole


@dataclass(frozen=True)
class Placement:
    """Devices along the two axes; 1 for whole parameters."""

    fsdp: int = 1
    model: int = 1
    whole: tuple[str, ...] = ()  # parts of a layer that every device holds whole
    sent: Sent | None = None

    def layer(self, weights: Any, axes: Any, dtype: str) -> Any:
        """One layer's weights as they are used: gathered, and fetched where they are sent."""
        if self.sent is None:
            return self.gather(weights, axes, dtype)
        slices = {name: weights[name] for name in self.sent.parts}
        rest = {name: part for name, part in weights.items() if name not in slices}
        there = {name: axes[name] for name in rest}
        return {**self.gather(rest, there, dtype), **self.sent.fetch(slices)}

    def gather(self, params: Any, axes: Any, dtype: str, apart: bool = False) -> Any:
        """A tree of this device's parts -> whole along `fsdp`, float32 holding `dtype` values.

        Args:
          axes: a tree like `params` of tuples of logical axes; "embed" is the one that is split.
          apart: gradients are scattered with the parts on an axis of their own. Of an embedding's,
            outside of loops, XLA makes a sum of the whole and a slice on a TPU without it, twice
            the bytes; of the layers' it does so with it.
        """
        if self.fsdp == 1:
            return params
        leaves, tree = jax.tree.flatten(params)
        names = jax.tree.leaves(axes, is_leaf=lambda node: isinstance(node, tuple))
        gathered = [
            gather_axis(leaf, where.index("embed"), dtype, apart) if "embed" in where else leaf
            for leaf, where in zip(leaves, names, strict=True)
        ]
        return jax.tree.unflatten(tree, gathered)

    def to_model_parallel(self, x: jax.Array) -> jax.Array:
        """A whole array that each device is about to use for its own part of the work: the
        gradients of the parts are summed.
        """
        return x if self.model == 1 else _to_parallel(x)

    def from_model_parallel(self, x: jax.Array) -> jax.Array:
        """The sum of what the devices computed with their parts."""
        return x if self.model == 1 else _from_parallel(x)

    def token_share(self, x_T: jax.Array) -> jax.Array:
        """This device's part of the tokens, [T / model, ...]; T must divide."""
        if self.model == 1:
            return x_T
        size = len(x_T) // self.model
        return jax.lax.dynamic_slice_in_dim(x_T, jax.lax.axis_index(MODEL) * size, size)


WHOLE = Placement()


def narrow(x: jax.Array, dtype: str) -> jax.Array:
    """What is sent of an array that will be used as `dtype`: bfloat16 halves the bytes."""
    return x.astype(dtype) if dtype == "bfloat16" else x


def _gathered(part: jax.Array, axis: int, dtype: str, apart: bool) -> jax.Array:
    """The parts of the devices along `fsdp` one after the other along an axis, see `gather`."""
    whole = jax.lax.all_gather(narrow(part, dtype), FSDP, axis=axis, tiled=True)
    return whole.astype(part.dtype)


gather_axis = jax.custom_vjp(_gathered, nondiff_argnums=(1, 2, 3))


def _gather_forward(part, axis, dtype, apart):
    # Not `gather_axis`: a policy of `jax.checkpoint` would not see what is in it.
    return _gathered(part, axis, dtype, apart), None


def _gather_backward(axis, _, apart, __, grad):
    if not apart:
        return (jax.lax.psum_scatter(grad, FSDP, scatter_dimension=axis, tiled=True),)
    n = jax.lax.axis_size(FSDP)
    parts = grad.reshape(*grad.shape[:axis], n, grad.shape[axis] // n, *grad.shape[axis + 1 :])
    return (jax.lax.psum_scatter(parts, FSDP, scatter_dimension=axis),)


gather_axis.defvjp(_gather_forward, _gather_backward)


@jax.custom_vjp
def _to_parallel(x):
    return x


_to_parallel.defvjp(lambda x: (x, None), lambda _, grad: (jax.lax.psum(grad, MODEL),))


@jax.custom_vjp
def _from_parallel(x):
    return jax.lax.psum(x, MODEL)


_from_parallel.defvjp(lambda x: (jax.lax.psum(x, MODEL), None), lambda _, grad: (grad,))


def remat_policy(remat: str):
    """The policy of `jax.checkpoint` of a layer: "none" keeps all but gathered weights, "dots" the
    results of linear maps and of an attention kernel, "full" neither; what was fetched is kept.
    """
    policies = jax.checkpoint_policies
    if remat == "full":
        return policies.save_only_these_names(FETCHED)
    if remat == "dots":
        return policies.save_only_these_names(PRODUCT, ATTENDED, FETCHED)
    return _all_but_gathered


# What a gathered weight goes through until it meets activations: neither it nor these is saved.
_ON_THE_WAY = ("all_gather", "convert_element_type", "name", "reshape", "transpose")


def _all_but_gathered(primitive, *_, **params) -> bool:
    return primitive.name not in _ON_THE_WAY or params.get("name") == FETCHED
