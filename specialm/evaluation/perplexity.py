"""Result rows: perplexity and bits per byte per domain on held-out documents, and their macro."""

from collections.abc import Mapping

import numpy as np

from specialm.training.scoring import Score


def row(
    method: str,
    domain: str,
    phase: str,
    seed: int,
    train_tokens: int,
    nll_per_token: float,
    bits_per_byte: float,
) -> dict:
    """One line of results.jsonl. `nll_per_token` in nats."""
    return {
        "method": method,
        "domain": domain,
        "phase": phase,
        "seed": seed,
        "train_tokens": train_tokens,
        "nll_per_token": nll_per_token,
        "perplexity": float(np.exp(nll_per_token)),
        "bits_per_byte": bits_per_byte,
    }


def macro(rows: list[dict]) -> dict:
    """The macro row of one method, phase and seed.

    Perplexity is exp(mean over domains of the mean NLL per token), [G] section 4 (methods.md
    section 3); bits per byte are averaged over domains.

    Raises:
      ValueError: the rows belong to several methods, phases or seeds.
    """
    kinds = {(r["method"], r["phase"], r["seed"]) for r in rows}
    if len(kinds) != 1:
        raise ValueError(f"rows of {len(kinds)} kinds: {sorted(kinds)}")
    ((method, phase, seed),) = kinds
    return row(
        method,
        "macro",
        phase,
        seed,
        rows[0]["train_tokens"],
        float(np.mean([r["nll_per_token"] for r in rows])),
        float(np.mean([r["bits_per_byte"] for r in rows])),
    )


def rows(
    method: str, phase: str, seed: int, train_tokens: int, scores: Mapping[str, Score]
) -> list[dict]:
    """Rows of {domain: score}, the macro row last."""
    made = [
        row(method, domain, phase, seed, train_tokens, s.nll_per_token, s.bits_per_byte)
        for domain, s in scores.items()
    ]
    return [*made, macro(made)]
