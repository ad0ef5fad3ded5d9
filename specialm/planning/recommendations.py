"""A plan: forecasts of every method at a budget, with intervals, and which one to take.

A forecast is a draw from each of three things that can be wrong: the law (bootstrap), what all
methods have in common on a domain and at a setting, and one method against the others. What methods
have in common moves all of them alike, so that methods can be told apart more closely than their
intervals say.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from specialm import methods
from specialm.evaluation import cost
from specialm.planning import candidates, evidence, law
from specialm.planning.candidates import Asked, Candidate
from specialm.planning.evidence import Row

DRAWS, SEED = 4000, 0
LEVELS = (80, 95)
SURE = 0.9  # how probable it must be that a method is better than another one
DOMAINS_SEEN = 3  # whose spread `spreads` is: Student's t with one degree of freedom less
# Of ln L at a factor of 4 beyond the rows: benchmarks/forecasts.py, from the smaller budget of a
# study to the larger one without a row of either size.
EXTRAPOLATION = 0.04
MOST_DOMAINS = 1000


@dataclass(frozen=True)
class Forecast:
    """A candidate with what is forecast for it.

    Attributes:
      bits_per_byte: median; 0 if unknown.
      intervals: {80: (low, high), 95: (low, high)}.
      best: the probability that it is the best of those that can be served.
    """

    candidate: Candidate
    bits_per_byte: float = 0.0
    intervals: dict[int, tuple[float, float]] = dataclasses.field(default_factory=dict)
    best: float = 0.0


@dataclass(frozen=True)
class Plan:
    """Forecasts, the best first, then the unknown ones, and what follows.

    Attributes:
      recommended: a method; "" if it is not known.
      alike: methods that cannot be told from it.
      once, each: the best of the methods that are pretrained once for all domains, and of those
        that are pretrained for each; "" if none is known.
      crossover: the number of domains from which on `once` is forecast better than `each` at this
        budget; None if it is not, up to MOST_DOMAINS, as far as forecasts are made.
      cheaper: the number of domains from which on `once` costs less than `each`, if one model reads
        as many tokens as the other; None if it never does.
    """

    asked: Asked
    forecasts: list[Forecast]
    recommended: str
    alike: list[str]
    once: str
    each: str
    crossover: int | None
    cheaper: int | None
    proxies: int


def plan(asked: Asked, proxies: Sequence[Row] = ()) -> Plan:
    """Forecasts for what is asked.

    Args:
      proxies: rows of the user's own small models, on the same domain.
    """
    found = candidates.all_of(asked)
    known = [one for one in found if not one.unknown]
    log_DxC = draws(known, asked, proxies) if known else np.zeros((DRAWS, 0))
    servable = [i for i, one in enumerate(known) if one.served]
    forecasts = [_forecast(one, log_D) for one, log_D in zip(known, log_DxC.T, strict=True)]
    if servable:
        winner_D = np.array(servable)[np.argmin(log_DxC[:, servable], axis=1)]
        forecasts = [
            dataclasses.replace(each, best=float(np.mean(winner_D == i)))
            for i, each in enumerate(forecasts)
        ]
    order = sorted(servable, key=lambda i: forecasts[i].bits_per_byte)
    sure = {i: float(np.mean(log_DxC[:, order[0]] < log_DxC[:, i])) for i in order[1:]}
    once, each = (_first(known, order, kind) for kind in (False, True))
    rest = [Forecast(one) for one in found if one.unknown]
    return Plan(
        asked=asked,
        forecasts=[*sorted(forecasts, key=lambda each: each.bits_per_byte), *rest],
        recommended=known[order[0]].method if order else "",
        alike=[known[i].method for i, probability in sure.items() if probability < SURE],
        once=once.method if once else "",
        each=each.method if each else "",
        crossover=_crossover(once, each, asked, proxies) if once and each else None,
        cheaper=_cheaper(once, each) if once and each else None,
        proxies=len(proxies),
    )


def draws(known: Sequence[Candidate], asked: Asked, proxies: Sequence[Row] = ()) -> np.ndarray:
    """ln L of every candidate, DRAWS times: [DRAWS, C]."""
    of = evidence.table()["laws"][asked.kind]
    spread, generator = of["spreads"], np.random.default_rng(SEED)
    theta_BxP = np.array(of["draws"])
    which_D = generator.integers(len(theta_BxP), size=DRAWS)
    rows = [_row(one, asked) for one in known]
    features = law.Features(rows, asked.kind)
    log_BxC = np.array([features.predicted(theta_P) for theta_P in theta_BxP])
    shared_B, shared, own_BxC = _learnt(rows, proxies, theta_BxP, asked.kind)
    degrees = DOMAINS_SEEN - 1
    noise_D = generator.normal(size=DRAWS) if proxies else generator.standard_t(degrees, size=DRAWS)
    setting_D = spread["setting"] * generator.normal(size=DRAWS)
    common_D = shared_B[which_D] + shared * noise_D + setting_D
    beyond_C = np.array([bool(one.beyond) for one in known], float)
    thin_C = np.array([one.studies == 1 for one in known], float)
    # All of a plan lies beyond the rows on the same side: what is wrong there is wrong alike, and
    # what methods are against each other is half as sure; likewise of a method with one study.
    away_DxC = EXTRAPOLATION * generator.normal(size=DRAWS)[:, None] * beyond_C
    own_C = spread["method"] * (1 + np.maximum(beyond_C, thin_C))
    apart_DxC = own_BxC[which_D] + own_C * generator.normal(size=(DRAWS, len(known)))
    return log_BxC[which_D] + common_D[:, None] + away_DxC + apart_DxC


def _learnt(
    rows: Sequence[Row], proxies: Sequence[Row], theta_BxP: np.ndarray, kind: str
) -> tuple[np.ndarray, float, np.ndarray]:
    """What the user's own models say of the effect that methods have in common and of each
    method's, as a normal prior and normal errors have it: (mean [B], deviation, mean [B, C]).
    """
    spread = evidence.table()["laws"][kind]["spreads"]
    shared_B, own_BxC = np.zeros(len(theta_BxP)), np.zeros((len(theta_BxP), len(rows)))
    if not proxies:
        return shared_B, spread["domain"], own_BxC
    features = law.Features(proxies, kind)
    error_BxN = features.log_bits_N - np.array([features.predicted(p) for p in theta_BxP])
    settings = {(row.params, row.tokens, row.specialist_bytes) for row in proxies}
    weight = len(settings) / (len(settings) + (spread["setting"] / spread["domain"]) ** 2)
    middle_B = np.median(error_BxN, axis=1)
    for i, row in enumerate(rows):
        same = [n for n, proxy in enumerate(proxies) if proxy.method == row.method]
        if same:
            apart_B = error_BxN[:, same].mean(axis=1) - middle_B
            own_BxC[:, i] = apart_B * len(same) / (len(same) + 1)
    return weight * middle_B, spread["domain"] * (1 - weight) ** 0.5, own_BxC


def _row(one: Candidate, asked: Asked) -> Row:
    return Row(
        study="",
        method=one.method,
        domain="",
        seed=0,
        params=round(one.params),
        tokens=round(one.tokens),
        repetitions=one.repetitions,
        specialist_bytes=round(asked.specialist_bytes),
        own=asked.own,
        mixed=asked.mixed or 1.0,
        learned=asked.learned,
        bits_per_byte=1.0,
    )


def _forecast(one: Candidate, log_D: np.ndarray) -> Forecast:
    bits_D = np.exp(log_D)
    sides = {level: np.percentile(bits_D, [50 - level / 2, 50 + level / 2]) for level in LEVELS}
    intervals = {level: (float(low), float(high)) for level, (low, high) in sides.items()}
    return Forecast(one, float(np.median(bits_D)), intervals)


def _first(known: Sequence[Candidate], order: Sequence[int], each: bool) -> Candidate | None:
    """The best of the methods that are pretrained for each domain, or of the others."""
    ranked = [known[i] for i in order]
    return next((c for c in ranked if (c.method in candidates.PER_DOMAIN) == each), None)


def _crossover(
    once: Candidate, each: Candidate, asked: Asked, proxies: Sequence[Row]
) -> int | None:
    for domains in range(1, MOST_DOMAINS + 1):
        at = dataclasses.replace(asked, domains=domains)
        pair = [candidates.of(one.method, at) for one in (once, each)]
        if not any(one.unknown for one in pair):
            of_once, of_each = _point(pair, at, proxies)
            if of_once < of_each:
                return domains
    return None


def _point(pair: Sequence[Candidate], asked: Asked, proxies: Sequence[Row]) -> np.ndarray:
    """ln L of each by the fitted law alone, but for what methods have in common."""
    theta_P = np.array(evidence.table()["laws"][asked.kind]["theta"])
    rows = [_row(one, asked) for one in pair]
    _, _, own_1xC = _learnt(rows, proxies, theta_P[None], asked.kind)
    return law.Features(rows, asked.kind).predicted(theta_P) + own_1xC[0]


def _cheaper(once: Candidate, each: Candidate) -> int | None:
    share = each.tokens / once.tokens
    return cost.crossover(each.costs, (share * once.generic, once.special))


def label(method: str) -> str:
    """For people."""
    return "an open checkpoint" if method == candidates.OPEN else methods.get(method).label
