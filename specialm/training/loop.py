"""Pretraining: the loop around the step, with resume, checkpoints, metrics and a progress bar."""

import dataclasses
import math
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from specialm.common.progress import bar
from specialm.common.signals import Interrupted, Stop
from specialm.data.mixed import Joined
from specialm.data.sampler import BatchSampler
from specialm.data.store import WindowStore
from specialm.data.stream import Stream
from specialm.models import families, transformer
from specialm.training import (
    branch,
    dropout,
    hardware,
    objectives,
    optimizer,
    program,
    quantized,
    sharding,
    step,
)
from specialm.training.checkpoints import Checkpoints, with_sharding
from specialm.training.divergence import Watch
from specialm.training.metrics import MetricsWriter
from specialm.training.profile import Profile
from specialm.training.votes import Votes

REMEDY = "lower train.learning_rate, or raise train.warmup_steps"


def num_steps(train: ConfigDict, context: int) -> int:
    """Steps that the token budget gives, at least one. Tokens are counted as windows * context."""
    return max(1, math.ceil(train.tokens / (train.batch_size * context)))


def pretrain(
    path: Path,
    config: families.Config,
    train: ConfigDict,
    store: WindowStore | Joined | Stream,
    sampler: BatchSampler,
    seed: int,
    mesh: jax.sharding.Mesh,
    title: str = "pretraining",
    start: Callable[[], transformer.Params] | None = None,
    constants: dict[str, Any] | None = None,
    kept: Path | None = None,
) -> dict:
    """Trains in the run folder `path`, or goes on from its newest checkpoint.

    Args:
      sampler: gives the windows of each step; that of a bank their features as well (see
        `data/groups.py`).
      start: reads the dense model that training starts from, or all experts start as; called if
        there is no checkpoint. None draws initial parameters.
      constants: see `tensors.init`.
      kept: a run whose branch point it goes on from if there is no checkpoint.

    Returns:
      The run's ledger entry: tokens, flops, seconds (over all sessions) and the last mean loss.

    Raises:
      UserError: the batch does not divide over the devices; no saved step can be read.
      DivergedError: a loss or a gradient is not finite.
      Interrupted: a signal came; the step under way is saved.
    """
    program.check_batch(config, mesh, train.batch_size, sampler.num_groups)
    with Checkpoints(path / "checkpoints") as checkpoints:
        begin = partial(_start, checkpoints, config, mesh, seed, start, constants, path, kept)
        return _pretrain(path, config, train, store, sampler, seed, mesh, title, begin, checkpoints)


def _pretrain(path, config, train, store, sampler, seed, mesh, title, begin, checkpoints):
    steps = num_steps(train, store.context)
    groups = sampler.num_groups if families.kind(config) == families.BANK else 0
    tx = optimizer.make(train, steps, families.declare(config), groups)
    objective = objectives.make(train.objective, families.dense(config))
    objective = dropout.scheduled(objective, train, steps)
    state, before = begin(tx, train.param_dtype)
    first = int(state.step)
    metrics = MetricsWriter(
        path, train, _settings(config, train, seed), first, before.get("metrics")
    )
    profile = Profile(path, train.profile_steps, first)
    rate = optimizer.schedule(train, steps)
    watch = Watch(path, rate, sampler.indices, checkpoints, REMEDY)
    meter = _Meter(
        config,
        train,
        store.context,
        train.batch_size * store.context // sampler.num_groups,
        mesh,
        metrics,
        watch,
        before,
    )
    rounding = quantized.of_training(train, steps, families.declare(config))
    train_step = program.make_train_step(
        config, tx, mesh, train.microbatch, train.objective, rounding
    )
    pending, rows_b = None, sharding.rows(mesh, train.batch_size)
    branch_step = branch.kept_step(train, steps)
    with bar(steps, title, "step", initial=first) as progress, Stop() as stop:
        votes = Votes(stop, mesh)
        for number in range(first, steps):
            profile.before(number)
            batch = objective.transform(
                _batch(store, sampler, number, rows_b), seed, number, rows_b
            )
            batch = sharding.put_batch(mesh, batch)
            with jax.transfer_guard("disallow"):
                state, values = train_step(state, batch)
            profile.after(number, values)
            if rounding and number + 1 == steps:
                state = state.replace(params=jax.jit(rounding.stored)(state.params))
            stop.hold()
            # Metrics are fetched one step late, while the device works on the next step.
            if pending is not None:
                meter.add(number, pending, progress)
            pending, signal = values, votes.number()
            progress.update(1)
            due = (number + 1) % train.checkpoint_every == 0
            if signal or due or number + 1 in (branch_step, steps):
                meter.add(number + 1, pending, progress, last=number + 1 == steps)
                pending, saved = None, _parts(state, meter.record())
                if number + 1 == branch_step:
                    branch.save(path, *saved)
                checkpoints.save(*saved)
            if signal:
                checkpoints.wait()
                raise Interrupted(signal, f"step {number + 1} of {steps} is saved in {path}")
        profile.close(pending)
        if first < steps:
            checkpoints.read_back(steps, state.params)
        checkpoints.trim()
        votes.end(f"all {steps} steps are saved in {path}")
    metrics.close()
    watch.over()
    return meter.entry(steps)


def _settings(config: families.Config, train: ConfigDict, seed: int) -> dict:
    """What a tracker shows of a run."""
    return {"seed": seed, "model": dataclasses.asdict(config), "train": train.to_dict()}


def _batch(
    store: WindowStore | Joined | Stream, sampler: BatchSampler, number: int, rows_b: np.ndarray
) -> dict:
    """This process's windows of a step, with the features of all groups if there are any."""
    batch = store.batch(sampler.indices(number)[rows_b])
    features = sampler.features(number)
    if features is not None:
        batch["features"] = features
    return batch


def _start(
    checkpoints: Checkpoints, config, mesh, seed, start, constants, path, kept, tx, dtype: str
):
    layout = step.state_sharding(config, tx, mesh)
    abstract = with_sharding(step.abstract_state(config, tx, dtype), layout)
    parts = abstract.params, (abstract.step, abstract.optimizer)
    found = checkpoints.restore(*parts)
    if found is None and kept is not None:
        found = branch.restore(kept, path, *parts)
    if found is None:
        dense, key = start and start(), jax.random.key(seed)
        given = {"dense": dense, "constants": constants, "dtype": dtype}
        return step.init_state(config, tx, mesh, key, **given), {}
    _, params, (number, moments), record = found
    return step.TrainState(number, params, moments), record


def _parts(state: step.TrainState, record: dict) -> tuple[int, Any, Any, dict]:
    """What a checkpoint holds."""
    return int(state.step), state.params, (state.step, state.optimizer), record


class _Meter:
    """Mean loss, tokens per second and MFU since the last record."""

    def __init__(
        self,
        config,
        train,
        context: int,
        tokens_per_group: int,
        mesh,
        metrics: MetricsWriter,
        watch: Watch,
        before: dict,
    ):
        self.train, self.metrics, self.watch = train, metrics, watch
        self.tokens_per_step = train.batch_size * context
        self.flops_per_token = families.flops_per_token(config, True, tokens_per_group)
        self.peak = sum(hardware.peak_flops(device) for device in mesh.devices.flat)
        self.seconds = before.get("seconds", 0.0)
        self.loss = before.get("loss")
        self._losses: list[float] = before.get("losses", [])
        self._started = time.perf_counter() - before.get("elapsed", 0.0)

    def add(self, number: int, values: dict, progress, last: bool = False) -> None:
        """Takes the metrics of step `number` (counted from 1), records every `log_every`."""
        fetched = {name: float(values[name]) for name in ("loss", "grad_norm")}
        self.watch.see(number, fetched)
        self._losses.append(fetched["loss"])
        if not (number % self.train.log_every == 0 or last):
            return
        now = time.perf_counter()
        elapsed, self._started = now - self._started, now
        self.seconds += elapsed
        rate = len(self._losses) * self.tokens_per_step / elapsed
        self.loss = sum(self._losses) / len(self._losses)
        self._losses = []
        self.metrics.write(
            number,
            {
                "tokens": number * self.tokens_per_step,
                "loss": self.loss,
                "grad_norm": fetched["grad_norm"],
                "tokens_per_second": rate,
                "mfu": rate * self.flops_per_token / self.peak,
                "seconds": self.seconds,
            },
        )
        progress.set_postfix(loss=f"{self.loss:.3f}", tok_s=f"{rate:,.0f}")

    def record(self) -> dict:
        """What a resumed run needs to report the same."""
        return {
            "seconds": self.seconds,
            "loss": self.loss,
            "losses": self._losses,  # since the last record
            "elapsed": time.perf_counter() - self._started,
            "metrics": self.metrics.state(),
        }

    def entry(self, steps: int) -> dict:
        tokens = steps * self.tokens_per_step
        return {
            "phase": "pretrained",
            "steps": steps,
            "tokens": tokens,
            "flops": tokens * self.flops_per_token,
            "seconds": self.seconds,
            "loss": self.loss,
        }
