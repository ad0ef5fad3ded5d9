"""The demo: every method over every domain and seed, then the table and the report."""

import time
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from specialm import methods
from specialm.clustering.clusters import read_texts
from specialm.common import code, processes, provenance
from specialm.common.files import to_json, write_json, write_text
from specialm.common.stages import Stage
from specialm.data import shares
from specialm.data.corpora import download, widen
from specialm.evaluation import perplexity
from specialm.models import families, transformer
from specialm.reports import summary
from specialm.training import metrics, runs, scoring
from specialm.workflows import baselines, experts, pipeline, pretraining, repeats

TOP_CLUSTERS, SAMPLES = 4, 2  # shown for each domain in the report


def demo(config: ConfigDict, workdir: Path) -> tuple[dict, str]:
    """Runs all stages; finished ones are reused.

    Writes `results.jsonl`, `run.json` (all that the report shows) and `report.html` in `workdir`;
    the files of an earlier demo with other settings stay beside them under a number.

    Returns:
      ({"results", "report", "seconds"}, the table).
    """
    started = time.time()
    manifest = fetch(config)
    run = pipeline.open_run(
        config, workdir, pipeline.domains_of(config), used=(*config.methods, methods.IMPORTANCE)
    )
    rows, curves = [], []
    for seed in config.seeds:
        for method in config.methods:
            trained, pretrained, tuned = _train(run, method, seed)
            rows += _score(run, method, seed, pretrained, tuned)
            curves += _curves(method, seed, trained, tuned)
    rows += baselines.rows(run, config.baselines, config.seeds[0])
    rows = [row | code.made_by(run.stages.done) for row in rows]
    record = _record(run, manifest, rows, curves, time.time() - started)
    processes.run_on_first("publishing", lambda: _publish(workdir, rows, record))
    table = summary.table(rows)
    footer = f"{workdir / 'report.html'}  ({time.time() - started:.0f} s)"
    return (
        {"results": rows, "report": str(workdir / "report.html"), "seconds": time.time() - started},
        f"{table}\n\n{footer}",
    )


def fetch(config: ConfigDict) -> dict | None:
    """Downloads those default corpora that the config names, if they are not there."""
    specs = [config.data.generic, *(config.data.domains[d] for d in pipeline.domains_of(config))]
    names = [spec.partition(":")[2] for spec in specs if spec.startswith("corpora:")]
    if not names:
        return None
    return processes.run_on_first(
        "fetch", lambda: widen.fetch(Path(config.data.corpora_root), names)
    )


def _train(run: pipeline.Run, method: str, seed: int) -> list[dict[str, Stage]]:
    """What was pretrained, the domain's model before and after fine-tuning, by domain. The first
    two differ for a bank or a mixture, out of which the domain's expert is taken.
    """
    trained = {domain: pretraining.pretrain(run, method, domain, seed) for domain in run.domains}
    tuned = {
        domain: experts.specialize(run, stage.path, domain, seed, stage.fingerprint)
        for domain, stage in trained.items()
    }
    pretrained = trained
    if any(runs.read_record(stage.path)["kind"] != families.DENSE for stage in trained.values()):
        pretrained = {
            domain: experts.take(run, stage.path, domain, stage.fingerprint)
            for domain, stage in trained.items()
        }
    return [trained, pretrained, tuned]


def _score(run, method: str, seed: int, pretrained: dict, tuned: dict) -> list[dict]:
    rows = []
    for phase, models in (("pretrained", pretrained), ("finetuned", tuned)):
        scores: dict[str, scoring.Score] = {}
        for domain, stage in models.items():
            label = f"{method}-{domain}-{phase}-seed{seed}"
            scores |= pipeline.score_heldout(run, stage.path, [domain], stage.fingerprint, label)
        spent = {domain: costs(run, stage.path) for domain, stage in models.items()}
        rows += [
            row | perplexity.beside(spent, row["domain"])
            for row in perplexity.rows(method, phase, seed, _budget(run.config), scores)
        ]
    repetitions = {domain: repeats.row(run, method, domain, seed) for domain in run.domains}
    return [row | perplexity.beside(repetitions, row["domain"]) for row in rows]


def costs(run: pipeline.Run, path: Path) -> dict:
    """Bytes of the model that is served, its parameters as float32 and the vocabulary, and the
    FLOPs of all phases that led to it.
    """
    record, files = runs.read_record(path), run.prepared.vocabulary.files.values()
    parameters = baselines.parameter_bytes(run, path)
    return {
        "served_bytes": parameters + sum(file.stat().st_size for file in files),
        "train_flops": sum(entry.get("flops", 0) for entry in record["ledger"]),
    }


def _budget(config: ConfigDict) -> int:
    """Tokens of pretraining, the same for every method."""
    return pipeline.planned_windows(config) * config.data.context


def _curves(method: str, seed: int, trained: dict, tuned: dict) -> list[dict]:
    curves, seen = [], set()
    for phase, models in (("pretrained", trained), ("finetuned", tuned)):
        for domain, stage in models.items():
            if stage.path in seen:
                continue
            seen.add(stage.path)
            shared = phase == "pretrained" and not methods.get(method).draws.aims
            points = []
            for line in metrics.read(stage.path / "metrics.jsonl"):
                for key, split in (("loss", "train"), ("valid_nll", "valid")):
                    if key in line:
                        points.append(
                            {
                                "step": line["step"],
                                "tokens": line["tokens"],
                                "loss": line[key],
                                "split": split,
                            }
                        )
            curves.append(
                {
                    "method": method,
                    "domain": None if shared else domain,
                    "seed": seed,
                    "phase": phase,
                    "points": points,
                }
            )
    return curves


def _record(run: pipeline.Run, manifest: dict | None, rows, curves, seconds: float) -> dict:
    config = run.config
    budget = _budget(config)
    return {
        **provenance.describe(config),
        "stages": _stages(run),
        "seconds": seconds,
        "corpora": _corpora(run, manifest),
        "data": _data(run),
        "weights": {domain: _weights(run, domain) for domain in run.domains},
        "curves": curves,
        "models": {method: _facts(run, method, budget) for method in config.methods},
        "results": rows,
    }


def _facts(run: pipeline.Run, method: str, tokens: int) -> dict:
    """Sizes of the model that is served, of what is pretrained, and what training it costs."""
    model = run.model_config(method)
    params = transformer.num_params(families.dense(model))
    per_group = methods.tokens_per_group(run.config, method)
    return {
        "params": params,
        "pretrain_params": families.num_params(model),
        "flops_per_token": families.flops_per_token(model, True, per_group),
        "tokens": tokens,
        "tokens_per_parameter": round(tokens / params, 1),
    }


def _stages(run: pipeline.Run) -> list[dict]:
    """Each stage once; how long it took at first, and whether this run reused it."""
    unique = {stage.path: stage for stage in reversed(run.stages.done)}
    return [
        {
            "name": stage.path.relative_to(run.stages.root).as_posix(),
            "title": stage.name,
            "seconds": stage.seconds,
            "reused": stage.reused,
            "detail": "",
        }
        for stage in reversed(unique.values())
    ]


def _corpora(run: pipeline.Run, manifest: dict | None) -> list[dict]:
    if manifest is None:
        return []
    generic = run.config.data.generic.partition(":")[2]
    roles = ("generic", "generic_wide") if generic == "generic_wide" else ("generic",)
    return [
        entry
        for entry in download.entries(manifest)
        if entry["role"] in roles or entry["name"] in run.domains
    ]


def _data(run: pipeline.Run) -> dict:
    def counts(store, indices) -> dict:
        return {
            "windows": len(indices),
            "tokens": int(store.sizes_N[indices].sum()),
            "documents": len(np.unique(store.document_N[indices])),
            "bytes": int(store.bytes_N[indices].sum()),
        }

    generic = run.generic
    domains = {}
    for domain in run.domains:
        stores = run.prepared.domains[domain]
        used = run.prepared.specialist_indices(domain, run.config.data)
        domains[domain] = {split: counts(stores[split], used[split]) for split in stores}
    return {
        "generic": counts(generic, np.arange(len(generic))),
        "domains": domains,
        "generic_sources": shares.by_source(generic, run.generic_heldout),
    }


def _weights(run: pipeline.Run, domain: str) -> dict:
    report = pipeline.weigh(run, domain)
    top = np.argsort(-report.specialist_K, kind="stable")[:TOP_CLUSTERS]
    return {
        **report.to_json(),
        "top_clusters": [
            {
                "cluster": int(c),
                "generic_probability": float(report.generic_K[c]),
                "specialist_probability": float(report.specialist_K[c]),
                "weight": float(report.weights_K[c]),
                "samples": _samples(run, c),
            }
            for c in top
        ],
    }


def _samples(run: pipeline.Run, cluster: int) -> list[str]:
    typical = run.clusters().typical(cluster, SAMPLES)
    return read_texts(run.generic, run.prepared.vocabulary, typical)


def _publish(workdir: Path, rows: list[dict], record: dict) -> None:
    """Writes the outputs; those of a run with other settings stay under a number."""
    from specialm.reports import demo_page

    others = ("results.jsonl", "report.html", "figures", "tables")
    provenance.set_aside(workdir, "run.json", record["settings"], others)
    write_text(workdir / "results.jsonl", "".join(to_json(row) + "\n" for row in rows))
    write_json(workdir / "run.json", record)
    demo_page.write(record, workdir / "report.html")
