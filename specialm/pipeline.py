"""The way from text to results, as stages: prepare, embed, cluster, weigh, pretrain, specialise,
evaluate. Commands and the demo are short sequences of these functions.

Letters: N windows, K clusters.
"""

import copy
import dataclasses
import json
import os
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from specialm import config as config_lib
from specialm import stages as stages_lib
from specialm.clustering import weights as weights_lib
from specialm.clustering.stages import Clusters, cluster
from specialm.data.prepare import Prepared, prepare
from specialm.data.sampler import Sampler
from specialm.errors import UserError
from specialm.models import transformer
from specialm.specialize import finetune as finetune_lib
from specialm.stages import Stage, Stages
from specialm.training import loop, runs, scoring, sharding, step

# Settings that change no result.
NOT_IN_RESULT = ("log_every", "checkpoint_every", "tensorboard", "microbatch")


@dataclass(frozen=True)
class Run:
    """A config with what `prepare` made of it."""

    config: ConfigDict
    stages: Stages
    prepared: Prepared
    clusters: Clusters | None
    domains: list[str]
    mesh: jax.sharding.Mesh

    @property
    def model_config(self) -> transformer.Config:
        return model_config(self.config, self.prepared.vocabulary.size)


def model_config(config: ConfigDict, vocabulary_size: int) -> transformer.Config:
    """The transformer's sizes; the vocabulary's size comes from the vocabulary itself."""
    return transformer.Config(vocab_size=vocabulary_size, context=config.data.context,
                              **config.model)


def domains_of(config: ConfigDict) -> list[str]:
    """The domains that a command works on: `domain`, else `domains`, else all."""
    if config.domain:
        return [config.domain]
    return list(config.domains) or list(config.data.domains)


def open_run(config: ConfigDict, workdir: Path, domains: list[str], clusters: bool = True) -> Run:
    """Prepares the data (finished stages are reused) and, if wanted, the clusters."""
    stages = Stages(workdir)
    prepared = prepare(config, stages, domains)
    made = cluster(config, stages, prepared) if clusters else None
    return Run(config, stages, prepared, made, domains,
               sharding.make_mesh(config.train.batch_size, config.finetune.batch_size))


def planned_windows(config: ConfigDict) -> int:
    """Windows that pretraining draws."""
    return loop.num_steps(config.train, config.data.context) * config.train.batch_size


def weigh(run: Run, domain: str) -> weights_lib.WeightReport:
    """Importance weights of a domain from its specialist *training* set."""
    k = len(run.clusters.centroids_KxD)
    return weights_lib.report(
        domain, np.bincount(run.clusters.generic_N, minlength=k),
        np.bincount(run.clusters.domains[domain], minlength=k),
        run.config.clustering.smoothing, planned_windows(run.config))


def cluster_probabilities(run: Run, method: str, domain: str, seed: int) -> np.ndarray | None:
    """float64 [K]: the probability of each cluster under a method; None draws windows uniformly.

    The control shuffles anew for each seed.
    """
    if method in config_lib.UNIFORM:
        return None
    if not domain:
        raise UserError(f"method={method!r} aims at one specialist domain; set --config.domain to "
                        f"one of {', '.join(run.config.data.domains)}.")
    report = weigh(run, domain)
    if method == "slm_is_shuffled":
        return report.shuffled(seed)
    return report.sampling_K


def pretrain(run: Run, method: str, domain: str, seed: int, must_exist: bool = False) -> Stage:
    """The pretrained model of a method (and domain, where it aims at one)."""
    domain = "" if method in config_lib.UNIFORM else domain
    probability_K = cluster_probabilities(run, method, domain, seed)
    store, config, train = run.prepared.generic, run.model_config, run.config.train
    model = dataclasses.asdict(config)
    del model["attention"]  # the same function, however it is computed
    inputs = {"store": store.fingerprint, "model": model, "seed": seed,
              "train": _settings(train), "method": method,
              "sampling": "uniform" if probability_K is None else
              [run.clusters.fingerprint, stages_lib.digest(probability_K)]}
    name = "pretrained/" + "-".join(filter(None, [method, domain, f"seed{seed}"]))
    if must_exist and run.stages.find(name, inputs) is None:
        raise UserError(f"{run.stages.path(name, inputs)}: not pretrained yet; run `specialm "
                        "train` with the same options first, or give --checkpoint.")

    def work(path: Path) -> dict:
        clusters = None if probability_K is None else run.clusters.generic_N
        sampler = Sampler(len(store), train.batch_size, seed, clusters, probability_K)
        entry = loop.pretrain(path, config, train, store, sampler, seed, run.mesh,
                              _title(method, domain, seed))
        runs.describe(path, config, run.prepared.vocabulary, method, domain, seed, [entry])
        return entry

    return run.stages.run(name, inputs, work)


def specialist(run: Run, domain: str) -> finetune_lib.Specialist:
    """A domain's training and validation windows."""
    indices, stores = (run.prepared.specialist_indices(domain, run.config.data),
                       run.prepared.domains[domain])
    return finetune_lib.Specialist(domain, stores["train"], indices["train"], stores["valid"],
                                   indices["valid"])


def specialize(run: Run, base: Path, domain: str, seed: int, key: str) -> Stage:
    """Fine-tunes the model in the run folder `base` on a domain.

    Args:
      key: identifies the base model's content.
    """
    record = json.loads((base / "model.json").read_text())
    _same_vocabulary(run, base, record)
    data, stores = run.config.data, run.prepared.domains[domain]
    inputs = {"base": key, "seed": seed, "finetune": _settings(run.config.finetune),
              "train": _settings(run.config.train),
              "tokens": [data.specialist_tokens, data.valid_tokens],
              "stores": [stores[split].fingerprint for split in ("train", "valid")]}
    name = f"finetuned/{record['method']}-{domain}-seed{seed}"

    def work(path: Path) -> dict:
        model = runs.load(base, run.mesh)
        title = "fine-tuning " + _title(record["method"], domain, seed)
        entry = finetune_lib.finetune(path, model.config, model.params, specialist(run, domain),
                                      run.config.train, run.config.finetune, seed, run.mesh, title)
        runs.describe(path, model.config, model.vocabulary, record["method"], domain, seed,
                      [*record["ledger"], entry])
        return entry

    return run.stages.run(name, inputs, work)


def score_heldout(run: Run, base: Path, sets: list[str], key: str, label: str,
                  ) -> dict[str, scoring.Score]:
    """Scores the model in `base` on the held-out documents of domains (or `generic`)."""
    inputs = {"base": key, "tokens": run.config.data.heldout_tokens,
              "stores": [_heldout(run, name).fingerprint for name in sets]}

    def work(path: Path) -> dict:
        model = runs.load(base, run.mesh)
        _same_vocabulary(run, base, model.record)
        score_step = step.make_score_step(model.config, run.mesh)
        scored = {}
        for name in sets:
            store = _heldout(run, name)
            indices = store.subset(run.config.data.heldout_tokens)
            scored[name] = dataclasses.asdict(scoring.score(
                score_step, model.params, store, indices, run.config.evaluate.batch_size,
                run.mesh, f"scoring {label} on {name}"))
        return scored

    stage = run.stages.run(f"scores/{label}", inputs, work)
    return {name: scoring.Score(**stage.result[name]) for name in sets}


def checkpoint_key(path: Path) -> str:
    """Identifies a model on disk: by its stage, or by its record and the step it has reached."""
    if (path / "stage.json").exists():
        saved = json.loads((path / "stage.json").read_text())
        return stages_lib.fingerprint(saved["inputs"])
    if not (path / "model.json").is_file():
        raise UserError(f"--checkpoint={path}: no model.json there; give the folder of a run that "
                        "`specialm train` or `specialm specialize` wrote.")
    steps = sorted(os.listdir(path / "checkpoints")) if (path / "checkpoints").exists() else []
    return stages_lib.fingerprint({"model": (path / "model.json").read_text(), "steps": steps})


def _heldout(run: Run, name: str):
    return run.prepared.generic_heldout if name == "generic" else \
        run.prepared.domains[name]["heldout"]


def _same_vocabulary(run: Run, base: Path, record: dict) -> None:
    if record["vocabulary_sha256"] != run.prepared.vocabulary.sha256:
        raise UserError(f"--checkpoint={base} was trained with vocabulary "
                        f"{record['vocabulary_sha256'][:12]}, the windows were cut with "
                        f"{run.prepared.vocabulary.sha256[:12]}; set data.vocabulary to "
                        f"{base / 'vocabulary.model'}.")


def _settings(part: ConfigDict) -> dict:
    settings = copy.deepcopy(part.to_dict())
    return {name: value for name, value in settings.items() if name not in NOT_IN_RESULT}


def _title(method: str, domain: str, seed: int) -> str:
    return " ".join(filter(None, [method, domain, f"seed {seed}"]))
