"""What each subcommand of `specialm` does: (config path, overrides, options) -> (JSON, text)."""

import os
from pathlib import Path

from ml_collections import ConfigDict

from specialm import config as config_lib
from specialm.common.errors import UserError


def _load(config_path: str, overrides: list[str], options: dict) -> tuple[ConfigDict, Path]:
    if not config_path:
        raise UserError("--config is missing; for example --config=configs/local/slm.py.")
    config = config_lib.load(config_path, overrides)
    return config, Path(options["workdir"] or f"runs/{Path(config_path.split(':')[0]).stem}")


def _one_domain(config: ConfigDict) -> str:
    if not config.domain:
        raise UserError(
            "config.domain is empty; set --config.domain to one of "
            f"{', '.join(config.data.domains)}."
        )
    return config.domain


def fetch(config_path: str, overrides: list[str], options: dict):
    """Downloads the default corpora, or those and the wide ones."""
    from specialm.common import processes
    from specialm.data.corpora import download, widen

    manifest = processes.run_on_first(
        "fetch", lambda: widen.fetch(Path(options["root"]), widen=options["wide"])
    )
    return manifest, download.table(manifest)


def prepare(config_path: str, overrides: list[str], options: dict):
    """Vocabulary, windows, embeddings and clusters."""
    from specialm import methods
    from specialm.workflows import pipeline

    config, workdir = _load(config_path, overrides, options)
    method = methods.with_clusters(config)
    run = pipeline.open_run(config, workdir, pipeline.domains_of(config), used=(method,))
    sets = store_counts(run)
    result = {
        "vocabulary_sha256": run.prepared.vocabulary.sha256,
        "clusters": len(run.clusters(method).centroids_KxD),
        "sets": sets,
    }
    lines = [f"{'set':20} {'windows':>10} {'documents':>10} {'tokens':>12} {'bytes':>12}"]
    lines += [
        f"{name:20} {c['windows']:10,} {c['documents']:10,} {c['tokens']:12,} {c['bytes']:12,}"
        for name, c in sets.items()
    ]
    return result, "\n".join(lines)


def store_counts(run) -> dict[str, dict]:
    """Windows, documents, tokens, bytes and skipped documents of every set."""
    stores = {
        "generic/train": run.prepared.generic,
        "generic/heldout": run.prepared.generic_heldout,
    }
    for domain, splits in run.prepared.domains.items():
        stores |= {f"{domain}/{split}": store for split, store in splits.items()}
    return {
        name: {
            key: store.index[key] for key in ("windows", "documents", "tokens", "bytes", "counts")
        }
        for name, store in stores.items()
    }


def weights(config_path: str, overrides: list[str], options: dict):
    """Importance weights of the domains."""
    from specialm import methods
    from specialm.workflows import pipeline, repeats

    config, workdir = _load(config_path, overrides, options)
    run = pipeline.open_run(config, workdir, pipeline.domains_of(config))
    reports = {domain: pipeline.weigh(run, domain) for domain in run.domains}
    texts = []
    for domain, report in reports.items():
        found = repeats.of(run, methods.IMPORTANCE, domain, config.seed)
        texts.append("\n".join([report.table(), *repeats.lines(found, domain)]))
    return {domain: report.to_json() for domain, report in reports.items()}, "\n\n".join(texts)


def train(config_path: str, overrides: list[str], options: dict):
    """Pretrains one model."""
    from specialm import methods
    from specialm.workflows import pipeline, pretraining, repeats

    config, workdir = _load(config_path, overrides, options)
    if not methods.get(config.method).pretrained:
        raise UserError(
            f"method={config.method!r} has no pretraining; `specialm specialize` trains it on "
            "the specialist text at once."
        )
    aimed = methods.aims_at_domain(config, config.method)
    domains = [_one_domain(config)] if aimed else []
    run = pipeline.open_run(config, workdir, domains, used=(config.method,))
    stage = pretraining.pretrain(run, config.method, config.domain, config.seed)
    repetitions = repeats.row(run, config.method, config.domain, config.seed)
    result = {"checkpoint": str(stage.path), "reused": stage.reused, **stage.result, **repetitions}
    return result, (
        f"{stage.path}: {stage.result['tokens']:,} tokens in "
        f"{stage.result['seconds']:.0f} s, last loss {stage.result['loss']:.3f}"
    )


def _open(config_path: str, overrides: list[str], options: dict, every_domain: bool):
    """(run, run folder of --checkpoint or None). Without --config the checkpoint's own settings
    hold, and the generic text is not needed.

    Args:
      every_domain: work on all of the config's domains unless one is named; else on exactly one.
    """
    from specialm.workflows import from_checkpoint, pipeline

    def domains_of(config: ConfigDict) -> list[str]:
        return pipeline.domains_of(config) if every_domain else [_one_domain(config)]

    base = Path(options["checkpoint"]) if options["checkpoint"] else None
    if base is not None and not config_path:
        config = from_checkpoint.load(base, overrides, options["source"])
        domains = domains_of(config)
        workdir = Path(options["workdir"] or f"runs/{config.domain or 'specialm'}")
        return from_checkpoint.open_run(config, workdir, domains, base), base
    config, workdir = _load(config_path, overrides, options)
    if options["source"]:
        config = from_checkpoint.with_source(config, options["source"])
    domains = domains_of(config)
    used = () if base else (config.method,)
    return pipeline.open_run(config, workdir, domains, used=used), base


def specialize(config_path: str, overrides: list[str], options: dict):
    """Fine-tunes a model on a domain and scores it; out of a bank or a mixture it takes one expert
    first.
    """
    from specialm.workflows import experts, heldout, pipeline, pretraining

    run, base = _open(config_path, overrides, options, every_domain=False)
    config = run.config
    if base is None:
        base = pretraining.pretrain(
            run, config.method, config.domain, config.seed, must_exist=True
        ).path
    key = pipeline.checkpoint_key(base)
    if config.finetune.max_steps:
        teacher = _teacher(options["teacher"])
        stage = experts.specialize(run, base, config.domain, config.seed, key, teacher)
        summary = (
            f"best after {stage.result['best_step']} of {stage.result['steps']} steps, "
            f"validation {stage.result['valid_nll']:.3f} nats per token"
        )
    else:
        stage = experts.take(run, base, config.domain, key)
        summary = "a dense model, not fine-tuned"
    report = heldout.evaluate(run, stage.path, [config.domain], stage.fingerprint, stage.path.name)
    sets = _sets(run)
    result = {
        "checkpoint": str(stage.path),
        "base": str(base),
        "reused": stage.reused,
        **stage.result,
        "heldout": report,
        "sets": sets,
    }
    return result, "\n".join(
        [f"{stage.path}: {summary}", *_set_lines(sets), "", heldout.table(report)]
    )


def _teacher(path: str):
    """The model to distil from, or None."""
    from specialm.workflows import pipeline

    return pipeline.Teacher(Path(path), pipeline.checkpoint_key(Path(path))) if path else None


def _sets(run) -> dict[str, dict]:
    """{domain: documents read, windows used of each split, documents skipped and why}."""
    return {
        domain: {
            "documents": splits["train"].index["counts"]["documents"],
            "windows": {
                split: len(used)
                for split, used in run.prepared.specialist_indices(domain, run.config.data).items()
            },
            "skipped": {
                reason.partition(": ")[2]: count
                for reason, count in splits["train"].index["counts"].items()
                if reason.startswith("skipped")
            },
        }
        for domain, splits in run.prepared.domains.items()
    }


def _set_lines(sets: dict[str, dict]) -> list[str]:
    return [
        f"{domain}: {of['documents']:,} documents; windows: "
        + ", ".join(f"{count:,} {split}" for split, count in of["windows"].items())
        + "".join(f"; skipped {count:,}: {reason}" for reason, count in of["skipped"].items())
        for domain, of in sets.items()
    ]


def evaluate(config_path: str, overrides: list[str], options: dict):
    """Perplexity and bits per byte of one model, with a leak check and what the model cost."""
    from specialm.workflows import heldout, pipeline

    if not options["checkpoint"]:
        raise UserError(
            "--checkpoint is missing: the folder that `specialm train` or `specialm "
            "specialize` printed."
        )
    run, base = _open(config_path, overrides, options, every_domain=True)
    generic = ["generic"] if "heldout" in run.prepared.generic_splits else []
    report = heldout.evaluate(
        run, base, [*generic, *run.domains], pipeline.checkpoint_key(base), base.resolve().name
    )
    sets = _sets(run)
    return {"checkpoint": str(base), **report, "sets": sets}, "\n".join(
        [*_set_lines(sets), "", heldout.table(report)]
    )


def generate(config_path: str, overrides: list[str], options: dict):
    """Continues a prompt."""
    from specialm.common import processes
    from specialm.models import families
    from specialm.serving import generate as generate_lib
    from specialm.training import runs, sharding

    if processes.count() > 1:
        raise UserError("generate continues a prompt in one process; unset SPECIALM_DISTRIBUTED.")
    settings, seed = config_lib.default().generate, 0
    if config_path:
        config = config_lib.load(config_path, overrides)
        settings, seed = config.generate, config.seed
    if not options["checkpoint"]:
        raise UserError("--checkpoint is missing: the folder of a trained model.")
    model = runs.load(options["checkpoint"], sharding.make_mesh())
    text = generate_lib.generate(
        model.params,
        families.dense(model.config),
        model.vocabulary,
        options["prompt"],
        settings.tokens,
        settings.temperature,
        settings.top_k,
        seed,
    )
    return {"text": text, "checkpoint": options["checkpoint"]}, text


def inspect(config_path: str, overrides: list[str], options: dict):
    """Parameters, FLOPs and memory of a config."""
    from specialm.planning.inspection import inspect_config

    config, _ = _load(config_path, overrides, options)
    result = inspect_config(config)
    return result, "\n".join(
        f"{name:28} {value:,}" if isinstance(value, int) else f"{name:28} {value}"
        for name, value in result.items()
    )


def compile_for(config_path: str, overrides: list[str], options: dict):
    """The training step on a TPU slice: cost, memory and time of a step."""
    os.environ.setdefault("JAX_PLATFORMS", "cpu")  # libtpu compiles, but there are no chips
    from specialm.planning import compilation

    config, _ = _load(config_path, overrides, options)
    result = compilation.compile_report(
        config, options["topology"], _whole(options, "windows_per_device"), options["largest"]
    )
    return result, compilation.table(result)


def _whole(options: dict, name: str) -> int:
    try:
        return int(options[name])
    except ValueError as error:
        raise UserError(f"--{name}={options[name]}: must be a whole number.") from error


def demo(config_path: str, overrides: list[str], options: dict):
    """Everything, with a report."""
    from specialm.workflows import demo as demo_lib

    config, workdir = _load(config_path or "configs/local/demo.py", overrides, options)
    return demo_lib.demo(config, workdir)


def study(config_path: str, overrides: list[str], options: dict):
    """The grid of arms, budgets, sizes, domains and seeds."""
    from specialm.workflows import demo as demo_lib
    from specialm.workflows import grid
    from specialm.workflows import study as study_lib

    config, workdir = _load(config_path or "configs/local/study.py", overrides, options)
    grid.cells(config)  # says what is wrong with the arms before anything is downloaded
    demo_lib.fetch(config)
    return study_lib.study(config, workdir)


def report(config_path: str, overrides: list[str], options: dict):
    """Draws figures, tables and the page of a finished or interrupted study."""
    from specialm.common import processes
    from specialm.workflows import study as study_lib

    if not options["workdir"]:
        raise UserError("--workdir is missing: the folder that `specialm study` wrote.")
    written = processes.run_on_first(
        "report", lambda: [str(path) for path in study_lib.report(Path(options["workdir"]))]
    )
    return {"written": written}, "\n".join(written)
