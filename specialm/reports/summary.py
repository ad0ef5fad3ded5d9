"""What the result rows say: means over seeds, paired differences, the answer in words.

A row is one evaluation: method, domain, phase (pretrained | finetuned), seed, train_tokens,
nll_per_token, perplexity, bits_per_byte. A row of domain "macro" is the average over the domains:
perplexity exp(mean over domains of the mean NLL per token).
"""

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from specialm import methods
from specialm.evaluation.baselines import BASELINES
from specialm.evaluation.perplexity import MACRO
from specialm.methods import BASE, CONTROL, IMPORTANCE
from specialm.reports.words import printable

GENERIC = "generic"  # held-out generic text: a column of its own, never one of "3 of 3 domains"
PHASES = {"finetuned": "After fine-tuning", "pretrained": "Before fine-tuning"}


@dataclass(frozen=True)
class Cell:
    """Mean and sample standard deviation (None for one seed) of one value per seed."""

    mean: float
    sd: float | None
    seeds: int


Values = Mapping | Collection[float]  # {seed: value}, or values


def cell(values: Values) -> Cell | None:
    """The Cell of a dict seed -> value or of a collection of values; None without any."""
    return cell_of(values) if values else None


def cell_of(values: Values) -> Cell:
    """The Cell of at least one value."""
    values_S = np.array(list(values.values() if isinstance(values, Mapping) else values), float)
    sd = float(np.std(values_S, ddof=1)) if len(values_S) > 1 else None
    return Cell(float(np.mean(values_S)), sd, len(values_S))


def in_order(names: Iterable[str]) -> list[str]:
    """Methods in the order of `methods.METHODS`, then the unknown ones as they come."""
    seen = dict.fromkeys(names)
    return [m for m in methods.METHODS if m in seen] + [m for m in seen if not methods.find(m)]


class Summary:
    """The rows of a run, grouped. A later row of the same method, domain, phase, seed wins."""

    def __init__(self, results: Iterable[dict] | None):
        self._rows: dict[tuple[str, str, str], dict] = {}
        for row in results or ():
            key = (row["method"], row["domain"], row.get("phase", "finetuned"))
            self._rows.setdefault(key, {})[row.get("seed")] = row
        self.methods = in_order(method for method, _, _ in self._rows)
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

    def cell(self, method, domain, phase, field="perplexity") -> Cell | None:
        """Mean and spread over the seeds."""
        return cell(self.values(method, domain, phase, field))

    def lowest(self, domain, phase, field="perplexity") -> str | None:
        """The method of the lowest mean; None when fewer than two have a value."""
        means = self.means(domain, phase, field)
        return min(means, key=means.__getitem__) if len(means) > 1 else None

    def means(self, domain, phase, field="perplexity") -> dict[str, float]:
        """{method: mean over seeds} of the methods that have a value."""
        cells = {m: self.cell(m, domain, phase, field) for m in self.methods}
        return {m: found.mean for m, found in cells.items() if found}

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
    record = methods.find(method) or BASELINES.get(method)
    return record.label if record else printable(method)


def number(value: float | None, decimals: int | None = None) -> str:
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
    if {BASE, IMPORTANCE} <= set(summary.methods):
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
                _comparison(summary, focus, phase),
                _macro_values(summary, focus, phase),
                *_training_lengths(summary, focus),
                *_control(summary, focus, phase),
                *_overall(summary, focus, phase),
            ]
    return next(filter(None, (_overall(summary, None, phase) for phase in summary.phases)), [])


def _focus(summary: Summary, phase: str) -> str | None:
    """The method to set against the base: importance sampling, else the best one there is."""
    changes = {
        m: cell(summary.difference(m, MACRO, phase))
        for m in summary.methods
        if m not in (BASE, CONTROL)
    }
    means = {m: change.mean for m, change in changes.items() if change}
    if IMPORTANCE in means:
        return IMPORTANCE
    return min(means, key=means.__getitem__) if means else None


def _comparison(summary: Summary, focus: str, phase: str) -> str:
    changes = summary.difference(focus, MACRO, phase)
    change, lower, n = cell_of(changes), sum(c < 0 for c in changes.values()), len(changes)
    when, name, base = PHASES.get(phase, phase), label(focus), label(BASE)
    counts = _counts(summary, focus, phase, lower, n)
    if n > 1 and 0 < lower < n:
        return (
            f"{when}, the seeds do not agree whether {name} or {base} has the lower macro "
            f"perplexity: the difference is {signed_percent(change)}{counts}."
        )
    if abs(change.mean) < 0.0005:
        return f"{when}, {name} and {base} have the same macro perplexity{counts}."
    way = "lower" if change.mean < 0 else "higher"
    return (
        f"{when}, {name} has {abs(100 * change.mean):.1f}% {way} macro perplexity than "
        f"{base}{counts}."
    )


def _counts(summary: Summary, focus: str, phase: str, lower: int, n: int) -> str:
    """In how many domains the method is lower, and with how many of n seeds, in brackets."""
    changes = [cell(summary.difference(focus, domain, phase)) for domain in summary.domains]
    means = [change.mean for change in changes if change]
    counts = [f"in {sum(m < 0 for m in means)} of {len(means)} domains"] if means else []
    counts += [f"with {lower} of {n} seeds"] if n > 1 else []
    return f" (lower {' and '.join(counts)})" if counts else ""


def _macro_values(summary: Summary, focus: str, phase: str) -> str:
    seeds = summary.difference(focus, MACRO, phase)
    ours, theirs = (
        spread(cell_of([summary.values(m, MACRO, phase)[seed] for seed in seeds]))
        for m in (focus, BASE)
    )
    over = (
        f"mean ± sample standard deviation over {len(seeds)} seeds"
        if len(seeds) > 1
        else "one seed, so how much of it is chance is not known"
    )
    return f"Macro perplexity is {ours} against {theirs} ({over})."


def _training_lengths(summary: Summary, focus: str) -> list[str]:
    ours, theirs = (summary.pretraining_tokens(m) for m in (focus, BASE))
    if ours is None or theirs is None or abs(ours - theirs) <= 0.01 * max(ours, theirs):
        return []
    return [
        f"They did not train equally long before fine-tuning: {count(ours)} tokens "
        f"against {count(theirs)}."
    ]


def _control(summary: Summary, focus: str, phase: str) -> list[str]:
    control = cell(summary.difference(CONTROL, MACRO, phase))
    if focus != IMPORTANCE or control is None:
        return []
    gained = all(d < 0 for d in summary.difference(focus, MACRO, phase).values())
    lost = ": the gain is lost" if gained and control.mean >= 0 else ""
    return [
        f"The control, the same weights shuffled between clusters, differs from {label(BASE)} "
        f"by {signed_percent(control)}{lost}."
    ]


def _overall(summary: Summary, focus: str | None, phase: str) -> list[str]:
    """The lowest of all methods, unless the comparison has said it already."""
    means = summary.means(MACRO, phase)
    best = min(means, key=means.__getitem__, default=None)
    if best is None or (focus and best in (focus, BASE)):
        return []
    when = PHASES.get(phase, phase)
    value = spread(cell_of(summary.values(best, MACRO, phase)))
    if len(means) == 1:
        return [f"{when}, {label(best)} has a macro perplexity of {value}."]
    return [
        f"{when}, the lowest macro perplexity of the {len(means)} methods is that of "
        f"{label(best)}: {value}."
    ]


def count(value: float) -> str:
    """A count with a unit letter: 950, 51.2k, 6.1M, 2.3B."""
    for least, unit, letter in ((999.5e6, 1e9, "B"), (999.5e3, 1e6, "M"), (1e4, 1e3, "k")):
        if abs(value) >= least:
            return f"{value / unit:.3g}{letter}"
    whole = float(value).is_integer() or abs(value) >= 1000
    return f"{value:,.0f}" if whole else f"{value:,.3g}"


def tokens_text(tokens: int | None, kind: str) -> str:
    """`16M generic tokens`; `no generic tokens` for none."""
    return f"{count(tokens)} {kind} tokens" if tokens else f"no {kind} tokens"


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
        rows = [_table_row(summary, method, phase, compared) for method in summary.methods]
        lines += [row for row in rows if row]
    over = f", mean ± sample standard deviation over {len(summary.seeds)} seeds"
    over = over if len(summary.seeds) > 1 else ""
    return "\n".join([f"Perplexity on held-out documents{over} (* lowest)", *_aligned(lines)])


def _table_row(summary: Summary, method: str, phase: str, compared: bool) -> list[str]:
    """The method's line, empty where it has no values."""
    cells = {domain: summary.cell(method, domain, phase) for domain in summary.columns}
    if not any(cells.values()):
        return []
    row = [f"  {method}"]
    for domain, value in cells.items():
        mark = "*" if summary.lowest(domain, phase) == method else " "
        row.append(f"{spread(value)}{mark}" if value else "– ")
    change = cell(summary.difference(method, MACRO, phase)) if method != BASE else None
    return [*row, signed_percent(change) if change else ""] if compared else row


def _aligned(lines: list[list[str]]) -> list[str]:
    """Columns of equal width; a line of one text is a heading."""
    widths = [max(len(line[i]) for line in lines if i < len(line)) for i in range(len(lines[0]))]
    return [
        line[0]
        if len(line) == 1
        else "  ".join(
            [
                line[0].ljust(widths[0]),
                *(text.rjust(width) for text, width in zip(line[1:], widths[1:], strict=True)),
            ]
        ).rstrip()
        for line in lines
    ]
