"""Heads for tasks: from the last, normed states of a window to a class, or to a span of it.

A head is one linear map, its parameters stand beside the model's, at `params[TASK]`. Which state
a class is read of is our reading: the paper's models (arXiv 2212.10503) have a token for it in
front. Here a causal model's last state has seen the whole window, and of a masked one the mean of
all states is taken. A span has a score for each token to be its first, and one to be its last
(arXiv 1810.04805, section 4.2).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from specialm.models import tensors, transformer
from specialm.models.operations import MASKED
from specialm.models.placement import WHOLE, Placement
from specialm.models.tensors import Tensor

TASK = "task"  # the key of a head's parameters beside the model's


@dataclass(frozen=True)
class TaskHead:
    """One choice of the table.

    Attributes:
      read: (states [B, L, D], batch, whether the model is causal) -> what the map takes, float32.
      log_p: (scores, batch) -> float32 like the scores, log p.
      losses: (scores, batch) -> float32 [B], -log p of what is right, in nats.
      outputs: the map's, if the task does not say.
    """

    read: Callable[[jax.Array, dict, bool], jax.Array]
    log_p: Callable[[Any, dict], jax.Array]
    losses: Callable[[jax.Array, dict], jax.Array]
    outputs: int = 0


def _pooled(x_BxLxD: jax.Array, batch: dict, causal: bool) -> jax.Array:
    present_BxL = batch["present"]
    sizes_B = jnp.maximum(jnp.sum(present_BxL, axis=1), 1)  # rows that fill up a batch have none
    if not causal:
        return jnp.einsum("BLD,BL->BD", x_BxLxD, present_BxL) / sizes_B[:, None]
    last_B = sizes_B.astype(jnp.int32) - 1
    return x_BxLxD[jnp.arange(len(x_BxLxD)), last_B]


def _log_classes(scores_BxC: Any, batch: dict) -> jax.Array:
    return jax.nn.log_softmax(scores_BxC)


def _of_classes(scores_BxC: jax.Array, batch: dict) -> jax.Array:
    log_p_BxC = _log_classes(scores_BxC, batch)
    return -jnp.take_along_axis(log_p_BxC, batch["label"][:, None], axis=1)[:, 0]


def _each(x_BxLxD: jax.Array, batch: dict, causal: bool) -> jax.Array:
    return x_BxLxD


def _log_spans(scores_BxLx2: Any, batch: dict) -> jax.Array:
    """Each end is one of the tokens that are allowed."""
    scores_BxLx2 = jnp.where(batch["allowed"][..., None] > 0, scores_BxLx2, MASKED)
    return jax.nn.log_softmax(scores_BxLx2, axis=1)


def _of_spans(scores_BxLx2: jax.Array, batch: dict) -> jax.Array:
    log_p_BxLx2 = _log_spans(scores_BxLx2, batch)
    log_p_Bx2 = jnp.take_along_axis(log_p_BxLx2, batch["span"][:, None, :], axis=1)[:, 0]
    return -jnp.mean(log_p_Bx2, axis=1)


TASK_HEADS = {
    "classification": TaskHead(_pooled, _log_classes, _of_classes),
    "spans": TaskHead(_each, _log_spans, _of_spans, outputs=2),
}


def declare(config: transformer.Config, kind: str, classes: int) -> tensors.Tree:
    """The parameters of a head.

    Args:
      kind: one of TASK_HEADS.
      classes: of a classification.
    """
    outputs = TASK_HEADS[kind].outputs or classes
    out = tensors.matrix((config.d_model, outputs), (None, None), tensors.normal(0.02))
    return {"out": out, "bias": Tensor((outputs,), (None,), tensors.zeros)}


def scores(
    params: Any, batch: dict, config: transformer.Config, kind: str, place: Placement = WHOLE
) -> jax.Array:
    """float32 [B, C] of classes, or [B, L, 2] of the first and the last token of a span.

    Args:
      params: the model's, with the head's at TASK.
      batch: `inputs` int32 [B, L], `present` float32 [B, L].
      place: how the model's parameters lie, inside of a `jax.shard_map`.
    """
    model = {name: part for name, part in params.items() if name != TASK}
    model = transformer.gather_ends(model, config, place)
    hidden = transformer.hidden(model, batch["inputs"], config, place, batch["present"])
    x_BxLxD = hidden[transformer.LAST].reshape(*batch["inputs"].shape, config.d_model)
    x_BxLxD = place.to_model_parallel(x_BxLxD.astype(jnp.float32))
    head = jax.tree.map(place.to_model_parallel, params[TASK])
    return TASK_HEADS[kind].read(x_BxLxD, batch, config.causal) @ head["out"] + head["bias"]


def sum_losses(
    params: Any, batch: dict, config: transformer.Config, kind: str, place: Placement = WHOLE
) -> jax.Array:
    """float32 []: the sum over windows of mask * -log p of the class, or the mean of it over both
    ends of the span, in nats; differentiable. Devices along `model` have equal shares of it.
    """
    losses_B = TASK_HEADS[kind].losses(scores(params, batch, config, kind, place), batch)
    return jnp.sum(losses_B * batch["mask"]) / place.model
