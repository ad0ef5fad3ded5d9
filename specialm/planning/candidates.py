"""What a budget buys: for each method how many tokens it may read, and what that costs.

C(N) = C_generic + N C_special as in `evaluation/cost.py`, all of the budget is spent by every
method, and a token of pretraining costs 6 FLOPs a parameter (arXiv 2001.08361, section 2.1), times
what the committed study measured for the method against the small model. What goes on from an open
checkpoint costs what its rows did (`open_rows.py`), which may be less than the budget.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from specialm import methods
from specialm.evaluation import cost
from specialm.evaluation.cost import Cost
from specialm.planning import evidence, law, open_rows


@dataclass(frozen=True)
class Offer:
    """What a plan compares.

    Attributes:
      method: its name, in rows too.
      each: whether a model is pretrained again for each domain.
      models: that are trained with the tokens of one: 2 with a teacher.
      label: for people; "" for the method's own.
      open: whether it goes on from an open checkpoint.
    """

    method: str
    each: bool = False
    models: int = 1
    label: str = ""
    open: bool = False


OFFERS = {
    offer.method: offer
    for offer in (
        Offer("slm"),
        Offer("slm_is", each=True),
        Offer("slm_pn"),
        Offer("slm_mix"),
        Offer("soup"),
        Offer("slm_mixed", each=True),
        Offer("slm_d", models=2),  # the large model takes as much again
        Offer("llm"),
        Offer("llm_lora"),
        Offer("open_ft", each=True, label="open, fine-tuned", open=True),
        Offer("open_lora", each=True, label="open, LoRA", open=True),
        Offer("open_is", each=True, label="open, weighted", open=True),
        Offer("open_mixed", each=True, label="open, mixed", open=True),
        Offer("small_is", each=True, label="open, cut down", open=True),
        Offer("small_taught", each=True, label="open, distilled", open=True),
    )
}
MAX_REPETITIONS = 8  # clustering.max_repetitions
FACTOR = 4  # times beyond the rows: a forecast that is not made any more
NEAR_BITS = 1.25  # likewise, of bits per byte
BYTES_PER_PARAMETER = 4  # float32, as models are stored
SAME_SIZE = 1.1  # times the size that was asked for: a model that can be served
REPETITIONS = "repetitions of the text"
Range = tuple[str, float, Sequence[float], float]  # what, value, those of the rows, how far is far


@dataclass(frozen=True)
class Asked:
    """What a plan is asked for.

    Attributes:
      params: of the served model.
      domains: N.
      budget: FLOPs of all domains together.
      generic_tokens: different tokens of the generic text.
      specialist_bytes: training text of one domain.
      own, mixed: bits per byte of the n-gram models on it; mixed 0 if there is no generic text.
      learned: whether positions are learned.
    """

    params: float
    domains: int
    budget: float
    generic_tokens: float
    specialist_bytes: float
    own: float
    mixed: float = 0.0
    learned: bool = False

    @property
    def kind(self) -> str:
        """Which law: own or mixed."""
        return "mixed" if self.mixed else "own"


@dataclass(frozen=True)
class Candidate:
    """One method at the budget.

    Attributes:
      params: of the model that is served.
      tokens: pretraining tokens of one model.
      repetitions: of a drawn window, expected.
      generic, special: what is paid once, and for each domain.
      served: whether it is of the size that was asked for.
      unknown: why no forecast is made; () if one is.
      beyond: what is outside of the rows, but not far.
      studies: that have rows of the method.
      measured: what rows of open checkpoints say; None for what the law forecasts.
    """

    method: str
    params: float = 0
    tokens: float = 0
    repetitions: float = 0
    generic: Cost = Cost()
    special: Cost = Cost()
    served: bool = True
    unknown: tuple[str, ...] = ()
    beyond: tuple[str, ...] = ()
    studies: int = 0
    measured: open_rows.Measured | None = None

    @property
    def costs(self) -> cost.Costs:
        """(generic, special)."""
        return self.generic, self.special


def all_of(asked: Asked) -> list[Candidate]:
    """Everything that is offered."""
    return [of(method, asked) for method in OFFERS]


def of(method: str, asked: Asked) -> Candidate:
    """One method at the budget."""
    return _from_open(method, asked) if OFFERS[method].open else _from_law(method, asked)


def _from_law(method: str, asked: Asked) -> Candidate:
    offer, costs, served = OFFERS[method], evidence.table()["costs"], not methods.get(method).large
    params = asked.params * (1 if served else costs["large"])
    per_token = 6 * asked.params * costs["pretraining"].get(method, costs["pretraining"]["slm_pn"])
    finetuned = costs["passes"] * asked.specialist_bytes / evidence.BYTES_PER_TOKEN
    factor = costs["special"].get(method, 1.0)
    special = Cost(factor * finetuned * 6 * asked.params, finetuned)
    left = asked.budget - asked.domains * special.flops
    models = asked.domains if offer.each else 1
    tokens = left / models / (offer.models * per_token)
    if tokens <= 0:
        spent = f"fine-tuning alone takes {asked.domains * special.flops:.2g} FLOPs"
        return Candidate(method, params, special=special, served=served, unknown=(spent,))
    repetitions = tokens / asked.generic_tokens
    if method == law.IMPORTANCE:
        repetitions = min(repetitions / costs["effective_fraction"], MAX_REPETITIONS)
        repetitions = max(repetitions, tokens / asked.generic_tokens)
    pretraining = Cost(left / models, tokens)
    far, near = outside(method, params, tokens, repetitions, asked)
    return Candidate(
        method=method,
        params=params,
        tokens=tokens,
        repetitions=repetitions,
        generic=Cost() if offer.each else pretraining,
        special=special + pretraining if offer.each else special,
        served=served,
        unknown=far,
        beyond=near,
        studies=len({row.study for row in evidence.rows() if row.method == method}),
    )


def _from_open(method: str, asked: Asked) -> Candidate:
    """The best of its rows' budgets that is within the one asked for."""
    found = open_rows.measured(method, asked.kind)
    if not found:
        return Candidate(method, served=False, unknown=(f"no committed rows of {method}",))
    within = [one for one in found if asked.domains * one.flops <= asked.budget]
    one = min(within or found, key=lambda one: one.log_ratio if within else one.flops)
    far, near = _ranges(_of_text(one.text, asked))
    if not within:
        spent = f"it takes {asked.domains * one.flops:.2g} FLOPs"
        far = (spent, *far)
    return Candidate(
        method=method,
        params=one.params,
        tokens=one.tokens,
        special=Cost(one.flops, one.tokens, one.seconds),
        served=one.served_bytes <= SAME_SIZE * BYTES_PER_PARAMETER * asked.params,
        unknown=far,
        beyond=near,
        studies=1,
        measured=one,
    )


def outside(
    method: str, params: float, tokens: float, repetitions: float, asked: Asked
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(what is more than FACTOR outside of the method's rows, what is less), named with its range.

    For N and D all rows count: a law in common says what they do.
    """
    known = evidence.rows()
    own = [row for row in known if row.method == method]
    if not own:
        return (f"no committed rows of {method}",), ()
    return _ranges(
        [
            ("inference_params", params, [row.params for row in known], FACTOR),
            ("pretraining tokens", tokens, [row.tokens for row in known], FACTOR),
            (REPETITIONS, repetitions, [row.repetitions for row in known], FACTOR),
            *_of_text([(row.specialist_bytes, getattr(row, asked.kind)) for row in known], asked),
        ]
    )


def _of_text(known: Sequence[tuple[int, float]], asked: Asked) -> list[Range]:
    """Of the specialist text: its bytes, and those of an n-gram model of it.

    Args:
      known: both of every row.
    """
    sizes, bits = zip(*known, strict=True)
    return [
        ("bytes of specialist text", asked.specialist_bytes, sizes, FACTOR),
        ("bits per byte of the n-gram model", getattr(asked, asked.kind), bits, NEAR_BITS),
    ]


def _ranges(asked_of: Sequence[Range]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    far: list[str] = []
    near: list[str] = []
    for name, value, there, factor in asked_of:
        low, high = min(there), max(there)
        if not low <= value <= high:
            if name == REPETITIONS and value < low:
                continue  # less is no risk
            text = f"{name} {_shown(value)} (rows: {_shown(low)} to {_shown(high)})"
            (near if low / factor <= value <= high * factor else far).append(text)
    return tuple(far), tuple(near)


def _shown(value: float) -> str:
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"
