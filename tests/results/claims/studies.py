"""Every baseline at equal cost."""

from functools import cache

from claims.claim import RESULTS, Claim, N, both, positive, rows, spread
from specialm.reports import equal_cost
from specialm.reports.study_rows import Study

SMALL, LARGE, LONG, SHORT = 10_000, 100_000, 16_000_000, 4_000_000


@cache
def study() -> Study:
    return Study(rows("study/results.jsonl"))


def study_change(method: str, size: int = SMALL, base: str = "slm") -> list[float]:
    """Per cent, mean and deviation over the seeds."""
    found = study().change(method, budget=LONG, size=size, base=base)
    return spread([100 * value for value in found.values()])


def study_cell(method: str, size: int = SMALL, budget: int = LONG) -> float:
    return study().cell(method, budget=budget, size=size).mean


def at_cost(method: str, budget: int, domains: int) -> list[float]:
    """Per cent against slm at the same C(N), with 10k tokens."""
    found = equal_cost.change(study(), method, budget, domains, SMALL)
    assert found is not None, (method, domains)
    return [100 * found.mean, 100 * found.sd]


def variant(method: str, text: str) -> float:
    where = dict(budget=SHORT, size=SMALL, variant=text)
    return study().values(method, **where)[0]


def first_seed(method: str) -> float:
    return study().values(method, budget=SHORT, size=SMALL)[0]


CLAIMS = (
    Claim(
        RESULTS,
        rf"{N}% ± {N} below SLM and {N}% ± {N} below the five times larger LLM",
        both(
            lambda: positive(study_change("slm_is")),
            lambda: positive(study_change("slm_is", base="llm")),
        ),
    ),
    Claim(
        RESULTS,
        rf"it has lost its lead over the LLM \({N} against {N}\) and a third of that over SLM "
        rf"\({N}% ± {N}\)",
        lambda: [
            study_cell("slm_is", LARGE),
            study_cell("llm", LARGE),
            *positive(study_change("slm_is", LARGE)),
        ],
    ),
    Claim(
        RESULTS,
        rf"by {N}% ± {N} and {N}% ± {N} with 10k tokens, in both seeds; at 4M tokens SLM-pn does "
        rf"not \({N} against {N}\), SLM-mix does by {N}%",
        lambda: [
            *positive(study_change("slm_pn")),
            *positive(study_change("slm_mix")),
            study_cell("slm_pn", budget=SHORT),
            study_cell("slm", budget=SHORT),
            100 * (1 - study_cell("slm_mix", budget=SHORT) / study_cell("slm", budget=SHORT)),
        ],
    ),
    Claim(
        RESULTS,
        rf"for one domain SLM-is is {N}% ± {N} below SLM at the same C\(1\); for three it is "
        rf"{N}% ± {N} above SLM at the same C\(3\), and SLM-pn and SLM-mix are {N}% and {N}% below",
        lambda: [
            *positive(at_cost("slm_is", LONG, 1)),
            *at_cost("slm_is", SHORT, 3),
            -at_cost("slm_pn", LONG, 3)[0],
            -at_cost("slm_mix", LONG, 3)[0],
        ],
    ),
    Claim(
        RESULTS,
        rf"against SLM-is {N}, SLM-mix {N}, SLM-pn {N}, SLM {N}\): SLM-is with 16 / 64 / 1,024 "
        rf"clusters {N} / {N} / {N}:",
        lambda: [
            *(first_seed(m) for m in ("slm_is", "slm_mix", "slm_pn", "slm")),
            *(variant("slm_is", f"clustering.k={k}") for k in (16, 64, 1024)),
        ],
    ),
)
