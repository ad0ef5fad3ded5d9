"""How good are forecasts? Every committed row is forecast by a law fitted without it.

    python -m benchmarks.forecasts --out=results/forecasts/rows.jsonl    # minutes of one core
    python -m benchmarks.forecasts --read=results/forecasts/rows.jsonl   # the table alone
    python -m benchmarks.forecasts --kind=own                            # without generic text

Rows are left out in six ways. `cell`: all seeds of one study, method, domain, budget and specialist
set. `domain`: a domain, in all studies. `domain, a proxy`: a domain, but for the smallest budget of
the small model in the same study, as a user's own proxy run. `study`: a whole study. `4x`: in every
study with two budgets the larger ones, 4 or 5 times; the smaller ones are there, as proxies.
`30x`: the largest models of a study, by a law of those rows of the others that have at most a
thirtieth of their compute (6 N D); no study has such pairs within, so sizes and settings differ
too.

A method without any row that is left is not forecast, as in a plan.

A method is chosen as a plan does: the lowest forecast of those that can be served, among what was
trained at the same study, budget, domain and specialist set; its loss is against the best of these,
in mean bits per byte over the seeds.
"""

import argparse
import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from specialm import methods
from specialm.common import code
from specialm.planning import evidence, law
from specialm.planning.evidence import Row

GOOD = 0.01  # of the best: as good
Setting = tuple[str, str, int, int]


@dataclass(frozen=True)
class Left:
    """What is forecast, and what the law was fitted to."""

    way: str
    name: str
    rows: list[Row]
    known: list[Row]


def setting(row: Row) -> Setting:
    """What methods are compared at: equal compute, text and seeds."""
    return (row.study, row.domain, _rounded(row.compute), row.specialist_bytes)


def _rounded(compute: float) -> int:
    """FLOPs to two powers of 2^1/2: a large and a small model of one budget are the same."""
    return round(2 * np.log2(compute))


def ways(rows: Sequence[Row]) -> Iterator[Left]:
    """Everything that is left out."""

    def left(way: str, name: str, out: Callable[[Row], bool], also=lambda row: False) -> Left:
        known = [row for row in rows if not out(row) and not also(row)]
        methods_known = {*law.PLAIN, *(row.method for row in known)}
        wanted = [row for row in rows if out(row) and row.method in methods_known]
        return Left(way, name, wanted, known)

    for key in sorted({(*setting(row), row.method) for row in rows}):
        yield left("cell", str(key), lambda row, key=key: (*setting(row), row.method) == key)
    for domain in sorted({row.domain for row in rows}):
        yield left("domain", domain, lambda row, domain=domain: row.domain == domain)
        yield left(
            "domain, a proxy",
            domain,
            lambda row, domain=domain: row.domain == domain and not _is_proxy(row, rows),
        )
    for study in sorted({row.study for row in rows}):
        yield left("study", study, lambda row, study=study: row.study == study)
    for study, least in smallest(rows).items():
        larger = [r for r in rows if r.study == study and r.compute > 3 * least]
        if larger and any(r.study == study and r.compute <= 3 * least for r in rows):
            yield left("4x", study, lambda row, larger=larger: row in larger)
    for study in sorted({row.study for row in rows}):
        most = max(row.compute for row in rows if row.study == study)
        known = [r for r in rows if r.study != study and r.compute <= most / 30]
        if known:
            yield left(
                "30x",
                study,
                lambda row, study=study, most=most: row.study == study and row.compute > most / 1.5,
                lambda row, study=study, most=most: row.study == study or row.compute > most / 30,
            )


def smallest(rows: Sequence[Row]) -> dict[str, float]:
    """The least compute of each study."""
    studies = sorted({row.study for row in rows})
    return {name: min(r.compute for r in rows if r.study == name) for name in studies}


def _is_proxy(row: Row, rows: Sequence[Row]) -> bool:
    of_study = [r for r in rows if r.study == row.study and r.method == "slm"]
    return row.method == "slm" and row.compute == min(r.compute for r in of_study)


def forecast(left: Left, kind: str) -> list[dict]:
    """A row for each of those left out: forecast and measured bits per byte."""
    fitted = law.fit(left.known, kind)
    bits_N = np.exp(law.log_bits(fitted, left.rows, kind))
    return [
        {
            "way": left.way,
            "left_out": left.name,
            **{n: getattr(row, n) for n in ("study", "method", "domain", "seed")},
            "params": row.params,
            "tokens": row.tokens,
            "specialist_bytes": row.specialist_bytes,
            "repetitions": row.repetitions,
            "at": list(setting(row)),
            "forecast": round(float(bits), 5),
            "measured": row.bits_per_byte,
        }
        for row, bits in zip(left.rows, bits_N, strict=True)
    ]


def of_cells(found: Sequence[dict]) -> dict[tuple, list[dict]]:
    """Rows of `way`, setting and method: the seeds of one cell."""
    cells = defaultdict(list)
    for row in found:
        cells[(row["way"], *map(str, row["at"]), row["method"], row["repetitions"])].append(row)
    return cells


def choices(found: Sequence[dict]) -> dict[str, list[float]]:
    """way -> what was lost by each choice, relative to the best, where several were trained.
    Importance sampling counts with its best forecast cap on repetitions, of 8 at most, as a plan
    has one.
    """
    means: dict[tuple, dict[str, tuple[float, float]]] = defaultdict(dict)
    for (way, *at, method, repetitions), rows in of_cells(found).items():
        if methods.get(method).large or (method == law.IMPORTANCE and repetitions > 8.5):
            continue
        pair = tuple(float(np.mean([r[name] for r in rows])) for name in ("forecast", "measured"))
        before = means[(way, *at)].get(method)
        if before is None or pair[0] < before[0]:
            means[(way, *at)][method] = pair
    lost: dict[str, list[float]] = defaultdict(list)
    for (way, *_), of_method in means.items():
        if len(of_method) > 1:
            chosen = min(of_method.values())[1]
            lost[way].append(chosen / min(pair[1] for pair in of_method.values()) - 1)
    return lost


def table(found: Sequence[dict]) -> str:
    """Markdown: of each way error and choices."""
    lost = choices(found)
    lines = [
        "| left out | forecasts | mean error | median | 90% within | bias | choices | best or "
        "within 1% | mean loss |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for way in dict.fromkeys(row["way"] for row in found):
        error = np.array(
            [
                np.mean([r["forecast"] for r in rows]) / np.mean([r["measured"] for r in rows]) - 1
                for key, rows in of_cells(found).items()
                if key[0] == way
            ]
        )
        each = np.array(lost.get(way, []))
        good = f"{np.mean(each <= GOOD):.0%} | {each.mean():.2%}" if len(each) else "– | –"
        size = np.abs(error)
        lines.append(
            f"| {way} | {len(error)} | {size.mean():.1%} | {np.median(size):.1%} | "
            f"{np.percentile(size, 90):.1%} | {error.mean():+.1%} | {len(each)} | {good} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="where the forecasts go")
    parser.add_argument("--read", type=Path, help="print the table of these, compute nothing")
    parser.add_argument("--kind", default="mixed", choices=("mixed", "own"), help="n-gram figure")
    options = parser.parse_args()
    if options.read:
        found = [json.loads(line) for line in options.read.read_text().splitlines()]
        print(table(found))
        return
    rows, found = evidence.rows(), []
    planned = [left for left in ways(rows) if left.rows]
    for number, left in enumerate(planned, 1):
        found += forecast(left, options.kind)
        if number % 20 == 0 or number == len(planned):
            print(f"{number} of {len(planned)} fits", flush=True)
    made_by = code.made_by()
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        text = "".join(json.dumps(row | made_by) + "\n" for row in found)
        options.out.write_text(text)
    print(table(found))


if __name__ == "__main__":
    main()
