"""Importance sampling: the demo, the recipe, repetition, encoders."""

import numpy as np

from benchmarks import recipe_table, repetition_table
from benchmarks.intervals import interval
from claims.claim import DEMO, FRONT, RESULTS, Claim, N, both, gains, of, positive, rows, spread
from specialm.evaluation.perplexity import MACRO


def recipe_bits(method: str, name: str = "results", seed: int | None = None) -> float:
    """Of the demo by the recipe, macro average after fine-tuning, of a seed or the mean over all."""
    found = recipe_table.bits(rows(f"recipe/{name}.jsonl"), method, "finetuned", MACRO)
    return float(found.mean() if seed is None else found[seed])


def recipe_gain(name: str) -> float:
    """Change by importance sampling, per cent."""
    return float(recipe_table.gain(rows(f"recipe/{name}.jsonl"), "slm_is").mean())


def below_ngrams(method: str, name: str) -> float:
    """How far a method is below the n-grams of all text, per cent."""
    return 100 * (1 - recipe_bits(method, name) / recipe_bits("ngram", name))


def served(method: str) -> float:
    """Megabytes, of the demo by the recipe."""
    where = {"method": method, "domain": MACRO, "phase": "finetuned", "seed": 0}
    return of("recipe/results.jsonl", "served_bytes", **where)[0] / 1e6


def costs_more() -> float:
    """What three domains cost with importance sampling, over what they cost without."""
    own = rows("recipe/results.jsonl")
    return recipe_table.cost(own, "slm_is", 3) / recipe_table.cost(own, "slm", 3)


def demo_gain(phase: str) -> list[float]:
    return [-gains(DEMO, "slm_is", phase).mean()]


def demo_bits(phase: str) -> list[float]:
    return [-gains(DEMO, "slm_is", phase, "bits_per_byte").mean()]


def tuning_takes() -> list[float]:
    """Least and most that fine-tuning takes off a macro perplexity, per cent, over all seeds."""
    taken = [
        100 * (1 - after / before)
        for m in ("slm", "slm_is", "slm_is_shuffled")
        for after, before in zip(
            *(of(DEMO, method=m, phase=p, domain="macro") for p in ("finetuned", "pretrained")),
            strict=True,
        )
    ]
    return [min(taken), max(taken)]


def grid_change(method: str, corpus: str = "default") -> float:
    """Bits per byte of the 1M models at 20M tokens against slm, per cent."""
    setting = repetition_table.Setting(corpus, "1M", 20_000_000)
    found = repetition_table.found(rows("repetition/grid.jsonl"), setting, method)
    assert found is not None
    return 100 * float(found.change_S.mean())


def repetition_change(method: str) -> float:
    """Bits per byte at 20M tokens against slm, per cent: the mean over both seeds."""

    def macro(which: str, seed: int) -> float:
        where = dict(tokens=20_000_000, method=which, seed=seed)
        return float(np.mean(of("repetition/rows.jsonl", "heldout_after", **where)))

    return 100 * float(np.mean([macro(method, s) / macro("slm", s) - 1 for s in (0, 1)]))


CLAIMS = (
    Claim(
        FRONT,
        rf"{N}% ± {N} \(sample standard deviation\) lower macro-averaged perplexity after "
        rf"fine-tuning \({N}% before\), {N}% fewer bits per byte",
        lambda: [
            *positive(spread(gains(DEMO, "slm_is", "finetuned"))),
            *demo_gain("pretrained"),
            *demo_bits("finetuned"),
        ],
    ),
    Claim(
        FRONT,
        rf"`slm_is` is {N}% below LZMA and {N}% below the n-grams, and below both",
        lambda: [100 * (1 - recipe_bits("slm_is") / recipe_bits(m)) for m in ("lzma", "ngram")],
    ),
    Claim(
        FRONT,
        rf"it takes {N} MB in float32, they take {N} and {N} MB\. Over seven domains it is {N}% below",
        lambda: [*map(served, ("slm_is", "lzma", "ngram")), below_ngrams("slm_is", "seven")],
    ),
    Claim(FRONT, rf"for three `slm_is` costs {N} times as much", lambda: [costs_more()]),
    Claim(
        RESULTS,
        rf"the model with importance sampling is {N}% below n-grams, the one without {N}% \|",
        lambda: [below_ngrams("slm_is", "seven"), below_ngrams("slm", "seven")],
    ),
    Claim(
        RESULTS,
        rf"{N}% below n-grams of all text \| ± {N}, three seeds",
        lambda: [
            below_ngrams("slm_is", "results"),
            interval(recipe_table.bits(rows("recipe/results.jsonl"), "slm_is", "finetuned", MACRO))[
                1
            ],
        ],
    ),
    Claim(
        FRONT, rf"up to 8 draws `slm_is` is {N}% worse than `slm`\.", lambda: [recipe_gain("cap8")]
    ),
    Claim(
        FRONT,
        rf"capped importance sampling took {N}% off the bits per byte of plain pretraining, {N}% "
        rf"with seven times the generic text; as published, without a cap, it was {N}% worse",
        lambda: [-grid_change("cap8"), -grid_change("cap8", "wide"), grid_change("slm_is")],
    ),
    Claim(
        RESULTS,
        rf"table of n-grams gets to {N} bits per byte, with importance sampling in pretraining to {N}: {N}% below "
        rf"LZMA, {N}% below n-grams of all text",
        lambda: [
            recipe_bits("slm"),
            recipe_bits("slm_is"),
            *(100 * (1 - recipe_bits("slm_is") / recipe_bits(m)) for m in ("lzma", "ngram")),
        ],
    ),
    Claim(
        RESULTS,
        rf"moving average, takes {N}% off `slm`, which is pretrained once",
        lambda: [100 * (1 - recipe_bits("slm", "fast_table", 0) / recipe_bits("slm", "uniform"))],
    ),
    Claim(RESULTS, rf"with one at a tenth of it, above, {N}%:", lambda: [-recipe_gain("results")]),
    Claim(
        RESULTS,
        rf"Replaying the generic text that is like the domain's in fine-tuning, with a moving average, takes {N}% off `slm`: "
        rf"as far as a pretraining by importance for each domain \({N} against {N}\)",
        lambda: [
            100 * (1 - recipe_bits("slm", "fast_table", 0) / recipe_bits("slm", "uniform")),
            recipe_bits("slm", "fast_table"),
            recipe_bits("slm_is", "fast_table"),
        ],
    ),
    Claim(
        RESULTS,
        rf"with up to 8 draws of a window makes it {N}% worse, with at most 2 draws {N}% better",
        lambda: [recipe_gain("cap8"), -recipe_gain("uniform")],
    ),
    Claim(
        RESULTS,
        rf"Importance sampling takes {N}% off a small model's bits \(0\.17M parameters, 4M tokens\) "
        rf"\| ± {N}, three seeds",
        lambda: positive(interval(gains(DEMO, "slm_is", "finetuned", "bits_per_byte"))),
    ),
    Claim(
        RESULTS,
        rf"only with the cap on repetition: {N}% less; as published, {N}% more",
        lambda: [-grid_change("cap8"), grid_change("slm_is")],
    ),
    Claim(
        RESULTS,
        rf"generic text the cap takes {N}% off, as published {N}%",
        lambda: [-grid_change("cap8", "wide"), -grid_change("slm_is", "wide")],
    ),
    Claim(
        RESULTS,
        rf"it is {N}% \*worse than plain pretraining as published",
        lambda: [grid_change("slm_is")],
    ),
    Claim(
        RESULTS,
        rf"text the gain with the cap is {N}% \(one seed\); without it, {N}%",
        lambda: [-grid_change("cap8", "wide"), -grid_change("slm_is", "wide")],
    ),
    Claim(RESULTS, rf"With the default cap it is {N}% better", lambda: [-grid_change("cap8")]),
    Claim(
        RESULTS,
        rf"all of the text are better than every model of the plain demo, by {N}% and {N}%",
        lambda: [
            100
            * (1 - of("demo/baselines.jsonl", "bits_per_byte", method=m, domain="macro")[0] / ours)
            for ours in [
                np.mean(
                    of(DEMO, "bits_per_byte", method="slm_is", phase="finetuned", domain="macro")
                )
            ]
            for m in ("ngram", "lzma")
        ],
    ),
    Claim(
        RESULTS,
        rf"In bits per byte it is {N}% after fine-tuning and {N}% before\.",
        both(lambda: demo_bits("finetuned"), lambda: demo_bits("pretrained")),
    ),
    Claim(
        RESULTS,
        rf"It is worse than SLM in every seed \(\+{N}%, \+{N}% before fine-tuning\)",
        lambda: [
            gains(DEMO, "slm_is_shuffled", phase).mean() for phase in ("finetuned", "pretrained")
        ],
    ),
    Claim(
        RESULTS,
        rf"it takes {N}% to {N}% off every macro perplexity, and more than halves",
        tuning_takes,
    ),
    Claim(
        RESULTS,
        rf"`slm_is` varies by about 1 in macro perplexity, and the difference here is {N}\.",
        lambda: [
            of("encoders/tfidf_svd.jsonl", method="slm_is", phase="finetuned", domain="macro")[0]
            - of("encoders/minilm.jsonl", method="slm_is", phase="finetuned", domain="macro")[0]
        ],
    ),
    Claim(
        RESULTS,
        rf"by {N}% and {N}% of the bits; at 4M tokens",
        lambda: [-repetition_change("cap4"), -repetition_change("cap8")],
    ),
)
