"""The registered forecasts against what was trained afterwards.

    python -m benchmarks.scored --runs=runs/legal,runs/math    # takes over the rows of these demos
    python -m benchmarks.scored                                # the table of results/README.md

The rows are in results/forecasts/trained.jsonl, those of a demo with the parameters of the model.
"""

import argparse
import json
import tempfile
from pathlib import Path

from specialm.common import files
from specialm.planning import evidence, registered
from specialm.planning.recommendations import label

FOLDER = Path(__file__).resolve().parent.parent / "results" / "forecasts"
ROWS, REGISTERED = FOLDER / "trained.jsonl", FOLDER / "registered"


def taken(run: Path) -> list[dict]:
    """The rows of a demo's domains; averages over them are left out."""
    rows, facts = evidence.run_rows(run / "results.jsonl")
    return [
        row | {"params": facts["models"].get(row["method"], {}).get("params")}
        for row in rows
        if row["domain"] != "macro"
    ]


def read() -> list[dict]:
    """The committed rows."""
    return [json.loads(line) for line in ROWS.read_text().splitlines()] if ROWS.exists() else []


def score(domain: str, rows: list[dict]) -> dict:
    """What `specialm score_plan` says of a registered forecast and these rows."""
    of_domain = [row for row in rows if row["domain"] == domain]
    models = {row["method"]: {"params": row["params"]} for row in of_domain if row["params"]}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "results.jsonl"
        files.write_text(path, "".join(json.dumps(row) + "\n" for row in of_domain))
        files.write_json(path.parent / "run.json", {"models": models})
        return registered.score(registered.read(REGISTERED / f"{domain}.json"), path, domain)


def domains(rows: list[dict]) -> list[str]:
    """Those with a forecast and rows, in the order of their names."""
    there = {row["domain"] for row in rows}
    return [path.stem for path in sorted(REGISTERED.glob("*.json")) if path.stem in there]


def gain(found: dict, name: str) -> float:
    """Bits per byte of importance sampling against the small model, relative.

    Args:
      found: as `score` gives it.
      name: forecast or measured.
    """
    of = {each["method"]: each[name] for each in found["methods"]}
    return of["slm_is"] / of["slm"] - 1


def table(rows: list[dict]) -> str:
    """For results/README.md."""
    lines = [
        "| domain | method | forecast | 80% | 95% | measured | error | inside |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for domain in domains(rows):
        for each in score(domain, rows)["methods"]:
            inside = "80%" if each["inside_80"] else "95%" if each["inside_95"] else "no"
            sides = ["{:.2f} to {:.2f}".format(*each[f"interval_{level}"]) for level in (80, 95)]
            lines.append(
                f"| {domain} | {label(each['method'])} | {each['forecast']:.3f} | {sides[0]} | "
                f"{sides[1]} | {each['measured']:.3f} | {each['error']:+.1%} | {inside} |"
            )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", default="", help="work folders of demos, with commas between")
    options = parser.parse_args()
    rows = read()
    for run in filter(None, options.runs.split(",")):
        new = taken(Path(run))
        rows = [row for row in rows if row["domain"] not in {each["domain"] for each in new}]
        rows += new
    if options.runs:
        files.write_text(ROWS, "".join(json.dumps(row) + "\n" for row in rows))
    print(table(rows))
    for domain in domains(rows):
        found = score(domain, rows)
        said, came = gain(found, "forecast"), gain(found, "measured")
        print(
            f"{domain}: recommended {found['recommended']}, best {found['best']}, regret "
            f"{found['regret']:.2%}; slm_is against slm: forecast {said:+.1%}, measured {came:+.1%}"
        )


if __name__ == "__main__":
    main()
