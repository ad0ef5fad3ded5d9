"""How many tokens a specialist's own vocabulary saves, of each domain and size; nothing is trained.

    python -m benchmarks.adaptation_tokens --out=results/adaptation/tokens.jsonl

The models, domains and work folder are those of benchmarks/adaptation_domains.py. A vocabulary is
trained on the training part of a domain's text (`new`), or is the model's own, fitted to it
(`extend`); counted are the tokens of its held-out part.
"""

import argparse
import dataclasses
from collections.abc import Iterator

from benchmarks import adaptation, adaptation_domains
from benchmarks import cells as grid
from benchmarks.cells import listed
from specialm.common import code
from specialm.data import prepare
from specialm.workflows import new_rows, pipeline

DOMAINS = ("books", "dialog", "ency", "legal", "math", "med", "theology", "de", "ru")
SIZES = {  # 0: as many as the old one
    "slm": (("new", 0),),  # a SentencePiece model, which cannot be extended
    "open": (("new", 4096), ("new", 8192), ("new", 16_384), ("extend", 0)),
}


@dataclasses.dataclass(frozen=True)
class Cell:
    """One line of the rows."""

    model: str
    domain: str
    vocabulary: str
    size: int


def cells(options: argparse.Namespace) -> Iterator[Cell]:
    """All cells."""
    for model in options.models:
        for domain in options.domains:
            for vocabulary, size in SIZES[model]:
                yield Cell(model, domain, vocabulary, size)


def row(cell: Cell, models: adaptation.Models) -> dict:
    """Cuts the held-out text both ways."""
    like = adaptation_domains.Cell(cell.model, cell.domain, f"{cell.vocabulary} none", 0, 1000)
    base = adaptation_domains.base_of(like, models)
    run = adaptation_domains.opened(like, base, models, cell.size)
    given = {new_rows.SIZE} if cell.size else set()
    made = new_rows.vocabulary(run, base, cell.vocabulary, given)
    domains = prepare.prepare_specialist(run.config, run.stages, [cell.domain], made).domains
    new = dataclasses.replace(run, prepared=dataclasses.replace(run.prepared, domains=domains))
    old_tokens, tokens = (
        int(pipeline.heldout(of, cell.domain)[0].sizes_N.sum()) for of in (run, new)
    )
    return {
        **dataclasses.asdict(cell),
        "vocabulary_size": made.size,
        "old_tokens": old_tokens,
        "tokens": tokens,
        "saved": 1 - tokens / old_tokens,
        **code.made_by(),
    }


def summary(rows: list[dict]) -> list[str]:
    """A table as Markdown: the share of tokens saved."""
    names = list(dict.fromkeys(row["domain"] for row in rows))
    lines = [
        "| model | vocabulary | " + " | ".join(names) + " |",
        "|---|---" + "|---" * len(names) + "|",
    ]
    found = {(row["model"], row["vocabulary"], row["vocabulary_size"]): {} for row in rows}
    for row in rows:
        found[row["model"], row["vocabulary"], row["vocabulary_size"]][row["domain"]] = row["saved"]
    for (model, vocabulary, size), saved in found.items():
        cells = [f"{saved[name]:+.1%}" if name in saved else "" for name in names]
        lines.append(f"| {model} | {vocabulary}, {size:,} | " + " | ".join(cells) + " |")
    return lines


def main(argv: list[str] | None = None) -> None:
    made = adaptation.parser(__doc__, "tokens.jsonl", languages=False)
    made.add_argument("--models", type=listed(str), default=list(SIZES))
    made.add_argument("--domains", type=listed(str), default=list(DOMAINS))
    options = made.parse_args(argv)
    adaptation.check(options, {"models": SIZES})
    models = adaptation.Models(options)
    grid.main(options, cells, lambda cell: row(cell, models), summary, "saved")


if __name__ == "__main__":
    main()
