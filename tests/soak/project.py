"""A small project of real text, and the jobs that are killed, damaged and started twice."""

import inspect
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

CONFIG = """
from ml_collections import ConfigDict
from specialm.config import default

def get_config():
    config = default()
    data = config.data
    data.generic = "jsonl:{root}/generic.jsonl"
    data.domains = ConfigDict(dict(linalg="jsonl:{root}/linalg.jsonl"))
    data.context, data.vocabulary_size, data.generic_heldout_fraction = 16, 400, 0.1
    data.specialist_tokens, data.valid_tokens, data.heldout_tokens = 1000, 500, 1000
    data.shard_tokens = 4000
    config.domain = "linalg"
    config.clustering.encoder, config.clustering.dim, config.clustering.k = "tfidf_svd", 8, 4
    config.clustering.iterations = 5
    config.model.num_layers, config.model.d_model, config.model.num_heads = 1, 8, 2
    config.model.d_ff, config.model.num_experts, config.model.mixer_hidden = 16, 2, 8
    train = config.train
    train.batch_size, train.tokens, train.groups = 8, 32 * 8 * 16, 2
    train.warmup_steps, train.log_every, train.checkpoint_every = 3, 4, 6
    train.tensorboard = False
    tune = config.finetune
    tune.max_steps, tune.eval_every, tune.batch_size, tune.checkpoint_every = 12, 2, 8, 4
    config.expert.choice = "loss"
    config.study.arms = ConfigDict({{"slm": (), "slm_is": ()}})
    config.study.budgets, config.study.specialist_tokens = (2000,), (400,)
    config.study.histogram_k = (2,)
    return config
"""


@dataclass(frozen=True)
class Job:
    """A command in a work folder in which other commands have run before."""

    name: str
    before: tuple[tuple[str, ...], ...]
    command: tuple[str, ...]


def _train(method: str) -> tuple[str, ...]:
    return ("train", f"--config.method={method}")


JOBS = (
    Job("prepare", (), ("prepare",)),
    Job("train slm_is", (("prepare",),), _train("slm_is")),
    Job("train slm_pn", (("prepare", "--config.method=slm_pn"),), _train("slm_pn")),
    Job("train slm_mix", (("prepare", "--config.method=slm_mix"),), _train("slm_mix")),
    Job("specialize", (("prepare",), _train("slm_is")), ("specialize", "--config.method=slm_is")),
    Job("study", (("prepare",),), ("study",)),
)


def write(root: Path) -> None:
    """The texts, docstrings of NumPy, and the config."""
    root.mkdir(parents=True, exist_ok=True)
    parts = (("generic", (np,), 60), ("linalg", (np.linalg, np.fft), 40))
    for name, modules, count in parts:
        found = {inspect.getdoc(getattr(module, n)) for module in modules for n in dir(module)}
        texts = sorted(text for text in found if text and 200 < len(text) < 2000)[:count]
        lines = [json.dumps({"id": f"{name}/{i}", "text": text}) for i, text in enumerate(texts)]
        (root / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    (root / "config.py").write_text(CONFIG.format(root=root))


def arguments(root: Path, workdir: Path, command: tuple[str, ...]) -> list[str]:
    """The command line."""
    config = [f"--config={root / 'config.py'}", f"--workdir={workdir}"]
    return [command[0], *config, *command[1:]]
