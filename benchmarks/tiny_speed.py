"""Speed of byte-pooled models against their dense twins: training, generation, share of the bytes.

    python -m benchmarks.tiny_speed --out=results/tiny/speed.jsonl [--configs=local,10m]

Sides take turns, round after round; figures are medians, ratios medians of the rounds' ratios. The
vocabulary is byte-level BPE of the configs' size, trained on this package's own text, of which the
tokens are, so bytes per second are of real pieces; what was trained while it was timed generates,
the likeliest text (bytes by the mean piece; nothing ends it). The share of the
byte blocks is 1 - (a step of the trunk alone) / (a step): the trunk alone is the same model with
64 tokens as its vocabulary, whose table and head take next to no time.
"""

import argparse
import dataclasses
import json
import statistics
import tempfile
from pathlib import Path

from specialm.common import runtime

runtime.configure()

import numpy as np  # noqa: E402

from benchmarks.turns import Training, timed  # noqa: E402
from specialm import config as config_lib  # noqa: E402
from specialm import methods  # noqa: E402
from specialm.common import code  # noqa: E402
from specialm.common.files import write_text  # noqa: E402
from specialm.data import vocabularies  # noqa: E402
from specialm.models import transformer  # noqa: E402
from specialm.serving import generate  # noqa: E402
from specialm.serving.decoding import sampling  # noqa: E402
from specialm.serving.decoding.engine import Engine  # noqa: E402

DENSE = {"embedder": "tokens", "head": "tied", "embed_rank": 0}
BLOCKS = {"byte_layers": 1, "embed_rank": 0}
SIDES: dict[str, dict] = {
    "dense": DENSE,
    "tied, 16 own numbers": {"head": "tied", "byte_layers": 0, "embed_rank": 16},
    "tied": {**BLOCKS, "head": "tied"},
    "at once": {**BLOCKS, "head": "bytes"},
    "in turn": {**BLOCKS, "head": "bytes_in_turn"},
}
TRUNK, TRUNK_TOKENS = "trunk alone", 64


def models(name: str) -> tuple[dict[str, transformer.Config], object]:
    """({side: its model}, the config) of a size."""
    config = config_lib.load(f"configs/stlm/{name}.py", [])
    own = methods.dense_config(config, config.data.vocabulary_size)
    twin = config_lib.load(f"configs/stlm/{name}_dense.py", [])
    found = {"dense": methods.dense_config(twin, config.data.vocabulary_size)}
    for side in list(SIDES)[1:]:
        found[side] = dataclasses.replace(own, **SIDES[side])
    found[TRUNK] = dataclasses.replace(own, vocab_size=TRUNK_TOKENS, **DENSE)
    return found, config


def training(model: transformer.Config, config, tokens_N, pieces: list, windows: int) -> Training:
    """A model in training on one batch of so many windows."""
    window = np.resize(tokens_N, (windows, model.context)) % model.vocab_size
    inputs = np.pad(window, ((0, 0), (1, 0)))[:, :-1]
    batch = {"inputs": inputs, "targets": window, "mask": np.ones(window.shape, np.float32)}
    return Training(model, config.train, [batch], pieces)


class Generation:
    """Text of a model, the likeliest, the same again and again; no token ends it."""

    def __init__(self, trained: Training, vocabulary, prompt: str, tokens: int):
        self._engine = Engine(trained.params, trained.model, vocabulary, stops=frozenset())
        self._asked = [vocabulary.encode([prompt])[0]], sampling.of(tokens=tokens, temperature=0.0)

    def times(self, count: int) -> None:
        """Generates so many times."""
        for _ in range(count):
            generate.complete(self._engine, *self._asked)


def row(size: str, side: str, what: str, seconds: dict, bytes_each: dict[str, float]) -> dict:
    """A side's figures of one job.

    Args:
      seconds: {side: of one, in each round}.
      bytes_each: {side: of text in one}.
    """
    rates = {name: bytes_each[name] / np.array(seconds[name]) for name in (side, "dense")}
    found = {
        "size": size,
        "side": side,
        "what": what,
        "bytes_per_second": round(float(np.median(rates[side]))),
        "against_dense": round(float(np.median(rates[side] / rates["dense"])), 3),
    }
    if TRUNK in seconds and side != "dense":
        shares = [1 - t / s for t, s in zip(seconds[TRUNK], seconds[side], strict=True)]
        found["share_of_ends"] = round(statistics.median(shares), 3)
    return found


def rows(size: str, folder: Path, args: argparse.Namespace) -> list[dict]:
    """All figures of a size."""
    found, config = models(size)
    texts = [path.read_text() for path in sorted(Path("specialm").rglob("*.py"))]
    texts += [path.read_text() for path in sorted(Path("docs").rglob("*.md"))]
    folder.mkdir()
    vocabulary = vocabularies.train(texts, folder, config.data.vocabulary_size, "bpe", longest=12)
    tokens_N = np.concatenate([np.array(ids, np.int32) for ids in vocabulary.encode(texts)])
    mean = float(vocabulary.piece_bytes[tokens_N].mean())
    trained = {
        side: training(model, config, tokens_N, vocabulary.pieces, args.windows)
        for side, model in found.items()
    }
    seconds = timed({side: each.steps for side, each in trained.items()}, args.rounds)
    size_each = dict.fromkeys(SIDES, args.windows * found["dense"].context * mean)
    lines = [row(size, side, "training", seconds, size_each) for side in SIDES]
    writers = {
        side: Generation(trained[side], vocabulary, texts[0][:40], args.tokens) for side in SIDES
    }
    seconds = timed({side: each.times for side, each in writers.items()}, args.rounds)
    size_each = dict.fromkeys(SIDES, args.tokens * mean)
    return lines + [row(size, side, "generation", seconds, size_each) for side in SIDES]


def table(rows: list[dict]) -> str:
    """The rows as Markdown: shares of the dense twin's speed, and what embedder and head take."""
    lines = [
        "| size | model | training, bytes per second | against dense | ends, of a step "
        "| generation, bytes per second | against dense |",
        "|---|---|---|---|---|---|---|",
    ]
    for one in (row for row in rows if row["what"] == "training"):
        (other,) = (
            row
            for row in rows
            if (row["size"], row["side"]) == (one["size"], one["side"]) and row is not one
        )
        share = f"{one['share_of_ends']:.0%}" if "share_of_ends" in one else ""
        cells = [one["size"], one["side"]]
        for row, added in ((one, [share]), (other, [])):
            cells += [f"{row['bytes_per_second']:,}", f"{row['against_dense']:.2f}", *added]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> None:
    """Times all sizes and writes the rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", required=True)
    parser.add_argument("--configs", default="local,10m")
    parser.add_argument("--windows", type=int, default=16, help="a step")
    parser.add_argument("--tokens", type=int, default=32, help="that are generated")
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args(argv)
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        for size in args.configs.split(","):
            lines += [each | code.made_by([]) for each in rows(size, Path(folder) / size, args)]
            Path(args.out).parent.mkdir(parents=True, exist_ok=True)
            write_text(Path(args.out), "".join(json.dumps(each) + "\n" for each in lines))
    for each in lines:
        print(json.dumps(each))


if __name__ == "__main__":
    main()
