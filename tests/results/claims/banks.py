"""Banks and mixtures, and what a step of theirs takes on TPUs."""

import numpy as np

from benchmarks import bank_updates, scaling
from benchmarks.intervals import interval
from claims.claim import (
    BANK,
    DOMAINS,
    FRONT,
    RESULTS,
    ROOT,
    Claim,
    N,
    both,
    gains,
    of,
    positive,
    spread,
)


def bank_bits(method: str) -> list[float]:
    """Change of bits per byte against slm, per cent, and half of its 95% interval."""
    return interval(gains(BANK, method, "finetuned", "bits_per_byte"))


def projected_gain(phase: str) -> list[float]:
    """How far a projected network is below the dense model, per cent, and half of its interval;
    five seeds.
    """
    ours, dense = (
        np.array(of("bank/updates.jsonl", phase, form=form))
        for form in (bank_updates.PLAIN, bank_updates.DENSE)
    )
    assert len(ours) == len(dense) == 5 and (ours < dense).all()
    return interval(100 * (1 - ours / dense))


def bank_ratio(topology: str, windows: int = 16) -> float:
    """A projected network's estimated step against the dense model's."""
    slices = scaling.read(ROOT / "results" / "scaling" / "slices.jsonl")
    pn, slm = (slices[name, topology, windows]["step_seconds"] for name in ("slm_pn", "slm"))
    return pn / slm


def below_cells(method: str) -> list[float]:
    """In how many seeds and domains a method is below slm, and how many there are."""
    pairs = [
        (ours, base)
        for domain in DOMAINS
        for ours, base in zip(
            *(of(BANK, method=m, phase="finetuned", domain=domain) for m in (method, "slm")),
            strict=True,
        )
    ]
    return [sum(ours < base for ours, base in pairs), len(pairs)]


CLAIMS = (
    Claim(
        FRONT,
        rf"projected network had {N}% ± {N} lower macro-averaged perplexity than the small model "
        rf"after fine-tuning, the soup {N}% ± {N}",
        both(
            lambda: positive(spread(gains(BANK, "slm_pn", "finetuned"))),
            lambda: positive(spread(gains(BANK, "soup", "finetuned"))),
        ),
    ),
    Claim(
        FRONT,
        rf"In bits per byte the network's gain is {N}%, with a 95% interval of ± {N} over five",
        lambda: projected_gain("after"),
    ),
    Claim(
        RESULTS,
        rf"Projected networks take {N}% off at an equal budget of generic tokens \| ± {N}, five seeds",
        lambda: projected_gain("after"),
    ),
    Claim(
        RESULTS,
        rf"needs {N}% ± {N} fewer bits than the dense model after fine-tuning, {N}% ± {N} before it: five",
        lambda: [*projected_gain("after"), *projected_gain("before")],
    ),
    Claim(
        RESULTS,
        rf"Soup-of-Experts takes {N}% off at an equal budget of generic tokens, hard mixtures {N}% "
        rf"\| ± {N}, ± {N}, three seeds",
        lambda: [
            -bank_bits("soup")[0],
            -bank_bits("slm_mix")[0],
            bank_bits("soup")[1],
            bank_bits("slm_mix")[1],
        ],
    ),
    Claim(
        RESULTS,
        rf"Hyper-networks \({N}% ± {N}\) are not shown",
        lambda: positive(bank_bits("slm_hn")),
    ),
    Claim(
        RESULTS,
        rf"`slm_pn` by {N}%, {N}% and {N}% after it, `soup` by {N}%, {N}% and {N}%, `slm_mix` by "
        rf"{N}%, {N}% and {N}%, `slm_hn` by {N}%, {N}% and {N}%\.",
        lambda: [
            -value
            for method in ("slm_pn", "soup", "slm_mix", "slm_hn")
            for value in gains(BANK, method, "finetuned")
        ],
    ),
    Claim(
        RESULTS,
        rf"`slm_pn` and `soup` are below in {N} of {N} seed x domain cells",
        lambda: below_cells("slm_pn"),
    ),
    Claim(
        RESULTS,
        rf"The projected network's perplexity varies least between seeds \({N} against SLM's {N}\)",
        lambda: [
            spread(of(BANK, method=m, phase="finetuned", domain="macro"))[1]
            for m in ("slm_pn", "slm")
        ],
    ),
    Claim(
        RESULTS,
        rf"their gains are larger than seed 0's for `slm_pn` and `soup`, smaller for `slm_mix` in "
        rf"seed 2 \({N}% against {N}%\) and for `slm_hn` in seed 1 \({N}% against {N}%\)",
        lambda: [
            -gains(BANK, "slm_mix", "finetuned")[2],
            -gains(BANK, "slm_mix", "finetuned")[0],
            -gains(BANK, "slm_hn", "finetuned")[1],
            -gains(BANK, "slm_hn", "finetuned")[0],
        ],
    ),
    Claim(
        RESULTS,
        rf"step is estimated at {N} of the dense\s+one's on v5p:4x4x4, {N} on v5e:16x16, {N} on v6e:4x4",
        lambda: [bank_ratio(topology) for topology in ("v5p:4x4x4", "v5e:16x16", "v6e:4x4")],
    ),
)
