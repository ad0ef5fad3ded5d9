"""The model tuned to a task, its embeddings as they are, so that others can take their place.

Step 3 of mini-model adaptation (Marchisio et al., arXiv 2212.10503, section 2), after Artetxe et
al. (arXiv 1910.11856): the body and a head are trained on labelled text of the source language.
Rows of tokens have no gradient, and none is computed. Step 4 puts the rows of another vocabulary
under the body, which has never seen a labelled example of that language. Learned positions are of
the body here, as they are in `adaptation.py`, and are trained with it.
"""

import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import jax
import numpy as np
from ml_collections import ConfigDict

from specialm.common.progress import bar
from specialm.data.store import WindowStore
from specialm.data.task_windows import TaskWindows
from specialm.models import task_heads, tensors, transformer
from specialm.models.task_heads import TASK
from specialm.specialize import finetune
from specialm.specialize.early_stopping import Validation
from specialm.specialize.tuning_step import ParameterMap
from specialm.training import sharding, step
from specialm.training.objectives import Objective

VALID_BATCH = 64  # windows scored at once
NORM = ("heads", transformer.LAST, "norm")
BODY = ("position", "layers")


def declare_body(config: transformer.Config) -> tensors.Tree:
    """What is trained of a model: positions, layers and the last norm."""
    declared = transformer.declare(config)
    body = {name: declared[name] for name in BODY if name in declared}
    return tensors.updated(body, NORM, tensors.get(declared, NORM))


def declare(config: transformer.Config, kind: str, classes: int) -> tensors.Tree:
    """Of the whole model with the head of a task."""
    return transformer.declare(config) | {TASK: task_heads.declare(config, kind, classes)}


def body_of(params: Any) -> Any:
    """The values of what `declare_body` names."""
    body = {name: params[name] for name in BODY if name in params}
    return tensors.updated(body, NORM, tensors.get(params, NORM))


def fingerprint(params: Any) -> str:
    """Of every bit of the body: models that `specialm adapt` makes of one have one."""
    digest = hashlib.sha256()
    leaves = jax.tree_util.tree_flatten_with_path(body_of(params))[0]
    for path, leaf in leaves:
        digest.update(f"{jax.tree_util.keystr(path)} {leaf.shape} {leaf.dtype}".encode())
        digest.update(np.ascontiguousarray(leaf).tobytes())
    return digest.hexdigest()


def last_head_alone(
    params: Any, config: transformer.Config
) -> tuple[transformer.Params, transformer.Config]:
    """The model without the heads behind inner layers, which no task reads."""
    heads = {transformer.LAST: params["heads"][transformer.LAST]}
    return {**params, "heads": heads}, dataclasses.replace(config, exits=())


def swapped(tuned: Any, other: Any) -> Any:
    """The body and the head of a tuned model on the embeddings (and rows) of another one."""
    return tensors.joined({**body_of(tuned), TASK: tuned[TASK]}, other)


def body_and_head(
    config: transformer.Config, params: Any, kind: str, classes: int, seed: int
) -> ParameterMap:
    """The body and a new head are trained, embeddings stay as they are.

    `flops_per_token` is of windows of `config.context` tokens: what enters the first layer has no
    gradient, so a product or two are counted in excess; the head's own are left out.
    """
    head = task_heads.declare(config, kind, classes)
    trained = declare_body(config) | {TASK: head}
    start = body_of(params) | {TASK: tensors.init(head, jax.random.key(seed))}
    return ParameterMap(
        config,
        start,
        trained,
        tensors.joined,
        _flops(config),
        tensors.without(params, trained),
        tensors.without(transformer.logical_axes(config), trained),
        places=True,
    )


def _flops(config: transformer.Config) -> int:
    return 3 * _layers_flops(config) + _embedder_flops(config)


def _embedder_flops(config: transformer.Config) -> int:
    return transformer.EMBEDDERS[config.embedder].flops(config)


def _layers_flops(config: transformer.Config) -> int:
    head = transformer.HEADS[config.head].flops(config)
    return transformer.flops_per_token(config, train=False) - head - _embedder_flops(config)


def objective(config: transformer.Config, kind: str) -> Objective:
    """The mean of `task_heads.sum_losses` over windows."""

    def sum_loss(params, batch, _, place):
        return task_heads.sum_losses(params, batch, config, kind, place)

    return Objective(sum_loss)


def specialist(name: str, train: TaskWindows, valid: TaskWindows) -> finetune.Specialist:
    """All windows of the two sets, as fine-tuning reads them."""
    return finetune.Specialist(
        name,
        cast(WindowStore, train),  # it reads like one
        np.arange(len(train)),
        cast(WindowStore, valid),
        np.arange(len(valid)),
    )


def tune(
    path: Path,
    config: transformer.Config,
    params: Any,
    kind: str,
    classes: int,
    part: finetune.Specialist,
    train: ConfigDict,
    tune: ConfigDict,
    seed: int,
    mesh: jax.sharding.Mesh,
    title: str,
) -> dict:
    """Tunes a model with a new head in the folder `path`; resumes if it was killed there.

    The best checkpoint by nats per window of validation lies in `path/checkpoints` in the end, of
    the tree that `declare` gives.

    Args:
      config: without heads behind inner layers.
      part: see `specialist`.

    Returns:
      The ledger entry, see `finetune.finetune`; `valid_nll` is of a window.
    """
    short = dataclasses.replace(config, context=part.train_store.context)
    trained = body_and_head(config, params, kind, classes, seed)
    return finetune.fit(
        path,
        short,
        dataclasses.replace(trained, flops_per_token=_flops(short)),
        objective(config, kind),
        part,
        train,
        tune,
        seed,
        mesh,
        title,
        validation=_validation(config, kind, classes, cast(TaskWindows, part.valid_store), mesh),
    )


def _validation(config, kind: str, classes: int, windows: TaskWindows, mesh) -> Validation:
    scorer = make_scorer(config, kind, classes, mesh)
    short = dataclasses.replace(config, context=windows.context)

    def nll(params: Any) -> float:
        found = _scored(scorer, params, windows, VALID_BATCH, mesh, "")
        return sum(float(losses_B.sum(dtype=np.float64)) for losses_B, _ in found) / len(windows)

    forward = _layers_flops(short) + _embedder_flops(short)
    return Validation(nll, len(windows) * windows.context * forward)


def make_scorer(config: transformer.Config, kind: str, classes: int, mesh) -> Callable:
    """(params, batch) -> (nats [B], scores as `task_heads.scores` gives them), whole everywhere."""
    place, axes = sharding.placement(mesh), tensors.logical_axes(declare(config, kind, classes))

    def local(params: Any, batch: dict):
        def windows(part: dict):
            scores = task_heads.scores(params, part, config, kind, place)
            return task_heads.TASK_HEADS[kind].losses(scores, part), scores

        size = step.default_microbatch(batch["inputs"].shape[1])
        found = jax.lax.map(windows, step.split_windows(batch, size))
        return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), found)

    split = sharding.spec(("batch",))
    scorer = jax.shard_map(
        local, mesh=mesh, check_vma=False, in_specs=(sharding.specs(axes), split), out_specs=split
    )
    return jax.jit(scorer, out_shardings=sharding.replicated(mesh))


def predict(
    params: Any,
    config: transformer.Config,
    kind: str,
    classes: int,
    windows: TaskWindows,
    batch_size: int,
    mesh: jax.sharding.Mesh,
    title: str = "",
) -> np.ndarray:
    """float32 [N, C] or [N, L, 2]: log p of each class, or of each token to be the first and the
    last of the span.

    Args:
      title: of a progress bar; "" shows none.
    """
    scorer = make_scorer(config, kind, classes, mesh)
    scores_N = np.concatenate(
        [scores_B for _, scores_B in _scored(scorer, params, windows, batch_size, mesh, title)]
    )
    log_p = task_heads.TASK_HEADS[kind].log_p
    return np.asarray(log_p(scores_N, windows.columns))


def _scored(scorer, params: Any, windows: TaskWindows, size: int, mesh, title: str):
    """Yields (losses, scores) of each batch of windows; the last one is filled up with none."""
    devices = sharding.parts(mesh, "batch")
    size = max(devices, size // devices * devices)
    with bar(len(windows), title, "window") as progress:
        for start in range(0, len(windows), size):
            part = windows.batch(np.arange(start, min(start + size, len(windows))))
            count = len(part["inputs"])
            filled = {
                name: np.pad(values, ((0, size - count), *[(0, 0)] * (values.ndim - 1)))
                for name, values in part.items()
            }
            losses_B, scores_B = scorer(params, sharding.put_batch(mesh, filled))
            yield np.asarray(losses_B)[:count], np.asarray(scores_B)[:count]
            progress.update(count)
