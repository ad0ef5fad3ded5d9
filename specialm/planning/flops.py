"""FLOPs of a program, counted in what JAX has traced of it."""

import math

from jax.extend.core import ClosedJaxpr, Jaxpr
from jax.interpreters.partial_eval import dce_jaxpr

CAUSAL_KERNELS = "splash_mha"  # their names begin with it: forward, and backward of q, k and v


def matmul_flops(jaxpr: Jaxpr) -> int:
    """Multiply-adds (as two) of all matrix products of a program, over all devices: loops with
    their trip counts, parts of a `shard_map` on every device, kernels on every cell of their grid
    that they do not skip, the dearest branch of a choice.

    Raises:
      ValueError: a matrix product in a loop whose trip count nothing tells.
    """
    # What the backward pass would compute again but has no use for is still in the trace.
    return _count(dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars))[0])


def _count(jaxpr: Jaxpr) -> int:
    total = 0
    for equation in jaxpr.eqns:
        name, params = equation.primitive.name, equation.params
        if name == "dot_general":
            total += _product(equation)
            continue
        inner = [_count(each) for each in _jaxprs(params)]
        if name == "while" and any(inner):
            raise ValueError("a matrix product in a while loop: its trip count is not known")
        if name == "cond":
            total += max(inner, default=0)
        else:
            total += _times(name, params) * sum(inner)
    return total


def _product(equation) -> int:
    (summed, _), _ = equation.params["dimension_numbers"]
    left = equation.invars[0].aval.shape
    return 2 * math.prod(equation.outvars[0].aval.shape) * math.prod(left[i] for i in summed)


def _times(name: str, params: dict) -> int:
    if name == "scan":
        return params["length"]
    if name == "shard_map":
        return params["mesh"].size
    if name == "pallas_call":
        return _cells(params)
    return 1


def _cells(params: dict) -> int:
    """Cells of a kernel's grid that are computed. Attention (`models/splash.py`, causal, with
    as many blocks of queries as of keys, n, which the grid ends with) skips the blocks in which
    every key comes after every query: n (n + 1) / 2 of n^2 are left.
    """
    grid = params["grid_mapping"].grid
    if str(params["name"]).startswith(CAUSAL_KERNELS):
        return math.prod(grid) * (grid[-1] + 1) // (2 * grid[-1])
    return math.prod(grid)


def _jaxprs(params: dict):
    for value in params.values():
        for one in value if isinstance(value, tuple | list) else (value,):
            one = one.jaxpr if isinstance(one, ClosedJaxpr) else one
            if isinstance(one, Jaxpr):
                yield one
