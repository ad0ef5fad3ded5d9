"""The way from text to results, as stages: prepare, embed, cluster, weigh, pretrain, specialise,
evaluate. Commands and the demo are short sequences of these functions.
"""

import copy
import dataclasses
import json
import os
from dataclasses import dataclass, field
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from specialm import config as config_lib
from specialm import methods
from specialm.clustering import saved_clusters
from specialm.clustering import weights as weights_lib
from specialm.clustering.clusters import Clusters, cluster
from specialm.common import processes
from specialm.common import stages as stages_lib
from specialm.common.errors import UserError
from specialm.common.stages import Stage, Stages
from specialm.data import mixed
from specialm.data.prepare import Prepared, prepare
from specialm.data.sampler import Sampler
from specialm.data.store import WindowStore
from specialm.models import families, tensors, transformer
from specialm.specialize import distill
from specialm.specialize import finetune as finetune_lib
from specialm.training import loop, origin, runs, scoring, sharding, step

# Settings that change no result.
NOT_IN_RESULT = ("log_every", "checkpoint_every", "tensorboard", "microbatch")


@dataclass(frozen=True)
class Run:
    """A config with what `prepare` made of it."""

    config: ConfigDict
    stages: Stages
    prepared: Prepared
    domains: list[str]
    mesh: jax.sharding.Mesh
    base: Path | None = None  # opened from this run folder, without the generic text
    _clusters: dict[int, Clusters] = field(default_factory=dict)

    def clusters(self, method: str = "slm_is") -> Clusters | None:
        """The clusters that a method needs (those of the importance weights by default), computed
        when first asked for; None if it needs none.
        """
        k = methods.num_clusters(self.config, method)
        if k and k not in self._clusters:
            setting = methods.setting_of_clusters(self.config, method)
            self._clusters[k] = cluster(self.config, self.stages, self.prepared, k, setting)
        return self._clusters.get(k)

    def model_config(self, method: str) -> families.Config:
        """What a method pretrains; the vocabulary's size comes from the vocabulary itself."""
        clusters = self.clusters(method)
        size = 0 if clusters is None else clusters.centroids_KxD.shape[1]
        return methods.model_config(self.config, method, self.prepared.vocabulary.size, size)


def domains_of(config: ConfigDict) -> list[str]:
    """The domains that a command works on: `domain`, else `domains`, else all."""
    if config.domain:
        return [config.domain]
    return list(config.domains) or list(config.data.domains)


def open_run(
    config: ConfigDict,
    workdir: Path,
    domains: list[str],
    used: tuple[str, ...] = (),
    stages: Stages | None = None,
) -> Run:
    """Prepares the data (finished stages are reused).

    Args:
      used: methods whose settings are checked and whose clusters are made before anything else.
      stages: those of another run in the same work folder, to go on with.
    """
    for method in used:
        methods.check(config, method)
    stages = stages or Stages(workdir)
    prepared = prepare(config, stages, domains)
    experts = config.model.num_experts if config_lib.MIXTURE in used else 1
    mesh = sharding.make_mesh(
        config.train.batch_size,
        config.finetune.batch_size,
        *_divided(config, used),
        layout=config.mesh,
        experts=experts,
    )
    run = Run(config, stages, prepared, domains, mesh)
    for method in used:
        run.clusters(method)
    return run


def _divided(config: ConfigDict, used: tuple[str, ...]) -> list[int]:
    """What else is divided over the devices: groups, d_ff, experts."""
    counts = []
    if any(method in config_lib.BANKS for method in used):
        counts += [config.model.d_ff, config.model.d_model]
        counts += [config.train.groups] if config.train.groups > 1 else []
    if config_lib.MIXTURE in used:
        k = config.model.num_experts
        counts.append(k if config.model.only_expert < 0 else config.train.batch_size // k)
    return counts


def planned_windows(config: ConfigDict) -> int:
    """Windows that pretraining draws."""
    return loop.num_steps(config.train, config.data.context) * config.train.batch_size


def weigh(run: Run, domain: str) -> weights_lib.WeightReport:
    """Importance weights of a domain from its specialist *training* set."""
    clusters = run.clusters()
    k = len(clusters.centroids_KxD)
    return weights_lib.report(
        domain,
        np.bincount(clusters.generic_N, minlength=k),
        np.bincount(clusters.domains[domain], minlength=k),
        run.config.clustering.smoothing,
        planned_windows(run.config),
    )


def cluster_probabilities(run: Run, method: str, domain: str, seed: int) -> np.ndarray | None:
    """float64 [K]: the probability of each cluster under a method; None draws windows uniformly.

    The control shuffles anew for each seed.
    """
    if method not in config_lib.SAMPLED:
        return None
    if not domain:
        raise UserError(
            f"method={method!r} aims at one specialist domain; set --config.domain to "
            f"one of {', '.join(run.config.data.domains)}."
        )
    report = weigh(run, domain)
    if method == "slm_is_shuffled":
        return report.shuffled(seed)
    return report.sampling_K


def pretrain(run: Run, method: str, domain: str, seed: int, must_exist: bool = False) -> Stage:
    """The pretrained model of a method (and domain, where it aims at one)."""
    if method == config_lib.UNTRAINED:
        return _untrained(run, method, seed)
    if method in config_lib.MULTI:
        return _pretrain_experts(run, method, seed, must_exist)
    train, store = run.config.train, run.prepared.generic
    domain = domain if methods.aims_at_domain(run.config, method) else ""
    if train.specialist_fraction and not domain:
        raise UserError(
            f"train.specialist_fraction={train.specialist_fraction} mixes in the text "
            "of one domain; set --config.domain to one of "
            f"{', '.join(run.config.data.domains)}."
        )
    probability_K = cluster_probabilities(run, method, domain, seed)
    cluster_N, depends = None, {"sampling": "uniform"}
    if probability_K is not None:
        cluster_N = run.clusters(method).generic_N
        depends = {"sampling": [run.clusters(method).fingerprint, stages_lib.digest(probability_K)]}
    sampler = Sampler(len(store), train.batch_size, seed, cluster_N, probability_K)
    if train.specialist_fraction:
        part = specialist(run, domain)
        depends["specialist"] = [
            part.train_store.fingerprint,
            stages_lib.digest(part.train_indices),
        ]
        late = mixed.sampler(sampler, len(part.train_indices), train.specialist_fraction)
        first = round(train.specialist_start * loop.num_steps(train, store.context))
        sampler = mixed.Late(sampler, late, first)
        store = mixed.Joined(store, part.train_store, part.train_indices)
    return _train(run, method, domain, seed, train, sampler, depends, must_exist, store=store)


def _untrained(run: Run, method: str, seed: int) -> Stage:
    """A run folder with initial parameters."""
    config = run.model_config(method)

    def work(path: Path) -> dict:
        params = jax.jit(
            lambda: tensors.init(families.declare(config), jax.random.key(seed)),
            out_shardings=runs.layout(config, run.mesh),
        )()
        runs.save(path, params)
        runs.describe(
            path, config, run.prepared.vocabulary, method, "", seed, [], _origin(run, path)
        )
        return {}

    return run.stages.run(
        f"pretrained/{method}-seed{seed}",
        {"model": _sizes(config), "seed": seed, "method": method},
        work,
        on_all=True,
    )


def _pretrain_experts(run: Run, method: str, seed: int, must_exist: bool) -> Stage:
    """A bank, or a mixture (or one expert of it), from a trunk if it is to have one."""
    is_mixture = method == config_lib.MIXTURE
    trunk, train = methods.trunk(run.config.train) if is_mixture else (None, run.config.train)
    clusters, only = run.clusters(method), run.config.model.only_expert
    sampler = methods.multi_sampler(run.config, method, clusters, seed)
    inputs, start = {"sampling": clusters.fingerprint}, None
    if trunk is not None:
        uniform = Sampler(len(run.prepared.generic), trunk.batch_size, seed)
        start = _train(run, "slm", "", seed, trunk, uniform, {"sampling": "uniform"}, must_exist)
        inputs["trunk"] = start.fingerprint
    if only >= 0:
        train, inputs["only_expert"] = methods.alone(train, run.config.model.num_experts), only
    return _train(run, method, "", seed, train, sampler, inputs, must_exist, start)


def _train(
    run: Run,
    method: str,
    domain: str,
    seed: int,
    train: ConfigDict,
    sampler,
    depends: dict,
    must_exist: bool,
    start: Stage | None = None,
    store=None,
) -> Stage:
    """The stage that pretrains a model, or goes on from the dense one in `start`."""
    config, generic = run.model_config(method), run.prepared.generic
    inputs = {
        "store": generic.fingerprint,
        "model": _sizes(config),
        "seed": seed,
        "train": _settings(train, method),
        "method": method,
        **depends,
    }
    only = f"expert{depends['only_expert']}" if "only_expert" in depends else ""
    name = "pretrained/" + "-".join(filter(None, [method, only, domain, f"seed{seed}"]))
    if must_exist and run.stages.find(name, inputs) is None:
        raise UserError(
            f"{run.stages.path(name, inputs)}: not pretrained yet; run `specialm "
            "train` with the same options first, or give --checkpoint."
        )

    def work(path: Path) -> dict:
        params, ledger = None, []
        if start is not None:
            trunk = runs.load(start.path, run.mesh)
            params = families.from_dense(config, trunk.params)
            ledger = trunk.record["ledger"]
        entry = loop.pretrain(
            path,
            config,
            train,
            store or generic,
            sampler,
            seed,
            run.mesh,
            _title(method, domain, seed),
            params,
        )
        entry |= {"domain": domain, "devices": run.mesh.size}
        runs.describe(
            path,
            config,
            run.prepared.vocabulary,
            method,
            domain,
            seed,
            [*ledger, entry],
            _origin(run, path),
        )
        if not isinstance(config, transformer.Config):
            runs.save_experts(path, methods.experts(run.clusters(method), method))
            saved_clusters.save(path, run.config.clustering, run.clusters(method))
        return entry

    return run.stages.run(name, inputs, work, on_all=True)


def _origin(run: Run, path: Path) -> dict:
    return origin.describe(
        path, run.config, {"train": run.prepared.generic, "heldout": run.prepared.generic_heldout}
    )


def _sizes(config: families.Config) -> dict:
    """The sizes of a model as JSON, without how it is computed."""
    sizes = json.loads(json.dumps(dataclasses.asdict(config)))
    del sizes.get("model", sizes)["attention"]
    return sizes


def specialist(run: Run, domain: str) -> finetune_lib.Specialist:
    """A domain's training and validation windows."""
    indices, stores = (
        run.prepared.specialist_indices(domain, run.config.data),
        run.prepared.domains[domain],
    )
    return finetune_lib.Specialist(
        domain, stores["train"], indices["train"], stores["valid"], indices["valid"]
    )


@dataclass(frozen=True)
class Teacher:
    """A dense model to distil from: its run folder, and what identifies its content."""

    path: Path
    key: str


def finetune(
    run: Run,
    base: Path,
    domain: str,
    seed: int,
    key: str,
    label: str = "",
    max_steps: int = 0,
    teacher: Teacher | None = None,
) -> Stage:
    """Fine-tunes the dense model in the run folder `base` on a domain.

    Args:
      key: identifies the base model's content.
      label: told in the stage's name.
      max_steps: instead of `finetune.max_steps`.
      teacher: distil from it, on the same text.

    Raises:
      UserError: another vocabulary than that of the windows, or of the teacher; a setting out of
        range.
    """
    record = runs.read_record(base)
    _same_vocabulary(run, base, record)
    if teacher:
        distill.check_vocabulary(record, runs.read_record(teacher.path), teacher.path)
    data, stores = run.config.data, run.prepared.domains[domain]
    part = specialist(run, domain)
    tune = finetune_lib.for_set(
        run.config.train,
        run.config.finetune,
        part,
        record["method"] == config_lib.UNTRAINED,
        max_steps,
    )
    inputs = {
        "base": key,
        "seed": seed,
        "finetune": _settings(tune, teacher=bool(teacher)),
        "train": _settings(run.config.train),
        "tokens": [data.specialist_tokens, data.valid_tokens],
        "stores": [stores[split].fingerprint for split in ("train", "valid")],
    }
    method = record["method"]
    if teacher:
        inputs["teacher"], method = teacher.key, f"{method}_d"
    title = " ".join(filter(None, [method, label, domain, f"seed {seed}"]))
    name = f"finetuned/{title.replace('seed ', 'seed').replace(' ', '-')}"

    def work(path: Path) -> dict:
        model, ledger = runs.load(base, run.mesh), record["ledger"]
        common = (part, run.config.train, tune, seed, run.mesh)
        if teacher:
            taught_by = runs.load(teacher.path, run.mesh)
            ledger = [
                *ledger,
                *({**entry, "model": "teacher"} for entry in taught_by.record["ledger"]),
            ]
            entry = distill.distill(
                path,
                model.config,
                model.params,
                taught_by.config,
                taught_by.params,
                *common,
                f"distilling {title}",
            )
        else:
            entry = finetune_lib.finetune(
                path, model.config, model.params, *common, f"fine-tuning {title}"
            )
        entry |= {"domain": domain, "devices": run.mesh.size}
        runs.describe(
            path,
            model.config,
            model.vocabulary,
            method,
            domain,
            seed,
            [*ledger, entry],
            origin.inherited(base, path),
        )
        return entry

    return run.stages.run(name, inputs, work, on_all=True)


def score_heldout(
    run: Run,
    base: Path,
    sets: list[str],
    key: str,
    label: str,
    windows: dict[str, np.ndarray] | None = None,
) -> dict[str, scoring.Score]:
    """Scores the model in `base` on the held-out documents of domains (or `generic`).

    Args:
      windows: {set: windows of its held-out store}, instead of those of `heldout`.
    """
    used = {name: heldout(run, name) for name in sets}
    inputs = {
        "base": key,
        "tokens": run.config.data.heldout_tokens,
        "stores": [store.fingerprint for store, _ in used.values()],
    }
    if windows is not None:
        used = {name: (store, windows[name]) for name, (store, _) in used.items()}
        inputs["windows"] = [stages_lib.digest(indices) for _, indices in used.values()]

    def work(path: Path) -> dict:
        model = runs.load(base, run.mesh)
        _same_vocabulary(run, base, model.record)
        score_step = step.make_score_step(model.config, run.mesh)
        scored = {}
        for name, (store, indices) in used.items():
            scored[name] = dataclasses.asdict(
                scoring.score(
                    score_step,
                    model.params,
                    store,
                    indices,
                    run.config.evaluate.batch_size,
                    run.mesh,
                    f"scoring {label} on {name}",
                )
            )
        return scored

    stage = run.stages.run(f"scores/{label}", inputs, work, on_all=True)
    return {name: scoring.Score(**stage.result[name]) for name in sets}


def checkpoint_key(path: Path) -> str:
    """Identifies a model on disk: by its stage, or by its record and the step it has reached."""
    return processes.run_on_first("identifying a checkpoint", lambda: _checkpoint_key(path))


def _checkpoint_key(path: Path) -> str:
    if (path / "stage.json").exists():
        saved = json.loads((path / "stage.json").read_text())
        return stages_lib.fingerprint(saved["inputs"])
    runs.read_record(path)
    steps = sorted(os.listdir(path / "checkpoints")) if (path / "checkpoints").exists() else []
    return stages_lib.fingerprint({"model": (path / "model.json").read_text(), "steps": steps})


def heldout(run: Run, name: str) -> tuple[WindowStore, np.ndarray]:
    """(store, windows used of it) of the held-out set of a domain, or of `generic`."""
    store = (
        run.prepared.generic_heldout if name == "generic" else run.prepared.domains[name]["heldout"]
    )
    return store, store.subset(run.config.data.heldout_tokens)


def _same_vocabulary(run: Run, base: Path, record: dict) -> None:
    context = record["model"].get("model", record["model"])["context"]
    if run.config.data.context > context:
        raise UserError(
            f"data.context={run.config.data.context}: --checkpoint={base} reads "
            f"windows of at most {context} tokens."
        )
    if record["vocabulary_sha256"] != run.prepared.vocabulary.sha256:
        raise UserError(
            f"--checkpoint={base} was trained with vocabulary "
            f"{record['vocabulary_sha256'][:12]}, the windows were cut with "
            f"{run.prepared.vocabulary.sha256[:12]}; set data.vocabulary to "
            f"{base / 'vocabulary.model'}."
        )


def _settings(part: ConfigDict, method: str = "", teacher: bool = False) -> dict:
    """The settings that a result depends on."""
    unused = set(NOT_IN_RESULT)
    unused |= set() if method == config_lib.MIXTURE else {"expert_multiplier", "trunk_fraction"}
    unused |= set() if method in config_lib.BANKS else {"groups", "mixer_multiplier"}
    unused |= set() if method == "soup" else {"histogram_support"}
    settings = copy.deepcopy(part.to_dict())
    if settings.get("moment_dtype") == "float32":
        unused.add("moment_dtype")
    if not settings.get("lora_rank", 0):
        unused |= {"lora_rank", "lora_alpha", "lora_matrices"}
    if not settings.get("specialist_fraction", 0):
        unused |= {"specialist_fraction", "specialist_start"}
    if not teacher:
        unused |= {"distill_weight", "distill_temperature", "distill_top_k"}
    return {name: value for name, value in settings.items() if name not in unused}


def _title(method: str, domain: str, seed: int) -> str:
    return " ".join(filter(None, [method, domain, f"seed {seed}"]))
