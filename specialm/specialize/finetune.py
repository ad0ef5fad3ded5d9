"""Fine-tuning on a small specialist set, with early stopping on a validation split of it.

arXiv 2402.01093: base learning rate / 3 for small sets, early stopping on validation loss. The
checkpoint that stays is the best one, not the last; step 0 (no fine-tuning at all) is a candidate
too.
"""

import copy
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from specialm.common import processes
from specialm.common.errors import UserError
from specialm.common.files import remove_folder
from specialm.common.progress import bar
from specialm.common.signals import Interrupted, Stop
from specialm.data.mixed import Joined
from specialm.data.sampler import BatchSampler, Sampler
from specialm.data.store import WindowStore
from specialm.models import lora, transformer
from specialm.specialize import budget, tuning_step
from specialm.specialize.averaging import Average
from specialm.specialize.early_stopping import Kept, Progress, Validation
from specialm.specialize.tuning_step import ParameterMap
from specialm.training import objectives, optimizer, pseudo, quantized, scoring, sharding, step
from specialm.training.checkpoints import Checkpoints
from specialm.training.divergence import Watch
from specialm.training.metrics import MetricsWriter
from specialm.training.objectives import Objective
from specialm.training.profile import Profile
from specialm.training.votes import Votes

VALID_BATCH = 64  # windows scored at once
REMEDY = "lower finetune.learning_rate"


@dataclass(frozen=True)
class Specialist:
    """A domain's training and validation windows."""

    domain: str
    train_store: WindowStore
    train_indices: np.ndarray
    valid_store: WindowStore
    valid_indices: np.ndarray


@dataclass(frozen=True)
class Draws:
    """What is drawn of the training store where that is not shuffled epochs of the training set.

    Attributes:
      sampler: the windows of every step.
      optimizer: its settings, those of `train`, instead of fine-tuning's.
      remedy: what to do if it diverges.
      store: what the sampler's windows are of, if not the specialist's training store.
      own: the share of the draws that are of the specialist's training set.
    """

    sampler: BatchSampler
    optimizer: ConfigDict
    remedy: str
    store: WindowStore | Joined | None = None
    own: float = 1.0


def for_set(
    train: ConfigDict,
    finetune: ConfigDict,
    specialist: Specialist,
    untrained: bool,
    max_steps: int = 0,
    open_rate: float = 0.0,
) -> ConfigDict:
    """The settings of fine-tuning with what depends on the specialist set put in.

    As published (docs/methods.md, Fine-tuning): a third of the base learning rate for small sets,
    the base rate for large ones; steps capped by the set's size (here: by epochs).

    Args:
      untrained: the model has had no pretraining.
      max_steps: instead of `finetune.max_steps`.
      open_rate: the learning rate of a model that others pretrained, where none is given.
    """
    changed = copy.deepcopy(finetune).unlock()
    windows = len(specialist.train_indices)
    tokens = int(specialist.train_store.sizes_N[specialist.train_indices].sum())
    if max_steps:
        changed.max_steps = max_steps
    changed.max_steps = budget.max_steps(changed, windows)
    if not finetune.learning_rate:
        full = untrained or tokens >= finetune.full_rate_tokens
        changed.learning_rate = open_rate or train.learning_rate / (1 if full else 3)
    return changed.lock()


def adapters(finetune: ConfigDict) -> str:
    """The part of a fine-tuned model's name that says whether it is LoRA's; "" if not."""
    kind = "dora" if finetune.dora else "lora"
    return f"{kind}{finetune.lora_rank}" if finetune.lora_rank else ""


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
    draws: Draws | None = None,
) -> dict:
    """Fine-tunes `params` in the run folder `path`; resumes if it was killed there.

    All parameters are trained, or LoRA adapters if `tune.lora_rank` is set. Either way the best
    checkpoint lies in `path/checkpoints` in the end, a plain dense model that `runs.load` reads.

    Args:
      draws: see `fit`.

    Returns:
      The ledger entry: steps, the best step, tokens, FLOPs, seconds, validation nats, how many
      parameters were trained.

    Raises:
      UserError: a LoRA setting is out of range; the batch does not divide over the devices.
      DivergedError: a loss or a gradient is not finite.
      Interrupted: a signal came; the step under way is saved.
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
        draws,
    )


def parameter_map(
    config: transformer.Config, params: transformer.Params, tune: ConfigDict, seed: int
) -> ParameterMap:
    """What the settings say is to be trained: all parameters, or LoRA adapters.

    Raises:
      UserError: a LoRA setting is out of range.
    """
    if not tune.lora_rank:
        everything = tuning_step.everything(config, params)
        bits = tune.quantize_bits
        rounding = quantized.Rounding(everything.declared, bits) if bits else None
        return replace(everything, rounding=rounding)
    adapters = adapters_config(config, tune)
    _check(adapters, tuple(lora.linear_maps(config)))
    return tuning_step.low_rank(config, params, adapters, jax.random.key(seed))


def adapters_config(config: transformer.Config, tune: ConfigDict) -> lora.Config:
    """What the settings say of adapters.

    Raises:
      UserError: `lora_targets` names what the model has not.
    """
    text = tune.lora_targets
    ranks = lora.ranks(config, text, tune.lora_rank) if text else ()
    matrices = () if ranks else tuple(tune.lora_matrices)
    return lora.Config(tune.lora_rank, tune.lora_alpha, matrices, ranks, tune.dora)


def _check(adapters: lora.Config, maps: tuple[str, ...]) -> None:
    if adapters.rank < 0:
        raise UserError(
            f"finetune.lora_rank={adapters.rank}: must be at least 1, or 0 to train all parameters."
        )
    if adapters.alpha <= 0:
        raise UserError(f"finetune.lora_alpha={adapters.alpha}: must be above 0.")
    unknown = [name for name in adapters.matrices if name not in maps]
    if unknown or not (adapters.matrices or adapters.ranks):
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
    draws: Draws | None = None,
    validation: Validation | None = None,
) -> dict:
    """Fine-tuning for any parameter map and any loss; see `finetune`.

    Args:
      draws: None for shuffled epochs of the specialist's training windows.
      validation: None for nats per token of the specialist's validation windows.
    """
    draws = draws or Draws(
        _Chosen(Sampler(len(specialist.train_indices), tune.batch_size, seed), specialist),
        settings(train, tune),
        REMEDY,
    )
    with Checkpoints(path / "checkpoints", keep=0) as best:
        with Checkpoints(path / "latest", keep=1) as latest:
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
                Kept(
                    best,
                    latest,
                    validation or _by_tokens(config, specialist, mesh),
                    Average(tune.average),
                ),
                draws,
            )
        processes.run_on_all("fine-tuned", lambda: None)  # nobody uses `latest` any more
        if processes.is_first():
            remove_folder(path / "latest")
        best.keep_only({entry["best_step"]})  # `latest` may have needed an earlier one
    return entry


class _Chosen:
    """The training windows of a specialist in a sampler's order, by their indices in the store."""

    def __init__(self, sampler: Sampler, specialist: Specialist):
        self.rows, self._indices_N = sampler, specialist.train_indices
        self.batch_size, self.num_groups = sampler.batch_size, 1

    def indices(self, step: int) -> np.ndarray:
        """int64 [B]: the windows of this step."""
        return self._indices_N[self.rows.indices(step)]

    def features(self, step: int) -> None:
        """None: there are none."""


def _fit(path, config, trained, objective, specialist, train, tune, seed, mesh, title, kept, draws):
    tx = optimizer.make(draws.optimizer, tune.max_steps, trained.declared)
    sampler, rows_of = draws.sampler, getattr(draws.sampler, "rows", draws.sampler)
    store = draws.store or specialist.train_store
    rows_b = _rows(mesh, tune.batch_size)
    state, done = kept.start(trained, tx, mesh)
    shown = {"seed": seed, "model": asdict(config), "finetune": tune.to_dict()}
    metrics = MetricsWriter(path, train, shown, done.step if done.step else -1, done.metrics)
    profile, saved = Profile(path, train.profile_steps, done.step), done.step
    train_step = tuning_step.make_train_step(
        trained, objective, tx, mesh, train.microbatch or step.default_microbatch(config.context)
    )
    to_params = jax.jit(trained.stored)
    watch = Watch(
        path,
        optimizer.schedule(draws.optimizer, tune.max_steps),
        sampler.indices,
        kept.latest,
        draws.remedy,
    )
    started, pending = time.perf_counter() - done.seconds, None
    with bar(tune.max_steps, title, "step", initial=done.step) as progress, Stop() as stop:
        votes = Votes(stop, mesh)
        while True:
            last = done.step == tune.max_steps
            if (done.step % tune.eval_every == 0 or last) and done.judged != done.step:
                pending = _fetch(pending, done.step, done, watch)
                done.seconds = time.perf_counter() - started
                mean = kept.average.of(state.params)
                params = to_params(mean, trained.fixed)
                valid = kept.validation.nll(params)
                watch.see(max(done.step, 1), {"valid_nll": valid})
                kept.judge(done, valid, params, mean if trained.adapters else None)
                _record(metrics, done, valid, tune.batch_size * config.context, progress)
                if 0 < tune.patience <= done.worse or last:
                    break
                if done.step // tune.checkpoint_every > saved // tune.checkpoint_every:
                    saved = done.step
                    kept.save(done, state, metrics)
            profile.before(done.step)
            batch = store.batch(sampler.indices(done.step)[rows_b])
            columns = objective.columns(rows_of.indices(done.step)[rows_b])
            batch = objective.transform(batch | columns, seed, done.step, rows_b)
            batch = sharding.put_batch(mesh, batch)
            state, values = train_step(state, batch)
            profile.after(done.step, values)
            stop.hold()
            pending = _fetch(pending, done.step, done, watch, values)
            done.step += 1
            kept.average.see(done.step, state.params)
            progress.update(1)
            if signal := votes.number():
                pending = _fetch(pending, done.step, done, watch)
                done.seconds = time.perf_counter() - started
                kept.save(done, state, metrics)
                kept.latest.wait()
                raise Interrupted(signal, f"step {done.step} is saved in {path}")
        profile.close(pending)
        kept.end(done, params)
        votes.end(f"step {kept.saved()} of {done.step} is saved in {path}")
    metrics.close()
    watch.over()
    epochs = done.step * tune.batch_size * draws.own / len(specialist.train_indices)
    limits = {"max_steps": tune.max_steps, "epochs": epochs, "lora_rank": tune.lora_rank}
    return _entry(config, trained, done, tune.batch_size, kept.validation.flops) | limits


def _rows(mesh: jax.sharding.Mesh, batch_size: int) -> np.ndarray:
    """This process's rows of a batch."""
    devices = sharding.parts(mesh, "batch")
    if batch_size % devices:
        below = batch_size // devices * devices
        near = " or ".join(str(size) for size in (below, below + devices) if size)
        raise UserError(
            f"finetune.batch_size={batch_size}: is not a multiple of the {devices} devices that "
            f"windows are divided over; set it to {near}."
        )
    return sharding.rows(mesh, batch_size)


def _fetch(pending, number: int, done: Progress, watch: Watch, following=None):
    """Take the metrics of step `number`, counted from 1, one step late; return the next ones."""
    if pending is not None:
        values = {name: float(pending[name]) for name in ("loss", "grad_norm")}
        watch.see(number, values)
        done.losses.append(values["loss"])
    return following


def _by_tokens(config: transformer.Config, specialist: Specialist, mesh) -> Validation:
    score_step = step.make_score_step(config, mesh, pseudo.FEW)
    forward = transformer.flops_per_token(config, train=False) * pseudo.passes(config, pseudo.FEW)
    return Validation(
        lambda params: _evaluate(score_step, params, specialist, mesh),
        len(specialist.valid_indices) * config.context * forward,
    )


def _evaluate(score_step, params: transformer.Params, specialist: Specialist, mesh) -> float:
    scored = scoring.score(
        score_step, params, specialist.valid_store, specialist.valid_indices, VALID_BATCH, mesh
    )
    return scored.nll_per_token


def _record(metrics, done: Progress, valid, tokens_per_step: int, progress) -> None:
    values = {"tokens": done.step * tokens_per_step, "valid_nll": valid, "seconds": done.seconds}
    if done.losses:
        values["loss"] = done.loss = float(np.mean(done.losses))
    done.losses = []
    metrics.write(done.step, values)
    progress.set_postfix(valid=f"{valid:.3f}", best=f"{done.best_nll:.3f}")


def _entry(config, trained: ParameterMap, done: Progress, batch_size: int, once: float) -> dict:
    """The ledger entry. once: FLOPs of one validation."""
    tokens = done.step * batch_size * config.context
    valid_flops = done.evaluations * once
    return {
        "phase": "finetuned",
        "steps": done.step,
        "best_step": done.best_step,
        "tokens": tokens,
        "flops": tokens * trained.flops_per_token + valid_flops,
        "valid_flops": valid_flops,
        "seconds": done.seconds,
        "loss": done.loss,
        "valid_nll": done.best_nll,
        "trained_params": sum(leaf.size for leaf in jax.tree.leaves(trained.start)),
    }
