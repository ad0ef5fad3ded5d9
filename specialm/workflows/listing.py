"""The models below a folder: which they are, how far they got, how they scored; finding one."""

import glob
import json
import os
import re
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from specialm.common import processes, stages
from specialm.common.errors import UserError
from specialm.evaluation import perplexity
from specialm.training import metrics, runs
from specialm.training.scoring import Score

# Folder of stages -> phase of its models, unless their record says more; in this order in tables.
PHASES = {
    "pretrained": "pretrained",
    "experts": "expert",
    "finetuned": "fine-tuned",
    "quantized": "quantized",
    "adapted": "adapted",
}
# Instead of these.
UNTRAINED, LORA, DISTILLED, IMPORTED = "untrained", "LoRA", "distilled", "imported"
SHOWN = 20  # models named in an error
AGES = ((86_400, "d"), (3_600, "h"), (60, "min"))


@dataclass(frozen=True)
class Listed:
    """A run folder of a model.

    Attributes:
      phase: one of PHASES, or UNTRAINED, LORA, DISTILLED, IMPORTED.
      step: the last one recorded; None if none is.
      steps: at most; None if that is not known.
      key: identifies it; "" if no stage made it.
      base: the key of the model that it was made from; "" if none.
      candidates: the keys of the fine-tuned models that it was chosen from.
      scores: {held-out set: its score}.
    """

    path: Path
    method: str
    domain: str
    phase: str
    seed: int | None
    finished: bool
    step: int | None
    steps: int | None
    modified: float  # seconds since the epoch
    key: str
    base: str
    candidates: tuple[str, ...]
    scores: dict[str, Score]

    def to_json(self) -> dict:
        """As JSON has it."""
        plain = {
            name: getattr(self, name)
            for name in ("method", "domain", "phase", "seed", "finished", "step", "steps")
        }
        return {
            "path": str(self.path),
            **plain,
            "modified": self.modified,
            "scores": {name: _figures([score]) for name, score in self.scores.items()},
        }


def find(root: Path) -> list[Listed]:
    """The models below a folder, those of one work folder together, pretrained ones first.

    Raises:
      UserError: no such folder.
    """
    if not root.is_dir():
        raise UserError(f"--workdir={root}: no such folder; models are written below runs/.")
    folders = list(_stage_folders(root))
    scores = _scores(folders)
    found = [_read(path, scores) for path in folders if _is_model(path)]
    return sorted(found, key=_place)


def _place(model: Listed) -> tuple:
    folders = list(PHASES)
    folder = model.path.parent
    number = folders.index(folder.name) if folder.name in PHASES else len(folders)
    return str(folder.parent), number, str(model.path)


def _stage_folders(root: Path) -> Iterator[Path]:
    """The folders of stages, and run folders that no stage made; none inside of another."""
    for folder, below, files in os.walk(root):
        if "inputs.json" in files or "model.json" in files:
            below.clear()
            yield Path(folder)


def _is_model(path: Path) -> bool:
    return any((path / name).exists() for name in ("model.json", runs.STARTED)) or (
        path.parent.name in PHASES
    )


def _json(path: Path) -> dict:
    return json.loads(path.read_text()) if path.exists() else {}


def _scores(folders: Sequence[Path]) -> dict[str, dict[str, Score]]:
    """{key of a model: {held-out set: its newest score}}."""
    found: dict[str, dict[str, Score]] = {}
    files = [path / "stage.json" for path in folders if path.parent.name == "scores"]
    for file in sorted((file for file in files if file.exists()), key=os.path.getmtime):
        stage = _json(file)
        if "windows" not in stage["inputs"]:  # else of the contaminated windows alone
            of_model = found.setdefault(stage["inputs"]["base"], {})
            of_model |= {name: Score(**score) for name, score in stage["result"].items()}
    return found


def _read(path: Path, scores: dict[str, dict[str, Score]]) -> Listed:
    stage, record = _json(path / "stage.json"), _json(path / "model.json")
    inputs = _json(path / "inputs.json")
    about = _json(path / runs.STARTED) | record
    key = stages.fingerprint(inputs) if inputs else ""
    trained = [entry for entry in about.get("ledger", ()) if "choice" not in entry]
    last = trained[-1] if trained else about
    return Listed(
        path,
        about.get("method") or inputs.get("method") or path.name.split("-")[0],
        about.get("domain", ""),
        _phase(stage.get("name", f"{path.parent.name}/"), last, inputs),
        about.get("seed", inputs.get("seed")),
        bool(stage) or (bool(record) and not inputs),
        _last_step(path),
        last.get("max_steps", last.get("steps")),
        max(file.stat().st_mtime for file in path.iterdir() if file.is_file()),
        key,
        inputs.get("base", ""),
        tuple(stage.get("result", {}).get("candidates", ())),
        scores.get(key, {}),
    )


def _phase(stage: str, entry: dict, inputs: dict) -> str:
    """What was done last.

    Args:
      stage: its name.
      entry: the last one of the ledger, or what was written when it was started.
      inputs: of the stage.
    """
    done = entry.get("phase", "")
    folder = stage.partition("/")[0]
    if folder not in PHASES:  # a copy
        folder = "pretrained" if done == "pretrained" else "finetuned"
    if done == IMPORTED:
        return IMPORTED
    if folder == "pretrained" and not done and not entry.get("ledger", True):
        return UNTRAINED
    if folder == "finetuned" and (done == "distilled" or "teacher" in inputs):
        return DISTILLED
    if folder == "finetuned" and inputs.get("finetune", entry).get("lora_rank"):
        return LORA
    return PHASES[folder]


def _last_step(path: Path) -> int | None:
    file = path / "metrics.jsonl"
    lines = metrics.read(file) if file.exists() else []
    return lines[-1]["step"] if lines else None


def held_out_rows(path: Path) -> list[dict]:
    """The newest held-out scores of the model in a run folder, {"held-out text", metric: value}."""
    if path.resolve().parent.name not in PHASES:
        return []
    models = find(path.resolve().parent.parent)
    scores = [model.scores for model in models if model.path.resolve() == path.resolve()]
    return [
        {"held-out text": name}
        | {metric.label: round(metric.of(score), 3) for metric in perplexity.METRICS}
        for of_model in scores
        for name, score in of_model.items()
    ]


def table(models: Sequence[Listed]) -> str:
    """The models for people, one a line."""
    heads = [metric.heading for metric in perplexity.METRICS]
    rows = [["model", "method", "domain", "phase", "seed", *heads, "scored on", "age", "state"]]
    rows += [_row(model) for model in models]
    columns = [_aligned(column) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(row).rstrip() for row in zip(*columns, strict=True))


def _aligned(column: Sequence[str]) -> list[str]:
    """Cells of one width, the first one the heading; figures to the right."""
    width, figures = max(map(len, column)), [metric.heading for metric in perplexity.METRICS]
    return [cell.rjust(width) if column[0] in figures else cell.ljust(width) for cell in column]


def _row(model: Listed) -> list[str]:
    sets = _scored_sets(model)
    figures = _figures([model.scores[name] for name in sets])
    numbers = [
        f"{figures[m.field]:.{2 if m.decimals is None else m.decimals}f}" if sets else "-"
        for m in perplexity.METRICS
    ]
    return [
        str(model.path),
        model.method,
        model.domain or "-",
        model.phase,
        "-" if model.seed is None else str(model.seed),
        *numbers,
        ",".join(sets) or "-",
        _age(time.time() - model.modified),
        _state(model),
    ]


def _scored_sets(model: Listed) -> list[str]:
    """The held-out sets whose score stands for the model: its domain's, else those of domains."""
    if model.domain in model.scores:
        return [model.domain]
    return [name for name in model.scores if name != "generic"] or list(model.scores)


def _figures(scores: Sequence[Score]) -> dict[str, float]:
    """The metrics of one set, or their macro average over several."""
    if not scores:
        return {}
    rows = [
        {"nll_per_token": score.nll_per_token} | {m.field: m.of(score) for m in perplexity.METRICS}
        for score in scores
    ]
    return {metric.field: float(np.round(metric.macro(rows), 6)) for metric in perplexity.METRICS}


def _age(seconds: float) -> str:
    for size, unit in AGES:
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(0, seconds):.0f} s"


def _state(model: Listed) -> str:
    if model.finished:
        return "finished"
    if model.step is None:
        return "unfinished"
    of = f" of at most {model.steps:,}" if model.steps else ""
    return f"unfinished, step {model.step:,}{of}"


def resolve(given: str, option: str = "checkpoint") -> Path:
    """The run folder that a user means: the folder itself, the only model below it, or the one
    whose name this is without the hash at its end.

    Models that another one there was made from, experts and candidates that were fine-tuned, do not
    count. If several are left it names them.

    Raises:
      UserError: several models, or none that is finished.
    """
    return Path(processes.run_on_first("finding the model", lambda: str(_resolve(given, option))))


def _resolve(given: str, option: str) -> Path:
    path = Path(given).expanduser()
    if (path / "model.json").exists():
        return path
    models = _below(path)
    finished = [model for model in models if model.finished and not _on_the_way(model, models)]
    if len(finished) == 1:
        print(f"--{option}={given} is {finished[0].path}", file=sys.stderr)
        return finished[0].path
    if finished:
        raise UserError(_several(f"--{option}={given}", finished))
    if models:
        raise UserError(
            f"--{option}={given}: no model there is finished; the command that began it goes on "
            f"with it.\n{table(models[:SHOWN])}"
        )
    return path  # whoever reads it says what is missing


def _below(path: Path) -> list[Listed]:
    if path.is_dir():
        return find(path)
    named = path.parent.glob(f"{glob.escape(path.name)}-*") if path.name else ()
    ours = re.compile(re.escape(path.name) + "-[0-9a-f]{10}")
    return [_read(one, {}) for one in sorted(named) if ours.fullmatch(one.name) and _is_model(one)]


def _on_the_way(model: Listed, models: Sequence[Listed]) -> bool:
    """Whether another one came out of it: of an expert, or by a choice among candidates."""
    used = model.phase == PHASES["experts"] and any(model.key == other.base for other in models)
    return bool(model.key) and (used or any(model.key in other.candidates for other in models))


def _several(option: str, models: Sequence[Listed]) -> str:
    more = len(models) - SHOWN
    rest = f"\n... and {more} more: specialm list" if more > 0 else ""
    return f"{option}: {len(models)} models there; give one of\n{table(models[:SHOWN])}{rest}"
