"""The study: a grid of arms x generic budgets x specialist set sizes x domains x seeds (grid.py).

Each cell pretrains (shared by all cells that need the same model), takes the domain's model out,
fine-tunes and scores it. Everything is a stage, so a killed study repeats nothing that it finished.
"""

import copy
import json
import sys
import time
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from specialm import methods
from specialm.clustering.clusters import cluster
from specialm.common import code, processes, provenance
from specialm.common.files import to_json, write_json, write_text
from specialm.common.stages import Stage, Stages
from specialm.evaluation import cost, perplexity
from specialm.planning.inspection import inspect_config
from specialm.training import runs
from specialm.workflows import experts, finetuning, grid, heldout, pipeline, pretraining, repeats


def study(config: ConfigDict, workdir: Path) -> tuple[dict, str]:
    """Runs all cells; finished stages are reused.

    Writes `results.jsonl` and `study.json` in `workdir` after every cell; those of a study with
    other settings stay beside them under a number.

    Returns:
      ({"results", "cells", "seconds", "workdir"}, a summary in words).
    """
    started = time.time()
    planned = grid.cells(config)
    record = {**provenance.describe(config), "models": {}, "histograms": {}}
    processes.run_on_first(
        "setting aside",
        lambda: provenance.set_aside(
            workdir,
            "study.json",
            record["settings"],
            ("results.jsonl", "report.html", "figures", "tables"),
        ),
    )
    before = _cells_done(workdir)  # their rows stay until there are more
    study_run = StudyRun(config, workdir)
    pace, rows = grid.Pace(), []
    expected = grid.expected_flops(config, planned, len(study_run.domains))
    record |= {"histograms": study_run.histograms(), "contamination": study_run.contamination()}
    for number, cell in enumerate(planned):
        rows += [row | study_run.made_by() for row in study_run.rows(cell)]
        record["models"].setdefault(cell.arm.name, study_run.facts(cell))
        pace.add(expected[number], study_run.new_stages())
        record |= {
            "seconds": sum(pace.seconds.values()),  # of all sessions
            "cells": {"done": number + 1, "planned": len(planned)},
        }
        if processes.is_first() and number + 1 >= before:
            write_text(workdir / "results.jsonl", "".join(to_json(row) + "\n" for row in rows))
            write_json(workdir / "study.json", record)
        _tell(number, planned, pace.left(expected[number + 1 :]), started)
    seconds = time.time() - started
    return (
        {"results": len(rows), "cells": len(planned), "seconds": seconds, "workdir": str(workdir)},
        f"{len(planned)} cells, {len(rows)} rows in {workdir / 'results.jsonl'} "
        f"({seconds:.0f} s). Draw them with: specialm report --workdir={workdir}",
    )


def _cells_done(workdir: Path) -> int:
    """Cells whose rows an earlier session of this study has written."""
    path = workdir / "study.json"
    return json.loads(path.read_text())["cells"]["done"] if path.is_file() else 0


def _tell(number: int, planned: list[grid.Cell], left: float | None, started: float) -> None:
    if not processes.is_first():
        return
    gone = f"{(time.time() - started) / 60:.1f} min gone"
    print(
        f"[{number + 1} of {len(planned)}] {planned[number]}: {gone}, about "
        f"{(left or 0) / 60:.0f} min left",
        file=sys.stderr,
        flush=True,
    )


class StudyRun:
    """The cells of one study over one work folder."""

    def __init__(self, config: ConfigDict, workdir: Path):
        self.config, self.workdir = config, workdir
        self.domains = list(config.domains) or list(config.data.domains)
        self.smallest = min(config.study.specialist_tokens)
        self._arms = {arm.name: arm for arm in grid.arms(config)[0]}
        self._runs: dict[tuple, pipeline.Run] = {}
        self._stages, self._counted = Stages(workdir), 0

    def run(self, cell: grid.Cell) -> pipeline.Run:
        """The prepared run of a cell; cells that differ in the seed alone share it."""
        key = (cell.arm, cell.budget, cell.specialist_tokens)
        if key not in self._runs:
            changed = grid.arm_config(self.config, *key)
            self._runs[key] = pipeline.open_run(
                changed, self.workdir, self.domains, (cell.arm.pretrained,), self._stages
            )
        return self._runs[key]

    def made_by(self) -> dict:
        """The code of all stages so far."""
        return code.made_by(self._stages.done)

    def new_stages(self) -> list[Stage]:
        """The stages that were asked for since the last call and never before."""
        done, before = self._stages.done, self._counted
        self._counted = len(done)
        known = {stage.path for stage in done[:before]}
        return list(
            {stage.path: stage for stage in done[before:] if stage.path not in known}.values()
        )

    def pretrained(self, cell: grid.Cell, domain: str) -> Stage:
        """The pretrained model; with importance sampling the histogram is that of the smallest
        specialist set, which is part of all others, so that one pretraining serves all sizes.
        """
        run = self._pretraining_run(cell)
        return pretraining.pretrain(run, cell.arm.pretrained, domain, cell.seed)

    def _pretraining_run(self, cell: grid.Cell) -> pipeline.Run:
        """The run whose specialist sets are those that pretraining sees."""
        if (
            methods.get(cell.arm.pretrained).draws.aims
            and not self.run(cell).config.train.specialist_fraction
        ):
            cell = grid.Cell(cell.arm, cell.budget, self.smallest, cell.seed)
        return self.run(cell)

    def finetuned(self, cell: grid.Cell, domain: str) -> Stage:
        """The domain's model."""
        run, base, teacher = self.run(cell), self.pretrained(cell, domain), None
        if cell.arm.teacher:
            tutor = grid.Cell(
                self._arms[cell.arm.teacher], cell.budget, cell.specialist_tokens, cell.seed
            )
            stage = self.finetuned(tutor, domain)
            teacher = finetuning.Teacher(stage.path, stage.fingerprint)
        return experts.specialize(run, base.path, domain, cell.seed, base.fingerprint, teacher)

    def rows(self, cell: grid.Cell) -> list[dict]:
        """The result rows of a cell, with macro averages."""
        rows = []
        if self._has_pretrained_rows(cell):
            before = {domain: self._before(cell, domain) for domain in self.domains}
            rows += self._generic_rows(cell)
            rows += self._scored(cell, "pretrained", before)
        after = {domain: self.finetuned(cell, domain) for domain in self.domains}
        return rows + self._scored(cell, "finetuned", after)

    def _has_pretrained_rows(self, cell: grid.Cell) -> bool:
        """Not where they are those of another arm or, in a dense model, of another size."""
        record = methods.get(cell.arm.pretrained)
        own = record.pretrained and record.name == cell.arm.method
        own |= self.run(cell).config.train.specialist_fraction > 0
        by_size = not record.is_dense or record.name != cell.arm.method
        return own and (by_size or cell.specialist_tokens == self.smallest)

    def _before(self, cell: grid.Cell, domain: str) -> Stage:
        """The domain's model before fine-tuning."""
        stage = self.pretrained(cell, domain)
        if not methods.get(cell.arm.pretrained).is_dense:
            return experts.take(self.run(cell), stage.path, domain, stage.fingerprint)
        return stage

    def _generic_rows(self, cell: grid.Cell) -> list[dict]:
        """Held-out generic text; one row, or one for each domain that a model aims at."""
        run = self.run(cell)
        aimed = methods.aims_at_domain(run.config, cell.arm.pretrained)
        rows = []
        for target in self.domains if aimed else [""]:
            stage = self.pretrained(cell, target)
            score = experts.score_generic(
                run, stage.path, stage.fingerprint, self._label(cell, "generic", target)
            )
            rows.append(self._row(cell, "generic", target, "pretrained", score, stage))
        return rows

    def _scored(self, cell: grid.Cell, phase: str, models: dict[str, Stage]) -> list[dict]:
        run, rows = self.run(cell), []
        for domain, stage in models.items():
            score = pipeline.score_heldout(
                run, stage.path, [domain], stage.fingerprint, self._label(cell, phase, domain)
            )[domain]
            rows.append(self._row(cell, domain, domain, phase, score, stage))
        return [*rows, macro(rows)]

    def _label(self, cell: grid.Cell, what: str, domain: str) -> str:
        return "-".join(
            filter(None, [cell.arm.name.replace("/", "."), what, domain, f"seed{cell.seed}"])
        )

    def _row(
        self, cell: grid.Cell, domain: str, target: str, phase: str, score, stage: Stage
    ) -> dict:
        generic, special = cost.split(runs.read_record(stage.path)["ledger"])
        tokens = 0
        if methods.get(cell.arm.pretrained).pretrained:
            tokens = pipeline.planned_windows(self.run(cell).config) * self.config.data.context
        row = perplexity.row(cell.arm.method, domain, phase, cell.seed, tokens, score)
        row |= {
            "variant": cell.arm.variant,
            "target": target,
            "budget": tokens and cell.budget,
            "specialist_tokens": cell.specialist_tokens,
            "generic_flops": generic.flops,
            "specialise_flops": special.flops,
            "generic_tokens": generic.tokens,
            "specialise_tokens": special.tokens,
            "device_seconds": generic.device_seconds + special.device_seconds,
            "generic_device_seconds": generic.device_seconds,
            "specialise_device_seconds": special.device_seconds,
            **self._repetitions(cell, target),
        }
        if phase == "finetuned":
            row |= {name: stage.result[name] for name in ("steps", "best_step")}
        return row

    def _repetitions(self, cell: grid.Cell, domain: str) -> dict[str, float]:
        return repeats.row(self._pretraining_run(cell), cell.arm.pretrained, domain, cell.seed)

    def facts(self, cell: grid.Cell) -> dict:
        """Sizes of an arm's model and its FLOPs per token, with the vocabulary's own size."""
        changed = copy.deepcopy(self.run(cell).config).unlock()
        changed.data.vocabulary_size = self.run(cell).prepared.vocabulary.size
        sizes = inspect_config(changed)
        return {
            "params": sizes["inference_params"],
            "pretrain_params": sizes["pretrain_params"],
            "flops_per_token": sizes["train_flops_per_token"],
            "tokens_per_parameter": sizes["tokens_per_parameter"],
        }

    def _widest(self) -> pipeline.Run:
        """A run with the largest specialist sets, which hold all smaller ones."""
        arm = self._arms.get(methods.BASE) or next(iter(self._arms.values()))
        return self.run(
            grid.Cell(
                arm, max(self.config.study.budgets), max(self.config.study.specialist_tokens), 0
            )
        )

    def contamination(self) -> dict:
        """Counts of held-out windows that are near-duplicates of training windows, by domain."""
        found = heldout.check(self._widest(), self.domains)
        return {
            name: {key: value for key, value in of.items() if key != "windows"}
            for name, of in found.items()
        }

    def histograms(self) -> dict:
        """{k: {set: entropy in nats, share of the most frequent of k clusters}}."""
        run, found = self._widest(), {}
        for k in self.config.study.histogram_k:
            clusters = cluster(self.config, run.stages, run.prepared, k, "study.histogram_k")
            sets = {**clusters.domains, "generic": clusters.generic_N}
            found[str(k)] = {name: _concentration(cluster_N, k) for name, cluster_N in sets.items()}
        return found


def macro(rows: list[dict]) -> dict:
    """The macro row of a cell: perplexity as in `perplexity.macro`, the means of all costs."""
    whole = perplexity.macro(rows)
    for name, value in rows[0].items():
        if name not in whole:
            whole[name] = (
                value if isinstance(value, str) else float(np.mean([row[name] for row in rows]))
            )
    return {
        **whole,
        "target": "",
        "budget": rows[0]["budget"],
        "specialist_tokens": rows[0]["specialist_tokens"],
    }


def _concentration(cluster_N: np.ndarray, k: int) -> dict[str, float]:
    share_k = np.bincount(cluster_N, minlength=k) / len(cluster_N)
    found = share_k[share_k > 0]
    return {"entropy": float(-np.sum(found * np.log(found))), "top_fraction": float(found.max())}
