"""What cheaper updates of a bank cost in bits per byte.

    python -m benchmarks.bank_updates --out=results/bank/updates.jsonl
    python -m benchmarks.bank_updates ... --forms="dense; float32; int8" --seeds=0 --summary

The projected network of configs/local/bank.py, pretrained with each of FORMS, beside the dense
model (`dense`), on the same windows in the same order; then each domain's model is taken and
fine-tuned. A row has the mean over domains of bits per byte on held-out windows, before and after
fine-tuning, and the bytes of parameters and of what the optimizer keeps. Seeds vary initial values
and order. Finished stages are reused, so a killed run goes on. What a step of each form takes is
measured by `python -m benchmarks.families --moments` and `--every`.
"""

import argparse
import dataclasses
import statistics
from collections.abc import Iterator
from pathlib import Path

from benchmarks import cells as grid
from benchmarks import intervals
from benchmarks.cells import listed
from benchmarks.families import EVERY, MOMENTS
from specialm.common import code, runtime

runtime.configure()

from specialm import config as config_lib  # noqa: E402
from specialm import methods  # noqa: E402
from specialm.common.stages import Stages  # noqa: E402
from specialm.planning.inspection import inspect_config  # noqa: E402
from specialm.workflows import demo, experts, pipeline, pretraining  # noqa: E402

BANK, DENSE, PLAIN = "slm_pn", "dense", "float32"
FORMS: dict[str, dict] = {  # settings of train
    DENSE: {},
    **MOMENTS,
    **{f"every {every}": form for every, form in EVERY.items() if every != "1"},
    "bfloat16 parameters and moments": {
        "param_dtype": "bfloat16",
        "moment_dtype": "bfloat16",
        "second_moment_dtype": "bfloat16",
    },
}


@dataclasses.dataclass(frozen=True)
class Cell:
    """One line of the rows."""

    form: str
    seed: int


def cells(options: argparse.Namespace) -> Iterator[Cell]:
    """All cells, those of a seed after each other."""
    for seed in options.seeds:
        for form in options.forms:
            yield Cell(form, seed)


def method_of(form: str) -> str:
    """`slm` or `slm_pn`."""
    return methods.BASE if form == DENSE else BANK


def row(cell: Cell, options: argparse.Namespace) -> dict:
    """Pretrains, fine-tunes and scores; what is done already is reused."""
    method = method_of(cell.form)
    changes = [f"train.{name}={value}" for name, value in FORMS[cell.form].items()]
    changes += [f"method={method}", *options.set]
    config = config_lib.load(options.config, [f"--config.{change}" for change in changes])
    demo.fetch(config)
    domains = pipeline.domains_of(config)
    stages = Stages(Path(options.workdir), quiet=True)
    run = pipeline.open_run(config, stages.root, domains, (method,), stages)
    trained = pretraining.pretrain(run, method, "", cell.seed)
    made, found = [trained], {"before": [], "after": []}
    for domain in domains:
        tuned = experts.specialize(run, trained.path, domain, cell.seed, trained.fingerprint)
        taken = experts.taken(run, trained.path, domain, trained.fingerprint, tuned) or trained
        for phase, stage in (("before", taken), ("after", tuned)):
            label = f"{stage.path.name}-{phase}"
            scores = pipeline.score_heldout(run, stage.path, [domain], stage.fingerprint, label)
            found[phase].append(scores[domain].bits_per_byte)
        made.append(tuned)
    return {
        **dataclasses.asdict(cell),
        "tokens": config.train.tokens,
        "domains": list(domains),
        "state_bytes": inspect_config(config, run.model_config(methods.BASE))["state_bytes"],
        **{phase: statistics.mean(bits) for phase, bits in found.items()},
        "seconds": trained.seconds,
        **code.made_by(made),
    }


def summary(rows: list[dict]) -> list[str]:
    """A table as Markdown: means over seeds, and differences to `PLAIN` of the same seed with 95%
    t-intervals.
    """
    plain = {line["seed"]: line for line in rows if line["form"] == PLAIN}
    order, phases = list(FORMS), ("before", "after")
    against = f"against {PLAIN}"
    lines = [
        f"| | parameters and moments | before tuning | {against} | after it | {against} | seeds |",
        "|---" * 7 + "|",
    ]
    groups = grid.by(rows, "form")
    for (form,), found in sorted(groups.items(), key=lambda group: order.index(group[0][0])):
        shown = [f"{found[0]['state_bytes'] / 1e6:.1f} MB"]
        for phase in phases:
            shown.append(f"{statistics.mean(line[phase] for line in found):.4f}")
            pairs = [(line, plain[line["seed"]]) for line in found if line["seed"] in plain]
            more = [line[phase] - of[phase] for line, of in pairs]
            shown.append("" if form == PLAIN or not more else intervals.shown(more, "+.4f"))
        lines.append(f"| {form} | {' | '.join(shown)} | {len(found)} |")
    return lines


def parsed(argv: list[str] | None = None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    grid.add_options(parser, "runs/bank_updates/rows.jsonl")
    parser.add_argument("--config", default="configs/local/bank.py")
    grid.add_names(parser, "--forms", FORMS)
    parser.add_argument("--seeds", type=listed(int), default=[0, 1, 2])
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    options = parsed(argv)
    grid.main(options, cells, lambda cell: row(cell, options), summary, "after")


if __name__ == "__main__":
    main()
