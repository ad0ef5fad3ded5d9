"""The histogram that importance sampling aims at, from the counts of a specialist set.

As counted it is exact for the windows that there are, and wrong for clusters that few or none of
them reached. A rule is a function and a line of `RULES`; `Aim` mixes the histograms of several
sets. Plain NumPy in float64.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from specialm.common.errors import UserError

# (windows of the generic text [K], of the specialist set [K], pseudo-windows, branching of the tree
# whose leaves the clusters are, () if there is none) -> what is aimed at, [K], of any sum.
Rule = Callable[[np.ndarray, np.ndarray, float, tuple[int, ...]], np.ndarray]


def counted(
    generic_K: np.ndarray, specialist_K: np.ndarray, pseudo: float, branching: tuple[int, ...]
) -> np.ndarray:
    """The counts themselves (arXiv 2402.01093, section 2)."""
    return specialist_K


def backoff(
    generic_K: np.ndarray, specialist_K: np.ndarray, pseudo: float, branching: tuple[int, ...]
) -> np.ndarray:
    """Down the tree from its root, the windows of a node over its children: as counted with
    `pseudo` windows more that are distributed as the generic text is.

        P(child) = P(node) (n_child + s g_child / g_node) / (n_node + s)

    It is the mean of a Dirichlet prior around the generic text in every node, as in MacKay & Peto
    1995 (A hierarchical Dirichlet language model). Where a node has many specialist windows its
    children are as counted; where it has few they are as its generic ones. A child without generic
    windows gets nothing, its windows stand for its siblings. Flat clusters are the root's children.
    """
    generic_K, specialist_K = (np.asarray(x, np.float64) for x in (generic_K, specialist_K))
    chance_P = np.ones(1)
    for width in branching or (len(generic_K),):
        children = len(chance_P) * width
        generic_PxW, specialist_PxW = (
            x_K.reshape(children, -1).sum(1).reshape(-1, width) for x_K in (generic_K, specialist_K)
        )
        specialist_PxW = np.where(generic_PxW > 0, specialist_PxW, 0.0)
        generic_Px1 = generic_PxW.sum(1, keepdims=True)
        like_generic_PxW = generic_PxW / np.where(generic_Px1 > 0, generic_Px1, 1.0)
        mass_PxW = specialist_PxW + pseudo * like_generic_PxW
        total_Px1 = mass_PxW.sum(1, keepdims=True)
        share_PxW = np.where(
            total_Px1 > 0, mass_PxW / np.where(total_Px1 > 0, total_Px1, 1.0), like_generic_PxW
        )
        chance_P = (chance_P[:, None] * share_PxW).reshape(-1)
    return chance_P


RULES: dict[str, Rule] = {"counted": counted, "backoff": backoff}


@dataclass(frozen=True)
class Aim:
    """What is aimed at for a specialist set.

    Attributes:
      rule: of `RULES`.
      pseudo: its pseudo-windows.
      branching: of the tree whose leaves the clusters are; () if there is none.
      share: of this set in the mixture that is aimed at.
      others_K: float64 [K], the rest of the mixture: it sums to 1 - share; None if there is none.
    """

    rule: str = "counted"
    pseudo: float = 0.0
    branching: tuple[int, ...] = ()
    share: float = 1.0
    others_K: np.ndarray | None = None

    def of(self, generic_K: np.ndarray, specialist_K: np.ndarray) -> np.ndarray:
        """Return what is aimed at, [K], of any sum; the counts of an empty set.

        Args:
          generic_K, specialist_K: windows in each cluster.

        """
        if not np.sum(specialist_K):
            return specialist_K
        aimed_K = RULES[self.rule](generic_K, specialist_K, self.pseudo, self.branching)
        if self.others_K is None:
            return aimed_K
        return self.share * aimed_K / aimed_K.sum() + self.others_K


def mixed(
    aim: Aim,
    domain: str,
    shares: dict[str, float],
    generic_K: np.ndarray,
    specialist: dict[str, np.ndarray],
) -> Aim:
    """Return the aim at a mixture of several sets, as it is for one of them.

    Args:
      aim: at one set.
      domain: that the weights are of; its share is 0 if it is none of the mixture.
      shares: of every set; () leaves `aim` as it is.
      generic_K: windows of the generic text in each cluster.
      specialist: windows of every set in each cluster.

    Raises:
      UserError: a set has no windows.

    """
    if not shares:
        return aim
    others_K = np.zeros(len(generic_K))
    for name, share in shares.items():
        if not specialist[name].sum():
            raise UserError(f"clustering.targets: the domain {name!r} has no windows.")
        if name != domain:
            aimed_K = aim.of(generic_K, specialist[name])
            others_K += share * aimed_K / aimed_K.sum()
    return Aim(aim.rule, aim.pseudo, aim.branching, shares.get(domain, 0.0), others_K)


def check_targets(targets: Sequence[str], domains: Sequence[str]) -> dict[str, float]:
    """Return the share of each of `clustering.targets`; they sum to 1.

    Args:
      targets: "NAME" or "NAME=WEIGHT" each; a weight is 1 if none is given.
      domains: names that there are.

    Raises:
      UserError: one is no domain, stands there twice, or its weight is not above 0.

    """
    weights: dict[str, float] = {}
    for target in targets:
        name, _, text = target.partition("=")
        try:
            weight = float(text or 1)
        except ValueError:
            weight = 0.0
        if not 0 < weight < np.inf or name in weights:
            raise UserError(
                f"clustering.targets={target!r}: must be NAME or NAME=WEIGHT, a weight above 0, "
                "each name once, as in ('med=2', 'books')."
            )
        if name not in domains:
            raise UserError(
                f"clustering.targets={target!r}: data.domains has no {name!r} but "
                f"{', '.join(domains) or 'none'}."
            )
        weights[name] = weight
    total = sum(weights.values())
    return {name: weight / total for name, weight in weights.items()}
