"""`specialm weights --report`: what importance sampling will draw for a text, before it does.

The record is that of a demo (`reports/demo_run.py`) as far as weights go, and more of each domain.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from specialm.clustering import keywords, repetition, sampling_error
from specialm.clustering.clusters import read_texts, specialist_vectors
from specialm.clustering.weights import WeightReport
from specialm.common import provenance
from specialm.common.errors import UserError
from specialm.common.files import write_json
from specialm.data.store import WindowStore
from specialm.workflows.pipeline import Run

SHOWN = 12  # clusters that are described
WORDS, SAMPLES, FAR = 6, 2, 6  # words and windows of a cluster; windows without a counterpart
READ, REST = 48, 1500  # windows of a cluster, and of the rest, that words are counted in
COMPARED = 20_000  # generic windows whose distance from their centroid is measured
UNUSUAL = 0.99  # of the generic windows lie nearer to their centroid


def path_of(given: str, workdir: Path) -> Path:
    """Where the page is written: `weights.html` alone lies in the work folder.

    Raises:
      UserError: it is no name of a page.
    """
    path = Path(given).expanduser()
    if path.suffix not in (".html", ".htm") or path.is_dir():
        raise UserError(f"--report={given}: must be a file that ends in .html.")
    return workdir / path if str(path) == given == "weights.html" else path


def write(run: Run, reports: Mapping[str, WeightReport], path: Path) -> dict:
    """Writes the page, and its numbers beside it as JSON.

    Args:
      run: with clusters.
      reports: the weights of each domain.
      path: of the page; the numbers are in the same name with .json.

    Returns:
      The record.
    """
    from specialm.reports import page, weight_page

    record = provenance.describe(run.config)
    record["title"] = f"Importance weights of {', '.join(reports)}"
    record["weights"] = {domain: _facts(run, report) for domain, report in reports.items()}
    page.write_page(weight_page.report(record), path)
    write_json(path.with_suffix(".json"), record)
    return record


def lines(record: dict) -> list[str]:
    """What the report adds, for a terminal."""
    said = []
    for domain, facts in record["weights"].items():
        error, far = facts["sampling_error"], facts["far"]
        said.append(
            f"{domain}: one document alone does not say how exactly its histogram is known"
            if error is None
            else f"{domain}: {error['documents']:,} documents; another draw of as many would have "
            f"a histogram {error['distance']:.1%} off (at most {error['distance_high']:.1%}), and "
            f"{error['unseen']:.1%} of the text is in clusters that none of these reached"
        )
        said[-1] += (
            f"\n{domain}: {far['share']:.1%} of the specialist windows lie farther from the centre "
            f"of their cluster than {UNUSUAL:.0%} of the generic ones"
        )
    return said


def _facts(run: Run, report: WeightReport) -> dict:
    clustering, clusters = run.config.clustering, run.clusters()
    domain, store = report.domain, run.prepared.domains[report.domain]["train"]
    used_N = run.prepared.specialist_indices(domain, run.config.data)["train"]
    error = sampling_error.estimate(
        report, clusters.domains[domain], store.document_N[used_N], clustering.seed
    )
    tokens_K = np.bincount(clusters.generic_N, run.generic.sizes_N, minlength=len(report.weights_K))
    rate_K = repetition.rates(report.drawn_K, report.generic_counts_K, report.planned_windows)
    return {
        **report.to_json(),
        "sampling_error": error and error.to_json(),
        "drawn_tokens": float(rate_K @ tokens_K),
        "unique_tokens": float(np.minimum(rate_K, 1.0) @ tokens_K),
        "worth_tokens": float(repetition.worth(rate_K, tokens_K).sum()),
        "cluster_tokens": tokens_K.tolist(),
        "map": _map(clusters.centroids_KxD, report.generic_K),
        "far": _far(run, domain, store, used_N),
        "top_clusters": _described(run, report, error),
    }


def _map(centroids_KxD: np.ndarray, share_K: np.ndarray) -> dict:
    """The two directions in which centroids differ most, each counted by its share of the text."""
    centred_KxD = centroids_KxD - share_K @ centroids_KxD
    _, scale, axes = np.linalg.svd(np.sqrt(share_K)[:, None] * centred_KxD, full_matrices=False)
    place_Kx2 = centred_KxD @ axes[:2].T
    place_Kx2 = np.pad(place_Kx2, ((0, 0), (0, 2 - place_Kx2.shape[1])))
    explained = float((scale[:2] ** 2).sum() / max((scale**2).sum(), 1e-30))
    return {"x": place_Kx2[:, 0].tolist(), "y": place_Kx2[:, 1].tolist(), "explained": explained}


def _far(run: Run, domain: str, store: WindowStore, used_N: np.ndarray) -> dict:
    """The specialist windows that are least like anything in the generic text."""
    clusters = run.clusters()
    assert clusters.encoder is not None
    centroids_KxD, generic_N = clusters.centroids_KxD, clusters.generic_N
    own_NxD, _ = specialist_vectors(
        run.config.data, run.stages, run.prepared, domain, clusters.encoder
    )
    rng = np.random.default_rng(run.config.clustering.seed)
    sample = rng.permutation(len(generic_N))[:COMPARED]
    generic_M = np.linalg.norm(
        clusters.generic_NxD[np.sort(sample)] - centroids_KxD[generic_N[np.sort(sample)]], axis=1
    )
    own_N = np.linalg.norm(own_NxD - centroids_KxD[clusters.domains[domain]], axis=1)
    farthest = np.argsort(-own_N, kind="stable")[:FAR]
    texts = read_texts(store, run.prepared.vocabulary, used_N[farthest])
    limit = float(np.quantile(generic_M, UNUSUAL))
    return {
        "share": float((own_N > limit).mean()),
        "limit": limit,
        "windows": [
            {
                "cluster": int(clusters.domains[domain][i]),
                "distance": float(own_N[i]),
                "nearer": float((generic_M < own_N[i]).mean()),
                "text": text,
            }
            for i, text in zip(farthest, texts, strict=True)
        ],
    }


def _described(
    run: Run, report: WeightReport, error: sampling_error.SamplingError | None
) -> list[dict]:
    """The clusters that hold most of the specialist text: shares, words and typical windows."""
    clusters, vocabulary = run.clusters(), run.prepared.vocabulary
    top = np.argsort(-report.specialist_K, kind="stable")[:SHOWN]
    top = top[report.specialist_K[top] > 0]
    rng = np.random.default_rng(run.config.clustering.seed)

    def texts_of(windows: np.ndarray) -> list[str]:
        return read_texts(run.generic, vocabulary, windows)

    members = [np.flatnonzero(clusters.generic_N == cluster) for cluster in top]
    groups = [texts_of(rng.permutation(windows)[:READ]) for windows in members]
    others = rng.permutation(np.flatnonzero(~np.isin(clusters.generic_N, top)))[:REST]
    words = keywords.of_groups(groups, texts_of(others), WORDS)
    return [
        {
            "cluster": int(c),
            "generic_probability": float(report.generic_K[c]),
            "specialist_probability": float(report.specialist_K[c]),
            "interval": error and [float(error.low_K[c]), float(error.high_K[c])],
            "weight": float(report.weights_K[c]),
            "words": of_cluster,
            "samples": texts_of(clusters.typical(c, SAMPLES)),
        }
        for c, of_cluster in zip(top, words, strict=True)
    ]
