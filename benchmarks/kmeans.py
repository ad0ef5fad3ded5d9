"""Our k-means against scikit-learn's and faiss-cpu's on real embeddings, and trees against flat.

    python -m benchmarks.kmeans [--k 256 1024] [--branching 64 64] [--seeds 3] [--threads 2]

The embeddings are of tfidf_svd, of the default corpus if it is there (or of --texts, a .jsonl file
or a folder of them), or any array given by --embeddings. Two comparisons for each k, on the same
threads, tolerance 0, all ending with the cluster of every row and with inertia computed alike:

- "flat": --iterations at most for each. Ours counts those over samples of the rows, too.
- "equal_inertia": each library makes the fewest iterations, of 3, 4, 5, 6, 8, 10, 12, 16, 20, 25,
  ..., that bring it within 1% of scikit-learn's inertia at --iterations for every seed.

Ours and scikit-learn start by k-means++, faiss from random rows, as is its default (the cheapest
start); it trains on all rows, not on a sample of 256 a centroid. They take turns, and who begins
changes with the seed; each has one untimed turn first, which also compiles. Threads that wait for
work burn CPU time: compare CPU seconds at --threads 1 on a machine that is busy. A tree is trained
on all rows, which are then assigned to its leaves, and compared with our flat k-means at as many
clusters as it has leaves. Prints one JSON object with medians; ratios are ours / theirs.
"""

import argparse
import json
import math
import os
import sys
import time
from pathlib import Path

CORPUS = "data/corpora/generic"
LADDER = 3, 4, 5, 6, 8, 10, 12, 16, 20, 25, 32, 40, 50
WITHIN = 1.01  # of scikit-learn's inertia


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
    made = faiss.Kmeans(
        x_NxD.shape[1], k, niter=iterations, seed=seed, max_points_per_centroid=len(x_NxD)
    )
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
        return {
            "inertia": greedy,
            "inertia_of_nearest_leaf": exact,
            "greedy_over_nearest": greedy / exact,
            "leaves": int(grown.present_K.sum()),
        }
    return {"inertia": float((kmeans.assign(x_NxD, made)[1].astype("f8") ** 2).sum())}


def compare(x_NxD, k: int, contenders: dict, seeds: int, iterations: int | dict) -> dict:
    """{contender: medians}, {contender: ratios of ours to it} and all runs. iterations: of all, or
    of each contender.
    """
    first, runs = {}, []
    steps = iterations if isinstance(iterations, dict) else dict.fromkeys(contenders, iterations)
    for name, work in contenders.items():
        started = time.perf_counter()
        work(x_NxD, k, 0, steps[name] if name == "ours" else 1)  # ours has several programs
        first[name] = time.perf_counter() - started
    for seed in range(seeds):
        order = list(contenders)
        order = order[seed % len(order) :] + order[: seed % len(order)]
        for name in order:
            wall, cpu = time.perf_counter(), time.process_time()
            made = contenders[name](x_NxD, k, seed, steps[name])
            runs.append(
                {
                    "name": name,
                    "seed": seed,
                    "seconds": time.perf_counter() - wall,
                    "cpu_seconds": time.process_time() - cpu,
                    **inertia(x_NxD, made),
                }
            )
            print(json.dumps({"k": k, **runs[-1]}), file=sys.stderr, flush=True)
    return {
        "k": k,
        "iterations": steps,
        "first_call_seconds": first,
        **_summary(runs, list(contenders)),
        "runs": runs,
    }


def fewest_iterations(x_NxD, k: int, contenders: dict, flat: dict) -> dict[str, int]:
    """{contender: iterations of LADDER} that come within WITHIN of scikit-learn's inertia in
    `flat`, for every seed of it; the last ones if none does.
    """
    goals = {
        run["seed"]: WITHIN * run["inertia"]
        for run in flat["runs"]
        if run["name"] == "scikit-learn"
    }

    def reaches(work, steps: int) -> bool:
        return all(
            inertia(x_NxD, work(x_NxD, k, seed, steps))["inertia"] <= goal
            for seed, goal in goals.items()
        )

    return {
        name: next((steps for steps in LADDER if reaches(work, steps)), LADDER[-1])
        for name, work in contenders.items()
    }


def _summary(runs: list[dict], names: list[str]) -> dict:
    from statistics import median

    measures = ("seconds", "cpu_seconds", "inertia")

    def of(name: str, measure: str) -> list[float]:
        return [
            run[measure] for run in sorted(runs, key=lambda run: run["seed"]) if run["name"] == name
        ]

    medians = {name: {measure: median(of(name, measure)) for measure in measures} for name in names}
    ratios = {
        f"{names[0]}/{name}": {
            measure: median(
                a / b for a, b in zip(of(names[0], measure), of(name, measure), strict=True)
            )
            for measure in measures
        }
        for name in names[1:]
    }
    return {"medians": medians, "ratios": ratios}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--texts",
        help="a .jsonl file or a folder of them, field text; without "
        f"it {CORPUS}, or else the docstrings of the installed packages",
    )
    parser.add_argument("--embeddings", help="a .npy file to cluster instead of texts")
    parser.add_argument("--megabytes", type=int, default=30, help="of text, at most")
    parser.add_argument("--rows", type=int, default=0, help="at most, evenly spaced; 0 for all")
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--k", type=int, nargs="*", default=[256, 1024])
    parser.add_argument(
        "--branching",
        type=int,
        nargs="*",
        default=[64, 64],
        help="of the tree; none to leave it out",
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--iterations", type=int, default=25)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    args = parser.parse_args(argv)
    use_threads(args.threads)
    os.environ["SPECIALM_PROGRESS"] = "0"

    import jax
    import numpy as np

    x_NxD = (
        np.load(args.embeddings, mmap_mode="r")
        if args.embeddings
        else embeddings(args.texts, args.dim, args.megabytes)
    )
    if args.rows:
        x_NxD = x_NxD[:: max(len(x_NxD) // args.rows, 1)][: args.rows]
    x_NxD = np.ascontiguousarray(x_NxD, np.float32)
    contenders = {"ours": ours, "scikit-learn": scikit_learn}
    try:
        import faiss

        faiss.omp_set_num_threads(args.threads)
        contenders["faiss-cpu"] = faiss_cpu
    except ImportError:
        print(
            "faiss-cpu is not installed and left out; pip install -e '.[bench]' -c "
            "constraints.txt brings it",
            file=sys.stderr,
        )
    flat = [compare(x_NxD, k, contenders, args.seeds, args.iterations) for k in args.k]
    equal = [
        compare(x_NxD, k, contenders, args.seeds, fewest_iterations(x_NxD, k, contenders, made))
        for k, made in zip(args.k, flat, strict=True)
    ]
    result = {
        "device": jax.devices()[0].device_kind,
        "threads": args.threads,
        "rows": len(x_NxD),
        "dim": x_NxD.shape[1],
        "iterations": args.iterations,
        "flat": flat,
        "equal_inertia": equal,
    }
    if args.branching:
        branching = tuple(args.branching)
        result["tree"] = {
            "branching": branching,
            **compare(
                x_NxD,
                math.prod(branching),
                {"tree": tree_of(branching), "flat": ours},
                args.seeds,
                args.iterations,
            ),
        }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
