"""Pretraining as a stage: any method's draws, specialist text mixed in, a trunk to start from."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from specialm import budgets, methods
from specialm.clustering import saved_clusters
from specialm.common import processes
from specialm.common.errors import UserError
from specialm.common.stages import Stage, digest
from specialm.data import mixed
from specialm.data.mixed import Joined
from specialm.data.sampler import BatchSampler, Sampler
from specialm.data.store import WindowStore
from specialm.data.stream import Stream
from specialm.models import families, tensors, transformer
from specialm.planning import memory, step_memory
from specialm.specialize import validated
from specialm.training import loop, optimizer, origin, profile, runs
from specialm.workflows import branching, feeding, pipeline, repeats, stage_keys
from specialm.workflows.pipeline import Run


@dataclass(frozen=True)
class _Drawn:
    """What a model is trained on."""

    store: WindowStore | Joined | Stream
    sampler: BatchSampler
    key: dict  # what identifies it, for the stage
    notes: Sequence[str] = ()  # for people, before it is trained
    valid: tuple[WindowStore, np.ndarray] | None = None  # what it is validated on


@dataclass(frozen=True)
class _Start:
    """The dense model that training goes on from."""

    path: Path
    inputs: dict  # what identifies it, for the stage


def pretrain(
    run: Run,
    method: str,
    domain: str,
    seed: int,
    must_exist: bool = False,
    branch: Path | None = None,
) -> Stage:
    """The pretrained model of a method (and domain, where it aims at one).

    Args:
      must_exist: it was pretrained before.
      branch: a run that has the same beginning, which is not computed again.

    Raises:
      UserError: it was not; no domain for a method that aims at one; a setting out of range.
    """
    record, config = methods.get(method), run.config
    if not record.pretrained:
        return _untrained(run, method, seed)
    domain = _aimed_at(run, method, domain)
    train, start = config.train, None
    if run.init:
        train, start = run.init.rated(train), _Start(run.init.path, {"init": run.init.key})
    if record.trunk:
        trunk, train = budgets.trunk(train)
        start = _trunk(run, trunk, seed, must_exist, start) if trunk else start
    if methods.trains_one_expert(config, method):
        train = budgets.one_expert_settings(train, config.model.num_experts)
    drawn = _drawn(run, method, domain, seed)
    if config.train.valid_every:
        drawn = _validated(run, drawn, method, domain)
    return _train(run, method, domain, seed, train, drawn, must_exist, start, branch)


def _aimed_at(run: Run, method: str, domain: str) -> str:
    """The domain that a method's model is for; "" if it is for all."""
    if not methods.aims_at_domain(run.config, method):
        return ""
    if domain:
        return domain
    choices = f"set --config.domain to one of {', '.join(run.config.data.domains)}."
    if methods.mixes(run.config, method):
        fraction = run.config.train.specialist_fraction
        raise UserError(
            f"train.specialist_fraction={fraction} mixes in the text of one domain; {choices}"
        )
    raise UserError(f"method={method!r} aims at one specialist domain; {choices}")


def _drawn(run: Run, method: str, domain: str, seed: int) -> _Drawn:
    if fed := feeding.own(run, method, domain, seed):
        notes = [f"{_title(method, domain, seed)}: batches of {run.config.train.feed}"]
        return _Drawn(fed.stream, fed.sampler, {"feed": fed.key}, notes)
    record, source = methods.get(method), repeats.source(run, method, domain)
    sampler = methods.sampler(run.config, method, source, seed)
    expected = repeats.of(run, method, domain, seed, source)
    notes = repeats.lines(expected, _title(method, domain, seed))
    drawn = _Drawn(
        run.generic, sampler, {"sampling": record.draws.key(run.config, source, seed)}, notes
    )
    return _with_specialist(run, drawn, domain) if methods.mixes(run.config, method) else drawn


def _with_specialist(run: Run, drawn: _Drawn, domain: str) -> _Drawn:
    """The same with a domain's specialist text mixed in."""
    train, part = run.config.train, pipeline.specialist(run, domain)
    if not isinstance(drawn.sampler, Sampler):
        raise UserError(
            f"train.specialist_fraction={train.specialist_fraction}: the draws of this method "
            "cannot have specialist text mixed in; set it to 0."
        )
    late = mixed.sampler(drawn.sampler, len(part.train_indices), train.specialist_fraction)
    first = round(train.specialist_start * loop.num_steps(train, run.generic.context))
    return _Drawn(
        Joined(run.generic, part.train_store, part.train_indices),
        mixed.Late(drawn.sampler, late, first),
        drawn.key | {"specialist": [part.train_store.fingerprint, digest(part.train_indices)]},
        drawn.notes,
    )


def _validated(run: Run, drawn: _Drawn, method: str, domain: str) -> _Drawn:
    """The same with the specialist's validation windows, by which it ends early."""
    if not domain or not methods.get(method).is_dense:
        raise UserError(
            f"train.valid_every={run.config.train.valid_every}: pretraining can be validated for "
            f"dense methods that aim at a domain, which method={method!r} is not; set it to 0."
        )
    if run.config.train.keep_branch:
        raise UserError(
            "train.keep_branch=True: pretraining that train.valid_every may end early keeps no "
            "state from before its decay; set one of the two to its default."
        )
    part = pipeline.specialist(run, domain)
    valid = part.valid_store, part.valid_indices
    key = drawn.key | {"valid": [part.valid_store.fingerprint, digest(part.valid_indices)]}
    return replace(drawn, valid=valid, key=key)


def _title(method: str, domain: str, seed: int) -> str:
    return " ".join(filter(None, [method, domain, f"seed {seed}"]))


def _trunk(
    run: Run, train: ConfigDict, seed: int, must_exist: bool, start: _Start | None
) -> _Start:
    """The dense model that others start from: the base method's, with another budget."""
    sampler = Sampler(len(run.generic), train.batch_size, seed)
    drawn = _Drawn(run.generic, sampler, {"sampling": []})
    stage = _train(run, methods.BASE, "", seed, train, drawn, must_exist, start)
    return _Start(stage.path, {"trunk": stage.fingerprint})


def _untrained(run: Run, method: str, seed: int) -> Stage:
    """A run folder with initial parameters."""
    config = run.model_config(method)

    def work(path: Path) -> dict:
        runs.save(path, _initial(run, config, seed))
        _describe(run, path, method, "", seed, [])
        return {}

    return run.stages.run(
        f"pretrained/{method}-seed{seed}",
        {"model": stage_keys.sizes_of(config), "seed": seed, "method": method},
        work,
        on_all=True,
    )


def _train(
    run: Run,
    method: str,
    domain: str,
    seed: int,
    train: ConfigDict,
    drawn: _Drawn,
    must_exist: bool,
    start: _Start | None = None,
    branch: Path | None = None,
) -> Stage:
    """The stage that pretrains a model, or goes on from the dense one in `start`."""
    config, inputs = run.model_config(method), _inputs(run, method, seed, train, drawn, start)
    only = f"expert{inputs['only_expert']}" if "only_expert" in inputs else ""
    name = "pretrained/" + "-".join(filter(None, [method, only, domain, f"seed{seed}"]))
    if must_exist and run.stages.find(name, inputs) is None:
        raise UserError(
            f"{run.stages.path(name, inputs)}: not pretrained yet; run `specialm "
            "train` with the same options first, or give --checkpoint."
        )

    if branch:
        branching.check(branch, inputs, train, drawn.store.context)

    def work(path: Path) -> dict:
        _check_memory(run, method, config, train)
        if processes.is_first():
            print("".join(f"{note}\n" for note in drawn.notes), end="", file=sys.stderr, flush=True)
        before = runs.read_record(start.path) if start else {}
        initial = partial(_params, run, start) if start else None
        given = families.constants(config, run.prepared.vocabulary.pieces)
        steps = loop.num_steps(train, drawn.store.context)
        runs.begin(path, method, domain, seed, "pretrained", steps)
        title = _title(method, domain, seed)
        fed = feeding.through(
            run, title, drawn.store, drawn.sampler, steps * drawn.sampler.batch_size
        )
        what = (train, *fed)
        if drawn.valid:
            dense = families.dense(config)
            entry = validated.pretrain(
                path, dense, *what, drawn.valid, seed, run.mesh, title, initial, given
            )
        else:
            entry = loop.pretrain(
                path, config, *what, seed, run.mesh, title, initial, given, branch
            )
        entry |= {"domain": domain, "devices": run.mesh.size, "feed": train.feed}
        ledger = [*before.get("ledger", ()), entry]
        _describe(run, path, method, domain, seed, ledger, before)
        if families.kind(config) != families.DENSE:
            clusters = run.clusters(method)
            runs.save_experts(path, methods.experts(clusters, method))
            saved_clusters.save(path, run.config.clustering, clusters)
        return entry

    stage = run.stages.run(name, inputs, work, on_all=True)
    if stage.reused and not must_exist:
        profile.say_nothing_traced(train.profile_steps, f"{name} was trained before")
        branching.say_nothing_kept(train, stage.path)
    return stage


def _check_memory(run: Run, method: str, config: families.Config, train: ConfigDict) -> None:
    """Raises UserError for a step that does not fit in memory, before it is compiled."""
    groups = methods.num_groups(run.config, method)
    tx = optimizer.make(train, 1, families.declare(config), groups)
    held = step_memory.of_step(config, tx, train.param_dtype, groups, run.mesh)
    devices = list(run.mesh.devices.flat)
    memory.check_devices(run.config, method, sum(held.values()), devices, processes.count())


def _inputs(
    run: Run, method: str, seed: int, train: ConfigDict, drawn: _Drawn, start: _Start | None
) -> dict:
    """What a pretrained model depends on."""
    inputs = {
        "store": run.generic.fingerprint,
        "model": stage_keys.sizes_of(run.model_config(method)),
        "seed": seed,
        "train": stage_keys.settings_in_result(train, methods.get(method).settings),
        "method": method,
        **drawn.key,
    }
    inputs |= start.inputs if start else {}
    if methods.trains_one_expert(run.config, method):
        inputs["only_expert"] = run.config.model.only_expert
    return inputs


def _params(run: Run, start: _Start) -> transformer.Params:
    return runs.load(start.path, run.mesh).params


def _initial(run: Run, config: families.Config, seed: int) -> Any:
    """Initial parameters, laid out on the mesh."""
    constants = families.constants(config, run.prepared.vocabulary.pieces)
    return jax.jit(
        lambda: tensors.init(families.declare(config), jax.random.key(seed), constants),
        out_shardings=runs.layout(config, run.mesh),
    )()


def _describe(
    run: Run,
    path: Path,
    method: str,
    domain: str,
    seed: int,
    ledger: list,
    before: dict | None = None,
) -> None:
    """Args:
    before: the record of the model that it went on from, if there was one.
    """
    stores = {"train": run.generic, "heldout": run.generic_heldout}
    runs.describe(
        path,
        run.model_config(method),
        run.prepared.vocabulary,
        method,
        domain,
        seed,
        ledger,
        origin.describe(path, run.config, stores, before),
    )
