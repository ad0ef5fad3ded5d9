"""Result rows: the metrics of a model on the held-out documents of each domain, and their macro.

Every row has the fields of `METRICS`, and so have the reports: an entry adds a metric to both.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from specialm.training.scoring import Score

MACRO = "macro"  # the domain of a row that averages over the domains


def _mean_of(field: str) -> Callable[[Sequence[dict]], float]:
    return lambda rows: float(np.mean([row[field] for row in rows]))


def _perplexity_of_mean_loss(rows: Sequence[dict]) -> float:
    """exp(mean over domains of the mean NLL per token), arXiv 2402.01093, section 4."""
    return float(np.exp(_mean_of("nll_per_token")(rows)))


@dataclass(frozen=True)
class Metric:
    """A figure of every result row; lower is better."""

    field: str  # in rows and JSON
    label: str  # for people
    heading: str  # of a narrow column
    decimals: int | None  # None: as many as its size asks for, see `summary.number`
    of: Callable[[Score], float]
    macro: Callable[[Sequence[dict]], float]  # from the domains' rows of one model


METRICS = (
    Metric(
        "perplexity",
        "perplexity",
        "perplexity",
        None,
        lambda score: score.perplexity,
        _perplexity_of_mean_loss,
    ),
    Metric(
        "bits_per_byte",
        "bits per byte",
        "bits/byte",
        3,
        lambda score: score.bits_per_byte,
        _mean_of("bits_per_byte"),
    ),
)


def row(method: str, domain: str, phase: str, seed: int, train_tokens: int, score: Score) -> dict:
    """One line of results.jsonl: the mean loss per token in nats, and all of `METRICS`."""
    return {
        **_head(method, domain, phase, seed, train_tokens, score.nll_per_token),
        **{metric.field: metric.of(score) for metric in METRICS},
    }


def macro(rows: Sequence[dict]) -> dict:
    """The macro row of one method, phase and seed, from its domains' rows.

    Raises:
      ValueError: the rows belong to several methods, phases or seeds.
    """
    kinds = {(r["method"], r["phase"], r["seed"]) for r in rows}
    if len(kinds) != 1:
        raise ValueError(f"rows of {len(kinds)} kinds: {sorted(kinds)}")
    ((method, phase, seed),) = kinds
    nll = _mean_of("nll_per_token")(rows)
    return {
        **_head(method, MACRO, phase, seed, rows[0]["train_tokens"], nll),
        **{metric.field: metric.macro(rows) for metric in METRICS},
    }


def rows(
    method: str, phase: str, seed: int, train_tokens: int, scores: Mapping[str, Score]
) -> list[dict]:
    """Rows of {domain: score}, the macro row last."""
    of_domains = [
        row(method, domain, phase, seed, train_tokens, score) for domain, score in scores.items()
    ]
    return [*of_domains, macro(of_domains)]


def beside(by_domain: Mapping[str, dict], domain: str) -> dict:
    """What else there is to say in a domain's row; in the macro row the means over the domains."""
    if domain in by_domain:
        return by_domain[domain]
    found = list(by_domain.values())
    return {name: float(np.mean([fields[name] for fields in found])) for name in found[0]}


def _head(
    method: str, domain: str, phase: str, seed: int, train_tokens: int, nll_per_token: float
) -> dict:
    return {
        "method": method,
        "domain": domain,
        "phase": phase,
        "seed": seed,
        "train_tokens": train_tokens,
        "nll_per_token": nll_per_token,
    }
