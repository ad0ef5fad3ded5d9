"""The numbers of a tree of clusters: which nodes a level has, and which of them a leaf lies below.

`branching` is the number of children of a node at each level; levels are counted from 1, the
coarsest, and 0 stands for the last one. A node is numbered by its path from the root, read as a
number in the mixed radix `branching`.

Letters: N leaves.
"""

import math

import numpy as np

from specialm.common.errors import UserError


def check(branching: tuple[int, ...], level: int = 0) -> None:
    """Raises UserError for a `clustering.branching` that is no tree of at most 2**31 - 1 leaves,
    or a `clustering.level` that it does not have.
    """
    if (
        not branching
        or not all(isinstance(b, int) and b >= 1 for b in branching)
        or math.prod(branching) >= 2**31
    ):
        raise UserError(
            f"clustering.branching={branching}: must be whole numbers of at least 1 "
            "whose product is below 2**31, for example (64, 64)."
        )
    if not 0 <= level <= len(branching):
        raise UserError(
            f"clustering.level={level}: clustering.branching={branching} has the "
            f"levels 1 to {len(branching)}; 0 is the last one."
        )


def nodes(branching: tuple[int, ...], level: int = 0) -> int:
    """How many numbers of nodes a level has; raises what `check` raises."""
    check(branching, level)
    return math.prod(branching[: level or None])


def of_size(branching: tuple[int, ...], k: int, setting: str) -> int:
    """The first level (from 1) that has k nodes.

    Args:
      setting: where k comes from, for the error.

    Raises:
      UserError: none has.

    """
    sizes = [nodes(branching, level) for level in range(1, len(branching) + 1)]
    if k not in sizes:
        raise UserError(
            f"{setting}={k}: with clustering.method=tree it must be the size of a "
            f"level; clustering.branching={branching} has levels of "
            f"{', '.join(map(str, sizes))}."
        )
    return sizes.index(k) + 1


def ancestors(leaf_N: np.ndarray, branching: tuple[int, ...], level: int) -> np.ndarray:
    """int32 [N]: the node of a level that each leaf lies below."""
    return leaf_N // np.int32(nodes(branching) // nodes(branching, level))
