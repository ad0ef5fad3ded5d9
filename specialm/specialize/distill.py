"""SLM-d: fine-tuning a small model on a mixture of the data and a teacher's distributions.

SLM-d of arXiv 2402.01093, after Hinton et al. 2015 (arXiv 1503.02531): each token's loss is

    (1 - w) * -log p(target) + w * T^2 * KL(teacher || student), both softened by temperature T.

Where `finetune.distill_terms` says so, other likenesses of the two are added (`terms/`).
The teacher is fine-tuned on the domain beforehand. Its logits are computed in the same step, a
chunk of tokens at a time; or its k largest probabilities are stored once (`teacher.py`), and all
the other pieces count as one more class.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.scipy.special import logsumexp, xlogy
from ml_collections import ConfigDict

from specialm.common.errors import UserError
from specialm.models import inner, transformer
from specialm.models import loss as loss_lib
from specialm.models.operations import MASKED, outer
from specialm.models.placement import Placement
from specialm.models.transformer import LAST
from specialm.specialize import finetune, terms
from specialm.specialize import teacher as teacher_lib
from specialm.specialize.terms import Seen, Wanted
from specialm.training.objectives import Objective


def distill(
    path: Path,
    student_config: transformer.Config,
    student_params: transformer.Params,
    teacher_config: transformer.Config,
    teacher_params: transformer.Params,
    specialist: finetune.Specialist,
    train: ConfigDict,
    tune: ConfigDict,
    seed: int,
    mesh: jax.sharding.Mesh,
    title: str = "distilling",
    draws: finetune.Draws | None = None,
) -> dict:
    """Distils the teacher into the student in the run folder `path`; resumes if it was killed.

    As `finetune.finetune`, early stopping on the student's own validation nats included, with
    `tune.distill_weight` (w), `tune.distill_temperature` (T) and `tune.distill_top_k`: 0 computes
    the teacher's logits anew in each step, k > 0 stores its k largest probabilities of every token
    in `path/teacher`. Call `check_vocabulary` first.

    Args:
      draws: see `finetune.fit`.

    Returns:
      The ledger entry. `flops` include the teacher's forward passes, which are also given alone
      as `teacher_flops`.

    Raises:
      UserError: a setting is out of range, or the teacher cannot read the student's windows.
    """
    _check(student_config, teacher_config, tune)
    wanted = wanted_terms(student_config, teacher_config, tune)
    trained = finetune.parameter_map(student_config, student_params, tune, seed)
    weight, temperature = float(tune.distill_weight), float(tune.distill_temperature)
    if tune.distill_top_k:
        stored = teacher_lib.store(
            path / "teacher",
            teacher_config,
            teacher_params,
            specialist.train_store,
            specialist.train_indices,
            tune.distill_top_k,
            temperature,
            mesh,
        )
        objective = from_stored(student_config, stored, weight, temperature)
    else:
        objective = from_teacher(
            student_config, teacher_config, teacher_params, weight, temperature, wanted
        )
    entry = finetune.fit(
        path, student_config, trained, objective, specialist, train, tune, seed, mesh, title, draws
    )
    seen = stored.tokens if tune.distill_top_k else entry["tokens"]
    teacher_flops = seen * transformer.flops_per_token(teacher_config, train=False)
    entry |= {
        "phase": "distilled",
        "flops": entry["flops"] + teacher_flops,
        "teacher_flops": teacher_flops,
    }
    if tune.distill_top_k:
        entry["seconds"] += stored.seconds
    return entry


def check_vocabulary(student: dict, teacher: dict, teacher_path: Path) -> None:
    """Raises UserError if two models (as `model.json` tells of them) read different pieces."""
    ours, theirs = student["vocabulary_sha256"], teacher["vocabulary_sha256"]
    if ours != theirs:
        raise UserError(
            f"teacher {teacher_path} was trained with vocabulary {theirs[:12]}, the "
            f"student with {ours[:12]}; distillation compares them piece by piece: "
            "give a teacher of the student's vocabulary (see data.vocabulary)."
        )


def _check(student: transformer.Config, teacher: transformer.Config, tune: ConfigDict) -> None:
    for who, model in (("student", student), ("teacher", teacher)):
        if not transformer.has_matrix(model):
            raise UserError(
                f"the {who} has model.head={model.head!r}, which predicts the bytes of a piece; "
                "distillation compares distributions over the vocabulary: give models with "
                "model.head='tied' or 'untied'."
            )
    if student.vocab_size != teacher.vocab_size:
        raise UserError(
            f"the teacher's vocabulary has {teacher.vocab_size} pieces, the student's "
            f"{student.vocab_size}; give a teacher of the student's vocabulary."
        )
    if teacher.context < student.context:
        raise UserError(
            f"the teacher reads windows of at most {teacher.context} tokens, the "
            f"student's have data.context={student.context}; give a teacher that "
            "reads them."
        )
    if not 0 <= tune.distill_weight <= 1:
        raise UserError(
            f"finetune.distill_weight={tune.distill_weight}: must be between 0 (data "
            "alone) and 1 (teacher alone)."
        )
    if tune.distill_temperature <= 0:
        raise UserError(
            f"finetune.distill_temperature={tune.distill_temperature}: must be above 0."
        )
    if not 0 <= tune.distill_top_k < student.vocab_size:
        raise UserError(
            f"finetune.distill_top_k={tune.distill_top_k}: must be below the "
            f"vocabulary's {student.vocab_size} pieces, or 0 to store nothing."
        )


def wanted_terms(
    student: transformer.Config, teacher: transformer.Config, tune: ConfigDict
) -> Wanted | None:
    """The terms that the settings add; None for none.

    Raises:
      UserError: one that these two models cannot have.
    """
    weights = terms.parse(tune.distill_terms)
    if not weights:
        return None
    heads, layer = tune.distill_heads or student.num_heads, tune.distill_layer or teacher.num_layers
    if tune.distill_top_k:
        raise UserError(
            f"finetune.distill_terms={tuple(tune.distill_terms)}: needs a teacher that reads every "
            f"batch; set finetune.distill_top_k={tune.distill_top_k} to 0."
        )
    if layer > teacher.num_layers:
        raise UserError(
            f"finetune.distill_layer={layer}: the teacher has {teacher.num_layers} layers."
        )
    for name in weights:
        terms.TERMS[name].check(student, teacher, heads)
    return Wanted(weights, layer - 1, heads)


def from_teacher(
    student: transformer.Config,
    teacher: transformer.Config,
    teacher_params: transformer.Params,
    weight: float,
    temperature: float,
    wanted: Wanted | None = None,
) -> Objective:
    """The mixture with a teacher that reads each batch along with the student.

    Args:
      wanted: terms that are added; None for none.
    """

    def sum_loss(params, batch, teacher_params, place):
        x_TxD, head_VxD = transformer.states(params, batch["inputs"], student, place)[LAST]
        taught_TxE, head_VxE = transformer.states(teacher_params, batch["inputs"], teacher, place)[
            LAST
        ]
        return sum_mixture(
            x_TxD, head_VxD, *_wanted(batch, place), taught_TxE, head_VxE, weight, temperature
        )

    def sum_with_terms(params, batch, teacher_params, place):
        if place.model > 1:
            raise UserError(f"finetune.distill_terms: mesh.model={place.model} must be 1.")
        assert wanted is not None
        inputs_BxL, (targets_T, mask_T) = batch["inputs"], _wanted(batch, place)
        x_TxD, head_VxD, vectors = inner.seen(
            params, inputs_BxL, student, place, student.num_layers - 1
        )
        taught_TxE, head_VxE, theirs = inner.seen(
            teacher_params, inputs_BxL, teacher, place, wanted.layer
        )
        loss = sum_mixture(
            x_TxD, head_VxD, targets_T, mask_T, taught_TxE, head_VxE, weight, temperature
        )
        pair = Seen(x_TxD, vectors), Seen(taught_TxE, theirs)
        for name, factor in wanted.weights.items():
            loss += factor * jnp.sum(terms.TERMS[name].loss(*pair, wanted.heads) * mask_T)
        return loss

    return Objective(
        sum_with_terms if wanted else sum_loss,
        fixed=teacher_params,
        fixed_axes=transformer.logical_axes(teacher),
    )


def from_stored(
    student: transformer.Config, stored: teacher_lib.Stored, weight: float, temperature: float
) -> Objective:
    """The mixture with the stored probabilities of a teacher."""

    def sum_loss(params, batch, _, place):
        x_TxD, head_VxD = transformer.states(params, batch["inputs"], student, place)[LAST]
        ids_Txv, p_Txv = (
            place.token_share(batch[name].reshape(-1, batch[name].shape[-1]))
            for name in ("teacher_ids", "teacher_p")
        )
        return sum_mixture_top_k(
            x_TxD, head_VxD, *_wanted(batch, place), ids_Txv, p_Txv, weight, temperature
        )

    return Objective(sum_loss, columns=stored.columns)


def _wanted(batch: dict, place: Placement) -> tuple[jax.Array, jax.Array]:
    """Targets and mask [T] of this device's share of the tokens."""
    return place.token_share(batch["targets"].reshape(-1)), place.token_share(
        batch["mask"].reshape(-1)
    )


def sum_mixture(
    x_TxD: jax.Array,
    head_VxD: jax.Array,
    targets_T: jax.Array,
    mask_T: jax.Array,
    teacher_x_TxE: jax.Array,
    teacher_head_VxE: jax.Array,
    weight: float,
    temperature: float,
) -> jax.Array:
    """float32 []: the sum over tokens of mask * the mixture of losses, in nats.

    Differentiable in the student's `x`, `head` and in the mask; the teacher gets no gradient. The
    logits of either are never whole.
    """
    return _sum_mixture(
        _whole,
        weight,
        temperature,
        x_TxD,
        head_VxD,
        targets_T,
        mask_T,
        teacher_x_TxE,
        teacher_head_VxE,
    )


def sum_mixture_top_k(
    x_TxD: jax.Array,
    head_VxD: jax.Array,
    targets_T: jax.Array,
    mask_T: jax.Array,
    ids_Txv: jax.Array,
    p_Txv: jax.Array,
    weight: float,
    temperature: float,
) -> jax.Array:
    """As `sum_mixture`, from the teacher's K < V largest probabilities at this temperature.

    The divergence is between distributions over K + 1 classes: these pieces, and all others
    together. It is at most the whole one, and equal to it where K = V - 1.
    """
    return _sum_mixture(
        _top_k, weight, temperature, x_TxD, head_VxD, targets_T, mask_T, (ids_Txv, p_Txv), None
    )


def _whole(log_q_txV, teacher_x_txE, teacher_head_VxE, temperature):
    """KL(teacher || q) [t], and minus its gradient for log q [t, V]: the teacher itself."""
    logits_txV = jnp.einsum(
        "tE,VE->tV",
        teacher_x_txE,
        teacher_head_VxE.astype(teacher_x_txE.dtype),
        preferred_element_type=jnp.float32,
    )
    log_p_txV = jax.nn.log_softmax(logits_txV / temperature)
    p_txV = jnp.exp(log_p_txV)
    return jnp.sum(p_txV * (log_p_txV - log_q_txV), axis=-1), p_txV


def _top_k(log_q_txV, stored, _, __):
    """The same over K + 1 classes; the remainder's gradient goes to its pieces by their q."""
    ids_txv, p_txv = stored
    rows_tx1 = jnp.arange(len(ids_txv))[:, None]
    rest_t = jnp.maximum(1 - jnp.sum(p_txv, axis=-1), 0)
    others_txV = log_q_txV.at[rows_tx1, ids_txv].set(MASKED)
    log_rest_t = logsumexp(others_txV, axis=-1)
    log_q_txv = jnp.take_along_axis(log_q_txV, ids_txv, axis=-1)
    divergence_t = (
        jnp.sum(xlogy(p_txv, p_txv) - p_txv * log_q_txv, axis=-1)
        + xlogy(rest_t, rest_t)
        - rest_t * log_rest_t
    )
    spread_txV = rest_t[:, None] * jnp.exp(others_txV - log_rest_t[:, None])
    return divergence_t, spread_txV.at[rows_tx1, ids_txv].set(p_txv)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def _sum_mixture(
    compare: Callable,
    weight: float,
    temperature: float,
    x_TxD,
    head_VxD,
    targets_T,
    mask_T,
    teacher_T: Any,
    teacher: Any,
) -> jax.Array:
    """As in models/loss.py the gradient is formed in the forward pass, chunk by chunk.

    Args:
      compare: (student's log q [t, V], `teacher_T` of the chunk, `teacher`, temperature) ->
        divergence [t], and the distribution [t, V] that q is drawn to.
      teacher_T: a tree of [T, ...] arrays.
    """
    return _forward(
        compare, weight, temperature, x_TxD, head_VxD, targets_T, mask_T, teacher_T, teacher
    )[0]


def _forward(compare, weight, temperature, x_TxD, head_VxD, targets_T, mask_T, teacher_T, teacher):
    narrow_VxD = head_VxD.astype(x_TxD.dtype)
    classes_V = jnp.arange(len(head_VxD))

    def add_chunk(grad_head_DxV, part):
        x_txD, targets_t, mask_t, teacher_t = part
        logits_txV = jnp.einsum("tD,VD->tV", x_txD, narrow_VxD, preferred_element_type=jnp.float32)
        log_p_txV = jax.nn.log_softmax(logits_txV)
        nll_t = -jnp.take_along_axis(log_p_txV, targets_t[:, None], axis=-1)[:, 0]
        log_q_txV = jax.nn.log_softmax(logits_txV / temperature)
        divergence_t, aim_txV = compare(log_q_txV, teacher_t, teacher, temperature)
        loss_t = (1 - weight) * nll_t + weight * temperature**2 * divergence_t
        # For the logits: T^2 from the loss, 1 / T from the softening.
        grad_txV = (1 - weight) * (
            jnp.exp(log_p_txV) - (classes_V == targets_t[:, None])
        ) + weight * temperature * (jnp.exp(log_q_txV) - aim_txV)
        grad_txV = (grad_txV * mask_t[:, None]).astype(x_txD.dtype)
        return grad_head_DxV + outer(x_txD, grad_txV), (loss_t, grad_txV @ narrow_VxD)

    parts = jax.tree.map(loss_lib.chunks, (x_TxD, targets_T, mask_T, teacher_T))
    grad_head_DxV, (loss_cxt, grad_x_cxtxD) = jax.lax.scan(
        add_chunk, jnp.zeros(head_VxD.shape[::-1], jnp.float32), parts
    )
    loss_T = loss_cxt.reshape(-1)[: len(x_TxD)]
    grad_x_TxD = grad_x_cxtxD.reshape(-1, x_TxD.shape[1])[: len(x_TxD)]
    return jnp.sum(loss_T * mask_T), (grad_x_TxD, grad_head_DxV.T, loss_T)


def _backward(_, __, ___, saved, grad):
    grad_x_TxD, grad_head_VxD, loss_T = saved
    return (
        grad_x_TxD * grad.astype(grad_x_TxD.dtype),
        grad_head_VxD * grad,
        None,
        loss_T * grad,
        None,
        None,
    )


_sum_mixture.defvjp(_forward, _backward)
