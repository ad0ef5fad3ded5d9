"""The law that forecasts follow: bits per byte after fine-tuning, and how it is fitted.

    ln L = ln(floor + excess) + method + positions + (importance) k ln(D / D0) + cell
    floor = exp(E) c^g            c: bits per byte of an n-gram model of the domain
    excess = exp(A) ((N / N0)^-a + exp(B) D0 / D')^b

The excess is arXiv 2001.08361, eq. 1.5: where parameters are the bottleneck, more tokens help
less. Chinchilla's sum of two powers (2203.15556, eq. 2) fits these rows worse: it says that 4 times
the tokens help a model of 62k parameters as much as one of 1.1M. The floor is the domain's: what
specialist text does, it does through c, which an n-gram model measures in seconds. D' is
2305.16264, eq. 5 with R*, fitted: U unique tokens read D / U times are worth less. `method` is one
number each, and importance sampling has a second one, k: its gain grows with D. `cell` is an effect
of each (study, domain), drawn to 0.

Fitted are the natural logarithms, with Huber's loss (as 2203.15556, section 3.3), and a normal
prior on every parameter, so that what the rows do not say stays where the prior has it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from specialm.planning.evidence import Row

PARAMS_0, TOKENS_0, EXCERPT_0 = 3e5, 5e6, 15.4  # N0, D0, and R* of arXiv 2305.16264
IMPORTANCE = "slm_is"
# A method without an effect of its own: the large model differs in N alone.
PLAIN = ("slm", "llm")
METHODS = ("slm_is", "slm_mix", "slm_pn", "slm_hn", "soup", "slm_d", "slm_mixed", "llm_lora")
SHARED = ("E", "g", "A", "a", "B", "b", "learned", "k", "R")
NAMES = (*SHARED, *METHODS)
# name: (mean, standard deviation) of the prior.
PRIOR = {
    "E": (-0.5, 3.0),
    "g": (1.0, 1.0),
    "A": (-1.0, 3.0),
    "a": (1.0, 0.5),
    "B": (0.0, 3.0),
    "b": (0.4, 0.2),
    "learned": (0.05, 1.0),
    "k": (0.0, 0.05),
    "R": (float(np.log(EXCERPT_0)), 0.5),
    **dict.fromkeys(METHODS, (0.0, 0.1)),
}
CELL = 0.03  # standard deviation of the effects of (study, domain)
NOISE, HUBER = 0.01, 1.5  # of ln L between seeds; from how many of these on a residual is large


@dataclass(frozen=True)
class Law:
    """A fitted law.

    Attributes:
      theta_l: parameters in the order of `NAMES`.
      cells: (study, domain) -> effect.
    """

    theta_l: np.ndarray
    cells: dict[tuple[str, str], float]


def unique_worth(tokens_N: np.ndarray, repetitions_N: np.ndarray, excess: float) -> np.ndarray:
    """D': tokens read, as many unique ones as they are worth (arXiv 2305.16264, eq. 5).

    Args:
      repetitions_N: how often a window is read; up to 1 nothing is lost.
      excess: R*, repetitions after which another one is worth 1/e of a fresh token.
    """
    unique_N = tokens_N / np.maximum(repetitions_N, 1.0)
    again_N = np.maximum(repetitions_N, 1.0) - 1
    return unique_N * (1 + excess * (1 - np.exp(-again_N / excess)))


class Features:
    """Rows as arrays.

    Args:
      kind: the n-gram figure that c is: own or mixed.
    """

    def __init__(self, rows: Sequence[Row], kind: str):
        self.log_params_N = np.log([row.params / PARAMS_0 for row in rows])
        self.tokens_N = np.array([row.tokens for row in rows], float)
        self.repetitions_N = np.array([row.repetitions for row in rows])
        self.log_c_N = np.log([getattr(row, kind) for row in rows])
        self.learned_N = np.array([row.learned for row in rows], float)
        self.method_Nxa = np.array([[row.method == m for m in METHODS] for row in rows], float)
        self.cells = [(row.study, row.domain) for row in rows]
        self.log_bits_N = np.log([row.bits_per_byte for row in rows])

    def predicted(self, theta_l: np.ndarray) -> np.ndarray:
        """ln L of every row, without the effects of cells."""
        at = dict(zip(SHARED, theta_l, strict=False))
        worth_N = unique_worth(self.tokens_N, self.repetitions_N, np.exp(at["R"]))
        short_N = np.exp(-at["a"] * self.log_params_N) + np.exp(at["B"]) * TOKENS_0 / worth_N
        total_N = np.exp(at["E"] + at["g"] * self.log_c_N) + np.exp(at["A"]) * short_N ** at["b"]
        grows_N = self.method_Nxa[:, METHODS.index(IMPORTANCE)] * np.log(self.tokens_N / TOKENS_0)
        return (
            np.log(total_N)
            + at["learned"] * self.learned_N
            + self.method_Nxa @ theta_l[len(SHARED) :]
            + at["k"] * grows_N
        )


def fit(rows: Sequence[Row], kind: str, start_l: np.ndarray | None = None) -> Law:
    """The law of some rows.

    Args:
      kind: own or mixed, see `Features`.
      start_l: where the search begins; None for the prior's mean.
    """
    from scipy.optimize import least_squares

    features = Features(rows, kind)
    names = sorted(set(features.cells))
    place_N = np.array([names.index(cell) for cell in features.cells])
    prior_mean_l, prior_deviation_l = (np.array([PRIOR[name][i] for name in NAMES]) for i in (0, 1))
    mean_l = np.concatenate([prior_mean_l, np.zeros(len(names))])
    deviation_l = np.concatenate([prior_deviation_l, np.full(len(names), CELL)])
    count = len(NAMES)

    def residuals(v_l: np.ndarray) -> np.ndarray:
        error_N = features.predicted(v_l[:count]) + v_l[count:][place_N] - features.log_bits_N
        return np.concatenate([error_N / NOISE, (v_l - mean_l) / deviation_l])

    begin_l = mean_l.copy()
    if start_l is not None:
        begin_l[:count] = start_l
    found_l = least_squares(residuals, begin_l, loss="huber", f_scale=HUBER, max_nfev=500).x
    return Law(found_l[:count], dict(zip(names, found_l[count:].tolist(), strict=True)))


def log_bits(law: Law, rows: Sequence[Row], kind: str) -> np.ndarray:
    """ln L that a law says of rows, with the effects of the cells that it knows."""
    features = Features(rows, kind)
    cell_N = np.array([law.cells.get(cell, 0.0) for cell in features.cells])
    return features.predicted(law.theta_l) + cell_N


def bootstrap(rows: Sequence[Row], kind: str, draws: int, seed: int) -> np.ndarray:
    """Parameters [draws, len(NAMES)] fitted to rows of (study, domain) cells, drawn with
    replacement: rows of a cell have text and settings in common and are not independent.
    """
    by_cell: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        by_cell.setdefault((row.study, row.domain), []).append(row)
    cells, generator = list(by_cell.values()), np.random.default_rng(seed)
    start_l = fit(rows, kind).theta_l
    found = []
    for _ in range(draws):
        drawn = generator.integers(len(cells), size=len(cells))
        again = [row for i in drawn for row in cells[i]]
        found.append(fit(again, kind, start_l).theta_l)
    return np.array(found)


def spreads(rows: Sequence[Row], kind: str) -> dict[str, float]:
    """What a forecast is wrong by, as standard deviations of ln L.

    Returns:
      domain: of what all methods have in common on a domain that the law was not fitted to, over
        the domains, each left out once.
      setting: of what all methods have in common at one size, budget and specialist set, within
        the cells that the law was fitted to.
      method: of one method against the mean of all at the same setting, seed by seed.
    """
    left_out = []
    for domain in sorted({row.domain for row in rows}):
        known = fit([row for row in rows if row.domain != domain], kind)
        new = [row for row in rows if row.domain == domain]
        error_N = log_bits(known, new, kind) - np.log([row.bits_per_byte for row in new])
        left_out.append(float(np.median(error_N)))
    error_N = log_bits(fit(rows, kind), rows, kind) - np.log([row.bits_per_byte for row in rows])
    groups: dict[tuple, list[float]] = {}
    for row, error in zip(rows, error_N, strict=True):
        at = (row.study, row.domain, row.params, round(row.tokens, -5), row.specialist_bytes)
        groups.setdefault(at, []).append(float(error))
    means = np.array([np.mean(each) for each in groups.values()])
    apart = np.concatenate([np.array(each) - np.mean(each) for each in groups.values()])
    degrees = len(apart) - len(groups)
    return {
        "domain": float(np.sqrt(np.mean(np.square(left_out)))),
        "setting": float(np.sqrt(np.mean(means**2))),
        "method": float(np.sqrt(np.sum(apart**2) / degrees)),
    }
