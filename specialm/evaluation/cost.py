"""What a model cost: generic and specialisation cost apart, C(N), GPU hours, crossovers.

A checkpoint's `model.json` carries a ledger: one entry for every phase that led to it, teachers
included, with `tokens`, `flops`, `seconds` and, where there were several, `devices`. An entry that
names a `domain` was paid for that domain alone, be it pretraining on importance-sampled text; of
the others `pretrained` and `mini` (layers of a shallow model, for every vocabulary that is adapted
to) are generic, and every later phase is specialisation (our reading of the cost
columns of arXiv 2402.01093, section 4: SLM-is has no generic cost, SLM-d has the teacher's
pretraining in it).

What FLOPs count: the matrix products, a multiply-add as two, causal attention in full (the masked
half too), training as three times the forward pass without recomputation
(`transformer.flops_per_token`), early stopping's validation passes and those that choose an expert
as one. Element-wise work and the optimiser are left out; XLA's own count
has them, and exceeds ours by less than 5% where matrix products dominate.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from specialm.training.hardware import CHIPS

# What GPU hours are stated at: an A100's dense bf16 peak, of which 40% is reached. For comparison:
# the hours per 1B tokens in arXiv 2402.01093, section 4, come to 34% for its SLM, 56% for its LLM.
A100_FLOPS = CHIPS["NVIDIA A100"].flops
UTILISATION = 0.4
GENERIC_PHASES = ("pretrained", "mini")


@dataclass(frozen=True)
class Cost:
    """What was spent. Costs add up; `3 * cost` is the cost of doing it three times."""

    flops: float = 0
    tokens: float = 0  # windows * context, as trained on
    device_seconds: float = 0.0  # measured seconds times the devices that were busy

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(
            self.flops + other.flops,
            self.tokens + other.tokens,
            self.device_seconds + other.device_seconds,
        )

    def __rmul__(self, times: float) -> "Cost":
        return Cost(times * self.flops, times * self.tokens, times * self.device_seconds)


Costs = tuple[Cost, Cost]  # generic, specialisation for one domain


def generic(ledger: Iterable[dict]) -> Cost:
    """What is paid once, however many domains follow."""
    return _sum(entry for entry in ledger if _is_generic(entry))


def special(ledger: Iterable[dict]) -> Cost:
    """What is paid again for each domain."""
    return _sum(entry for entry in ledger if not _is_generic(entry))


def split(ledger: Sequence[dict]) -> Costs:
    """(generic, special) of a ledger."""
    return generic(ledger), special(ledger)


def total(generic: Cost, special: Cost, domains: int) -> Cost:
    """C(N) = C_generic + N C_special for N domains, as arXiv 2402.01093 counts cost."""
    return generic + domains * special


def gpu_hours(flops: float, flops_per_second: float = UTILISATION * A100_FLOPS) -> float:
    """Hours of one GPU at a stated throughput; by default 40% of an A100's 312e12 FLOP/s."""
    return flops / flops_per_second / 3600


def crossover(a: Costs, b: Costs, measure: str = "flops") -> int | None:
    """The number of domains N, at least 1, from which on b is cheaper than a; None if never.

    Args:
      measure: the field of `Cost` that is compared.
    """
    generic_a, special_a = (getattr(cost, measure) for cost in a)
    generic_b, special_b = (getattr(cost, measure) for cost in b)
    if special_b == special_a:
        return 1 if generic_b < generic_a else None
    if special_b > special_a:
        return None
    return max(1, int((generic_b - generic_a) // (special_a - special_b)) + 1)


def _is_generic(entry: dict) -> bool:
    return entry["phase"] in GENERIC_PHASES and not entry.get("domain")


def _sum(entries: Iterable[dict]) -> Cost:
    return sum(
        (
            Cost(entry["flops"], entry["tokens"], entry["seconds"] * entry.get("devices", 1))
            for entry in entries
        ),
        Cost(),
    )
