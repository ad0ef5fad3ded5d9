"""Numbers of the nodes of a tree of clusters: how many a level has, and the ancestors of a leaf.

`branching` is the number of children of a node at each level; levels are counted from 1, the
coarsest, and 0 stands for the last one. A node is numbered by its path from the root, read as a
number in the mixed radix `branching`.
"""

import math

import numpy as np

from specialm.common.errors import UserError


def check(branching: tuple[int, ...], level: int = 0, setting: str = "clustering.level") -> None:
    """Check `clustering.branching` and a level of it.

    Args:
      branching: see above.
      level: of the tree.
      setting: where the level comes from, for the error.

    Raises:
      UserError: no tree of at most 2**31 - 1 leaves, or a level that it does not have.

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
            f"{setting}={level}: clustering.branching={branching} has the "
            f"levels 1 to {len(branching)}; 0 is the last one."
        )


def nodes(branching: tuple[int, ...], level: int = 0) -> int:
    """Return how many numbers of nodes a level has; it raises what `check` raises."""
    check(branching, level)
    return math.prod(branching[: level or None])


def of_size(branching: tuple[int, ...], k: int, setting: str) -> int:
    """Return the first level (from 1) that has k nodes.

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
    """Return int32 [N]: the ancestor of each leaf at a level."""
    return leaf_N // np.int32(nodes(branching) // nodes(branching, level))
