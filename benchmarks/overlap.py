"""Share of each domain's word runs that the generic corpus has too (docs/corpora.md).

    python -m benchmarks.overlap data/corpora --width=10

Words are runs of letters and digits, case folded; runs of words do not cross documents.
"""

import argparse
import json
from pathlib import Path

from specialm.data.corpora.prose import word_shingles


def overlap(root: Path, width: int) -> dict[str, float]:
    """Return {domain: share of its distinct runs of `width` words that are in the generic corpus}.

    Args:
      root: the folder of `specialm fetch`.
    """
    generic = set().union(*(_runs(path, width) for path in (root / "generic").glob("*.jsonl")))
    shares = {}
    for path in sorted((root / "domains").glob("*.jsonl")):
        domain = _runs(path, width)
        shares[path.stem] = len(domain & generic) / max(1, len(domain))
    return shares


def _runs(path: Path, width: int) -> set[int]:
    with path.open("rb") as lines:
        return set().union(*(word_shingles(json.loads(line)["text"], width) for line in lines))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("root", type=Path)
    parser.add_argument("--width", type=int, default=10)
    arguments = parser.parse_args()
    print(json.dumps(overlap(arguments.root, arguments.width)))
