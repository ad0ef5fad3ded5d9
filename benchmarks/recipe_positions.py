"""What the recipe's models make of their context: bits per byte by position in the window.

    python -m benchmarks.recipe_positions --workdir=runs/demo --out=results/recipe/positions.jsonl

The fine-tuned models of a finished demo (`specialm demo --config=configs/local/demo.py`), and
n-grams of the same text, on the same held-out windows; means over the domains. n-grams of order 5
have nothing to gain from position 5 on: what falls from there on is use of the context.
"""

import argparse
import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks import cells as grid
from specialm.common import code, runtime

runtime.configure()

import numpy as np  # noqa: E402

from benchmarks.cells import listed  # noqa: E402
from benchmarks.recipe_choices import CONFIG  # noqa: E402
from specialm import config as config_lib  # noqa: E402
from specialm.common.stages import Stages  # noqa: E402
from specialm.evaluation import baselines as baselines_lib  # noqa: E402
from specialm.evaluation import positions  # noqa: E402
from specialm.evaluation.ngrams import Windows  # noqa: E402
from specialm.training import runs  # noqa: E402
from specialm.workflows import demo, experts, pipeline, pretraining  # noqa: E402
from specialm.workflows.baselines import text_of  # noqa: E402

NGRAM = "ngram"
METHODS = ("slm", "slm_is")


@dataclasses.dataclass(frozen=True)
class Cell:
    """One line of the rows."""

    method: str
    domain: str
    seed: int


class Demo:
    """A finished demo, and the n-grams of its generic text."""

    def __init__(self, options: argparse.Namespace):
        words = [f"domains={tuple(options.domains)!r}", *options.set]
        config = config_lib.load(CONFIG, [f"--config.{word}" for word in words])
        demo.fetch(config)
        stages = Stages(Path(options.workdir), quiet=True)
        domains = tuple(options.domains)
        self.run = pipeline.open_run(config, stages.root, domains, METHODS, stages)
        generic = (self.run.generic, np.arange(len(self.run.generic)))
        self.corpus = baselines_lib.Corpus(generic, self.run.prepared.vocabulary)

    def row(self, cell: Cell) -> dict:
        """Trains what is missing, and scores."""
        text = text_of(self.run, self.corpus, cell.domain)
        if cell.method == NGRAM:
            found, done = self._ngram(text), []
        else:
            trained = pretraining.pretrain(self.run, cell.method, cell.domain, cell.seed)
            tuned = experts.specialize(
                self.run, trained.path, cell.domain, cell.seed, trained.fingerprint
            )
            model = runs.load(tuned.path, self.run.mesh)
            found, done = positions.by_position(model, *text.heldout), [trained, tuned]
        return {
            **dataclasses.asdict(cell),
            "positions": [dataclasses.asdict(each) for each in found],
            "last_bits_per_byte": round(found[-1].bits_per_byte, 4),
            **code.made_by(done),
        }

    def _ngram(self, text: baselines_lib.Text) -> list[positions.Positions]:
        windows = Windows.of(*text.heldout)
        mask_NxL = windows.mask_NxL
        nll_NxL = np.zeros(mask_NxL.shape)
        nll_NxL[mask_NxL] = -np.log(baselines_lib.mixed_probabilities(text))
        bytes_NxL = self.run.prepared.vocabulary.piece_bytes[windows.tokens_NxL]
        ends = positions.edges(mask_NxL.shape[1])
        return positions.of_losses(nll_NxL, mask_NxL, bytes_NxL, ends)


def cells(options: argparse.Namespace) -> Iterator[Cell]:
    """All cells; n-grams draw nothing, and have one seed."""
    for domain in options.domains:
        yield Cell(NGRAM, domain, options.seeds[0])
        yield from (Cell(name, domain, seed) for seed in options.seeds for name in METHODS)


def summary(rows: Sequence[dict]) -> list[str]:
    """Markdown: a line for each method, means over domains and seeds."""
    first = rows[0]["positions"]
    heads = [
        f"{p['first']}-{p['last']}" if p["last"] > p["first"] else str(p["last"]) for p in first
    ]
    lines = [f"| | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
    for (method,), own in sorted(grid.by(rows, "method").items()):
        means = np.mean([[p["bits_per_byte"] for p in row["positions"]] for row in own], axis=0)
        name = "n-grams" if method == NGRAM else f"`{method}`"
        lines.append(f"| {name} | {' | '.join(f'{value:.3f}' for value in means)} |")
    return lines


def parsed(argv: list[str] | None = None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    grid.add_options(parser, "runs/demo/positions.jsonl")
    parser.add_argument("--domains", type=listed(str), default=["books", "ency", "med"])
    parser.add_argument("--seeds", type=listed(int), default=[0])
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    options = parsed(argv)
    own: list[Demo] = []

    def row(cell: Cell) -> dict:
        own[:] = own or [Demo(options)]
        return own[0].row(cell)

    grid.main(options, cells, row, summary, "last_bits_per_byte")


if __name__ == "__main__":
    main()
