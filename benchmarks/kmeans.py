"""Our k-means against scikit-learn's on real embeddings: seconds and inertia, interleaved.

    python -m benchmarks.kmeans [--texts FOLDER_OR_FILE.jsonl] [--k 256] [--seeds 5]

The embeddings are of tfidf_svd, or any array given by --embeddings. Both do one k-means++ start
and at most --iterations of Lloyd's iterations with the same tolerance, on all cores. Prints one
JSON object; `ratio_*` are ours / scikit-learn's.
"""

import argparse
import json
import os
import time

import jax
import numpy as np

from benchmarks.encoders import read_windows
from specialm.clustering import kmeans
from specialm.clustering.encoders import TfidfSvd, sample_texts


def embeddings(texts: str | None, dim: int) -> np.ndarray:
    windows = read_windows(texts)
    sample = sample_texts(lambda i, j: windows[i:j], len(windows))
    return TfidfSvd.fit(sample, dim).encode(windows, progress=False)


def ours(x_NxD: np.ndarray, k: int, seed: int, iterations: int) -> tuple[float, int]:
    made = kmeans.fit(x_NxD, k, seed, iterations=iterations)
    return made.inertia, made.iterations


def scikit_learn(x_NxD: np.ndarray, k: int, seed: int, iterations: int) -> tuple[float, int]:
    from sklearn.cluster import KMeans

    made = KMeans(k, n_init=1, max_iter=iterations, random_state=seed).fit(x_NxD)
    return float(made.inertia_), int(made.n_iter_)


def compare(x_NxD: np.ndarray, k: int, seeds: int, iterations: int) -> dict:
    """One untimed turn each (compilation), then the two in turns for every seed."""
    started = time.perf_counter()
    ours(x_NxD, k, 0, 1)
    first = time.perf_counter() - started
    scikit_learn(x_NxD, k, 0, 1)
    runs = []
    for seed in range(seeds):
        run = {"seed": seed}
        for name, work in (("ours", ours), ("sklearn", scikit_learn)):
            started = time.perf_counter()
            run[f"{name}_inertia"], run[f"{name}_iterations"] = work(x_NxD, k, seed, iterations)
            run[f"{name}_seconds"] = time.perf_counter() - started
        run["ratio_inertia"] = run["ours_inertia"] / run["sklearn_inertia"]
        runs.append(run)
    result = {"ours_first_call_seconds": first}
    for name in ("ours", "sklearn"):
        result[f"{name}_seconds"] = float(np.median([r[f"{name}_seconds"] for r in runs]))
        result[f"{name}_ms_per_iteration"] = 1e3 * float(np.median(
            [r[f"{name}_seconds"] / r[f"{name}_iterations"] for r in runs]))
    result["ratio_seconds"] = result["ours_seconds"] / result["sklearn_seconds"]
    result["ratio_inertia"] = float(np.median([r["ratio_inertia"] for r in runs]))
    return {**result, "runs": runs}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--texts", help="a .jsonl file or a folder of them, field text; without "
                        "it the docstrings of the installed packages")
    parser.add_argument("--embeddings", help="a .npy file to cluster instead of texts")
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--k", type=int, default=256)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--iterations", type=int, default=50)
    args = parser.parse_args()
    os.environ["SPECIALM_PROGRESS"] = "0"
    x_NxD = np.load(args.embeddings) if args.embeddings else embeddings(args.texts, args.dim)
    facts = {"device": jax.devices()[0].device_kind, "rows": len(x_NxD), "dim": x_NxD.shape[1],
             "k": args.k, "iterations_limit": args.iterations}
    print(json.dumps({**facts, **compare(x_NxD, args.k, args.seeds, args.iterations)}, indent=1))


if __name__ == "__main__":
    main()
