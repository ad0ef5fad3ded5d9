"""A trained model with a vocabulary for another text or language: `specialm adapt`.

Stages: the vocabulary, the rows that a rule gives, of MiniPost the shallow model, the rows learnt
through the shallow (or whole) model, the whole model with them.
"""

import copy
import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from specialm.common.stages import Stage
from specialm.data import prepare
from specialm.models import families, transformer
from specialm.specialize import adaptation, aligned, budget
from specialm.specialize import finetune as finetune_lib
from specialm.specialize.finetune import Specialist
from specialm.specialize.tuning_step import ParameterMap
from specialm.training import objectives, origin, rates, runs
from specialm.workflows import new_rows, own_text, pipeline, stage_keys
from specialm.workflows.adapting_plan import Plan, check_source, checked
from specialm.workflows.adapting_result import LIMIT, Adapted
from specialm.workflows.initial import Initial
from specialm.workflows.pipeline import Run

PHASE, MINI = "adapted", "mini"


def adapt(run: Run, base: Initial, plan: Plan, source: str, given: set[str]) -> Adapted:
    """Adapts the dense model `base` to the text of `run.config.domain`.

    Args:
      run: the text, cut with the model's own vocabulary; the generic text where it is needed.
      source: the user's text, see `own_text.paced`; "" if it is a domain of the config.
      given: names of the settings that the user gave.

    Raises:
      UserError: see `Plan.check`, `adaptation.check`, `new_rows.vocabulary` and the maps of
        `adaptation`.
    """
    plan = checked(plan, base.config)
    check_source(run, plan)
    domain = run.config.domain
    vocabulary = new_rows.vocabulary(run, base, plan.vocabulary, given)
    config = copy.deepcopy(run.config).unlock()
    config.data.vocabulary_size = vocabulary.size
    target = dataclasses.replace(
        run,
        config=config.lock(),
        prepared=prepare.prepare_specialist(config, run.stages, [domain], vocabulary),
        base=None,
    )
    target = own_text.paced(target, source, given)
    rows = new_rows.rows(run, target, base, plan.init, plan.dictionary)
    mini = _mini(run, base, plan, given)
    learnt = _learnt(target, base, plan, rows, mini)
    stage = _whole(target, base, plan, rows, mini, learnt)
    return Adapted(stage, target, *_scores(run, target, base, stage))


def _tune(config: ConfigDict, base: Initial, part: Specialist) -> ConfigDict:
    """The settings of the rows' training: the rate of pretraining, for there are new ones."""
    open_rate = rates.of_open(base.config.d_model) if base.is_open else 0.0
    return finetune_lib.for_set(config.train, config.finetune, part, True, open_rate=open_rate)


def _inputs(config: ConfigDict, tune: ConfigDict, part: Specialist, base: Initial) -> dict:
    """What a training depends on."""
    data = config.data
    return {
        "base": base.key,
        "seed": config.seed,
        "finetune": stage_keys.settings_in_result(tune),
        "train": stage_keys.settings_in_result(config.train),
        "tokens": [data.specialist_tokens, data.valid_tokens],
        "stores": [part.train_store.fingerprint, part.valid_store.fingerprint],
    }


@dataclass(frozen=True)
class _Training:
    """A stage that trains some weights of a shallow (or whole) model on one text.

    Attributes:
      config, part: the settings and the text.
      phase, domain, limit: what the ledger says of it; domain is "" for the source text.
      start: () -> (parameters, sizes, vocabulary).
      trained: (sizes, parameters) -> which of them are trained.
      frozen: first layers without gradient.
      spent: what the ledger has before it.
      objective: sizes -> (the loss, FLOPs that making it took); None for that of pretraining.
    """

    run: Run
    base: Initial
    config: ConfigDict
    part: Specialist
    phase: str
    domain: str
    title: str
    limit: str
    start: Callable[[], tuple[Any, transformer.Config, Any]]
    trained: Callable[[transformer.Config, Any], ParameterMap]
    frozen: int = 0
    spent: tuple[dict, ...] = ()
    objective: Callable[[transformer.Config], aligned.Made] | None = None

    def _objective(self, small: transformer.Config) -> aligned.Made:
        if self.objective:
            return self.objective(small)
        return objectives.make(self.config.train.objective, small, frozen=self.frozen), 0

    def stage(self, name: str, inputs: dict) -> Stage:
        """The finished stage; `inputs` is what it depends on besides text and settings."""
        config, base, mesh = self.config, self.base, self.run.mesh
        tune = _tune(config, base, self.part)

        def work(path: Path) -> dict:
            params, small, vocabulary = self.start()
            objective, spent = self._objective(small)
            entry = finetune_lib.fit(
                path,
                small,
                self.trained(small, params),
                objective,
                self.part,
                config.train,
                tune,
                config.seed,
                mesh,
                self.title,
            )
            entry |= {"phase": self.phase, "domain": self.domain}
            entry |= {"devices": mesh.size, "limit": self.limit}
            entry["flops"] += spent
            ledger = [*self.spent, entry]
            _describe(path, small, vocabulary, base, self.domain, config.seed, ledger)
            return entry

        inputs = _inputs(config, tune, self.part, base) | inputs
        return self.run.stages.run(f"adapting/{name}-seed{config.seed}", inputs, work)


def _mini(run: Run, base: Initial, plan: Plan, given: set[str]) -> Stage | None:
    """The shallow model of MiniPost, trained on the source text; None for other ways. Nothing of it
    depends on the target text.
    """
    if plan.via != "mini_post":
        return None
    generic, heldout = run.generic, run.generic_heldout
    part = Specialist(
        "generic",
        generic,
        np.arange(len(generic)),
        heldout,
        heldout.subset(run.config.data.valid_tokens),
    )
    config = copy.deepcopy(run.config).unlock()
    config.data.specialist_tokens = 0
    if own_text.PACE not in given:
        config.finetune.eval_every = budget.eval_every(config.finetune, len(generic))
    config = budget.for_tokens(config.lock(), plan.mini_tokens)

    def start() -> tuple[Any, transformer.Config, Any]:
        model = runs.load(base.path, run.mesh)
        made = adaptation.heightened(
            model.params, base.config, plan.layer, plan.new_layers, config.seed
        )
        return *made, model.vocabulary

    training = _Training(
        run,
        base,
        config,
        part,
        phase=MINI,
        domain="",
        title=f"layers on the first {plan.layer}",
        limit=budget.limit(config.finetune, len(part.train_indices)),
        start=start,
        trained=lambda small, params: adaptation.layers_above(small, params, plan.layer),
        frozen=plan.layer,
    )
    name = f"{MINI}-layer{plan.layer}-new{plan.new_layers}"
    return training.stage(name, {"layer": plan.layer, "new_layers": plan.new_layers})


def _start(
    target: Run, base: Initial, plan: Plan, rows: Stage, mini: Stage | None
) -> tuple[Any, transformer.Config]:
    """The shallow model, or the whole one, with the rows that the rule gives."""
    if mini:
        model = runs.load(mini.path, target.mesh)
        params, small = model.params, families.dense(model.config)
    else:
        params, small = adaptation.shallow(
            runs.load(base.path, target.mesh).params, base.config, plan.layer
        )
    return adaptation.with_rows(params, small, new_rows.weights(rows), target.config.seed)


def _learnt(
    target: Run, base: Initial, plan: Plan, rows: Stage, mini: Stage | None
) -> Stage | None:
    """The rows that are learnt on the target text, in the model that they are learnt through."""
    if plan.via == "none":
        return None
    domain = target.config.domain
    config = budget.for_tokens(target.config, plan.tokens)
    part = pipeline.specialist(target, domain)
    limit = budget.limit(config.finetune, len(part.train_indices))
    training = _Training(
        target,
        base,
        config,
        part,
        phase=PHASE,
        domain=domain,
        title=f"embeddings for {domain}",
        limit=f"{LIMIT}{plan.tokens}" if plan.tokens else limit,
        start=lambda: (*_start(target, base, plan, rows, mini), target.prepared.vocabulary),
        trained=adaptation.rows_alone,
        spent=(mini.result,) if mini else (),
        objective=_matched(target, base, part, plan.distill) if plan.distill else None,
    )
    inputs = {
        **({"distill": plan.distill} if plan.distill else {}),
        "via": plan.via,
        "layer": plan.layer,
        "rows": rows.fingerprint,
        "mini": mini.fingerprint if mini else "",
    }
    return training.stage(f"rows-{plan.via}-{domain}", inputs)


def _matched(target: Run, base: Initial, part: Specialist, weight: float):
    """The loss that also matches how likely the old model finds the text."""

    def read():
        model = runs.load(base.path, target.mesh)
        return model.params, base.config, model.vocabulary

    ours = target.prepared.vocabulary
    return aligned.from_teacher(read, ours, part.train_store, part.train_indices, weight)


def _whole(
    target: Run, base: Initial, plan: Plan, rows: Stage, mini: Stage | None, learnt: Stage | None
) -> Stage:
    """The whole model with the new rows; of its body every bit is as it was."""
    domain, seed = target.config.domain, target.config.seed
    inputs = {
        "base": base.key,
        "rows": rows.fingerprint,
        "learnt": learnt.fingerprint if learnt else "",
        "seed": seed,
    }

    def work(path: Path) -> dict:
        started = time.perf_counter()
        model = runs.load(base.path, target.mesh)
        old = jax.device_get(model.params)
        # Heads behind inner layers have served; other programs know of none.
        last = {**old, "heads": {transformer.LAST: old["heads"][transformer.LAST]}}
        config = dataclasses.replace(base.config, exits=())
        params, config = adaptation.with_rows(last, config, new_rows.weights(rows), seed)
        if learnt:
            start, _ = _start(target, base, plan, rows, mini)
            head = f"layer{plan.layer}" if plan.via == "mini_joint" else transformer.LAST
            head = head if plan.layer in base.config.exits else transformer.LAST
            shallow = jax.device_get(runs.load(learnt.path, target.mesh).params)
            params = adaptation.put_back(params, config, shallow, start, head, old)
        runs.save(path, params)
        entry = dict(learnt.result) if learnt else _untrained(time.perf_counter() - started, domain)
        spent = [mini.result] if mini else []
        vocabulary = target.prepared.vocabulary
        _describe(path, config, vocabulary, base, domain, seed, [*spent, entry])
        return entry | {
            "via": plan.via,
            "init": plan.init,
            "layer": plan.layer,
            "causal": config.causal,
            "vocabulary_size": vocabulary.size,
            "parameters": transformer.num_params(config),
            "one_off_flops": _one_off(base, mini),
        }

    method = base.record["method"]
    name = f"{PHASE}/{method}-{plan.via}-{plan.init}-{domain}-seed{seed}".replace("_", "-")
    return target.stages.run(name, inputs, work)


def _untrained(seconds: float, domain: str) -> dict:
    spent = {"tokens": 0, "flops": 0, "seconds": seconds, "steps": 0}
    return {"phase": PHASE, "domain": domain, **spent}


def _one_off(base: Initial, mini: Stage | None) -> float:
    """FLOPs that serve all target texts: of MiniPost's layers, or of pretraining's other heads."""
    if mini:
        return mini.result["flops"]
    heads = len(base.config.exits) * transformer.HEADS[base.config.head].flops(base.config)
    entries = (entry for entry in base.record["ledger"] if entry["phase"] == "pretrained")
    return sum(3 * heads * entry["tokens"] for entry in entries)


def _describe(
    path: Path, config: transformer.Config, vocabulary, base: Initial, domain, seed, entries
) -> None:
    """The record of a model that was made of `base`."""
    about = origin.inherited(base.path, path)
    if "settings" in about:
        settings = copy.deepcopy(about["settings"])
        settings.setdefault("data", {})["vocabulary_size"] = vocabulary.size
        settings["data"]["vocabulary"] = ""
        for name in ("num_layers", "exits"):
            settings.setdefault("model", {})[name] = getattr(config, name)
        about |= {"settings": settings, "generic": {}}
    record = base.record
    ledger = [*record["ledger"], *entries]
    runs.describe(path, config, vocabulary, record["method"], domain, seed, ledger, about)


def _scores(run: Run, target: Run, base: Initial, stage: Stage):
    """(of the old model, of the new one) on the same held-out documents."""
    domain = target.config.domain
    store, windows = pipeline.heldout(target, domain)
    same = pipeline.same_documents(run.prepared.domains[domain]["heldout"], store, windows)
    before = pipeline.score_heldout(
        run, base.path, [domain], base.key, base.path.resolve().name, {domain: same}
    )
    after = pipeline.score_heldout(target, stage.path, [domain], stage.fingerprint, stage.path.name)
    return before[domain], after[domain]
