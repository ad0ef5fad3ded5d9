"""The words that tell a cluster from the rest of the text.

Log-odds of a word's frequency in the cluster against the rest, with the frequencies of all texts as
a prior, in standard errors: Monroe, Colaresi & Quinn 2008, "Fightin' Words", equations 15 to 22.
"""

import collections
import itertools
from collections.abc import Sequence

import numpy as np

from specialm.data import scripts

PRIOR_WORDS = 1000.0  # of the prior, in all: rare words need more than one text
COMMON = 0.1  # of the texts: a word in more of them says nothing


def of_groups(groups: Sequence[Sequence[str]], rest: Sequence[str], count: int) -> list[list[str]]:
    """Return the `count` words of each group that tell it best from all other texts.

    Args:
      groups: texts of each cluster.
      rest: texts of any other clusters.
      count: words of a group, at most; fewer where fewer are more frequent there.

    """
    texts = [*itertools.chain.from_iterable(groups), *rest]
    texts_of = collections.Counter(itertools.chain.from_iterable(map(set, map(_words, texts))))
    counted = [collections.Counter(itertools.chain.from_iterable(map(_words, g))) for g in groups]
    total = collections.Counter(itertools.chain.from_iterable(map(_words, texts)))
    names = sorted(name for name in total if texts_of[name] <= max(COMMON * len(texts), 2))
    all_V = np.array([total[name] for name in names], float)
    found = []
    for own in counted:
        score_V = _scores(np.array([own[name] for name in names], float), all_V)
        best = np.argsort(-score_V, kind="stable")[:count]
        found.append([names[i] for i in best if score_V[i] > 0])
    return found


def _words(text: str) -> list[str]:
    return [word for word in scripts.terms(text) if not any(map(str.isdigit, word))]


def _scores(own_V: np.ndarray, all_V: np.ndarray) -> np.ndarray:
    """float64 [V]: z-scores of the log-odds ratio of each word."""
    if not all_V.sum():
        return np.zeros(len(all_V))
    prior_V = PRIOR_WORDS * all_V / all_V.sum()

    def odds_of(counts_V: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        with_prior_V = counts_V + prior_V
        others = counts_V.sum() + PRIOR_WORDS - with_prior_V
        return np.log(with_prior_V) - np.log(np.maximum(others, 1e-9)), 1 / with_prior_V

    (own_odds_V, own_variance_V), (odds_V, variance_V) = odds_of(own_V), odds_of(all_V - own_V)
    return (own_odds_V - odds_V) / np.sqrt(own_variance_V + variance_V)
