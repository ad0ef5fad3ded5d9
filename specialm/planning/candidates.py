"""What a budget buys: for each method how many tokens it may read, and what that costs.

C(N) = C_generic + N C_special as in `evaluation/cost.py`, all of the budget is spent by every
method, and a token of pretraining costs 6 FLOPs a parameter (arXiv 2001.08361, section 2.1), times
what the committed study measured for the method against the small model.
"""

from dataclasses import dataclass

from specialm import methods
from specialm.evaluation import cost
from specialm.evaluation.cost import Cost
from specialm.planning import evidence, law

OFFERED = ("slm", "slm_is", "slm_pn", "slm_mix", "soup", "slm_mixed", "slm_d", "llm", "llm_lora")
PER_DOMAIN = ("slm_is", "slm_mixed")  # pretrained again for each domain
OPEN = "open"  # fine-tuning an open checkpoint: no study has rows of one
MAX_REPETITIONS = 8  # clustering.max_repetitions
FACTOR = 4  # times beyond the rows: a forecast that is not made any more


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

    @property
    def costs(self) -> cost.Costs:
        """(generic, special)."""
        return self.generic, self.special


def all_of(asked: Asked) -> list[Candidate]:
    """Every method that is offered, and fine-tuning an open checkpoint."""
    nobody = Candidate(OPEN, unknown=("no committed rows of open checkpoints",), served=False)
    return [*(of(method, asked) for method in OFFERED), nobody]


def of(method: str, asked: Asked) -> Candidate:
    """One method at the budget."""
    costs, served = evidence.table()["costs"], not methods.get(method).large
    params = asked.params * (1 if served else costs["large"])
    per_token = 6 * asked.params * costs["pretraining"].get(method, costs["pretraining"]["slm_pn"])
    finetuned = costs["passes"] * asked.specialist_bytes / evidence.BYTES_PER_TOKEN
    factor = costs["special"].get(method, 1.0)
    special = Cost(factor * finetuned * 6 * asked.params, finetuned)
    left = asked.budget - asked.domains * special.flops
    per_domain = method in PER_DOMAIN
    models = asked.domains if per_domain else 1
    teacher = 2 if method == "slm_d" else 1  # the large model takes as much again
    tokens = left / models / (teacher * per_token)
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
        generic=Cost() if per_domain else pretraining,
        special=special + pretraining if per_domain else special,
        served=served,
        unknown=far,
        beyond=near,
        studies=len({row.study for row in evidence.rows() if row.method == method}),
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
    bits = [getattr(row, asked.kind) for row in known]
    asked_of = (
        ("inference_params", params, [row.params for row in known], FACTOR),
        ("pretraining tokens", tokens, [row.tokens for row in known], FACTOR),
        ("repetitions of the text", repetitions, [row.repetitions for row in known], FACTOR),
        ("bytes of specialist text", asked.specialist_bytes, _bytes(known), FACTOR),
        ("bits per byte of the n-gram model", getattr(asked, asked.kind), bits, 1.25),
    )
    far: list[str] = []
    near: list[str] = []
    for name, value, there, factor in asked_of:
        low, high = min(there), max(there)
        if not low <= value <= high:
            if name == "repetitions of the text" and value < low:
                continue  # less is no risk
            text = f"{name} {_shown(value)} (rows: {_shown(low)} to {_shown(high)})"
            (near if low / factor <= value <= high * factor else far).append(text)
    return tuple(far), tuple(near)


def _bytes(rows: list[evidence.Row]) -> list[int]:
    return [row.specialist_bytes for row in rows]


def _shown(value: float) -> str:
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"
