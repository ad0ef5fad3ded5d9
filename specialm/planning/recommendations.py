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
    log_oxa = draws(known, asked, proxies) if known else np.zeros((DRAWS, 0))
    servable = [i for i, one in enumerate(known) if one.served]
    forecasts = [_forecast(one, log_o) for one, log_o in zip(known, log_oxa.T, strict=True)]
    if servable:
        winner_o = np.array(servable)[np.argmin(log_oxa[:, servable], axis=1)]
        forecasts = [
            dataclasses.replace(each, best=float(np.mean(winner_o == i)))
            for i, each in enumerate(forecasts)
        ]
    order = sorted(servable, key=lambda i: forecasts[i].bits_per_byte)
    sure = {i: float(np.mean(log_oxa[:, order[0]] < log_oxa[:, i])) for i in order[1:]}
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
    """ln L of every candidate, DRAWS times: [DRAWS, candidates]."""
    found_oxa = np.zeros((DRAWS, len(known)))
    by_law = [i for i, one in enumerate(known) if not one.measured]
    if by_law:
        found_oxa[:, by_law] = _law_draws([known[i] for i in by_law], asked, proxies)
    ngram_bits, generator = getattr(asked, asked.kind), np.random.default_rng([SEED, 1])
    for i, one in enumerate(known):
        if one.measured:
            away_o = EXTRAPOLATION * generator.normal(size=DRAWS) * bool(one.beyond)
            found_oxa[:, i] = one.measured.draws(ngram_bits, DRAWS, generator) + away_o
    return found_oxa


def _law_draws(known: Sequence[Candidate], asked: Asked, proxies: Sequence[Row]) -> np.ndarray:
    """Those that the law forecasts."""
    of = evidence.table()["laws"][asked.kind]
    spread, generator = of["spreads"], np.random.default_rng(SEED)
    theta_uxl = np.array(of["draws"])
    which_o = generator.integers(len(theta_uxl), size=DRAWS)
    rows = [_row(one, asked) for one in known]
    features = law.Features(rows, asked.kind)
    log_uxa = np.array([features.predicted(theta_l) for theta_l in theta_uxl])
    shared_u, shared, own_uxa = _learnt(rows, proxies, theta_uxl, asked.kind)
    degrees = DOMAINS_SEEN - 1
    noise_o = generator.normal(size=DRAWS) if proxies else generator.standard_t(degrees, size=DRAWS)
    setting_o = spread["setting"] * generator.normal(size=DRAWS)
    common_o = shared_u[which_o] + shared * noise_o + setting_o
    beyond_a = np.array([bool(one.beyond) for one in known], float)
    thin_a = np.array([one.studies == 1 for one in known], float)
    # All of a plan lies beyond the rows on the same side: what is wrong there is wrong alike, and
    # what methods are against each other is half as sure; likewise of a method with one study.
    away_oxa = EXTRAPOLATION * generator.normal(size=DRAWS)[:, None] * beyond_a
    own_a = spread["method"] * (1 + np.maximum(beyond_a, thin_a))
    apart_oxa = own_uxa[which_o] + own_a * generator.normal(size=(DRAWS, len(known)))
    return log_uxa[which_o] + common_o[:, None] + away_oxa + apart_oxa


def _learnt(
    rows: Sequence[Row], proxies: Sequence[Row], theta_uxl: np.ndarray, kind: str
) -> tuple[np.ndarray, float, np.ndarray]:
    """What the user's own models say of the effect that methods have in common and of each
    method's, as a normal prior and normal errors have it: (mean [u], deviation, mean [u, a]).
    """
    spread = evidence.table()["laws"][kind]["spreads"]
    shared_u, own_uxa = np.zeros(len(theta_uxl)), np.zeros((len(theta_uxl), len(rows)))
    if not proxies:
        return shared_u, spread["domain"], own_uxa
    features = law.Features(proxies, kind)
    error_uxN = features.log_bits_N - np.array([features.predicted(p) for p in theta_uxl])
    settings = {(row.params, row.tokens, row.specialist_bytes) for row in proxies}
    weight = len(settings) / (len(settings) + (spread["setting"] / spread["domain"]) ** 2)
    middle_u = np.median(error_uxN, axis=1)
    for i, row in enumerate(rows):
        same = [n for n, proxy in enumerate(proxies) if proxy.method == row.method]
        if same:
            apart_u = error_uxN[:, same].mean(axis=1) - middle_u
            own_uxa[:, i] = apart_u * len(same) / (len(same) + 1)
    return weight * middle_u, spread["domain"] * (1 - weight) ** 0.5, own_uxa


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


def _forecast(one: Candidate, log_o: np.ndarray) -> Forecast:
    bits_o = np.exp(log_o)
    sides = {level: np.percentile(bits_o, [50 - level / 2, 50 + level / 2]) for level in LEVELS}
    intervals = {level: (float(low), float(high)) for level, (low, high) in sides.items()}
    return Forecast(one, float(np.median(bits_o)), intervals)


def _first(known: Sequence[Candidate], order: Sequence[int], each: bool) -> Candidate | None:
    """The best of the methods that are pretrained for each domain, or of the others; an open
    checkpoint's pretraining was paid by others.
    """
    ranked = [known[i] for i in order if not known[i].measured]
    return next((c for c in ranked if candidates.OFFERS[c.method].each == each), None)


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
    theta_l = np.array(evidence.table()["laws"][asked.kind]["theta"])
    rows = [_row(one, asked) for one in pair]
    _, _, own_1xa = _learnt(rows, proxies, theta_l[None], asked.kind)
    return law.Features(rows, asked.kind).predicted(theta_l) + own_1xa[0]


def _cheaper(once: Candidate, each: Candidate) -> int | None:
    share = each.tokens / once.tokens
    return cost.crossover(each.costs, (share * once.generic, once.special))


def label(method: str) -> str:
    """For people."""
    offer = candidates.OFFERS.get(method)
    return offer.label if offer and offer.label else methods.get(method).label
