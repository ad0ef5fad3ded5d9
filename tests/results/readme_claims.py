"""The figures of results/README.md and README.md, each with how it follows from committed rows.

A claim is a pattern that matches one place in one file, and the numbers that stand in its groups.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from benchmarks import (
    adaptation_summary,
    golf_entries,
    recipe_table,
    repetition_table,
    scaling,
    scored,
)
from benchmarks.intervals import interval
from specialm.evaluation.perplexity import MACRO
from specialm.reports import equal_cost
from specialm.reports.study_rows import Study

ROOT = Path(__file__).parents[2]
RESULTS, FRONT, PLANNING = "results/README.md", "README.md", "docs/planning.md"
ADAPTATION = "docs/adaptation.md"
NATIVE = ("books", "dialog", "ency", "legal", "math", "med", "theology")
SEEDS, DOMAINS = (0, 1, 2), ("books", "ency", "med")
N = r"([-\d.,]+)"  # a number


@cache
def rows(name: str) -> tuple[dict, ...]:
    lines = (ROOT / "results" / name).read_text().splitlines()
    return tuple(json.loads(line) for line in lines)


def of(name: str, field: str = "perplexity", **where) -> list[float]:
    """The field of the rows that have these values, in the order of their seeds."""
    found = [r for r in rows(name) if all(r.get(key) == value for key, value in where.items())]
    assert found, (name, where)
    return [row[field] for row in sorted(found, key=lambda row: row.get("seed", 0))]


def gains(name: str, method: str, phase: str, field: str = "perplexity") -> np.ndarray:
    """Change against slm of the macro average, per cent, by seed."""
    ours, base = (
        np.array(of(name, field, method=m, phase=phase, domain="macro")) for m in (method, "slm")
    )
    return 100 * (ours / base - 1)


def spread(values) -> list[float]:
    return [float(np.mean(values)), float(np.std(values, ddof=1))]


def recipe_bits(method: str, name: str = "results") -> float:
    """Of the demo by the recipe, macro average after fine-tuning."""
    return float(recipe_table.bits(rows(f"recipe/{name}.jsonl"), method, "finetuned", MACRO).mean())


def recipe_gain(name: str) -> float:
    """Change by importance sampling, per cent."""
    return float(recipe_table.gain(rows(f"recipe/{name}.jsonl"), "slm_is").mean())


DEMO, BANK, BANK50 = "demo/results.jsonl", "bank/results.jsonl", "bank/tokens50k.jsonl"


def bank_bits(method: str) -> list[float]:
    """Change of bits per byte against slm, per cent, and half of its 95% interval."""
    return interval(gains(BANK, method, "finetuned", "bits_per_byte"))


GOLF, ALL_4096, FACTORED = (
    (250_000, 1_000_000, 4_000_000),
    "all, 4,096 pieces",
    "all, factored, 4,096 pieces",
)


def golf_bits(size: int, entry: str) -> float:
    """Bits per byte of an entry."""
    return of("golf/rows.jsonl", "bits_per_byte", bytes=size, entry=entry)[0]


def golf_gains(size: int) -> list[float]:
    """What the best network takes off the best n-gram model, and off LZMA, per cent."""
    bits = {
        row["entry"]: row["bits_per_byte"]
        for row in rows("golf/rows.jsonl")
        if row["bytes"] == size
    }
    others = {name for name in bits if name == "LZMA" or name.startswith("n-grams of")}
    best = min(bits[name] for name in set(bits) - others)
    return [100 * (1 - best / low) for low in (min(bits[n] for n in others), bits["LZMA"])]


def trick(entry: str) -> float:
    """What a trick of golf changes, per cent."""
    other = golf_entries.ENTRIES[entry].over
    ours, base = (of("golf/tricks.jsonl", "bits_per_byte", entry=e)[0] for e in (entry, other))
    return 100 * (ours / base - 1)


def speed(size: str, side: str, what: str, field: str) -> float:
    """A figure of `benchmarks.tiny_speed`, per cent."""
    return 100 * of("tiny/speed.jsonl", field, size=size, side=side, what=what)[0]


LOOP, FACTORED_TABLE, SPELT = (
    "loop of two blocks",
    "factored table",
    "byte-pooled, tied, 16 own numbers",
)


def tiny_more(model: str, name: str = "rows") -> list[float]:
    """More bits on the domains than the dense vocabulary, per cent, and half of the interval."""
    bits = [
        np.array(
            [
                np.mean([row["bits_per_byte"][domain] for domain in DOMAINS])
                for row in sorted(rows(f"tiny/{name}.jsonl"), key=lambda row: row["seed"])
                if row["model"] == each and not row["search"]
            ]
        )
        for each in (model, "dense vocabulary")
    ]
    return interval(100 * (bits[0] / bits[1] - 1))


def own_vocabulary(domain: str) -> np.ndarray:
    """What it takes off a decoder's bits per byte, per cent, by seed."""
    new, old = (
        np.array(of("adaptation/domains.jsonl", "bits_per_byte", model="slm", domain=domain, way=w))
        for w in ("new none", "old")
    )
    return 100 * (1 - new / old)


def topic(field: str, **where) -> float:
    """A figure of the task of topics in other languages, the mean over the rows."""
    return float(np.mean(of("adaptation/tasks.jsonl", field, task="topic", **where)))


def asked_elsewhere(field: str) -> list[float]:
    """Its figures of the languages that are not English, the least and the greatest."""
    found = {(row["language"], row["via"]) for row in rows("adaptation/tasks.jsonl")}
    means = [topic(field, language=at, via=via) for at, via in found if at != "en"]
    return [min(means), max(means)]


def at_rate(rate: float, via: str, languages=("de", "fr", "ru"), field: str = "accuracy") -> float:
    """The mean over languages of seed 1 where the task was learnt at a rate; 0: at the grid's."""
    name = "adaptation/tasks_rate.jsonl" if rate else "adaptation/tasks.jsonl"
    where = {"rate": rate} if rate else {}
    found = [of(name, field, seed=1, via=via, language=at, **where)[0] for at in languages]
    return float(np.mean(found))


def smollm2(way: str, field: str = "bits_per_byte") -> float:
    """A figure of SmolLM2 on German with a vocabulary."""
    return of("adaptation/domains.jsonl", field, model="open", domain="de", way=way)[0]


def mini_joint(kind: str) -> list[float]:
    """How many times cheaper it is at equal bits per byte, of each model and language."""
    found = [row for row in rows("adaptation/rows.jsonl") if row["kind"] == kind]
    return adaptation_summary.means(adaptation_summary.ratios(found, "mini_joint"))


def bank_ratio(topology: str, windows: int = 16) -> float:
    """A projected network's estimated step against the dense model's."""
    slices = scaling.read(ROOT / "results" / "scaling" / "slices.jsonl")
    pn, slm = (slices[name, topology, windows]["step_seconds"] for name in ("slm_pn", "slm"))
    return pn / slm


def of_way(kind: str, via: str, tokens: int, name: str = "bits_per_byte", **where) -> float:
    """A figure of a way to a new language, the mean over seeds and languages."""
    found = of("adaptation/rows.jsonl", name, kind=kind, via=via, tokens=tokens, **where)
    return float(np.mean(found))


def tokens_saved(model: str, vocabulary: str, *domains: str) -> list[float]:
    """Per cent of the tokens of held-out text."""
    return [
        100 * of(
            "adaptation/tokens.jsonl", "saved", model=model, vocabulary=vocabulary, domain=domain
        )[-1]
        for domain in domains
    ]  # fmt: skip


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


@cache
def study() -> Study:
    return Study(rows("study/results.jsonl"))


SMALL, LARGE, LONG, SHORT = 10_000, 100_000, 16_000_000, 4_000_000


def study_change(method: str, size: int = SMALL, base: str = "slm") -> list[float]:
    """Per cent, mean and deviation over the seeds."""
    found = study().change(method, budget=LONG, size=size, base=base)
    return spread([100 * value for value in found.values()])


def positive(values: list[float]) -> list[float]:
    return [-values[0], *values[1:]]


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


@cache
def scores() -> tuple[dict, ...]:
    """Of the registered forecasts of legal, math and theology."""
    return tuple(scored.score(domain, scored.read()) for domain in ("legal", "math", "theology"))


def registered() -> list[dict]:
    """Their methods that were trained."""
    return [each for found in scores() for each in found["methods"]]


def inside(level: int) -> int:
    """How many of them came out inside the interval."""
    return sum(each[f"inside_{level}"] for each in registered())


def registered_gains(name: str) -> list[float]:
    """What importance sampling takes off the small model, per cent, forecast or measured."""
    return [-100 * scored.gain(found, name) for found in scores()]


@dataclass(frozen=True)
class Claim:
    file: str
    pattern: str
    numbers: Callable[[], list[float]]


def both(*parts: Callable[[], list[float]]) -> Callable[[], list[float]]:
    return lambda: [number for part in parts for number in part()]


CLAIMS = (
    # The front page.
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
        rf"with up to 8 draws `slm_is` is {N}% worse than `slm`\.",
        lambda: [recipe_gain("cap8")],
    ),
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
        rf"In bits per byte the network's gain is {N}%, with a 95% interval of ± {N}: with",
        lambda: positive(interval(gains(BANK, "slm_pn", "finetuned", "bits_per_byte"))),
    ),
    Claim(
        FRONT,
        rf"capped importance sampling took {N}% off the bits per byte of plain pretraining, {N}% "
        rf"with seven times the generic text; as published, without a cap, it was {N}% worse",
        lambda: [-grid_change("cap8"), -grid_change("cap8", "wide"), grid_change("slm_is")],
    ),
    # Results in one screen.
    Claim(
        RESULTS,
        rf"table of n-grams gets to {N} bits per byte, with importance sampling to {N}: {N}% below "
        rf"LZMA, {N}% above n-grams of all text",
        lambda: [
            recipe_bits("slm"),
            recipe_bits("slm_is"),
            100 * (1 - recipe_bits("slm_is") / recipe_bits("lzma")),
            100 * (recipe_bits("slm_is") / recipe_bits("ngram") - 1),
        ],
    ),
    Claim(
        RESULTS,
        rf"with up to 8 draws of a window makes it {N}% worse, with at most 2 draws {N}% better",
        lambda: [recipe_gain("cap8"), -recipe_gain("results")],
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
        rf"Projected networks \({N}% ± {N}\) and hyper-networks \({N}% ± {N}\) are not shown",
        lambda: [*positive(bank_bits("slm_pn")), *positive(bank_bits("slm_hn"))],
    ),
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
        rf"The nearest: a loop of two blocks \({N}% more bits on the domains, {N}% with\s+four times the "
        rf"compute\), a factored table \({N}%, {N}%\), bytes with 16 numbers of each piece's own "
        rf"\({N}%, {N}%\)",
        lambda: [
            tiny_more(model, name)[0]
            for model in (LOOP, FACTORED_TABLE, SPELT)
            for name in ("rows", "long")
        ],
    ),
    Claim(
        RESULTS,
        rf"as published, {N}% more bits; in turn {N}%\..*? in a tied head it is\s+{N}%, and with 16 "
        rf"numbers of each piece's own {N}%\.",
        lambda: [
            tiny_more(f"byte-pooled, {form}")[0]
            for form in ("at once", "in turn", "tied", "tied, 16 own numbers")
        ],
    ),
    Claim(
        RESULTS,
        rf"need {N}% more bits in their best form, {N}% more as published \| ± {N}, ± {N}, three",
        both(
            lambda: [tiny_more(m)[0] for m in (SPELT, "byte-pooled, at once")],
            lambda: [tiny_more(m)[1] for m in (SPELT, "byte-pooled, at once")],
        ),
    ),
    Claim(
        RESULTS,
        rf"beside the network \({N}% fewer bits\) or inside of it \({N}%\), then 4,096 pieces \({N}%\), 8 "
        rf"bits in place of 4\s+\({N}%\) and Muon \({N}%\)\. Training for the 4 bits is worth {N}%",
        lambda: [
            -trick(name)
            for name in (
                "Muon, with n-grams",
                "Muon, table of n-grams",
                "Muon, 4,096 pieces",
                "dense, 8 bits",
                "Muon",
                "Muon, trained for 4 bits",
            )
        ],
    ),
    Claim(
        RESULTS,
        rf"with 3 bits\s+it is {N}% worse than 4 bits",
        lambda: [trick("Muon, trained for 3 bits")],
    ),
    Claim(
        RESULTS,
        rf"shared layers \({N}% worse, the loop {N}% better\) nor a factored table \({N}% worse\) nor "
        rf"windows of 256 \({N}% worse\)",
        lambda: [
            trick("Muon, shared MLP"),
            -trick("Muon, loop of two blocks"),
            trick("Muon, factored table"),
            trick("Muon, windows of 256"),
        ],
    ),
    Claim(
        RESULTS,
        rf"At 10M parameters the published heads meet it \({N}% and {N}%\)",
        lambda: [
            speed("10m", side, "training", "share_of_ends") for side in ("at once", "in turn")
        ],
    ),
    Claim(
        RESULTS,
        rf"every piece of the vocabulary for each token: {N}% and {N}% of the dense speed",
        lambda: [
            speed(size, "in turn", "generation", "against_dense") for size in ("local", "10m")
        ],
    ),
    Claim(
        RESULTS,
        rf"mixed with n-grams takes {N}%, {N}% and {N}% off the best pruned n-gram model of that size, "
        rf"and {N}%, {N}% and {N}% off LZMA",
        lambda: [golf_gains(size)[other] for other in (0, 1) for size in GOLF],
    ),
    Claim(
        FRONT,
        rf"in the bytes that it leaves, needs {N}%, {N}% and\s+{N}% fewer bits for generic text",
        lambda: [golf_gains(size)[0] for size in GOLF],
    ),
    Claim(
        RESULTS,
        rf"more than a tenth off the best pruned n-gram model: {N}% in 0.25 MB, {N}%\s+in 1 MB, "
        rf"{N}% in 4 MB; off LZMA {N}%, {N}% and {N}%",
        lambda: [golf_gains(size)[other] for other in (0, 1) for size in GOLF],
    ),
    Claim(
        RESULTS,
        rf"for the layers and the n-grams: {N}% fewer bits than a table of 2,048",
        lambda: [
            100 * (1 - golf_bits(GOLF[0], FACTORED) / golf_bits(GOLF[0], "all, 2,048 pieces"))
        ],
    ),
    Claim(
        RESULTS,
        rf"worth less than the n-gram model that would have its bytes: {N}% more bits",
        lambda: [
            100
            * (golf_bits(GOLF[1], "all, table, 4,096 pieces") / golf_bits(GOLF[1], ALL_4096) - 1)
        ],
    ),
    # The demo.
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
    # Banks.
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
    # The study.
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
    # Encoders.
    Claim(
        RESULTS,
        rf"`slm_is` varies by about 1 in macro perplexity, and the difference here is {N}\.",
        lambda: [
            of("encoders/tfidf_svd.jsonl", method="slm_is", phase="finetuned", domain="macro")[0]
            - of("encoders/minilm.jsonl", method="slm_is", phase="finetuned", domain="macro")[0]
        ],
    ),
    # Registered forecasts.
    Claim(
        RESULTS,
        rf"Misses: {N} of the {N} are inside the 80% intervals, where {N} are to be expected",
        lambda: [inside(80), len(registered()), 0.8 * len(registered())],
    ),
    Claim(
        RESULTS,
        rf"six forecasts are too high, by {N}% on average",
        lambda: [100 * np.mean([each["error"] for each in registered()])],
    ),
    Claim(
        RESULTS,
        rf"was forecast as {N}%, {N}% and {N}% of the small model's bits for legal, math and "
        rf"theology, and came out as {N}%, {N}% and {N}%:",
        lambda: [*registered_gains("forecast"), *registered_gains("measured")],
    ),
    Claim(
        FRONT,
        rf"forecasts registered before training were {N}% off, all too high",
        lambda: [100 * np.mean([abs(each["error"]) for each in registered()])],
    ),
    Claim(
        PLANNING,
        rf"intervals, {N} inside the 80% ones; and all forecasts are too high, by {N}% on "
        rf"average\. The gain of importance sampling, forecast as {N}%, came out between {N}% and {N}%",
        lambda: [
            inside(80),
            100 * np.mean([each["error"] for each in registered()]),
            np.mean(registered_gains("forecast")),
            min(registered_gains("measured")),
            max(registered_gains("measured")),
        ],
    ),
    Claim(
        RESULTS,
        rf"by {N}% and {N}% of the bits; at 4M tokens",
        lambda: [-repetition_change("cap4"), -repetition_change("cap8")],
    ),
    Claim(
        RESULTS,
        rf"at equal FLOPs {N}% fewer bits per byte on medical text and {N}% on German, with {N}% and "
        rf"{N}% fewer tokens \| medical: ± {N}, three seeds",
        lambda: [
            own_vocabulary("med").mean(),
            own_vocabulary("de").mean(),
            *tokens_saved("slm", "new", "med", "de"),
            interval(own_vocabulary("med"))[1],
        ],
    ),
    Claim(
        RESULTS,
        rf"through two of six layers take 1/{N} of the FLOPs of those learnt through all at equal bits per "
        rf"byte in masked models \(three seeds, three languages\); in decoders 1/{N}, and only for what 0\.125M "
        rf"tokens give; 2\.3 was published \| masked 95%: {N} to {N}, {N} models; decoders {N} to {N}, {N} models",
        lambda: [
            *(adaptation_summary.interval(mini_joint(kind))[0] for kind in ("masked", "decoder")),
            *(
                figure
                for kind in ("masked", "decoder")
                for figure in (
                    *adaptation_summary.interval(mini_joint(kind))[1:],
                    len(mini_joint(kind)),
                )
            ),
        ],
    ),
    Claim(
        RESULTS,
        rf"for 1/{N} of the\s+FLOPs, of at most 1/{N}, and goes on beyond: on 1\.0M tokens its rows are better than the "
        rf"whole model's on 0\.5M, at {N} of their FLOPs",
        lambda: [
            adaptation_summary.interval(mini_joint("masked"))[0],
            of_way("masked", "full", 500_000, "flops")
            / of_way("masked", "mini_joint", 500_000, "flops"),
            of_way("masked", "mini_joint", 1_000_000, "flops")
            / of_way("masked", "full", 500_000, "flops"),
        ],
    ),
    Claim(
        RESULTS,
        rf"step is estimated at {N} of the dense\s+one's on v5p:4x4x4, {N} on v5e:16x16, {N} on v6e:4x4",
        lambda: [bank_ratio(topology) for topology in ("v5p:4x4x4", "v5e:16x16", "v6e:4x4")],
    ),
    Claim(
        RESULTS,
        rf"from scratch is far behind: {N} against {N} bits per byte in German",
        lambda: [of_way("masked", via, 500_000, language="de") for via in ("scratch", "full")],
    ),
    Claim(
        RESULTS,
        rf"its own vocabulary gets from {N} to {N} bits per byte on German\. Fitted to German it has {N}%\s+fewer tokens "
        rf"and begins at {N}, with nothing trained, but gets to {N} for the same FLOPs; a new one of 8,192 tokens "
        rf"gets from {N} to {N}\.",
        lambda: [
            smollm2("old", "adapted"),
            smollm2("old"),
            100 * (1 - smollm2("extend none", "heldout_tokens") / smollm2("old", "heldout_tokens")),
            *(
                smollm2(f"{of} none", at)
                for of in ("extend", "new")
                for at in ("adapted", "bits_per_byte")
            ),
        ],
    ),
    Claim(
        RESULTS,
        rf"with its vocabulary fitted to German has {N}% fewer tokens there and {N}% more bits per byte at equal FLOPs",
        lambda: [
            100 * (1 - smollm2("extend none", "heldout_tokens") / smollm2("old", "heldout_tokens")),
            100 * (smollm2("extend none") / smollm2("old") - 1),
        ],
    ),
    Claim(
        RESULTS,
        rf"In English the model gets {N} of held-out passages right \(the most frequent chapter: {N}\); asked in\s+"
        rf"another language it gets {N} to {N}, whichever",
        lambda: [
            topic("old_accuracy", language="en", via="none"),
            topic("majority", language="en"),
            *asked_elsewhere("accuracy"),
        ],
    ),
    Claim(
        RESULTS,
        rf"logistic regression on counts of English words\s+gets {N} to {N} in the other languages, and {N} in English",
        lambda: [*asked_elsewhere("words_accuracy"), topic("words_accuracy", language="en")],
    ),
    Claim(
        RESULTS,
        rf"English with a new vocabulary falls to {N} with FOCUS rows and to {N} once these are learnt",
        lambda: [topic("accuracy", language="en", via=via) for via in ("none", "full")],
    ),
    Claim(
        RESULTS,
        rf"learnt rows get {N}, {N} and {N} \(mean of the three languages, seed 1\) where the task was learnt at 2e-3, "
        rf"8e-4 and\s+3e-4, rows without training {N}, {N} and {N}, while English itself falls from {N} to {N}",
        lambda: [
            *(at_rate(rate, via) for via in ("full", "none") for rate in (0, 8e-4, 3e-4)),
            *(at_rate(rate, "none", ["en"], "old_accuracy") for rate in (0, 3e-4)),
        ],
    ),
    Claim(
        ADAPTATION,
        rf"there `--via=mini_joint` takes 1/{N} of the FLOPs of `--via=full` to the same bits",
        lambda: [adaptation_summary.interval(mini_joint("masked"))[0]],
    ),
    Claim(
        FRONT,
        rf"the specialist's own\s+takes {N}% off its bits per byte on medical text at equal FLOPs, "
        rf"and {N}% off its tokens",
        lambda: [own_vocabulary("med").mean(), *tokens_saved("slm", "new", "med")],
    ),
    Claim(
        RESULTS,
        rf"write {N} to {N} times the bytes a second on medical text and {N} to {N} on German",
        lambda: [
            pick(of("adaptation/speed.jsonl", "ratio", model="slm", domain=domain))
            for domain in ("med", "de")
            for pick in (min, max)
        ],
    ),
    Claim(
        RESULTS,
        rf"SmolLM2 fitted to German writes {N} times the bytes a second, with the new vocabulary {N} times",
        lambda: [
            of("adaptation/speed.jsonl", "ratio", model="open", way=f"{way} none")[0]
            for way in ("extend", "new")
        ],
    ),
    Claim(
        RESULTS,
        rf"at the whole rate that model got to {N} \(\[rows\]\(adaptation/whole_rate.jsonl\), commands of an "
        rf"earlier commit\) instead of {N}",
        lambda: [
            of(
                f"adaptation/{name}.jsonl",
                "bits_per_byte",
                way="old",
                domain="med",
                seed=1,
                model="slm",
            )[0]
            for name in ("whole_rate", "domains")
        ],
    ),
    Claim(
        ADAPTATION,
        rf"leaves {N}% to {N}% to save on English\s+domains, {N}% on German and {N}% on Russian",
        lambda: [
            *(pick(tokens_saved("open", "extend", *NATIVE)) for pick in (min, max)),
            *tokens_saved("open", "extend", "de", "ru"),
        ],
    ),
)


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
