"""What changes of the recipe give after fine-tuning, on validation text.

    python -m benchmarks.recipe_choices --out=results/recipe/choices.jsonl --domains=books,ency,med
    python -m benchmarks.recipe_choices ... --choices="recipe; uniform replay" --method=slm

Each of CHOICES changes configs/local/recipe.py in so many settings; a model is pretrained by
--method, fine-tuned on each domain and scored on its validation windows, before and after. Finished
stages are reused, so a killed run goes on.
"""

import argparse
import dataclasses
import statistics
from collections.abc import Iterator
from pathlib import Path

from benchmarks import cells as grid
from benchmarks import intervals
from benchmarks.cells import listed
from specialm.common import code, runtime

runtime.configure()

from benchmarks.architecture import score  # noqa: E402
from specialm import config as config_lib  # noqa: E402
from specialm.common.stages import Stages  # noqa: E402
from specialm.workflows import demo, experts, pipeline, pretraining  # noqa: E402

RECIPE = "recipe"
FAST_TABLE = {"train.table_multiplier": 1.0}
UNIFORM = {**FAST_TABLE, "finetune.replay_draws": "uniform"}
BEFORE = {**UNIFORM, "finetune.average": 0.0, "finetune.learning_rate": 4e-3 / 3}
ONE_LAYER = {"model.num_layers": 1, "train.tokens": 9_500_000}
CHOICES: dict[str, dict] = {
    RECIPE: {},
    "table at 0.3 times the rate": {"train.table_multiplier": 0.3},
    "table at the rate": FAST_TABLE,
    "table at the rate, three quarters replay": {**FAST_TABLE, "finetune.replay_fraction": 0.75},
    "uniform replay": UNIFORM,
    "uniform replay, no average": BEFORE,
    "uniform replay, no average, one layer": {**BEFORE, **ONE_LAYER},
    "uniform replay, one layer": {**UNIFORM, **ONE_LAYER},
    "uniform replay, 3% specialist text": {**UNIFORM, "train.specialist_fraction": 0.03},
    "uniform replay, rate to 0": {**UNIFORM, "train.final_fraction": 0.0},
    "uniform replay, up to 4-grams": {**UNIFORM, "model.ngram_order": 4},
}
CONFIG = "configs/local/recipe.py"


@dataclasses.dataclass(frozen=True)
class Cell:
    """One line of the rows."""

    choice: str
    method: str
    domain: str
    seed: int


def cells(options: argparse.Namespace) -> Iterator[Cell]:
    """All cells, those of a seed and domain after each other."""
    for seed in options.seeds:
        for domain in options.domains:
            for choice in options.choices:
                yield Cell(choice, options.method, domain, seed)


def config_of(choice: str, method: str, domains: list[str], changes: list[str]):
    """The recipe with a choice's settings."""
    words = [f"{name}={value}" for name, value in CHOICES[choice].items()]
    words += [f"method={method}", f"domains={tuple(domains)!r}", *changes]
    return config_lib.load(CONFIG, [f"--config.{word}" for word in words])


def row(cell: Cell, options: argparse.Namespace) -> dict:
    """Pretrains, fine-tunes and scores; what is done already is reused."""
    config = config_of(cell.choice, cell.method, [cell.domain], options.set)
    demo.fetch(config)
    stages = Stages(Path(options.workdir), quiet=True)
    run = pipeline.open_run(config, stages.root, (cell.domain,), (cell.method,), stages)
    trained = pretraining.pretrain(run, cell.method, cell.domain, cell.seed)
    tuned = experts.specialize(run, trained.path, cell.domain, cell.seed, trained.fingerprint)
    return {
        **dataclasses.asdict(cell),
        "tokens": config.train.tokens,
        "before": round(score(run, trained.path)[cell.domain], 5),
        "after": round(score(run, tuned.path)[cell.domain], 5),
        "seconds": round(trained.result["seconds"], 1),
        **code.made_by([trained, tuned]),
    }


def summary(rows: list[dict]) -> list[str]:
    """A table as Markdown: bits per byte after fine-tuning, means over seeds, and the change in per
    cent to the recipe on the same domains and seeds, with its 95% t-interval over seeds.
    """
    domains = sorted({line["domain"] for line in rows})
    heads = ["method", "choice", "tokens", *domains, "macro", "against the recipe", "seeds"]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    groups = grid.by(rows, "method", "choice")
    for method, choice in sorted(groups, key=lambda key: (key[0], list(CHOICES).index(key[1]))):
        own = groups[method, choice]
        of_domain = {name: [r["after"] for r in own if r["domain"] == name] for name in domains}
        cells = [f"{statistics.mean(bits):.3f}" if bits else "" for bits in of_domain.values()]
        means = [statistics.mean(bits) for bits in of_domain.values() if bits]
        macro = f"{statistics.mean(means):.3f}" if len(means) == len(domains) else ""
        change = [] if choice == RECIPE else _changes(own, groups.get((method, RECIPE), []))
        shown = f"{intervals.shown(change, '+.1f')}%" if change else ""
        seeds = len({line["seed"] for line in own})
        cells = [f"`{method}`", choice, f"{own[0]['tokens']:,}", *cells, macro, shown, str(seeds)]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _changes(rows: list[dict], recipe: list[dict]) -> list[float]:
    """Of the mean over the domains that both have, per cent, seed by seed."""
    bases = {(line["seed"], line["domain"]): line["after"] for line in recipe}
    found = []
    for (seed,), own in sorted(grid.by(rows, "seed").items()):
        pairs = [(r["after"], bases.get((seed, r["domain"]))) for r in own]
        both = [pair for pair in pairs if pair[1] is not None]
        if both:
            ours, base = (statistics.mean(values) for values in zip(*both, strict=True))
            found.append(100 * (ours / base - 1))
    return found


def parsed(argv: list[str] | None = None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    grid.add_options(parser, "runs/recipe_choices/rows.jsonl")
    grid.add_names(parser, "--choices", CHOICES)
    parser.add_argument("--method", default="slm_is")
    parser.add_argument("--domains", type=listed(str), default=["med"])
    parser.add_argument("--seeds", type=listed(int), default=[0])
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    options = parsed(argv)
    grid.main(options, cells, lambda cell: row(cell, options), summary, "after")


if __name__ == "__main__":
    main()
