"""Our k-means against scikit-learn's and faiss-cpu's on real embeddings, and trees against flat.

    python -m benchmarks.kmeans [--k 256 1024] [--branching 64 64] [--seeds 3] [--threads 2]

The embeddings are of tfidf_svd, of the default corpus if it is there (or of --texts, a .jsonl file
or a folder of them), or any array given by --embeddings. All make --iterations of Lloyd's
iterations from one start, with tolerance 0, on the same threads, and end with the cluster of every
row. Ours and scikit-learn start by k-means++, faiss from random rows, as is its default (the
cheapest start). They take turns, and who begins changes with the seed; each has one untimed turn
first, which also compiles. Inertia is computed for all of them alike. A tree is trained on all
rows, which are then assigned to its leaves, and compared with our flat k-means at as many clusters
as it has leaves. Prints one JSON object with medians; ratios are ours / theirs.
"""

import argparse
import json
import math
import os
import sys
import time
from pathlib import Path

CORPUS = "data/corpora/generic"


def use_threads(count: int) -> None:
    """Holds everything to `count` cores; call it before numpy or JAX is imported."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:count])
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(count)
    flags = os.environ.get("XLA_FLAGS", "")
    if "xla_force_host_platform_device_count" not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} --xla_force_host_platform_device_count={count}".strip()


def embeddings(texts: str | None, dim: int, megabytes: int):
    """float32 [N, D] of real text."""
    from benchmarks.encoders import read_windows
    from specialm.clustering.encoders import TfidfSvd, sample_texts

    texts = texts or (CORPUS if Path(CORPUS).is_dir() else None)
    windows = read_windows(texts, limit_bytes=megabytes * 1_000_000)
    sample = sample_texts(lambda i, j: windows[i:j], len(windows))
    return TfidfSvd.fit(sample, dim).encode(windows, progress=False)


def ours(x_NxD, k: int, seed: int, iterations: int):
    """The centroids [K, D], as for the others here."""
    from specialm.clustering import kmeans

    return kmeans.fit(x_NxD, k, seed, iterations=iterations, tolerance=0).centroids_KxD


def scikit_learn(x_NxD, k: int, seed: int, iterations: int):
    from sklearn.cluster import KMeans

    made = KMeans(k, n_init=1, max_iter=iterations, tol=0, random_state=seed, algorithm="lloyd")
    return made.fit(x_NxD).cluster_centers_


def faiss_cpu(x_NxD, k: int, seed: int, iterations: int):
    import faiss

    # All rows, as the others; it would take 256 for each centroid.
    made = faiss.Kmeans(x_NxD.shape[1], k, niter=iterations, seed=seed,
                        max_points_per_centroid=len(x_NxD))
    made.train(x_NxD)
    made.index.search(x_NxD, 1)  # the cluster of every row
    return made.centroids


def tree_of(branching: tuple[int, ...]):
    """The contender that trains a tree: (rows, seed, iterations) -> (tree, distance_N)."""
    from specialm.clustering import tree

    def work(x_NxD, k: int, seed: int, iterations: int):
        made = tree.fit(x_NxD, branching, seed, len(x_NxD), iterations, tolerance=0)
        return made, tree.assign(x_NxD, made)[1]

    return work


def inertia(x_NxD, made) -> dict:
    """Of centroids, or of what `tree_of` makes: greedy, and of the nearest leaf."""
    from specialm.clustering import kmeans

    if isinstance(made, tuple):
        grown, distance_N = made
        exact = inertia(x_NxD, grown.leaves_KxD[grown.present_K])["inertia"]
        greedy = float((distance_N.astype("f8") ** 2).sum())
        return {"inertia": greedy, "inertia_of_nearest_leaf": exact, "greedy_over_nearest":
                greedy / exact, "leaves": int(grown.present_K.sum())}
    return {"inertia": float((kmeans.assign(x_NxD, made)[1].astype("f8") ** 2).sum())}


def compare(x_NxD, k: int, contenders: dict, seeds: int, iterations: int) -> dict:
    """{contender: medians}, {contender: ratios of ours to it} and all runs."""
    first, runs = {}, []
    for name, work in contenders.items():
        started = time.perf_counter()
        work(x_NxD, k, 0, 1)
        first[name] = time.perf_counter() - started
    for seed in range(seeds):
        order = list(contenders)
        order = order[seed % len(order):] + order[: seed % len(order)]
        for name in order:
            wall, cpu = time.perf_counter(), time.process_time()
            made = contenders[name](x_NxD, k, seed, iterations)
            runs.append({"name": name, "seed": seed, "seconds": time.perf_counter() - wall,
                         "cpu_seconds": time.process_time() - cpu, **inertia(x_NxD, made)})
            print(json.dumps({"k": k, **runs[-1]}), file=sys.stderr, flush=True)
    return {"k": k, "first_call_seconds": first, **_summary(runs, list(contenders)), "runs": runs}


def _summary(runs: list[dict], names: list[str]) -> dict:
    from statistics import median

    measures = ("seconds", "cpu_seconds", "inertia")

    def of(name: str, measure: str) -> list[float]:
        return [run[measure] for run in sorted(runs, key=lambda run: run["seed"])
                if run["name"] == name]

    medians = {name: {measure: median(of(name, measure)) for measure in measures}
               for name in names}
    ratios = {f"{names[0]}/{name}": {measure: median(
        a / b for a, b in zip(of(names[0], measure), of(name, measure), strict=True))
        for measure in measures} for name in names[1:]}
    return {"medians": medians, "ratios": ratios}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--texts", help="a .jsonl file or a folder of them, field text; without "
                        f"it {CORPUS}, or else the docstrings of the installed packages")
    parser.add_argument("--embeddings", help="a .npy file to cluster instead of texts")
    parser.add_argument("--megabytes", type=int, default=30, help="of text, at most")
    parser.add_argument("--rows", type=int, default=0, help="at most, evenly spaced; 0 for all")
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--k", type=int, nargs="*", default=[256, 1024])
    parser.add_argument("--branching", type=int, nargs="*", default=[64, 64],
                        help="of the tree; none to leave it out")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--iterations", type=int, default=25)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    args = parser.parse_args(argv)
    use_threads(args.threads)
    os.environ["SPECIALM_PROGRESS"] = "0"

    import jax
    import numpy as np

    x_NxD = np.load(args.embeddings, mmap_mode="r") if args.embeddings else \
        embeddings(args.texts, args.dim, args.megabytes)
    if args.rows:
        x_NxD = x_NxD[:: max(len(x_NxD) // args.rows, 1)][: args.rows]
    x_NxD = np.ascontiguousarray(x_NxD, np.float32)
    contenders = {"ours": ours, "scikit-learn": scikit_learn}
    try:
        import faiss

        faiss.omp_set_num_threads(args.threads)
        contenders["faiss-cpu"] = faiss_cpu
    except ImportError:
        print("faiss-cpu is not installed and left out; pip install -e '.[bench]' -c "
              "constraints.txt brings it", file=sys.stderr)
    result = {"device": jax.devices()[0].device_kind, "threads": args.threads, "rows": len(x_NxD),
              "dim": x_NxD.shape[1], "iterations": args.iterations,
              "flat": [compare(x_NxD, k, contenders, args.seeds, args.iterations)
                       for k in args.k]}
    if args.branching:
        branching = tuple(args.branching)
        result["tree"] = {"branching": branching, **compare(
            x_NxD, math.prod(branching), {"tree": tree_of(branching), "flat": ours}, args.seeds,
            args.iterations)}
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
