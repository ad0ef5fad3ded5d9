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
in mean bits per byte over the seeds. Where a study has two budgets, one 4 or 5 times the other,
methods are compared as N domains share a budget, too. Beside it: the first of a fixed order, the
small model always, and chance.
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
from specialm.planning.candidates import OFFERS
from specialm.planning.evidence import Row

EACH = {method for method, offer in OFFERS.items() if offer.each}  # pretrained for each domain
GOOD = 0.01  # of the best: as good
# The same choices without a law: by the methods' mean effects alone, whatever the setting.
ORDER = ("slm_is", "soup", "slm_pn", "slm_hn", "slm_mix", "slm_d", "slm", "slm_mixed")
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


Pairs = dict[str, tuple[float, float]]  # method -> (forecast, measured), means over the seeds


def compared(found: Sequence[dict]) -> dict[tuple, Pairs]:
    """(way, *setting) -> what can be served there. Importance sampling counts with its best
    forecast cap on repetitions, of 8 at most, as a plan has one.
    """
    means: dict[tuple, Pairs] = defaultdict(dict)
    for (way, *at, method, repetitions), rows in of_cells(found).items():
        if methods.get(method).large or (method == law.IMPORTANCE and repetitions > 8.5):
            continue
        forecast, measured = (
            float(np.mean([row[name] for row in rows])) for name in ("forecast", "measured")
        )
        before = means[(way, *at)].get(method)
        if before is None or forecast < before[0]:
            means[(way, *at)][method] = (forecast, measured)
    return means


def shared(means: dict[tuple, Pairs]) -> dict[tuple, Pairs]:
    """The same at equal C(N), where a study has two budgets, one N times the other: what is
    pretrained for each of N domains has the smaller, what is pretrained once the larger one.
    """
    found = {}
    for (way, study, domain, low, size), less in means.items():
        for (*other, high, other_size), more in means.items():
            same = other == [way, study, domain] and other_size == size
            each = {name: pair for name, pair in less.items() if name in EACH}
            if same and each and int(high) > int(low):
                once = {name: pair for name, pair in more.items() if name not in EACH}
                found[(way, study, domain, low, high, size)] = once | each
    return found


def choices(means: dict[tuple, Pairs]) -> dict[str, list[dict[str, float]]]:
    """way -> what was lost by each choice, relative to the best, where several were trained:
    {forecast, order (the first of ORDER), slm, chance (the share of methods that are as good)}.
    """
    made: dict[str, list[dict[str, float]]] = defaultdict(list)
    for (way, *_), of_method in means.items():
        if len(of_method) > 1:
            least = min(pair[1] for pair in of_method.values())
            lost = {name: pair[1] / least - 1 for name, pair in of_method.items()}
            made[way].append(
                {
                    "forecast": lost[min(of_method, key=lambda name: of_method[name])],
                    "order": lost[min(lost, key=ORDER.index)],
                    "slm": lost.get("slm", np.nan),  # may be a proxy, which is not forecast
                    "chance": float(np.mean(np.array(list(lost.values())) <= GOOD)),
                }
            )
    return made


def table(found: Sequence[dict]) -> str:
    """Markdown: of each way the errors."""
    lines = [
        "| left out | forecasts | mean error | median | 90% within | bias |",
        "|---|---|---|---|---|---|",
    ]
    for way in dict.fromkeys(row["way"] for row in found):
        error = np.array(
            [
                np.mean([r["forecast"] for r in rows]) / np.mean([r["measured"] for r in rows]) - 1
                for key, rows in of_cells(found).items()
                if key[0] == way
            ]
        )
        size = np.abs(error)
        lines.append(
            f"| {way} | {len(error)} | {size.mean():.1%} | {np.median(size):.1%} | "
            f"{np.percentile(size, 90):.1%} | {error.mean():+.1%} |"
        )
    return "\n".join(lines)


def choice_table(found: Sequence[dict]) -> str:
    """Markdown: of each way how often a choice was the best or as good."""
    means = compared(found)
    lines = [
        "| left out | pretraining shared by | choices | by the forecast | its mean loss | by a "
        "fixed order | always `slm` | chance |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, made in (("one domain", choices(means)), ("4 or 5", choices(shared(means)))):
        for way, of_way in made.items():
            each = {n: np.array([one[n] for one in of_way]) for n in of_way[0]}
            good = {n: f"{np.mean(v[~np.isnan(v)] <= GOOD):.0%}" for n, v in each.items()}
            lines.append(
                f"| {way} | {name} | {len(of_way)} | {good['forecast']} | "
                f"{each['forecast'].mean():.2%} | {good['order']} | {good['slm']} | "
                f"{each['chance'].mean():.0%} |"
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
        print(table(found), choice_table(found), sep="\n\n")
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
    print(table(found), choice_table(found), sep="\n\n")


if __name__ == "__main__":
    main()
