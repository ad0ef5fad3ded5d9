"""Fine-tuning on a small specialist set, with early stopping on a validation split of it.

arXiv 2402.01093: base learning rate / 3 for small sets, early stopping on validation loss. The
checkpoint that stays is the best one, not the last; step 0 (no fine-tuning at all) is a candidate
too.
"""

import copy
import math
import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from specialm.common import processes
from specialm.common.errors import UserError
from specialm.common.progress import bar
from specialm.data.sampler import Sampler
from specialm.data.store import WindowStore
from specialm.models import lora, transformer
from specialm.specialize import tuning_step
from specialm.specialize.tuning_step import ParameterMap
from specialm.training import objectives, optimizer, scoring, sharding, step
from specialm.training.checkpoints import Checkpoints
from specialm.training.metrics import MetricsWriter
from specialm.training.objectives import Objective
from specialm.training.profile import Profile

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


def for_set(
    train: ConfigDict,
    finetune: ConfigDict,
    specialist: Specialist,
    untrained: bool,
    max_steps: int = 0,
) -> ConfigDict:
    """The settings of fine-tuning with what depends on the specialist set put in.

    As published (docs/methods.md, Fine-tuning): a third of the base learning rate for small sets,
    the base rate for large ones; steps capped by the set's size (here: by epochs).

    Args:
      untrained: the model has had no pretraining.
      max_steps: instead of `finetune.max_steps`.
    """
    changed = copy.deepcopy(finetune).unlock()
    windows = len(specialist.train_indices)
    tokens = int(specialist.train_store.sizes_N[specialist.train_indices].sum())
    epochs = math.ceil(finetune.max_epochs * windows / finetune.batch_size)
    changed.max_steps = min(max_steps or finetune.max_steps, max(1, epochs))
    if not finetune.learning_rate:
        full = untrained or tokens >= finetune.full_rate_tokens
        changed.learning_rate = train.learning_rate / (1 if full else 3)
    return changed.lock()


def settings(train: ConfigDict, finetune: ConfigDict) -> ConfigDict:
    """The optimiser settings of fine-tuning: those of pretraining with a constant, smaller rate."""
    changed = copy.deepcopy(train).unlock()
    changed.schedule = "constant"
    changed.learning_rate = finetune.learning_rate or train.learning_rate / 3
    changed.warmup_steps = finetune.warmup_steps
    changed.weight_decay = finetune.weight_decay
    return changed.lock()


def finetune(
    path: Path,
    config: transformer.Config,
    params: transformer.Params,
    specialist: Specialist,
    train: ConfigDict,
    tune: ConfigDict,
    seed: int,
    mesh: jax.sharding.Mesh,
    title: str = "fine-tuning",
) -> dict:
    """Fine-tunes `params` in the run folder `path`; resumes if it was killed there.

    All parameters are trained, or LoRA adapters if `tune.lora_rank` is set. Either way the best
    checkpoint lies in `path/checkpoints` in the end, a plain dense model that `runs.load` reads.

    Returns:
      The ledger entry: steps, the best step, tokens, FLOPs, seconds, validation nats, how many
      parameters were trained.

    Raises:
      UserError: a LoRA setting is out of range.
    """
    return fit(
        path,
        config,
        parameter_map(config, params, tune, seed),
        objectives.make(train.objective, config),
        specialist,
        train,
        tune,
        seed,
        mesh,
        title,
    )


def parameter_map(
    config: transformer.Config, params: transformer.Params, tune: ConfigDict, seed: int
) -> ParameterMap:
    """What the settings say is to be trained: all parameters, or LoRA adapters.

    Raises:
      UserError: a LoRA setting is out of range.
    """
    if not tune.lora_rank:
        return tuning_step.everything(config, params)
    adapters = lora.Config(tune.lora_rank, tune.lora_alpha, tuple(tune.lora_matrices))
    _check(adapters, tuple(lora.linear_maps(config)))
    return tuning_step.low_rank(config, params, adapters, jax.random.key(seed))


def _check(adapters: lora.Config, maps: tuple[str, ...]) -> None:
    if adapters.rank < 0:
        raise UserError(
            f"finetune.lora_rank={adapters.rank}: must be at least 1, or 0 to train all parameters."
        )
    if adapters.alpha <= 0:
        raise UserError(f"finetune.lora_alpha={adapters.alpha}: must be above 0.")
    unknown = [name for name in adapters.matrices if name not in maps]
    if unknown or not adapters.matrices:
        raise UserError(
            f"finetune.lora_matrices={adapters.matrices}: must be some of {', '.join(maps)}."
        )


def fit(
    path: Path,
    config: transformer.Config,
    trained: ParameterMap,
    objective: Objective,
    specialist: Specialist,
    train: ConfigDict,
    tune: ConfigDict,
    seed: int,
    mesh: jax.sharding.Mesh,
    title: str,
) -> dict:
    """Fine-tuning for any parameter map and any loss; see `finetune`."""
    with (
        Checkpoints(path / "checkpoints", keep=1) as best,
        Checkpoints(path / "latest", keep=1) as latest,
    ):
        entry = _fit(
            path,
            config,
            trained,
            objective,
            specialist,
            train,
            tune,
            seed,
            mesh,
            title,
            best,
            latest,
        )
    processes.run_on_all("fine-tuned", lambda: None)  # nobody uses `latest` any more
    if processes.is_first():
        shutil.rmtree(path / "latest", ignore_errors=True)
    return entry


def _fit(
    path, config, trained, objective, specialist, train, tune, seed, mesh, title, best, latest
):
    tx = optimizer.make(settings(train, tune), tune.max_steps, trained.declared)
    state, done = _start(latest, trained, tx, mesh)
    resumed = done.step if done.step else None  # that step was judged before it was saved
    shown = {"seed": seed, "model": asdict(config), "finetune": tune.to_dict()}
    metrics = MetricsWriter(path, train, shown, -1 if resumed is None else resumed)
    profile, values = Profile(path, train.profile_steps, done.step), {}
    train_step = tuning_step.make_train_step(
        trained, objective, tx, mesh, train.microbatch or step.default_microbatch(config.context)
    )
    score_step = step.make_score_step(config, mesh)
    to_params = jax.jit(trained.to_params)
    devices = sharding.parts(mesh, "batch")
    batch_size = max(devices, tune.batch_size // devices * devices)
    sampler = Sampler(len(specialist.train_indices), batch_size, seed)
    rows_b = sharding.rows(mesh, batch_size)
    started, losses = time.perf_counter() - done.seconds, []
    with bar(tune.max_steps, title, "step", initial=done.step) as progress:
        while True:
            last = done.step == tune.max_steps
            if (done.step % tune.eval_every == 0 or last) and done.step != resumed:
                done.seconds = time.perf_counter() - started
                params = to_params(state.params, trained.fixed)
                valid = _evaluate(score_step, params, specialist, mesh)
                _judge(done, valid, params, best)
                _record(metrics, done, valid, losses, batch_size * config.context, progress)
                losses = []
                if done.worse >= tune.patience or last:
                    break
                if done.step % tune.checkpoint_every == 0 and done.step:
                    latest.save(
                        done.step, state.params, (state.step, state.optimizer), asdict(done)
                    )
            profile.before(done.step)
            rows = sampler.indices(done.step)[rows_b]
            batch = specialist.train_store.batch(specialist.train_indices[rows])
            batch = objective.transform(batch | objective.columns(rows), seed, done.step, rows_b)
            batch = sharding.put_batch(mesh, batch)
            state, values = train_step(state, batch)
            profile.after(done.step, values)
            losses.append(values["loss"])
            done.step += 1
            progress.update(1)
    profile.close(values)
    metrics.close()
    return _entry(config, trained, done, batch_size)


def _start(latest: Checkpoints, trained: ParameterMap, tx, mesh):
    abstract = tuning_step.abstract_state(trained, tx, mesh)
    found = latest.restore(abstract.params, (abstract.step, abstract.optimizer))
    if found is None:
        return tuning_step.init_state(trained, tx, mesh), Progress()
    _, restored, (number, moments), record = found
    return step.TrainState(number, restored, moments), Progress(**record)


def _evaluate(score_step, params: transformer.Params, specialist: Specialist, mesh) -> float:
    scored = scoring.score(
        score_step, params, specialist.valid_store, specialist.valid_indices, VALID_BATCH, mesh
    )
    return scored.nll_per_token


def _judge(done: Progress, valid: float, params: transformer.Params, best: Checkpoints) -> None:
    if valid < done.best_nll:
        done.best_nll, done.best_step, done.worse = valid, done.step, 0
        best.save(done.step, params, None, {"valid_nll": valid})
    else:
        done.worse += 1


def _record(metrics, done: Progress, valid, losses, tokens_per_step: int, progress) -> None:
    values = {"tokens": done.step * tokens_per_step, "valid_nll": valid, "seconds": done.seconds}
    if losses:
        values["loss"] = float(np.mean([float(loss) for loss in losses]))
    metrics.write(done.step, values)
    progress.set_postfix(valid=f"{valid:.3f}", best=f"{done.best_nll:.3f}")


def _entry(
    config: transformer.Config, trained: ParameterMap, done: Progress, batch_size: int
) -> dict:
    tokens = done.step * batch_size * config.context
    return {
        "phase": "finetuned",
        "steps": done.step,
        "best_step": done.best_step,
        "tokens": tokens,
        "flops": tokens * trained.flops_per_token,
        "seconds": done.seconds,
        "valid_nll": done.best_nll,
        "trained_params": sum(leaf.size for leaf in jax.tree.leaves(trained.start)),
    }
