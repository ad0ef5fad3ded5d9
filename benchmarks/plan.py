"""What preparing a large corpus costs: python -m benchmarks.plan [--windows-per-second 12]

Measures the cost of one token, window and row on one core, in CPU seconds, on the default corpus
(or the docstrings of the installed packages), and multiplies. Prints both tables of
docs/scaling.md in Markdown. MiniLM is not run: its rate is an argument, see `benchmarks.encoders`.
"""

import argparse
import collections
import math
import os
import tempfile
import time
from pathlib import Path

from benchmarks.kmeans import CORPUS, embeddings, use_threads

use_threads(1)
os.environ["SPECIALM_PROGRESS"] = "0"

BRANCHING = 64, 64, 64
MEGABYTES = 30  # of text that the costs are measured on
BYTES_PER_WINDOW = 16  # of a store: offset, length in bytes, document
MINILM_GFLOP = 6.04  # of 256 tokens: 2 * 256 * 6 layers * (12 * 384**2 + 2 * 256 * 384) / 1e9


def cpu_seconds(work):
    started = time.process_time()
    made = work()
    return time.process_time() - started, made


def token_seconds(context: int) -> float:
    """Encoding, cutting and storing, with a vocabulary of 8,192."""
    from benchmarks.encoders import read_windows
    from specialm.data import vocabularies
    from specialm.data.sources import Document
    from specialm.data.store import StoreWriter, WindowStore
    from specialm.data.windows import cut

    source = CORPUS if Path(CORPUS).is_dir() else None
    texts = read_windows(source, characters=2300, limit_bytes=MEGABYTES * 200_000)
    with tempfile.TemporaryDirectory() as folder:
        vocabulary = vocabularies.train(texts[:1000], Path(folder), 8192)

        def work():
            cuts = [
                cut(Document(str(i), text, str(i)), tokens, vocabulary, context)
                for i, (text, tokens) in enumerate(
                    zip(texts, vocabulary.encode(texts), strict=True)
                )
            ]
            StoreWriter(
                Path(folder) / "store",
                {"context": context, "vocabulary_sha256": vocabulary.sha256},
                10**7,
            ).write(cuts, collections.Counter())

        seconds, _ = cpu_seconds(work)
        return seconds / WindowStore(Path(folder) / "store").index["tokens"]


def tree_seconds(dim: int, iterations: int) -> dict[str, float]:
    """Of a row: in training of the first level, of a deeper one, and in assignment to all leaves
    (of a tree of any rows: what it costs does not depend on how good it is).
    """
    import numpy as np

    from specialm.clustering import kmeans, tree

    x_NxD = embeddings(None, dim, MEGABYTES)
    kmeans.fit(x_NxD, BRANCHING[0], iterations=iterations)  # compiles
    tree.fit(x_NxD, BRANCHING[:2], iterations=1)
    first, _ = cpu_seconds(lambda: kmeans.fit(x_NxD, BRANCHING[0], iterations=iterations))
    two, _ = cpu_seconds(lambda: tree.fit(x_NxD, BRANCHING[:2], iterations=iterations))
    parents = [math.prod(BRANCHING[:level]) for level in range(len(BRANCHING))]
    draws = np.random.default_rng(0)
    grown = tree.Tree(
        BRANCHING,
        tuple(
            x_NxD[draws.integers(len(x_NxD), size=(count, width))]
            for count, width in zip(parents, BRANCHING, strict=True)
        ),
        tuple(
            np.full(count, width, np.int32) for count, width in zip(parents, BRANCHING, strict=True)
        ),
        (),
        len(x_NxD),
    )
    tree.assign(x_NxD, grown)
    descent, _ = cpu_seconds(lambda: tree.assign(x_NxD, grown))
    return {
        "first": first / len(x_NxD),
        "deeper": (two - first) / len(x_NxD),
        "assign": descent / len(x_NxD),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--documents", type=float, default=364_868_892)
    parser.add_argument("--tokens", type=float, default=156.6e9)
    parser.add_argument("--windows-per-document", type=float, default=1.13)
    parser.add_argument("--context", type=int, default=1024)
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument("--sample", type=float, default=32 * 64**3)
    parser.add_argument("--iterations", type=int, default=50)
    parser.add_argument("--windows-per-second", type=float, default=12, help="MiniLM on one core")
    parser.add_argument("--accelerator-tflops", type=float, default=100, help="reached, not peak")
    args = parser.parse_args()
    windows = args.documents * args.windows_per_document
    token = token_seconds(args.context)
    row = tree_seconds(args.dim, args.iterations)
    costs = {
        "token": (token, "encoded, cut and stored"),
        "window embedded": (1 / args.windows_per_second, "MiniLM, 256 tokens, given"),
        "row, level of 64": (row["first"], f"trained, at most {args.iterations} iterations"),
        "row, deeper level": (row["deeper"], "trained; about 1,000 rows a node"),
        "row assigned": (row["assign"], "three levels"),
    }
    print("| unit | CPU microseconds | |\n|---|---|---|")
    for name, (seconds, note) in costs.items():
        print(f"| {name} | {seconds * 1e6:,.3g} | {note} |")
    second = min(args.sample, 64 * 256 * 64)  # rows that the nodes of a level are trained on
    steps = [
        ("windows", token, args.tokens, 2 * args.tokens + BYTES_PER_WINDOW * windows, "tokens"),
        (
            "embeddings, float32",
            1 / args.windows_per_second,
            windows,
            4 * args.dim * windows,
            "windows x D; MiniLM's tokens",
        ),
        ("tree, 64", row["first"], args.sample, 4 * args.dim * 64, "sample x 64 x D"),
        ("tree, 4,096", row["deeper"], second, 4 * args.dim * 64**2, "sample x 64 x D"),
        ("tree, 262,144", row["deeper"], args.sample, 4 * args.dim * 64**3, "sample x 64 x D"),
        ("leaf of each window", row["assign"], windows, 4 * windows, "windows x 192 x D"),
    ]
    print(
        "\n| step | unit, CPU us | count | core-hours | GB on disk | grows with |\n"
        "|---|---|---|---|---|---|"
    )
    for name, seconds, count, size, grows in steps:
        print(
            f"| {name} | {seconds * 1e6:,.3g} | {count:,.4g} | {seconds * count / 3600:,.3g} | "
            f"{size / 1e9:,.4g} | {grows} |"
        )
    hours = windows * MINILM_GFLOP / (args.accelerator_tflops * 1e3) / 3600
    print(
        f"\nwindows {windows:.4g}; MiniLM at {args.accelerator_tflops:g} TFLOP/s: "
        f"{hours:.3g} h; float16 embeddings: {2 * args.dim * windows / 1e9:.4g} GB; "
        f"sample in memory: {4 * (args.dim + 4) * args.sample / 1e9:.3g} GB"
    )


if __name__ == "__main__":
    main()
