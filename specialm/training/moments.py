"""Adam with moments that take fewer bytes to keep, to read and to write.

A bank's weights are read and written with both moments at every step, most of what its step costs
on a small batch. Here a moment of matrices is kept in another form, one line of a table each:

    int8      a byte a number and a scale for each block of 256, in dynamic tree quantisation
              (Dettmers et al., arXiv 2110.02861, sections 1.3 and 2.1)
    factored  of the second moment the means over outputs and over inputs (Shazeer and Stern,
              arXiv 1804.04235, section 3); a bank's every set of weights by itself

Vectors (norms, biases, a bank's mixer) keep float32, and all arithmetic is float32. What is kept
are trees of the parameters' structure, with as many axes as the parameters: they lie on the mesh as
these do, as far as their sizes divide. bfloat16 is in `narrow.py`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import optax

from specialm.models import tensors
from specialm.training import layout

BLOCK = 256  # numbers with one scale, at most; 2048 in the paper, across whole tensors
EPSILON = 1e-8  # of Adam, as optax has it


class Kept(Protocol):
    """A way to keep a moment, a running mean x <- beta x + (1 - beta) y."""

    def start(self, zeros: Any) -> Any:
        """What is kept at first, for a tree of zeros like the parameters."""

    def moved(self, kept: Any, values: Any, beta: float) -> tuple[Any, Any]:
        """(what is kept next, the moment that the update is computed with)."""

    def read(self, kept: Any) -> Any:
        """The moment, a tree like the parameters."""


class Plain:
    """As it is."""

    def start(self, zeros: Any) -> Any:
        """The zeros."""
        return zeros

    def moved(self, kept: Any, values: Any, beta: float) -> tuple[Any, Any]:
        """Twice the same."""
        after = _mean(kept, values, beta)
        return after, after

    def read(self, kept: Any) -> Any:
        """What is kept."""
        return kept


class Bytes(NamedTuple):
    """Codes uint8 like the parameters, vectors as they are in float32; a scale for each block."""

    codes: Any
    scales: Any


class InBytes:
    """Blocks along one axis of each matrix, see `block_axis`."""

    def __init__(self, declared: tensors.Tree, signed: bool):
        self.signed = signed
        self.axes = {
            path: block_axis(tensor)
            for path, tensor in tensors.flatten(declared)
            if tensor.decay and not tensor.constant
        }

    def start(self, zeros: Any) -> Bytes:
        """Zeros of few bytes."""
        return self._written(zeros)

    def moved(self, kept: Bytes, values: Any, beta: float) -> tuple[Bytes, Any]:
        """The update is computed with the moment before it is rounded, as published."""
        after = _mean(self.read(kept), values, beta)
        return self._written(after), after

    def read(self, kept: Bytes) -> Any:
        """float32."""

        def one(path, codes, scales):
            axis = self.axes.get(_names(path))
            if axis is None:
                return codes
            return value_of(codes, self.signed) * _spread(scales, codes.shape[axis], axis)

        return jax.tree_util.tree_map_with_path(one, kept.codes, kept.scales)

    def _written(self, moment: Any) -> Bytes:
        def scales(path, x):
            axis = self.axes.get(_names(path))
            return _one(x) if axis is None else _largest(x, axis) / top(self.signed)

        made = jax.tree_util.tree_map_with_path(scales, moment)

        def codes(path, x, scales):
            axis = self.axes.get(_names(path))
            if axis is None:
                return x
            scale = _spread(scales, x.shape[axis], axis)
            return code_of(jnp.where(scale > 0, x / jnp.where(scale > 0, scale, 1), 0), self.signed)

        return Bytes(jax.tree_util.tree_map_with_path(codes, moment, made), made)


class Factors(NamedTuple):
    """Means over outputs and over inputs, with axes of size 1 there; vectors in `whole`."""

    rows: Any
    columns: Any
    whole: Any


class Factored:
    """Rank 1: rows * columns / mean of the rows."""

    def __init__(self, declared: tensors.Tree):
        self.axes = {
            path: _inputs_outputs(tensor)
            for path, tensor in tensors.flatten(declared)
            if tensor.decay and not tensor.constant and len(tensor.shape) - tensor.leading > 1
        }

    def start(self, zeros: Any) -> Factors:
        """Zeros."""
        return Factors(
            self._means(zeros, 1), self._means(zeros, 0), self._each(zeros, lambda x, _: _one(x), 1)
        )

    def moved(self, kept: Factors, values: Any, beta: float) -> tuple[Factors, Any]:
        """The update is computed with what is kept, as published."""
        after = Factors(
            _mean(kept.rows, self._means(values, 1), beta),
            _mean(kept.columns, self._means(values, 0), beta),
            _mean(kept.whole, self._each(values, lambda x, _: _one(x), 1), beta),
        )
        return after, self.read(after)

    def read(self, kept: Factors) -> Any:
        """float32."""

        def one(path, rows, columns, whole):
            axes = self.axes.get(_names(path))
            if axes is None:
                return whole
            mean = rows.mean(axes[0], keepdims=True)
            return rows / jnp.where(mean > 0, mean, 1) * columns

        return jax.tree_util.tree_map_with_path(one, *kept)

    def _means(self, tree: Any, over: int) -> Any:
        """Over the inputs (0) or outputs (1) of matrices; of vectors nothing."""
        return self._each(tree, lambda x, axes: x.mean(axes[over], keepdims=True), 0)

    def _each(self, tree: Any, of_matrix: Callable, vectors: int) -> Any:
        """Args:
        vectors: 1 if these are kept.
        """

        def one(path, x):
            axes = self.axes.get(_names(path))
            if axes is None:
                return x if vectors else _one(x)
            return of_matrix(x, axes)

        return jax.tree_util.tree_map_with_path(one, tree)


FIRST: dict[str, Callable[[tensors.Tree], Kept]] = {
    "int8": lambda declared: InBytes(declared, signed=True)
}
SECOND: dict[str, Callable[[tensors.Tree], Kept]] = {
    "int8": lambda declared: InBytes(declared, signed=False),
    "factored": Factored,
}


def scale_by_adam(
    beta1: float, beta2: float, first: Kept, second: Kept
) -> optax.GradientTransformation:
    """`optax.scale_by_adam` with its moments kept in other ways; the state is Adam's."""

    def init(params: Any) -> optax.ScaleByAdamState:
        zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, jnp.float32), params)
        return optax.ScaleByAdamState(
            jnp.zeros([], jnp.int32), first.start(zeros), second.start(zeros)
        )

    def update(grads: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        count = optax.safe_increment(state.count)
        kept_mu, mu = first.moved(state.mu, grads, beta1)
        kept_nu, nu = second.moved(state.nu, jax.tree.map(jnp.square, grads), beta2)
        by1, by2 = 1 - beta1**count, 1 - beta2**count
        updates = jax.tree.map(lambda m, v: m / by1 / (jnp.sqrt(v / by2) + EPSILON), mu, nu)
        return updates, optax.ScaleByAdamState(count, kept_mu, kept_nu)

    return optax.GradientTransformation(init, update)


def block_axis(tensor: tensors.Tensor) -> int:
    """The axis, counted from the end, that a matrix's blocks run along: the longest of a linear map
    that no mesh divides, so that no block lies on two devices; else the last.
    """
    size = len(tensor.shape)
    free = [i for i in range(tensor.leading, size) if tensor.axes[i] not in layout.RULES]
    if not tensor.inputs or not free:
        return -1
    return max(free, key=lambda i: tensor.shape[i]) - size


def _inputs_outputs(tensor: tensors.Tensor) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Axes, counted from the end; of a table the rows are its inputs."""
    size = len(tensor.shape) - tensor.leading
    inputs = tensor.inputs or 1
    return tuple(range(-size, -size + inputs)), tuple(range(-size + inputs, 0))


def code_of(x: jax.Array, signed: bool) -> jax.Array:
    """uint8 of numbers in [-1, 1] or [0, 1]: 0, or the decade as the place of the highest bit and
    which part of the decade as the bits below it; a sign above them.

    A second moment that is not 0 is never rounded to it: Adam divides by its root.
    """
    decades, size = (7 if signed else 8), jnp.abs(x)
    code = jnp.where(size > 0, 0 if signed else 1, 0).astype(jnp.int32)
    for i in range(decades):
        part = jnp.floor((size * 10.0 ** (decades - 1 - i) - 0.1) / 0.9 * 2**i).astype(jnp.int32)
        inside = size >= 10.0 ** (i - decades)
        code = jnp.where(inside, 2**i + jnp.clip(part, 0, 2**i - 1), code)
    return (jnp.where(x < 0, code + 128, code) if signed else code).astype(jnp.uint8)


def value_of(code: jax.Array, signed: bool) -> jax.Array:
    """float32: the middle of the part that `code_of` names."""
    decades, code = (7 if signed else 8), code.astype(jnp.int32)
    size = code & 127 if signed else code
    value = jnp.zeros(code.shape, jnp.float32)
    for i in range(decades):
        part = (size - 2**i).astype(jnp.float32) + 0.5
        middle = 10.0 ** (i + 1 - decades) * (0.1 + 0.9 / 2**i * part)
        value = jnp.where(size >= 2**i, middle, value)
    return jnp.where(code >= 128, -value, value) if signed else value


def top(signed: bool) -> float:
    """The largest value of a code: the largest number of a block stays what it is."""
    return 1 - 0.45 / (64 if signed else 128)


def _largest(x: jax.Array, axis: int) -> jax.Array:
    """The largest absolute value of each block of an axis."""
    moved = jnp.moveaxis(jnp.abs(x), axis, -1)
    moved = jnp.pad(moved, [(0, 0)] * (x.ndim - 1) + [(0, -x.shape[axis] % _block(x.shape[axis]))])
    blocks = moved.reshape(*moved.shape[:-1], -1, _block(x.shape[axis]))
    return jnp.moveaxis(blocks.max(-1), -1, axis)


def _spread(scales: jax.Array, size: int, axis: int) -> jax.Array:
    """The scale of each number of an axis of this size."""
    if scales.shape[axis] == 1:
        return scales
    moved = jnp.repeat(jnp.moveaxis(scales, axis, -1), _block(size), axis=-1)[..., :size]
    return jnp.moveaxis(moved, -1, axis)


def _block(size: int) -> int:
    return min(BLOCK, size)


def _mean(before: Any, values: Any, beta: float) -> Any:
    return jax.tree.map(lambda x, y: beta * x + (1 - beta) * y, before, values)


def _one(x: jax.Array) -> jax.Array:
    """In the place of what is kept elsewhere."""
    return jnp.zeros((1,) * x.ndim, jnp.float32)


def _names(path: tuple) -> tuple[str, ...]:
    return tuple(part.key for part in path)
