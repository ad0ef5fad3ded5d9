"""How fast windows come: python -m benchmarks.data [--workdir=runs/demo] [--repeats=5]

Prints JSON: tokens per second of the trainer's sampler with reading and batching
(`sampler_tokens_per_second`: uniform and importance-weighted), of cutting text into windows, and
`ratio`, the sampler's rate over the training step's (`step_tokens_per_second`, measured in turn
with it on the same store). Medians over repeats.
"""

import argparse
import collections
import inspect
import json
import statistics
import tempfile
import time
from pathlib import Path

from specialm.common import runtime

runtime.configure()

import jax  # noqa: E402
import numpy as np  # noqa: E402

from specialm import config as config_lib  # noqa: E402
from specialm import methods  # noqa: E402
from specialm.data import vocabularies  # noqa: E402
from specialm.data.sampler import Sampler  # noqa: E402
from specialm.data.sources import Document  # noqa: E402
from specialm.data.store import StoreWriter, WindowStore  # noqa: E402
from specialm.data.windows import cut  # noqa: E402
from specialm.models import transformer  # noqa: E402
from specialm.training import optimizer, sharding, step  # noqa: E402

CONTEXT, BATCH, CLUSTERS, STEPS = 128, 64, 256, 20


def texts() -> list[str]:
    """Docstrings of NumPy's and JAX's public functions: real text that is always there."""
    found = {
        inspect.getdoc(getattr(module, name))
        for module in (np, np.linalg, jax.numpy, jax.lax)
        for name in dir(module)
    }
    return sorted(text for text in found if text and len(text) > 200)


def build(folder: Path) -> tuple[WindowStore, float]:
    """A store of these texts, and the tokens per second of making it."""
    documents = texts()
    vocabulary = vocabularies.train(documents, folder, 1024)
    started = time.perf_counter()
    cuts = [
        cut(Document(str(i), text, str(i)), tokens, vocabulary, CONTEXT)
        for i, (text, tokens) in enumerate(
            zip(documents, vocabulary.encode(documents), strict=True)
        )
    ]
    StoreWriter(
        folder / "store", {"context": CONTEXT, "vocabulary_sha256": vocabulary.sha256}, 10**6
    ).write(cuts, collections.Counter())
    store = WindowStore(folder / "store")
    return store, store.index["tokens"] / (time.perf_counter() - started)


def sampler_rate(sampler: Sampler, store: WindowStore, first: int) -> float:
    """Tokens per second of drawing, reading and batching."""
    started = time.perf_counter()
    for number in range(first, first + STEPS):
        store.batch(sampler.indices(number))
    return STEPS * BATCH * CONTEXT / (time.perf_counter() - started)


class Step:
    """The demo's training step."""

    def __init__(self, store: WindowStore, vocabulary_size: int):
        config = config_lib.load("configs/local/demo.py")
        model = methods.dense_config(config, vocabulary_size)
        mesh = sharding.make_mesh(BATCH)
        tx = optimizer.make(config.train, 1000, transformer.declare(model))
        self.state = step.init_state(model, tx, mesh, jax.random.key(0))
        self.step = step.make_train_step(model, tx, mesh)
        self.batch = sharding.put_batch(mesh, store.batch(np.arange(BATCH)))
        self.rate(1)

    def rate(self, steps: int = 5) -> float:
        started = time.perf_counter()
        for _ in range(steps):
            self.state, _ = self.step(self.state, self.batch)
        jax.block_until_ready(self.state)
        return steps * BATCH * CONTEXT / (time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        store, cut_rate = build(Path(folder))
        clusters = rng.integers(0, CLUSTERS, len(store))
        probability = rng.dirichlet(np.full(CLUSTERS, 0.1))
        probability[np.bincount(clusters, minlength=CLUSTERS) == 0] = 0
        samplers = {
            "uniform": Sampler(len(store), BATCH, 0),
            "importance": Sampler(len(store), BATCH, 0, clusters, probability),
        }
        training = Step(store, 1024)
        rates = collections.defaultdict(list)
        for repeat in range(repeats):
            for name, sampler in samplers.items():
                rates[name].append(sampler_rate(sampler, store, repeat * STEPS))
            rates["step"].append(training.rate())
        median = {name: statistics.median(values) for name, values in rates.items()}
        print(
            json.dumps(
                {
                    "sampler_tokens_per_second": {name: round(median[name]) for name in samplers},
                    "step_tokens_per_second": round(median["step"]),
                    "ratio": round(min(median[name] for name in samplers) / median["step"], 1),
                    "cutting_tokens_per_second": round(cut_rate),
                    "windows": len(store),
                    "repeats": repeats,
                },
                indent=1,
            )
        )


if __name__ == "__main__":
    main()
