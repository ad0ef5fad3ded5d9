"""What a demo's page is made of: the run record and the summary of its rows.

A run record is a dict of plain values, as JSON holds them:

    title, created, command: str;  versions: {package: version};  settings: {"data.context": 128}
    machine: {cpu, cores, memory_gb, platform}
    stages: [{name, title, seconds, reused, detail}];  seconds: of this run
    corpora: [{name, role: generic | domain, documents, bytes, licence}]
    data: {"generic": sizes, "domains": {domain: {"train" | "valid" | "heldout": sizes}}}
        with sizes = {windows, tokens, documents, bytes}; "generic_sources": [{source, train,
        heldout}], shares
    weights: {domain: {generic_histogram, specialist_histogram, weights: K floats each,
        effective_sample_size, effective_fraction, mean_repetitions, max_repetitions,
        planned_windows, entropy, top_fraction,
        top_clusters: [{cluster, generic_probability, specialist_probability, weight, samples}]}}
    curves: [{method, domain, seed, phase, points: [{step, tokens, loss, split: train | valid}]}]
    models: {name: {params, flops_per_token, tokens, tokens_per_parameter, ...}}
    results: rows, see specialm.reports.summary

Any part may be missing: what it would fill is then left out.
"""

from specialm.reports.summary import MACRO, Summary, in_order


class DemoRun:
    """A run record.

    Attributes:
      record: the dict.
      summary: of its rows.
      curves, weights: those parts of the record.
      names: all methods that are shown, in display order.
    """

    def __init__(self, record: dict):
        self.record = record
        self.summary = Summary(record.get("results"))
        self.curves: list[dict] = list(record.get("curves") or ())
        self.weights: dict[str, dict] = record.get("weights") or {}
        self.names = in_order([*self.summary.methods, *(c["method"] for c in self.curves)])


def domain_name(domain: str) -> str:
    """The domain's name for people."""
    return "macro average" if domain == MACRO else domain
