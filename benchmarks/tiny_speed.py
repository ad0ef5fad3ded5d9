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
import time
from collections.abc import Callable
from pathlib import Path

from specialm.common import runtime

runtime.configure()

import jax  # noqa: E402
import numpy as np  # noqa: E402

from specialm import config as config_lib  # noqa: E402
from specialm import methods  # noqa: E402
from specialm.common import code  # noqa: E402
from specialm.common.files import write_text  # noqa: E402
from specialm.data import vocabularies  # noqa: E402
from specialm.models import transformer  # noqa: E402
from specialm.serving import generate  # noqa: E402
from specialm.serving.decoding import sampling  # noqa: E402
from specialm.serving.decoding.engine import Engine  # noqa: E402
from specialm.training import optimizer, sharding, step  # noqa: E402

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
SECONDS = 1.0  # of a round of a side


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


class Training:
    """A model in training, on the same batch again and again."""

    def __init__(self, model: transformer.Config, config, tokens_N, pieces: list, windows: int):
        mesh = sharding.make_mesh(windows)
        tx = optimizer.make(config.train, 1000, transformer.declare(model))
        window = np.resize(tokens_N, (windows, model.context)) % model.vocab_size
        inputs = np.pad(window, ((0, 0), (1, 0)))[:, :-1]
        batch = {"inputs": inputs, "targets": window, "mask": np.ones(window.shape, np.float32)}
        self._batch = sharding.put_batch(mesh, batch)
        given = transformer.constants(model, pieces)
        self._state = step.init_state(model, tx, mesh, jax.random.key(0), constants=given)
        self._step, self.model = step.make_train_step(model, tx, mesh), model

    def steps(self, count: int) -> None:
        """Takes so many steps."""
        for _ in range(count):
            self._state, _ = self._step(self._state, self._batch)
        jax.block_until_ready(self._state)

    @property
    def params(self) -> transformer.Params:
        return jax.device_get(self._state.params)


class Generation:
    """Text of a model, the likeliest, the same again and again; no token ends it."""

    def __init__(self, trained: Training, vocabulary, prompt: str, tokens: int):
        self._engine = Engine(trained.params, trained.model, vocabulary, stops=frozenset())
        self._asked = [vocabulary.encode([prompt])[0]], sampling.of(tokens=tokens, temperature=0.0)

    def times(self, count: int) -> None:
        """Generates so many times."""
        for _ in range(count):
            generate.complete(self._engine, *self._asked)


def interleaved(sides: dict[str, Callable[[int], None]], rounds: int) -> dict[str, list[float]]:
    """{side: seconds of one, in each round}."""
    counts = {}
    for side, run in sides.items():
        run(1)
        started = time.perf_counter()
        run(2)
        counts[side] = max(1, round(2 * SECONDS / (time.perf_counter() - started)))
    found: dict[str, list[float]] = {side: [] for side in sides}
    for _ in range(rounds):
        for side, run in sides.items():
            started = time.perf_counter()
            run(counts[side])
            found[side].append((time.perf_counter() - started) / counts[side])
    return found


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
        side: Training(model, config, tokens_N, vocabulary.pieces, args.windows)
        for side, model in found.items()
    }
    seconds = interleaved({side: each.steps for side, each in trained.items()}, args.rounds)
    size_each = dict.fromkeys(SIDES, args.windows * found["dense"].context * mean)
    lines = [row(size, side, "training", seconds, size_each) for side in SIDES]
    writers = {
        side: Generation(trained[side], vocabulary, texts[0][:40], args.tokens) for side in SIDES
    }
    seconds = interleaved({side: each.times for side, each in writers.items()}, args.rounds)
    size_each = dict.fromkeys(SIDES, args.tokens * mean)
    return lines + [row(size, side, "generation", seconds, size_each) for side in SIDES]


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
