"""What the result rows say: means over seeds, paired differences, the answer in words.

A row is one evaluation: method, domain, phase (pretrained | finetuned), seed, train_tokens,
nll_per_token, perplexity, bits_per_byte. A row of domain "macro" is the average over the domains:
perplexity exp(mean over domains of the mean NLL per token).
"""

import math
from dataclasses import dataclass

import numpy as np

MACRO = "macro"
GENERIC = "generic"  # held-out generic text: a column of its own, never one of "3 of 3 domains"
BASE = "slm"
CONTROL = "slm_is_shuffled"
PHASES = {"finetuned": "After fine-tuning", "pretrained": "Before fine-tuning"}

# name in the rows: (label, what it is)
METHODS = {
    "slm": ("SLM", "small model pretrained on generic text drawn uniformly"),
    "slm_is": (
        "SLM-is",
        "small model pretrained on generic text drawn by importance: clusters as often "
        "as in the domain's own text",
    ),
    "slm_is_shuffled": (
        "SLM-is shuffled",
        "control: the same importance weights, shuffled between clusters",
    ),
    "slm_pn": ("SLM-pn", "projected network: an expert per cluster, made from shared weights"),
    "slm_hn": ("SLM-hn", "hyper-network: expert weights made from the cluster's embedding"),
    "slm_mix": ("SLM-mix", "hard mixture: one independent small model per cluster"),
    "soup": ("Soup-of-Experts", "small model instantiated from a histogram of clusters"),
    "slm_mixed": (
        "SLM-mixed",
        "small model whose pretraining mixes in a fraction of the domain's own text",
    ),
    "slm_d": ("SLM-d", "small model distilled from the large one on the domain's text"),
    "slm_nopt": ("SLM-nopt", "small model without pretraining: the domain's text alone"),
    "llm": ("LLM", "large model, for reference: it costs more to serve"),
    "llm_lora": ("LLM-lora", "large model fine-tuned through low-rank matrices"),
}


@dataclass(frozen=True)
class Cell:
    """Mean and sample standard deviation (None for one seed) of one value per seed."""

    mean: float
    sd: float | None
    seeds: int


def cell(values) -> Cell | None:
    """The Cell of a dict seed -> value or a sequence of values; None when there is none."""
    values = list(values.values() if isinstance(values, dict) else values)
    if not values:
        return None
    sd = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return Cell(float(np.mean(values)), sd, len(values))


class Summary:
    """The rows of a run, grouped. A later row of the same method, domain, phase, seed wins."""

    def __init__(self, results):
        self._rows = {}
        for row in results or ():
            key = (row["method"], row["domain"], row.get("phase", "finetuned"))
            self._rows.setdefault(key, {})[row.get("seed")] = row
        seen = {method: None for method, _, _ in self._rows}
        self.methods = [m for m in METHODS if m in seen] + [m for m in seen if m not in METHODS]
        domains = {domain: None for _, domain, _ in self._rows}
        self.domains = [d for d in domains if d not in (MACRO, GENERIC)]
        self.columns = [d for d in (GENERIC,) if d in domains] + self.domains
        self.columns += [MACRO] if MACRO in domains else []
        phases = {phase: None for _, _, phase in self._rows}
        self.phases = [p for p in PHASES if p in phases] + [p for p in phases if p not in PHASES]
        seeds = {seed for rows in self._rows.values() for seed in rows}
        self.seeds = sorted(seeds, key=lambda s: (s is None, str(type(s)), s or 0))

    def values(self, method, domain, phase, field="perplexity") -> dict:
        """{seed: value}, in the order of the seeds; what is missing or not finite is left out."""
        rows = self._rows.get((method, domain, phase), {})
        values = {seed: rows[seed].get(field) for seed in self.seeds if seed in rows}
        return {s: float(v) for s, v in values.items() if v is not None and math.isfinite(v)}

    def cell(self, method, domain, phase, field="perplexity", seeds=None) -> Cell | None:
        """Mean and spread over the seeds (all, or those given)."""
        values = self.values(method, domain, phase, field)
        return cell({s: v for s, v in values.items() if seeds is None or s in seeds})

    def lowest(self, domain, phase, field="perplexity") -> str | None:
        """The method of the lowest mean; None when fewer than two have a value."""
        cells = {m: self.cell(m, domain, phase, field) for m in self.methods}
        cells = {m: c.mean for m, c in cells.items() if c}
        return min(cells, key=cells.get) if len(cells) > 1 else None

    def difference(self, method, domain, phase, base=BASE) -> dict:
        """{seed: perplexity / the base method's of the same seed - 1}.

        Macro averages are compared only where both are averages over the same domains.
        """
        ours = self.values(method, domain, phase)
        theirs = self.values(base, domain, phase)
        seeds = [seed for seed in ours if seed in theirs]
        if domain == MACRO:
            seeds = [
                s for s in seeds if self._covered(method, phase, s) == self._covered(base, phase, s)
            ]
        return {seed: ours[seed] / theirs[seed] - 1 for seed in seeds}

    def _covered(self, method, phase, seed) -> set:
        return {d for d in self.domains if seed in self.values(method, d, phase)}

    def pretraining_tokens(self, method) -> float | None:
        """Mean train_tokens of the method's pretrained rows, None where they say nothing."""
        tokens = [
            value
            for domain in self.domains or self.columns
            for value in self.values(method, domain, "pretrained", "train_tokens").values()
        ]
        return float(np.mean(tokens)) if tokens else None


def label(method: str) -> str:
    """The method's name for people; an unknown one keeps its own."""
    return METHODS[method][0] if method in METHODS else method


def number(value: float, decimals: int | None = None) -> str:
    """Four digits or so, thousands separated: 1.234 -> 1.23, 128.43 -> 128.4, 12345 -> 12,345."""
    if value is None:
        return "–"
    if not math.isfinite(value):
        return "∞" if value > 0 else "not a number"
    if decimals is None:
        decimals = 2 if abs(value) < 100 else 1 if abs(value) < 1000 else 0
    return f"{value:,.{decimals}f}"


def spread(value: Cell, decimals: int | None = None) -> str:
    """`mean ± sd`, both with the decimals of the mean; the mean alone for one seed."""
    if decimals is None:
        decimals = 2 if abs(value.mean) < 100 else 1 if abs(value.mean) < 1000 else 0
    mean = number(value.mean, decimals)
    return mean if value.sd is None else f"{mean} ± {number(value.sd, decimals)}"


def signed_percent(value: Cell) -> str:
    """A relative difference as `−12.3% ± 1.0`, with a true minus sign."""
    mean = f"{100 * value.mean:+.1f}%".replace("-", "−")
    return mean if value.sd is None else f"{mean} ± {100 * value.sd:.1f}"


def question(summary: Summary) -> str:
    """What the run asked, from the methods it compared."""
    if {"slm", "slm_is"} <= set(summary.methods):
        return (
            "Does a small model serve a specialist domain better when its generic pretraining "
            "text is drawn by importance for that domain, rather than uniformly?"
        )
    if len(summary.methods) > 1:
        return "Which way of building a small model serves the specialist domains best?"
    return "How well does the small model predict each specialist domain?"


def answer(summary: Summary) -> list[str]:
    """The result in sentences, the most important first; says only what the rows say."""
    for phase in summary.phases:
        focus = _focus(summary, phase)
        if focus:
            return [
                *_comparison(summary, focus, phase),
                *_control(summary, focus, phase),
                *_overall(summary, focus, phase),
            ]
    for phase in summary.phases:
        sentences = _overall(summary, None, phase)
        if sentences:
            return sentences
    return []


def _focus(summary: Summary, phase: str) -> str | None:
    """The method to set against the base: importance sampling, else the best one there is."""
    comparable = {
        m: cell(summary.difference(m, MACRO, phase))
        for m in summary.methods
        if m not in (BASE, CONTROL)
    }
    comparable = {m: c.mean for m, c in comparable.items() if c}
    if "slm_is" in comparable:
        return "slm_is"
    return min(comparable, key=comparable.get) if comparable else None


def _comparison(summary: Summary, focus: str, phase: str) -> list[str]:
    differences = summary.difference(focus, MACRO, phase)
    change, n = cell(differences), len(differences)
    when, name = PHASES.get(phase, phase), label(focus)
    ours = spread(summary.cell(focus, MACRO, phase, seeds=differences))
    theirs = spread(summary.cell(BASE, MACRO, phase, seeds=differences))
    lower_seeds = sum(d < 0 for d in differences.values())
    by_domain = [cell(summary.difference(focus, d, phase)) for d in summary.domains]
    by_domain = [c for c in by_domain if c]
    lower_domains = sum(c.mean < 0 for c in by_domain)
    counts = [f"in {lower_domains} of {len(by_domain)} domains"] if by_domain else []
    counts += [f"with {lower_seeds} of {n} seeds"] if n > 1 else []
    counts = f" (lower {' and '.join(counts)})" if counts else ""
    if n > 1 and 0 < lower_seeds < n:
        first = (
            f"{when}, the seeds do not agree whether {name} or {label(BASE)} has the lower macro "
            f"perplexity: the difference is {signed_percent(change)}{counts}."
        )
    elif abs(change.mean) < 0.0005:
        first = f"{when}, {name} and {label(BASE)} have the same macro perplexity{counts}."
    else:
        way = "lower" if change.mean < 0 else "higher"
        first = (
            f"{when}, {name} has {abs(100 * change.mean):.1f}% {way} macro perplexity than "
            f"{label(BASE)}{counts}."
        )
    spoken = (
        f"mean ± standard deviation over {n} seeds"
        if n > 1
        else "one seed, so how much of it is chance is not known"
    )
    sentences = [first, f"Macro perplexity is {ours} against {theirs} ({spoken})."]
    tokens = [summary.pretraining_tokens(m) for m in (focus, BASE)]
    if None not in tokens and abs(tokens[0] - tokens[1]) > 0.01 * max(tokens):
        sentences.append(
            f"They did not train equally long before fine-tuning: {count(tokens[0])} tokens "
            f"against {count(tokens[1])}."
        )
    return sentences


def _control(summary: Summary, focus: str, phase: str) -> list[str]:
    control = cell(summary.difference(CONTROL, MACRO, phase))
    if focus != "slm_is" or control is None:
        return []
    gained = all(d < 0 for d in summary.difference(focus, MACRO, phase).values())
    lost = ": the gain is lost" if gained and control.mean >= 0 else ""
    return [
        f"The control, the same weights shuffled between clusters, differs from {label(BASE)} "
        f"by {signed_percent(control)}{lost}."
    ]


def _overall(summary: Summary, focus: str | None, phase: str) -> list[str]:
    """The lowest of all methods, unless the comparison has said it already."""
    cells = {m: summary.cell(m, MACRO, phase) for m in summary.methods}
    cells = {m: c for m, c in cells.items() if c}
    if not cells:
        return []
    best = min(cells, key=lambda m: cells[m].mean)
    if focus and best in (focus, BASE):
        return []
    when = PHASES.get(phase, phase)
    if len(cells) == 1:
        return [f"{when}, {label(best)} has a macro perplexity of {spread(cells[best])}."]
    return [
        f"{when}, the lowest macro perplexity of the {len(cells)} methods is that of "
        f"{label(best)}: {spread(cells[best])}."
    ]


def count(value: float) -> str:
    """A count with a unit letter: 950, 51.2k, 6.1M, 2.3B."""
    for least, unit, letter in ((999.5e6, 1e9, "B"), (999.5e3, 1e6, "M"), (1e4, 1e3, "k")):
        if abs(value) >= least:
            return f"{value / unit:.3g}{letter}"
    whole = float(value).is_integer() or abs(value) >= 1000
    return f"{value:,.0f}" if whole else f"{value:,.3g}"


def table(results) -> str:
    """The perplexities as plain text for a terminal: methods down, domains and macro across.

    Mean ± sample standard deviation over seeds; `*` marks the lowest of a column; the last column
    is the macro perplexity against the base method, paired by seed.
    """
    summary = Summary(results)
    if not summary.methods:
        return "no results"
    compared = BASE in summary.methods and len(summary.methods) > 1 and MACRO in summary.columns
    lines = [["", *summary.columns, *([f"macro against {BASE}"] if compared else [])]]
    for phase in summary.phases:
        lines.append([PHASES.get(phase, phase).lower()])
        for method in summary.methods:
            cells = [summary.cell(method, domain, phase) for domain in summary.columns]
            if not any(cells):
                continue
            line = [f"  {method}"]
            for domain, value in zip(summary.columns, cells, strict=True):
                mark = "*" if summary.lowest(domain, phase) == method else " "
                line.append(f"{spread(value)}{mark}" if value else "– ")
            change = cell(summary.difference(method, MACRO, phase)) if method != BASE else None
            if compared:
                line.append(signed_percent(change) if change else "")
            lines.append(line)
    widths = [max(len(line[i]) for line in lines if i < len(line)) for i in range(len(lines[0]))]
    body = []
    for line in lines:
        if len(line) == 1:
            body.append(line[0])
            continue
        body.append(
            "  ".join(
                [
                    line[0].ljust(widths[0]),
                    *(text.rjust(width) for text, width in zip(line[1:], widths[1:], strict=True)),
                ]
            ).rstrip()
        )
    over = f", mean ± standard deviation over {len(summary.seeds)} seeds"
    over = over if len(summary.seeds) > 1 else ""
    return "\n".join([f"Perplexity on held-out documents{over} (* lowest)", *body])
