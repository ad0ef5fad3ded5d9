"""A task learnt in English and asked in other languages, with the embeddings of each way to them.

    python -m benchmarks.adaptation_tasks --out=results/adaptation/tasks.jsonl    # the whole grid
    python -m benchmarks.adaptation_tasks ... --languages=ru --kinds=masked --seeds=0 --summary

The models are those of benchmarks/adaptation.py: for each kind and seed one that was pretrained on
English with its last head alone, and one with a second head behind --layer. Each learns the tasks
of benchmarks/adaptation_topics.py in English, embeddings as they are (`specialm transfer`). For
each language its embeddings are learnt on --tokens of the language's own text, which has no labels,
through the whole model, MiniJoint's or MiniPost's, or not at all; and the test of that language is
scored with them. Every cell is one JSON line of --out, with the score of English text, of the
language read with the English embeddings, and of counts of English words. A task is learnt in at
most --steps steps, until validation stops improving. A killed run goes on where it was.
"""

import argparse
import dataclasses
import statistics
from collections.abc import Iterator
from pathlib import Path

from benchmarks import adaptation, adaptation_text, adaptation_topics, intervals
from benchmarks import cells as grid
from benchmarks.cells import listed
from specialm.common import code
from specialm.common.errors import UserError
from specialm.workflows import adapting_plan, from_checkpoint, initial, transferring
from specialm.workflows import transferring_task as task_lib

JOINT = "mini_joint"  # whose model has learnt English with a second head
# By nats of English validation text, of 8e-4, 2e-3 and 5.3e-3 (a third of pretraining's rate).
RATE = "finetune.learning_rate=2e-3"
FIGURES = ("accuracy", "interval", "macro_f1", "majority", "examples", "cut")


@dataclasses.dataclass(frozen=True)
class Cell:
    """One line of the rows."""

    task: str
    kind: str
    seed: int
    language: str
    via: str
    tokens: int


def cells(options: argparse.Namespace) -> Iterator[Cell]:
    """All cells, those that share models after each other."""
    for kind in options.kinds:
        for seed in options.seeds:
            for language in options.languages:
                for via in options.via:
                    tokens = 0 if via == "none" else options.tokens
                    for task in options.tasks:
                        yield Cell(task, kind, seed, language, via, tokens)


def row(cell: Cell, models: adaptation.Models, options: argparse.Namespace) -> dict:
    """Learns, adapts and scores; what is done already is reused."""
    of_text = adaptation.Cell(
        cell.kind, cell.seed, cell.language, cell.via, adaptation.INIT, cell.tokens
    )
    _, base, made = adaptation.adapted(of_text, models)
    files = adaptation_topics.write(models.work / "text", cell.task, options.languages)
    english = _asked(models, base, files, adaptation_text.ENGLISH, None)
    asked = _asked(models, base, files, cell.language, made.stage.path)
    (of_english,), (of_old,) = english.tests.values(), asked.tests.values()
    (swapped,) = asked.swapped.values()
    return {
        **dataclasses.asdict(cell),
        **{name: swapped[name] for name in FIGURES},
        "old_accuracy": of_old["accuracy"],
        "english_accuracy": of_english["accuracy"],
        "words_accuracy": adaptation_topics.by_words(files["train"], files[cell.language]),
        "labels": len(english.stage.result["labels"]),
        "steps": english.stage.result["steps"],
        "best_step": english.stage.result["best_step"],
        "flops": made.stage.result["flops"] - made.stage.result.get("valid_flops", 0),
        "task_flops": english.stage.result["flops"],
        **code.made_by([made.stage, english.stage]),
    }


def _asked(
    models: adaptation.Models,
    base: initial.Initial,
    files: dict[str, Path],
    language: str,
    adapted: Path | None,
) -> transferring.Tuned:
    changes = [f"finetune.max_steps={models.options.steps}", RATE, *models.options.set]
    config = from_checkpoint.load(base.path, changes, trusted=True)
    asked = task_lib.Asked(str(files["train"]), tests=(str(files[language]),))
    given = {each.partition("=")[0] for each in changes}
    return transferring.transfer(
        config,
        given,
        base,
        adapted,
        task_lib.read(asked, base.config),
        models.stages,
        models.mesh(config),
    )


def summary(rows: list[dict]) -> list[str]:
    """A table as Markdown: means over seeds with 95% t-intervals."""
    lines = ["| task | model | language | embeddings | tokens | accuracy | macro F1 | rows |"]
    lines.append("|---|---|---|---|---|---|---|---|")
    groups = grid.by(rows, "task", "kind", "language", "via", "tokens")
    for (task, kind, language, via, tokens), found in sorted(groups.items()):
        accuracy = intervals.shown([line["accuracy"] for line in found])
        f1 = intervals.shown([line["macro_f1"] for line in found])
        lines.append(
            f"| {task} | {kind} | {language} | {via} | {tokens:,} | {accuracy} | {f1} | "
            f"{len(found)} |"
        )
    beside = {
        "old_accuracy": "with English embeddings",
        "words_accuracy": "words and logistic regression",
        "majority": "the most frequent label",
    }
    for (task, kind, language), found in sorted(grid.by(rows, "task", "kind", "language").items()):
        said = [
            f"{words} {statistics.mean(line[name] for line in found):.3f}"
            for name, words in beside.items()
            if found[0][name] is not None
        ]
        lines.append(f"\n{task}, {kind}, {language}: {'; '.join(said)}")
    for (task, kind), found in sorted(grid.by(rows, "task", "kind").items()):
        english = {(line["seed"], line["via"] == JOINT): line["english_accuracy"] for line in found}
        lines.append(f"\n{task}, {kind}, English: {intervals.shown(list(english.values()))}")
    return lines


def parsed(argv: list[str] | None = None) -> argparse.Namespace:
    """The options.

    Raises:
      UserError: a language, a kind, a way or a task that there is not.
    """
    parser = adaptation.parser(__doc__, "tasks.jsonl")
    parser.add_argument("--tasks", type=listed(str), default=list(adaptation_topics.TASKS))
    parser.add_argument("--via", type=listed(str), default=list(adapting_plan.VIA))
    parser.add_argument("--tokens", type=int, default=500_000, help="that rows are learnt on")
    parser.add_argument("--steps", type=int, default=600, help="that a task is learnt in, at most")
    options = parser.parse_args(argv)
    adaptation_topics.check(options.tasks)
    adaptation.check(options, {"kinds": adaptation.KINDS, "via": adapting_plan.VIA})
    for name in ("tokens", "steps"):
        if (value := getattr(options, name)) < 1:
            raise UserError(f"--{name}={value}: must be at least 1.")
    return options


def main(argv: list[str] | None = None) -> None:
    options = parsed(argv)
    models = adaptation.Models(options)
    grid.main(options, cells, lambda cell: row(cell, models, options), summary, "accuracy")


if __name__ == "__main__":
    main()
