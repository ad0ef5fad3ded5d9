"""A grid of cells, each of which becomes one JSON line of a file; a killed one goes on."""

import argparse
import dataclasses
import json
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any


def read(path: Path) -> list[dict]:
    """The rows so far; a last line that was cut off is removed."""
    if not path.is_file():
        return []
    text = path.read_text()
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        path.write_text(whole)
    return [json.loads(line) for line in whole.splitlines()]


def listed(kind: Callable) -> Callable:
    """A parser of values with commas between them."""
    return lambda text: [kind(part) for part in text.split(",") if part]


def add_options(parser: argparse.ArgumentParser, out: str) -> None:
    """Of every grid: its rows' file, a work folder (where that file is), changes, the summary."""
    parser.add_argument("--out", default=out)
    parser.add_argument("--workdir", default=str(Path(out).parent))
    parser.add_argument("--set", action="append", default=[], help="FIELD=VALUE of the config")
    parser.add_argument("--summary", action="store_true", help="only of the rows that are there")


def add_names(parser: argparse.ArgumentParser, option: str, known: Iterable[str]) -> None:
    """An option of some of the known names, with semicolons between them; by default it is all."""
    names = list(known)

    def chosen(text: str) -> list[str]:
        found = [name.strip() for name in text.split(";")]
        for name in found:
            if name not in names:
                raise argparse.ArgumentTypeError(f"{name!r}: must be some of {'; '.join(names)}")
        return found

    parser.add_argument(option, type=chosen, default=names, help="with semicolons between them")


def run(
    out: Path,
    cells: Iterable[Any],
    row: Callable[[Any], dict],
    figure: str,
    work_of: Callable[[Any], float] = lambda cell: 1.0,
) -> list[dict]:
    """All rows of the file, after those that it did not have are appended.

    Args:
      cells: of one dataclass, whose fields every row has.
      row: what is measured of a cell.
      figure: the field of a row that is printed.
      work_of: roughly how long a cell takes, in any unit.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    rows = read(out)
    left = [cell for cell in cells if not _has(rows, cell)]
    started, spent = time.time(), 0.0
    for number, cell in enumerate(left):
        line = row(cell)
        rows.append(line)
        with out.open("a") as file:
            file.write(json.dumps(line) + "\n")
        spent += work_of(cell)
        rest = sum(map(work_of, left[number + 1 :]))
        minutes = (time.time() - started) / spent * rest / 60
        name = " ".join(str(value) for value in dataclasses.astuple(cell))
        print(f"{name}: {line[figure]:.4f}; about {minutes:.0f} min left", flush=True)
    return rows


def main(
    options: argparse.Namespace,
    cells: Callable[[argparse.Namespace], Iterable[Any]],
    row: Callable[[Any], dict],
    summary: Callable[[list[dict]], list[str]],
    figure: str,
    work_of: Callable[[Any], float] = lambda cell: 1.0,
) -> None:
    """Measures the cells that --out has no row of, or none with --summary; prints what rows say."""
    asked = [] if options.summary else cells(options)
    print("\n".join(summary(run(Path(options.out), asked, row, figure, work_of))))


def _has(rows: list[dict], cell: Any) -> bool:
    asked = dataclasses.asdict(cell).items()
    return any(asked <= {name: line.get(name) for name, _ in asked}.items() for line in rows)


def by(rows: list[dict], *names: str) -> dict[tuple, list[dict]]:
    """{values of these fields: the rows that have them}."""
    groups: dict[tuple, list[dict]] = {}
    for line in rows:
        groups.setdefault(tuple(line[name] for name in names), []).append(line)
    return groups
