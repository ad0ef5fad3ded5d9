"""Ways to play size golf: settings, how weights are stored, how wide, and what stands beside."""

import argparse
from dataclasses import dataclass, field

from specialm import config as config_lib
from specialm import methods
from specialm.common.errors import UserError
from specialm.models import transformer
from specialm.models.parts import ngram_tables

WIDER = 16  # widths are multiples of it
SMALL = 550_000  # parameters that read some 15 tokens each in ten minutes of two cores
BYTES = {"embedder": "bytes", "head": "bytes_in_turn", "byte_size": 32, "byte_heads": 4}
SPELT = {"embedder": "bytes", "byte_size": 32, "byte_layers": 0, "embed_rank": 16}
FACTORED = {"embedder": "factored", "embed_rank": 24}
LLAMA = {"positions": "rope", "norm": "rmsnorm", "mlp": "swiglu", "biases": False}


@dataclass(frozen=True)
class Entry:
    """A way to play.

    Attributes:
      model, train, data: settings.
      bits: of a weight as it is stored.
      wide: d_ff / d_model.
      small: whether the model is no larger than what time pays for, see `most_params`.
      tables: of the bytes, the part that a table of n-grams takes.
      ngram: whether an n-gram model takes the bytes that the network leaves, and both are mixed.
      over: the entry that it has one trick more than.
    """

    model: dict
    bits: int = 4
    train: dict = field(default_factory=dict)
    data: dict = field(default_factory=dict)
    wide: float = 4.0
    small: bool = True
    tables: float = 0.0
    ngram: bool = False
    over: str = ""


DENSE = {**LLAMA, "num_layers": 4}
LARGE = {"vocabulary_size": 4096}
MUON = {"optimizer": "muon", "learning_rate": 8e-3}
FOR_4_BITS, FOR_3_BITS = {"quantize_bits": 4}, {"quantize_bits": 3}
PATCHES = {"vocabulary_kind": "patches", "longest_piece": 4}
BY_ENTROPY = {"vocabulary_kind": "entropy"}
LONG, LONG_TRAIN, PIECES = {"context": 256}, {"batch_size": 16}, {"vocabulary_size": 2048}
ALL = MUON | FOR_4_BITS | LONG_TRAIN
ENTRIES = {
    "dense, as large as fits": Entry(DENSE, small=False, over="dense"),
    "dense, 8 bits": Entry(DENSE, bits=8, over="dense"),
    "dense": Entry(DENSE),
    "Muon": Entry(DENSE, train=MUON, over="dense"),
    "Muon, trained for 4 bits": Entry(DENSE, train=MUON | FOR_4_BITS, over="Muon"),
    "Muon, trained for 3 bits": Entry(DENSE, bits=3, train=MUON | FOR_3_BITS, over="Muon"),
    "Muon, 4,096 pieces": Entry(DENSE, train=MUON, data=LARGE, over="Muon"),
    "Muon, shared MLP": Entry({**DENSE, "share": ("mlp:all",)}, train=MUON, over="Muon"),
    "Muon, loop of two blocks": Entry(
        {**DENSE, "share": ("block:cycle-2",)}, train=MUON, over="Muon"
    ),
    "Muon, byte-pooled": Entry({**DENSE, **BYTES}, train=MUON, over="Muon"),
    "Muon, factored table": Entry({**DENSE, **FACTORED}, train=MUON, over="Muon"),
    "Muon, byte-pooled, tied": Entry({**DENSE, **SPELT}, train=MUON, over="Muon"),
    "Muon, patches of 4 bytes": Entry(
        {**DENSE, **BYTES, "byte_slots": 4}, 4, MUON, PATCHES, over="Muon"
    ),
    "Muon, patches by entropy": Entry({**DENSE, **BYTES}, 4, MUON, BY_ENTROPY, over="Muon"),
    "Muon, windows of 256": Entry(DENSE, train=MUON | LONG_TRAIN, data=LONG, over="Muon"),
    "Muon, with n-grams": Entry(DENSE, train=MUON, ngram=True, over="Muon"),
    "Muon, table of n-grams": Entry(DENSE, train=MUON, tables=0.5, over="Muon"),
    "all, 2,048 pieces": Entry(DENSE, train=ALL, data=LONG | PIECES, ngram=True),
    "all, 4,096 pieces": Entry(DENSE, train=ALL, data=LONG | LARGE, ngram=True),
    "all, factored, 4,096 pieces": Entry(
        DENSE | FACTORED, 4, ALL, LONG | LARGE, ngram=True, over="all, 4,096 pieces"
    ),
    "all, byte-pooled, 4,096 pieces": Entry(
        DENSE | SPELT, 4, ALL, LONG | LARGE, ngram=True, over="all, 4,096 pieces"
    ),
    "all, table, 2,048 pieces": Entry(DENSE, train=ALL, data=LONG | PIECES, tables=0.4, ngram=True),
    "all, table, 4,096 pieces": Entry(DENSE, train=ALL, data=LONG | LARGE, tables=0.4, ngram=True),
}


def config_of(entry: Entry, args: argparse.Namespace, width: int, tokens: int = 1):
    """The config of an entry at a width."""
    config = config_lib.load(args.config, [f"--config.{each}" for each in args.overrides])
    config = config.unlock()
    config.data.longest_piece = 12
    config.data.update(entry.data)
    config.model.update(entry.model)
    config.model.d_model = width
    config.model.num_heads = width // (16 if width % 32 else 32)
    config.model.d_ff = round(entry.wide * width / 16) * 16
    if entry.tables:
        rows = entry.tables * args.bytes / stored_bytes(width, entry.bits)
        config.model.embedder = "ngrams"
        config.model.ngram_rows = round(rows / (config.model.ngram_order - 1))
    config.train.update({"learning_rate": 4e-3, "batch_size": 32, "tokens": tokens, **entry.train})
    config_lib.check(config)
    return config.lock()


def most_params(entry: Entry, minutes: float) -> float:
    """Parameters that are worth training for so long: with a constant number of tokens each, the
    time grows with their square.
    """
    return SMALL * (minutes / 10) ** 0.5 if entry.small else float("inf")


def widest(entry: Entry, args: argparse.Namespace, vocabulary_bytes: int) -> int:
    """The largest width that is worth its time and whose weights and vocabulary fit before they
    are compressed.

    Raises:
      UserError: none does.
    """
    most, width = most_params(entry, args.minutes), 0
    while True:
        params, in_table = num_params(entry, args, width + WIDER)
        if stored_bytes(params, entry.bits) + vocabulary_bytes > args.bytes:
            break
        if width and params - in_table > most:
            break
        width += WIDER
    if not width:
        raise UserError(f"--bytes={args.bytes}: no width of this entry fits; give more.")
    return width


def num_params(entry: Entry, args: argparse.Namespace, width: int) -> tuple[int, int]:
    """Parameters of an entry at a width, all and those in the table of n-grams, which take no time
    to speak of.
    """
    config = config_of(entry, args, width)
    model = methods.dense_config(config, config.data.vocabulary_size)
    in_table = ngram_tables.count(model) * width if entry.tables else 0
    return transformer.num_params(model), in_table


def stored_bytes(params: int, bits: int) -> float:
    """Of quantised weights, uncompressed: 32 of them have one scale of two bytes."""
    return params * (bits / 8 + 2 / 32)
