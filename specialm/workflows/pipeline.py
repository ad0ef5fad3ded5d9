"""The way from text to results, as stages: prepare, embed, cluster, weigh, score. Commands and the
demo are short sequences of these functions; see also `pretraining.py` and `finetuning.py`.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from specialm import methods
from specialm.clustering import histograms
from specialm.clustering import weights as weights_lib
from specialm.clustering.clusters import Clusters, cluster
from specialm.clustering.repetition import Budget
from specialm.common import stages as stages_lib
from specialm.common.errors import UserError
from specialm.common.stages import Stages
from specialm.data.prepare import Prepared, prepare
from specialm.data.store import WindowStore
from specialm.models import families, transformer
from specialm.specialize import finetune as finetune_lib
from specialm.training import loop, runs, scoring, sharding, step
from specialm.workflows import choosing, initial, proxy
from specialm.workflows.initial import Initial


@dataclass(frozen=True)
class Run:
    """A config with the data that `prepare` returned for it."""

    config: ConfigDict
    stages: Stages
    prepared: Prepared
    domains: list[str]
    mesh: jax.sharding.Mesh
    base: Path | None = None  # opened from this run folder, without the generic text
    init: Initial | None = None  # what pretraining goes on from
    _clusters: dict[int, Clusters] = field(default_factory=dict)
    _caps: dict[str, float] = field(default_factory=dict)

    @property
    def generic(self) -> WindowStore:
        """The generic training windows.

        Raises:
          UserError: they are not here.
        """
        return _there(self.prepared.generic)

    @property
    def generic_heldout(self) -> WindowStore:
        """The held-out generic windows; raises as `generic`."""
        return _there(self.prepared.generic_heldout)

    def clusters(self, method: str = methods.IMPORTANCE) -> Clusters:
        """The clusters that a method needs (those of the importance weights by default), computed
        when first asked for.

        Raises:
          ValueError: it needs none.
        """
        k = methods.num_clusters(self.config, method)
        if not k:
            raise ValueError(f"{method} needs no clusters")
        if k not in self._clusters:
            setting = methods.setting_of_clusters(self.config, method)
            self._clusters[k] = cluster(self.config, self.stages, self.prepared, k, setting)
        return self._clusters[k]

    def cap(self, domain: str = "") -> float:
        """`clustering.max_repetitions` for draws that aim at a domain, or at none."""
        setting = self.config.clustering.max_repetitions
        if setting != proxy.AUTO:
            return setting
        if domain and not self._caps:
            self._caps.update(proxy.caps_of(self))
        return self._caps[domain] if domain else proxy.FALLBACK

    def model_config(self, method: str) -> families.Config:
        """What a method pretrains; the vocabulary's size comes from the vocabulary itself, all
        sizes from the model that pretraining goes on from.
        """
        needed = methods.num_clusters(self.config, method)
        size = self.clusters(method).centroids_KxD.shape[1] if needed else 0
        dense = self.init.dense(self.config) if self.init else None
        return methods.model_config(self.config, method, self.prepared.vocabulary.size, size, dense)


def _there(store: WindowStore | None) -> WindowStore:
    if store is None:
        raise UserError(
            "the generic text is not here: this run was opened from a checkpoint alone; give the "
            "--config that it was trained with."
        )
    return store


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
    init: Initial | None = None,
) -> Run:
    """Prepares the data (finished stages are reused).

    Args:
      used: methods whose settings are checked and whose clusters are computed before all else.
      stages: those of another run in the same work folder, to go on with.
      init: what pretraining goes on from; the config is the one that `continuing.load_config` gave.
    """
    records = [methods.get(method) for method in used]
    for method in used:
        methods.check(config, method)
    stages = stages or Stages(workdir)
    targets = histograms.check_targets(config.clustering.targets, list(config.data.domains))
    mixed_in = [name for name in targets if domains and name not in domains]
    prepared = prepare(config, stages, [*domains, *mixed_in])
    if init:
        initial.tell(init, stages)
    experts = config.model.num_experts if any(record.is_mixture for record in records) else 1
    vocabulary = prepared.vocabulary.size
    dense = init.dense(config) if init else methods.dense_config(config, vocabulary)
    mesh = sharding.make_mesh(
        config.train.batch_size,
        config.finetune.batch_size,
        *_divided(config, records),
        layout=config.mesh,
        experts=experts,
        params=transformer.num_params(dense),
    )
    run = Run(config, stages, prepared, domains, mesh, init=init)
    if (
        config.clustering.candidates
        and domains
        and (any(r.draws.aims for r in records) or not used)
    ):
        run = choosing.with_chosen_clusters(run)
    for method in used:
        if methods.num_clusters(config, method):
            run.clusters(method)
    return run


def _divided(config: ConfigDict, records: list[methods.Method]) -> list[int]:
    """What else is divided over the devices: groups, d_ff, experts."""
    counts: list[int] = []
    if any(record.is_bank for record in records):
        counts += [config.model.d_ff, config.model.d_model]
        counts += [config.train.groups] if config.train.groups > 1 else []
    if any(record.is_mixture for record in records):
        k = config.model.num_experts
        counts.append(k if config.model.only_expert < 0 else config.train.batch_size // k)
    return counts


def planned_windows(config: ConfigDict) -> int:
    """Windows that pretraining draws."""
    return loop.num_steps(config.train, config.data.context) * config.train.batch_size


def weigh(
    run: Run, domain: str, method: str = methods.IMPORTANCE, cap: float | None = None
) -> weights_lib.WeightReport:
    """Importance weights of a domain from its specialist *training* set.

    Args:
      method: whose clusters they are of.
      cap: instead of `clustering.max_repetitions`.
    """
    clusters, clustering = run.clusters(method), run.config.clustering
    k = len(clusters.centroids_KxD)
    generic_K = weights_lib.counts(clusters.generic_N, k)
    of_domain = {name: weights_lib.counts(of, k) for name, of in clusters.domains.items()}
    shares = histograms.check_targets(clustering.targets, list(of_domain))
    return weights_lib.report(
        domain,
        generic_K,
        of_domain[domain],
        clustering.smoothing,
        planned_windows(run.config),
        clustering.power,
        repetition_budget(
            clusters, run.cap(domain) if cap is None else cap, _uniform(run.config.train)
        ),
        histograms.mixed(aim(clustering, clusters), domain, shares, generic_K, of_domain),
    )


def aim(clustering: ConfigDict, clusters: Clusters) -> histograms.Aim:
    """The histogram that is aimed at for one specialist set.

    Args:
      clustering: `config.clustering`.
    """
    branching = clusters.tree.branching if clusters.tree else ()
    return histograms.Aim(clustering.histogram, clustering.pseudo_windows, branching)


def _uniform(train: ConfigDict) -> float:
    """The part of the draws of importance sampling that is uniform."""
    return train.importance_start + (1 - train.importance_start) * train.replay_fraction


def repetition_budget(clusters: Clusters | None, cap: float, uniform: float) -> Budget:
    """What caps repetitions of these clusters' windows, see there."""
    if clusters is None:
        return Budget(cap, uniform)
    branching = clusters.tree.branching if clusters.tree else ()
    return Budget(cap, uniform, clusters.centroids_KxD, branching)


def specialist(run: Run, domain: str) -> finetune_lib.Specialist:
    """A domain's training and validation windows."""
    indices, stores = (
        run.prepared.specialist_indices(domain, run.config.data),
        run.prepared.domains[domain],
    )
    return finetune_lib.Specialist(
        domain, stores["train"], indices["train"], stores["valid"], indices["valid"]
    )


def same_documents(store: WindowStore, other: WindowStore, windows_N: np.ndarray) -> np.ndarray:
    """The windows of a store whose documents are those of some windows of another one, which is
    cut from the same documents by another vocabulary.
    """
    assert store.documents == other.documents, "both are cut from the same documents"
    return np.flatnonzero(np.isin(store.document_N, np.unique(other.document_N[windows_N])))


def make_score_step(run: Run, config: Any) -> Callable:
    """`step.make_score_step` of a model, or of the dense models of a bank, as the config has it."""
    turns = run.config.evaluate.hidden_every
    return step.make_score_step(families.dense(config), run.mesh, turns)


def scoring_inputs(run: Run) -> dict:
    """What scores depend on besides models and text."""
    turns = run.config.evaluate.hidden_every
    return {"hidden_every": turns} if turns else {}


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
    inputs |= scoring_inputs(run)
    if windows is not None:
        used = {name: (store, windows[name]) for name, (store, _) in used.items()}
        inputs["windows"] = [stages_lib.digest(indices) for _, indices in used.values()]

    def work(path: Path) -> dict:
        model = runs.load(base, run.mesh)
        check_vocabulary(run, base, model.record)
        score_step = make_score_step(run, model.config)
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
    if not stage.result.keys() >= set(sets):  # the same text was scored under another name
        stage = run.stages.run(f"scores/{label}", inputs | {"sets": sets}, work, on_all=True)
    return {name: scoring.Score(**stage.result[name]) for name in sets}


def heldout(run: Run, name: str) -> tuple[WindowStore, np.ndarray]:
    """(store, windows used of it) of the held-out set of a domain, or of `generic`."""
    domains = run.prepared.domains
    store = run.generic_heldout if name == "generic" else domains[name]["heldout"]
    return store, store.subset(run.config.data.heldout_tokens)


def check_vocabulary(run: Run, base: Path, record: dict) -> None:
    """Raises:
    UserError: the windows are longer than the model reads, or have another vocabulary.
    """
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
            f"{base}."
        )
