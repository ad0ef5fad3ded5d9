"""Which of the k small models of a bank or a mixture a domain gets.

From arXiv 2402.01093 (docs/methods.md, Choice of the expert): the cluster that is most frequent in
the specialist set; the lowest loss on the specialist training set before fine-tuning; fine-tuning
every expert and keeping the best. Ours: mixing the experts by the specialist's cluster histogram
(for a projected network E = sum_i p_i E_i, which is linear, hence exactly the mean of the projected
weights, and free), and successive halving between the second and the third.
"""

from collections.abc import Callable

import numpy as np

# How an expert is chosen: `expert.choice`.
FREQUENT = "frequent"
LOSS = "loss"
HISTOGRAM = "histogram"
HALVING = "halving"
FINETUNE_ALL = "finetune_all"
CHOICES = (FREQUENT, LOSS, HISTOGRAM, HALVING, FINETUNE_ALL)


def one_hot(expert: int, k: int) -> np.ndarray:
    """float64 [k]: the histogram of one cluster."""
    return np.eye(k)[expert]


def most_frequent(histogram_k: np.ndarray, probability_k: np.ndarray) -> int:
    """The trained expert (one with generic text) whose cluster the specialist set has most of."""
    return int(np.argmax(np.where(probability_k > 0, histogram_k, -1.0)))


def halve(order: list[int], tune: Callable[[int, int], float]) -> list[list[int]]:
    """Successive halving (Jamieson and Talwalkar 2016): the better half goes on, until one is left.

    Args:
      order: the experts, the best before fine-tuning first; its better half enters the first round.
      tune: (expert, round) -> validation nats after one more round of fine-tuning.

    Returns:
      The experts of each round; the last list holds the one that is left.
    """
    rounds = [order[: max(1, -(-len(order) // 2))]]
    while len(rounds[-1]) > 1:
        nats = {expert: tune(expert, len(rounds)) for expert in rounds[-1]}
        best = sorted(nats, key=nats.__getitem__)
        rounds.append(best[: -(-len(best) // 2)] if len(best) > 2 else best[:1])
    return rounds
