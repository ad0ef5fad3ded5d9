"""Share of each domain's word runs that the generic corpus has too (docs/corpora.md).

    python -m benchmarks.overlap data/corpora --width=10
    python -m benchmarks.overlap data/corpora --generic=generic,generic_wide --by_source

Words are runs of letters and digits, case folded; runs of words do not cross documents.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from specialm.data.corpora.prose import word_shingles


def overlap(
    root: Path, width: int, folders: Sequence[str] = ("generic",), by_source: bool = False
) -> dict:
    """Return {domain: share of its distinct runs of `width` words that are in the generic corpus}.

    Args:
      root: the folder of `specialm fetch`.
      width: of the runs, in words.
      folders: those of the generic corpus.
      by_source: {domain: {source: share}} instead, of the sources that have any.
    """
    domains = {
        path.stem: set().union(*_runs(path, width))
        for path in sorted((root / "domains").glob("*.jsonl"))
    }
    shared: dict[str, dict[str, set[int]]] = {name: {} for name in domains}
    for path in sorted(path for folder in folders for path in (root / folder).glob("*.jsonl")):
        for runs in _runs(path, width):
            for name, domain in domains.items():
                shared[name].setdefault(path.stem, set()).update(domain & runs)
    if by_source:
        return {
            name: {source: _share(runs, domains[name]) for source, runs in sources.items() if runs}
            for name, sources in shared.items()
        }
    return {
        name: _share(set().union(*sources.values()), domains[name])
        for name, sources in shared.items()
    }


def _share(runs: set[int], of: set[int]) -> float:
    return len(runs) / max(1, len(of))


def _runs(path: Path, width: int) -> Iterator[set[int]]:
    """Yield the runs of each document."""
    with path.open("rb") as lines:
        for line in lines:
            yield word_shingles(json.loads(line)["text"], width)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("root", type=Path)
    parser.add_argument("--width", type=int, default=10)
    parser.add_argument("--generic", default="generic")
    parser.add_argument("--by_source", action="store_true")
    arguments = parser.parse_args()
    folders = arguments.generic.split(",")
    print(json.dumps(overlap(arguments.root, arguments.width, folders, arguments.by_source)))
