"""Other vocabularies and languages."""

import numpy as np

from benchmarks import adaptation_summary
from benchmarks.intervals import interval
from claims.claim import ADAPTATION, FRONT, RESULTS, Claim, N, of, rows

NATIVE = ("books", "dialog", "ency", "legal", "math", "med", "theology")


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


CLAIMS = (
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
