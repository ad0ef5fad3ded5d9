"""Pieces of text as the bytes that they are: codes, and small blocks over the bytes of a piece.

A piece of up to `byte_slots` bytes is these bytes and then an end mark, which a piece that fills
all slots needs not; a token without bytes (the end of a document, say) is one class of its own.
No code is the beginning of another, so the product of the probabilities of its classes is a
likelihood, and codes that no piece has only waste some of it.
"""

import math
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np

from specialm.common.errors import UserError
from specialm.models import tensors
from specialm.models.config import Config
from specialm.models.parts import Weights, attention
from specialm.models.parts.mlps import MLPS
from specialm.models.parts.norms import NORMS
from specialm.models.placement import WHOLE
from specialm.models.tensors import Tensor, normal

END = 256  # the class of the end mark; those of bytes are the bytes, of other tokens END + 1 on
NOTHING = -1  # what a code has after its end
CODES = "codes"  # the name of the constant


def codes(pieces: list[bytes | None], config: Config) -> np.ndarray:
    """float32 [V, i]: the code of each piece of a vocabulary.

    Args:
      pieces: `Vocabulary.pieces`; b"" for tokens that stand for no text, None for unused ids.

    Raises:
      UserError: a piece does not fit into the slots, or there are too many tokens without bytes.
    """
    slots = config.byte_slots
    longest = max((piece for piece in pieces if piece), key=len, default=b"")
    if len(longest) > slots:
        raise UserError(
            f"model.byte_slots={slots}: the vocabulary has pieces of {len(longest)} bytes, such as "
            f"{longest!r}; set data.longest_piece={slots}, so that none is longer."
        )
    special = [number for number, piece in enumerate(pieces) if piece == b""]
    if len(special) > config.byte_classes - END - 1:
        raise UserError(
            f"model.byte_classes={config.byte_classes}: {len(special)} tokens of the vocabulary "
            f"have no bytes; at least {END + 1 + len(special)} classes are needed."
        )
    table_Vxi = np.full((config.vocab_size, slots), NOTHING, np.float32)
    for number, piece in enumerate(pieces):
        if piece is None:
            continue
        code = [*piece, END][:slots] if piece else [END + 1 + special.index(number)]
        table_Vxi[number, : len(code)] = code
    return table_Vxi


# The name of a constant -> (pieces of the vocabulary, config) -> its values.
CONSTANTS = {CODES: codes}


def declare_codes(config: Config) -> Tensor:
    """The codes, which are given and never change."""
    shape = (config.vocab_size, config.byte_slots)
    return Tensor(shape, ("vocab", None), tensors.given, constant=CODES)


def read(codes_xi: jax.Array) -> jax.Array:
    """int32: codes as they are stored -> classes, NOTHING after their end. Rounded, since the mean
    of equal numbers over the experts of a mixture may not be that number.
    """
    return jnp.round(codes_xi).astype(jnp.int32)


def block_config(config: Config, causal: bool) -> Config:
    """The sizes of the small blocks, whose tokens are the bytes of a piece."""
    return Config(
        vocab_size=config.byte_classes,
        context=config.byte_slots,
        num_layers=1,
        d_model=config.byte_size,
        num_heads=config.byte_heads,
        d_ff=2 * config.byte_size,
        dtype=config.dtype,
        norm=config.norm,
        norm_epsilon=config.norm_epsilon,
        mlp=config.mlp,
        biases=config.biases,
        causal=causal,
        attention="auto" if config.attention == "splash" else config.attention,
    )


def declare_blocks(config: Config, count: int) -> dict:
    """`count` blocks. Every device holds them whole: they are small."""
    small = block_config(config, causal=False)
    norm = NORMS[config.norm].declare
    block = {
        "norm1": norm(small.d_model),
        "attention": attention.declare(small),
        "norm2": norm(small.d_model),
        "mlp": MLPS[small.mlp].declare(small),
    }
    whole = tensors.map_tensors(lambda t: replace(t, axes=(None,) * len(t.axes)), block)
    return {f"block{number}": whole for number in range(count)}


def table(config: Config, rows: int) -> Tensor:
    """A vector for each of so many classes or slots.

    Of length 1, as there are few numbers in it: with GPT-2's 0.02 a byte head takes many more steps
    until its logits are of any size.
    """
    initial = normal(1 / math.sqrt(config.byte_size))
    return Tensor((rows, config.byte_size), (None, None), initial, decay=True)


def run_blocks(
    weights: Weights, x_Txixe: jax.Array, config: Config, causal: bool, there_Txi=None
) -> jax.Array:
    """float [T i, e], normed: what the bytes of each piece become.

    Args:
      there_Txi: without causal: 1 for the bytes that a piece has; None for all.
    """
    small, slots = block_config(config, causal), x_Txixe.shape[1]
    norm, epsilon = NORMS[config.norm].apply, config.norm_epsilon
    x_Nxe = x_Txixe.reshape(-1, small.d_model)
    for w in (weights[name] for name in weights if name.startswith("block")):
        normed = norm(w["norm1"], x_Nxe, epsilon)
        x_Nxe += attention.apply(w["attention"], normed, slots, small, WHOLE, there_Txi)
        x_Nxe += MLPS[small.mlp].apply(w["mlp"], norm(w["norm2"], x_Nxe, epsilon), WHOLE)
    return norm(weights["byte_norm"], x_Nxe, epsilon)


def block_flops(config: Config, count: int) -> int:
    """Of the blocks' matrix products, forward, per piece."""
    small = block_config(config, causal=False)
    each = attention.flops(small) + MLPS[small.mlp].flops(small)
    return config.byte_slots * count * each
