"""Pretraining that ends when the specialist's validation loss stops improving.

It is fine-tuning on other draws: those of a pretraining method, with the settings of pretraining.
The checkpoint that stays is the best one.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import jax
import numpy as np
from ml_collections import ConfigDict

from specialm.data.mixed import Joined
from specialm.data.sampler import BatchSampler
from specialm.data.store import WindowStore
from specialm.data.stream import Stream
from specialm.models import tensors, transformer
from specialm.specialize import finetune, tuning_step
from specialm.specialize.finetune import Specialist
from specialm.training import dropout, loop, objectives, quantized, runs

REMEDY = loop.REMEDY


def pretrain(
    path: Path,
    config: transformer.Config,
    train: ConfigDict,
    store: WindowStore | Joined | Stream,
    sampler: BatchSampler,
    valid: tuple[WindowStore, np.ndarray],
    seed: int,
    mesh: jax.sharding.Mesh,
    title: str,
    start: Callable[[], transformer.Params] | None = None,
    constants: dict[str, Any] | None = None,
) -> dict:
    """Trains a dense model in the run folder `path`; resumes if it was killed there.

    Every `train.valid_every` steps it is validated; after `train.patience` validations without an
    improvement, or `train.tokens` tokens, it ends. The learning rate is that of the whole budget.

    Args:
      sampler: gives the windows of each step.
      valid: (store, windows of it) of the specialist.
      start: reads the parameters that it starts from; None draws them.
      constants: see `tensors.init`.

    Returns:
      The run's ledger entry, as `loop.pretrain` returns it, with `best_step` and `valid_nll`.

    Raises:
      UserError: the batch does not divide over the devices.
      DivergedError: a loss or a gradient is not finite.
      Interrupted: a signal came; the step under way is saved.
    """
    draw = jax.jit(
        lambda: tensors.init(transformer.declare(config), jax.random.key(seed), constants),
        out_shardings=runs.layout(config, mesh),
    )
    params = tensors.cast(transformer.declare(config), (start or draw)(), train.param_dtype)
    # A `Joined` and a `Stream` read like a store.
    windows = Specialist(title, cast(WindowStore, store), np.arange(len(store)), *valid)
    objective, steps = (
        objectives.make(train.objective, config),
        loop.num_steps(train, store.context),
    )
    everything = tuning_step.everything(config, params)
    entry = finetune.fit(
        path,
        config,
        replace(everything, rounding=quantized.of_training(train, steps, everything.declared)),
        dropout.scheduled(objective, train, steps),
        windows,
        train,
        _limits(train, store.context),
        seed,
        mesh,
        title,
        finetune.Draws(sampler, train, REMEDY),
    )
    del entry["epochs"], entry["lora_rank"]
    return entry | {"phase": "pretrained"}


def _limits(train: ConfigDict, context: int) -> ConfigDict:
    """The settings of fine-tuning that say when it is validated, saved and ended."""
    return ConfigDict(
        dict(
            batch_size=train.batch_size,
            eval_every=train.valid_every,
            patience=train.patience,
            max_steps=loop.num_steps(train, context),
            checkpoint_every=train.checkpoint_every,
            lora_rank=0,
            average=0.0,
        )
    )
