"""How fast models with a specialist's own vocabulary write: bytes a second against the old one's.

    python -m benchmarks.adaptation_speed --rows=results/adaptation/domains.jsonl

The models are those of benchmarks/adaptation_domains.py and must be in its work folder. Each way's
model and that of the old vocabulary write the same number of texts in turn, batch 1, drawn at
temperature 1, on a quiet machine. What is timed is tokens; a token is worth as many bytes as on the
domain's held-out text, so that what the models happen to write does not count.
"""

import argparse
import json
import statistics
from pathlib import Path

from benchmarks.adaptation_domains import OLD
from benchmarks.cells import read
from benchmarks.turns import timed
from specialm import api
from specialm.common import code

PROMPT, TEXTS = " the", 4


class Writer:
    """Writes the same texts again and again."""

    def __init__(self, path: Path, length: int):
        self._model, self._length = api.load(path), length
        self.tokens = self(1)

    def __call__(self, count: int) -> int:
        """Tokens written, by so many times TEXTS texts."""
        found = [
            self._model.complete([PROMPT], self._length, temperature=1.0, top_k=0, seed=seed)
            for seed in range(TEXTS)
            for _ in range(count)
        ]
        return sum(len(each.tokens) for (each,) in found)


def row(old: dict, new: dict, root: Path, rounds: int, length: int) -> dict:
    """Medians of rates, and the median of the rounds' ratios: above 1 the new one is faster."""
    sides = {line["way"]: Writer(root / line["run"], length) for line in (old, new)}
    seconds = timed(sides, rounds, count=1)
    rates = {
        line["way"]: [
            sides[line["way"]].tokens * line["heldout_bytes"] / line["heldout_tokens"] / each
            for each in seconds[line["way"]]
        ]
        for line in (old, new)
    }
    ratios = [of / base for base, of in zip(rates[OLD], rates[new["way"]], strict=True)]
    return {
        **{name: new[name] for name in ("model", "domain", "way", "vocabulary_size")},
        "old_bytes_per_second": round(statistics.median(rates[OLD]), 1),
        "bytes_per_second": round(statistics.median(rates[new["way"]]), 1),
        "ratio": round(statistics.median(ratios), 3),
        "rounds": rounds,
        "length": length,
        **code.made_by(),
    }


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=Path, default=Path("results/adaptation/domains.jsonl"))
    parser.add_argument("--workdir", default="runs/adaptation")
    parser.add_argument("--out", type=Path, default=Path("results/adaptation/speed.jsonl"))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--length", type=int, default=96, help="tokens of a text, at most")
    options = parser.parse_args(argv)
    first: dict[tuple, dict] = {}  # of each way one seed
    for line in read(options.rows):
        first.setdefault((line["model"], line["domain"], line["way"]), line)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with options.out.open("w") as file:
        for (model, domain, way), line in first.items():
            if way == OLD or (model, domain, OLD) not in first:
                continue
            found = row(
                first[model, domain, OLD],
                line,
                Path(options.workdir) / "models",
                options.rounds,
                options.length,
            )
            file.write(json.dumps(found) + "\n")
            file.flush()
            print(f"{model} {domain} {way}: {found['ratio']:.3f} times the bytes a second")


if __name__ == "__main__":
    main()
