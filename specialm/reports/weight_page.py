"""The page of `specialm weights --report`: a domain's weights, from the record alone.

The record is that of a demo with its part `weights`, in which a domain has, besides what
`demo_run.py` says:

    sampling_error: None of one document, else {documents, level, low, high: K floats, distance,
        distance_high, unseen, effective_fraction: [low, high]}
    drawn_tokens, unique_tokens, worth_tokens;  cluster_tokens: K floats
    map: {x, y: K floats, explained}
    far: {share, limit, windows: [{cluster, distance, nearer, text}]}
    top_clusters: also with {interval: [low, high], words}
"""

from collections.abc import Callable

from specialm.reports import demo_tables, parts, weight_figures, weight_maps
from specialm.reports.demo_run import DemoRun
from specialm.reports.parts import Cards, Part, Provenance, Report
from specialm.reports.summary import count, number
from specialm.reports.tables import Table, facts, or_dash, table_of
from specialm.reports.words import cut, moment, percent, plural

RARE = 0.05  # of the text in clusters that were not seen, or of its windows without a counterpart


def budget(run: DemoRun) -> Table | None:
    """What the planned training reads, in tokens."""
    columns = [
        ("drawn_tokens", "tokens drawn", count),
        ("unique_tokens", "different ones", count),
        ("worth_tokens", "worth as new", count),
        ("expected_repetitions", "repetitions of a draw", lambda value: number(value, 2)),
        ("share_above_budget", "draws above the cap", percent),
        ("moved_share", "draws the cap moved", percent),
    ]
    return facts(
        "At this budget",
        "Of the tokens that training draws (train.tokens): how many are different ones, expected, "
        "and how many new tokens they are worth, repeated as they are (arXiv 2305.16264, equation "
        "5, cluster by cluster, which it was not fitted for).",
        "Domain",
        columns,
        list(run.weights.items()),
    )


def sampling_error(run: DemoRun) -> Table | None:
    """How exactly the histogram is known."""
    columns = [
        ("documents", "documents", count),
        ("distance", "histogram off by", percent),
        ("distance_high", "at most", percent),
        ("unseen", "unseen clusters", percent),
        ("low", "effective sample from", percent),
        ("high", "to", percent),
    ]
    rows = []
    for domain, of in run.weights.items():
        error = of["sampling_error"]
        low, high = error["effective_fraction"] if error else (None, None)
        rows.append((domain, {**(error or {"documents": 1}), "low": low, "high": high}))
    return facts(
        "How exactly it is known",
        "From a bootstrap over documents: how far the histogram of as many other documents would "
        "lie from this one (total variation, mean and 95%), and the 95% interval of the effective "
        "sample as a share of the generic text. Unseen clusters are the part of the domain that "
        "is in clusters none of these documents reached (Good and Turing).",
        "Domain",
        columns,
        rows,
    )


def clusters(run: DemoRun) -> Table | None:
    """The clusters that hold most of each domain."""
    header = ["Cluster", "words", "domain", "95%", "generic", "weight", "epochs"]
    rows: list[list[str]] = []
    for domain, of in run.weights.items():
        rows += [[domain]] if len(run.weights) > 1 else []
        for cluster in of["top_clusters"]:
            rows.append(
                [
                    str(cluster["cluster"]),
                    ", ".join(cluster["words"]),
                    percent(cluster["specialist_probability"]),
                    or_dash(cluster["interval"], lambda ends: " to ".join(map(percent, ends))),
                    percent(cluster["generic_probability"]),
                    number(cluster["weight"], 1),
                    number(of["repetitions"][cluster["cluster"]], 2),
                ]
            )
    return table_of(
        "Clusters",
        "The clusters with most of the domain's text: words that tell them from the rest of the "
        "generic text, their shares with the interval of a bootstrap, and how often training draws "
        "each of their windows.",
        header,
        rows,
        left=frozenset({0, 1}),
    )


def windows(run: DemoRun) -> Cards | None:
    """Typical generic windows of those clusters."""
    groups = {
        domain: [
            {
                "name": f"cluster {cluster['cluster']}",
                "weight": f"weight {number(cluster['weight'], 1)}",
                "shares": ", ".join(cluster["words"]),
                "samples": [cut(text) for text in cluster["samples"]],
            }
            for cluster in of["top_clusters"]
        ]
        for domain, of in run.weights.items()
    }
    return Cards(groups) if groups else None


def without_counterpart(run: DemoRun) -> Cards | None:
    """The domain's windows that are least like the generic text."""
    groups = {
        domain: [
            {
                "name": f"nearest is cluster {window['cluster']}",
                "weight": "",
                "shares": f"farther from its centre than {percent(window['nearer'])} of the "
                "generic windows from theirs",
                "samples": [cut(window["text"])],
            }
            for window in of["far"]["windows"]
        ]
        for domain, of in run.weights.items()
    }
    return Cards(groups) if groups else None


def provenance(run: DemoRun) -> Provenance | None:
    """Where, how and with what it was run."""
    return parts.provenance(run.record)


# {name: (title, functions)}: what stands on the page, in its order.
SECTIONS: dict[str, tuple[str, tuple[Callable[[DemoRun], Part | None], ...]]] = {
    "histograms": (
        "The two histograms",
        (weight_figures.cluster_shares, weight_maps.cluster_map, weight_figures.coverage),
    ),
    "weights": ("The weights", (weight_maps.spectrum, demo_tables.weights)),
    "budget": ("What training draws", (budget, weight_figures.repetition)),
    "error": ("How exactly it is known", (sampling_error,)),
    "clusters": ("What the clusters hold", (clusters, windows)),
    "far": ("What has no counterpart", (without_counterpart,)),
    "run": ("What was run", (provenance,)),
}


def report(record: dict) -> Report:
    """The report of a record."""
    run = DemoRun(record)
    return Report(
        title=str(record["title"]),
        facts=[*moment(record.get("created")), *_sizes(run)],
        names=[],
        question="What of the generic text is like this domain, and does it last?",
        answer=[sentence for domain in run.weights for sentence in _answer(run, domain)],
        sections=parts.sections(SECTIONS, lambda function: function(run)),
    )


def _sizes(run: DemoRun) -> list[str]:
    of = next(iter(run.weights.values()))
    return [
        plural(len(of["weights"]), "cluster"),
        f"{of['generic_windows']:,} generic windows",
        f"{count(of['drawn_tokens'])} tokens to draw",
    ]


def _answer(run: DemoRun, domain: str) -> list[str]:
    of = run.weights[domain]
    error, far, known = of["sampling_error"], of["far"]["share"], "from one document alone"
    if error:
        low, high = map(percent, error["effective_fraction"])
        known = f"{low} to {high} by a bootstrap over {error['documents']:,} documents"
    said = [
        f"{domain}: the draws are worth {percent(of['effective_fraction'])} of the generic text "
        f"({known}), and the window of a draw comes "
        f"{number(of['expected_repetitions'], 2)} times in all."
    ]
    if error and error["unseen"] > RARE:
        said.append(
            f"About {percent(error['unseen'])} of the domain is in clusters that these documents "
            "did not reach: more documents, fewer clusters or clustering.smoothing would help."
        )
    if far > RARE:
        said.append(
            f"{percent(far)} of its windows are farther from the generic text than 99% of that "
            "text is from its own centres: for these it has no counterpart."
        )
    return said
