"""Heads that predict the bytes of the next piece, from one state.

The state is mapped to one vector for each slot, small blocks run over the slots, and each gives a
distribution over the classes of `pieces.py`. At once (arXiv 2405.14159, section 3.1): the slots see
each other but no byte, so a piece's bytes are independent given the state. In turn: a slot sees the
bytes before it, which makes the likelihood of a piece exact by the chain rule. A piece's
likelihood is the product over its bytes and its end mark; slots after it count nothing.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from specialm.models import loss
from specialm.models.config import Config
from specialm.models.operations import MASKED, linear
from specialm.models.parts import Weights, pieces
from specialm.models.parts.norms import NORMS
from specialm.models.tensors import Tensor, normal


def declare(config: Config, in_turn: bool) -> dict:
    """A tree of `Tensor`."""
    d, i, e = config.d_model, config.byte_slots, config.byte_size
    before = {"before": pieces.table(config, config.byte_classes)} if in_turn else {}
    expand = normal(1 / math.sqrt(d))
    return {
        "expand": Tensor((d, i, e), ("embed", None, None), expand, decay=True),
        "places": pieces.table(config, i),
        **before,
        **pieces.declare_blocks(config, config.byte_head_layers),
        "byte_norm": NORMS[config.norm].declare(e),
        "classes": pieces.table(config, config.byte_classes),
    }


def flops(config: Config) -> int:
    """Of matrix products, forward, per token."""
    slots, size = config.byte_slots, config.byte_size
    ends = 2 * slots * size * (config.d_model + config.byte_classes)
    return ends + pieces.block_flops(config, config.byte_head_layers)


def meets(weights: Weights, embed: Weights, config: Config) -> dict[str, Any]:
    """The head's weights and the codes of the vocabulary."""
    own = {name: part for name, part in weights.items() if name != "norm"}
    return {**own, pieces.CODES: embed[pieces.CODES]}


def _expanded(x_TxD: jax.Array, w: Weights) -> jax.Array:
    return linear(x_TxD, w["expand"], w["places"])


def _slots(x_Txixe: jax.Array, w: Weights, codes_Txi, config: Config, in_turn: bool) -> jax.Array:
    """[T i, e], whose products with `classes` are the logits of each slot.

    Args:
      codes_Txi: of the pieces that are predicted: what slots see in turn.
    """
    if in_turn:
        before_Txixe = w["before"][jnp.maximum(codes_Txi[:, :-1], 0)].astype(x_Txixe.dtype)
        x_Txixe += jnp.pad(before_Txixe, ((0, 0), (1, 0), (0, 0)))
    return pieces.run_blocks(w, x_Txixe, config, causal=in_turn)


def sum_nll(in_turn: bool) -> Callable[..., jax.Array]:
    """See `heads.Head`."""

    def sums(x_TxD, w, targets_T, mask_T, config: Config) -> jax.Array:
        codes_Txi = pieces.read(w[pieces.CODES])[targets_T]
        x_Nxe = _slots(_expanded(x_TxD, w), w, codes_Txi, config, in_turn)
        # The loss over classes is that over a vocabulary: every slot is a token of its own.
        counts_Txi = (codes_Txi != pieces.NOTHING) * mask_T[:, None]
        classes_N = jnp.maximum(codes_Txi, 0).reshape(-1)
        return loss.sum_nll(x_Nxe, w["classes"], classes_N, counts_Txi.reshape(-1))

    return sums


def _piece_nll(x_Nxe: jax.Array, w: Weights, codes_Txi: jax.Array) -> jax.Array:
    classes_N = jnp.maximum(codes_Txi, 0).reshape(-1)
    nll_Txi = loss.token_nll(x_Nxe, w["classes"], classes_N).reshape(codes_Txi.shape)
    return jnp.sum(nll_Txi * (codes_Txi != pieces.NOTHING), axis=1)


def token_nll(in_turn: bool) -> Callable[..., jax.Array]:
    """See `heads.Head`."""

    def nll(x_TxD, w, targets_T, config: Config) -> jax.Array:
        codes_Txi = pieces.read(w[pieces.CODES])[targets_T]
        x_Nxe = _slots(_expanded(x_TxD, w), w, codes_Txi, config, in_turn)
        return _piece_nll(x_Nxe, w, codes_Txi)

    return nll


def logits(in_turn: bool) -> Callable[..., jax.Array]:
    """See `heads.Head`. Normalised over the vocabulary, what they give is always a piece, whatever
    other bytes the head finds likely. In turn each state reads the whole vocabulary.
    """
    of_all = _in_turn_logits if in_turn else _at_once_logits

    def scores(x, w, config: Config) -> jax.Array:
        is_used_V = pieces.read(w[pieces.CODES])[:, 0] != pieces.NOTHING
        log_p_TxV = jnp.where(is_used_V, of_all(x.reshape(-1, x.shape[-1]), w, config), MASKED)
        return log_p_TxV.reshape(*x.shape[:-1], -1)

    return scores


def _at_once_logits(x_TxD: jax.Array, w: Weights, config: Config) -> jax.Array:
    codes_Vxi = pieces.read(w[pieces.CODES])
    x_Nxe = _slots(_expanded(x_TxD, w), w, None, config, in_turn=False)
    logits_Nxf = jnp.einsum(
        "Ne,fe->Nf", x_Nxe, w["classes"].astype(x_Nxe.dtype), preferred_element_type=jnp.float32
    )
    log_p_Txixf = jax.nn.log_softmax(logits_Nxf).reshape(len(x_TxD), config.byte_slots, -1)
    total_TxV = jnp.zeros((len(x_TxD), len(codes_Vxi)), jnp.float32)
    for slot in range(config.byte_slots):
        codes_V = codes_Vxi[:, slot]
        found_TxV = log_p_Txixf[:, slot, jnp.maximum(codes_V, 0)]
        total_TxV += found_TxV * (codes_V != pieces.NOTHING)
    return total_TxV


def _in_turn_logits(x_TxD: jax.Array, w: Weights, config: Config) -> jax.Array:
    codes_Vxi = pieces.read(w[pieces.CODES])

    def of_one(x_ixe: jax.Array) -> jax.Array:
        x_Vxixe = jnp.broadcast_to(x_ixe, (len(codes_Vxi), *x_ixe.shape))
        return -_piece_nll(_slots(x_Vxixe, w, codes_Vxi, config, True), w, codes_Vxi)

    return jax.lax.map(of_one, _expanded(x_TxD, w))
