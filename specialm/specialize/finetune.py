"""Fine-tuning on a small specialist set, with early stopping on a validation split of it.

methods.md section 2: base learning rate / 3 for small sets, early stopping on validation loss. The
checkpoint kept is the best one, not the last; step 0 (no fine-tuning at all) is a candidate too.
"""

import copy
import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from specialm.data.sampler import Sampler
from specialm.data.store import WindowStore
from specialm.models import transformer
from specialm.progress import bar
from specialm.training import optimizer, scoring, sharding, step
from specialm.training.checkpoints import Checkpoints, with_sharding
from specialm.training.metrics import MetricsWriter

VALID_BATCH = 64  # windows scored at once


@dataclass(frozen=True)
class Specialist:
    """A domain's training and validation windows."""

    domain: str
    train_store: WindowStore
    train_indices: np.ndarray
    valid_store: WindowStore
    valid_indices: np.ndarray


@dataclass
class Progress:
    """What early stopping has to remember; saved with each checkpoint."""

    step: int = 0
    best_step: int = 0
    best_nll: float = float("inf")  # nats per token on the validation split
    worse: int = 0  # evaluations since the best one
    seconds: float = 0.0


def settings(train: ConfigDict, finetune: ConfigDict) -> ConfigDict:
    """The optimiser settings of fine-tuning: those of pretraining with a constant, smaller rate."""
    changed = copy.deepcopy(train).unlock()
    changed.schedule = "constant"
    changed.learning_rate = finetune.learning_rate or train.learning_rate / 3
    changed.warmup_steps = finetune.warmup_steps
    changed.weight_decay = finetune.weight_decay
    return changed.lock()


def finetune(path: Path, config: transformer.Config, params: transformer.Params,
             specialist: Specialist, train: ConfigDict, tune: ConfigDict, seed: int,
             mesh: jax.sharding.Mesh, title: str = "fine-tuning") -> dict:
    """Fine-tunes `params` in the run folder `path`; resumes if it was killed there.

    The best checkpoint lies in `path/checkpoints` in the end; `runs.load` reads it.

    Returns:
      The ledger entry: steps, steps and tokens to the best, FLOPs, seconds, validation nats.
    """
    with (Checkpoints(path / "checkpoints", keep=1) as best,
          Checkpoints(path / "latest", keep=1) as latest):
        entry = _finetune(path, config, params, specialist, train, tune, seed, mesh, title, best,
                          latest)
    shutil.rmtree(path / "latest", ignore_errors=True)
    return entry


def _finetune(path, config, params, specialist, train, tune, seed, mesh, title, best, latest):
    tx = optimizer.make(settings(train, tune), tune.max_steps)
    state, done = _start(latest, config, tx, mesh, params)
    resumed = done.step if done.step else None  # that step was judged before it was saved
    metrics = MetricsWriter(path, train.tensorboard, -1 if resumed is None else resumed)
    train_step = step.make_train_step(config, tx, mesh, train.microbatch)
    score_step = step.make_score_step(config, mesh)
    batch_size = max(mesh.size, tune.batch_size // mesh.size * mesh.size)
    sampler = Sampler(len(specialist.train_indices), batch_size, seed)
    started, losses = time.perf_counter() - done.seconds, []
    with bar(tune.max_steps, title, "step", initial=done.step) as progress:
        while True:
            last = done.step == tune.max_steps
            if (done.step % tune.eval_every == 0 or last) and done.step != resumed:
                done.seconds = time.perf_counter() - started
                valid = _evaluate(score_step, state, specialist, mesh)
                _judge(done, valid, state, best)
                _record(metrics, done, valid, losses, batch_size * config.context, progress)
                losses = []
                if done.worse >= tune.patience or last:
                    break
                if done.step % tune.checkpoint_every == 0 and done.step:
                    latest.save(done.step, state.params, (state.step, state.optimizer),
                                asdict(done))
            windows = specialist.train_indices[sampler.indices(done.step)]
            batch = sharding.put_batch(mesh, specialist.train_store.batch(windows))
            state, values = train_step(state, batch)
            losses.append(values["loss"])
            done.step += 1
            progress.update(1)
    metrics.close()
    return _entry(config, done, batch_size)


def _start(latest: Checkpoints, config, tx, mesh, params):
    layout = step.state_sharding(config, tx, mesh)
    abstract = with_sharding(step.abstract_state(config, tx), layout)
    found = latest.restore(abstract.params, (abstract.step, abstract.optimizer))
    if found is None:
        return step.init_state(config, tx, mesh, params=params), Progress()
    _, restored, (number, moments), record = found
    return step.TrainState(number, restored, moments), Progress(**record)


def _evaluate(score_step, state: step.TrainState, specialist: Specialist, mesh) -> float:
    scored = scoring.score(score_step, state.params, specialist.valid_store,
                           specialist.valid_indices, VALID_BATCH, mesh)
    return scored.nll_per_token


def _judge(done: Progress, valid: float, state: step.TrainState, best: Checkpoints) -> None:
    if valid < done.best_nll:
        done.best_nll, done.best_step, done.worse = valid, done.step, 0
        best.save(done.step, state.params, None, {"valid_nll": valid})
    else:
        done.worse += 1


def _record(metrics, done: Progress, valid, losses, tokens_per_step: int, progress) -> None:
    values = {"tokens": done.step * tokens_per_step, "valid_nll": valid, "seconds": done.seconds}
    if losses:
        values["loss"] = float(np.mean([float(loss) for loss in losses]))
    metrics.write(done.step, values)
    progress.set_postfix(valid=f"{valid:.3f}", best=f"{done.best_nll:.3f}")


def _entry(config: transformer.Config, done: Progress, batch_size: int) -> dict:
    tokens = done.step * batch_size * config.context
    return {"phase": "finetuned", "steps": done.step, "best_step": done.best_step,
            "tokens": tokens, "flops": tokens * transformer.flops_per_token(config, train=True),
            "seconds": done.seconds, "valid_nll": done.best_nll}
