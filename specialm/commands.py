"""What each subcommand of `specialm` does: (config path, overrides, options) -> (JSON, text)."""

import dataclasses
from pathlib import Path

from ml_collections import ConfigDict

from specialm import config as config_lib
from specialm.errors import UserError


def _load(config_path: str, overrides: list[str], options: dict) -> tuple[ConfigDict, Path]:
    if not config_path:
        raise UserError("--config is missing; for example --config=configs/local/slm.py.")
    config = config_lib.load(config_path, overrides)
    return config, Path(options["workdir"] or f"runs/{Path(config_path.split(':')[0]).stem}")


def _one_domain(config: ConfigDict) -> str:
    if not config.domain:
        raise UserError("config.domain is empty; set --config.domain to one of "
                        f"{', '.join(config.data.domains)}.")
    return config.domain


def fetch(config_path: str, overrides: list[str], options: dict):
    """Downloads the default corpora."""
    from specialm.data import corpora

    manifest = corpora.fetch(Path(options["root"]))
    return manifest, corpora.table(manifest)


def prepare(config_path: str, overrides: list[str], options: dict):
    """Vocabulary, windows, embeddings and clusters."""
    from specialm import pipeline

    config, workdir = _load(config_path, overrides, options)
    method = config.method if config.method in config_lib.MULTI else "slm_is"
    run = pipeline.open_run(config, workdir, pipeline.domains_of(config), used=(method,))
    result = {"vocabulary_sha256": run.prepared.vocabulary.sha256,
              "clusters": len(run.clusters(method).centroids_KxD), "sets": store_counts(run)}
    lines = [f"{'set':20} {'windows':>10} {'documents':>10} {'tokens':>12} {'bytes':>12}"]
    lines += [f"{name:20} {c['windows']:10,} {c['documents']:10,} {c['tokens']:12,} "
              f"{c['bytes']:12,}" for name, c in result["sets"].items()]
    return result, "\n".join(lines)


def store_counts(run) -> dict[str, dict]:
    """Windows, documents, tokens, bytes and skipped documents of every set."""
    stores = {"generic/train": run.prepared.generic,
              "generic/heldout": run.prepared.generic_heldout}
    for domain, splits in run.prepared.domains.items():
        stores |= {f"{domain}/{split}": store for split, store in splits.items()}
    return {name: {key: store.index[key] for key in
                   ("windows", "documents", "tokens", "bytes", "counts")}
            for name, store in stores.items()}


def weights(config_path: str, overrides: list[str], options: dict):
    """Importance weights of the domains."""
    from specialm import pipeline

    config, workdir = _load(config_path, overrides, options)
    run = pipeline.open_run(config, workdir, pipeline.domains_of(config))
    reports = {domain: pipeline.weigh(run, domain) for domain in run.domains}
    return ({domain: report.to_json() for domain, report in reports.items()},
            "\n\n".join(report.table() for report in reports.values()))


def train(config_path: str, overrides: list[str], options: dict):
    """Pretrains one model."""
    from specialm import pipeline

    config, workdir = _load(config_path, overrides, options)
    domains = [_one_domain(config)] if config.method in config_lib.SAMPLED else []
    run = pipeline.open_run(config, workdir, domains, used=(config.method,))
    stage = pipeline.pretrain(run, config.method, config.domain, config.seed)
    result = {"checkpoint": str(stage.path), "reused": stage.reused, **stage.result}
    return result, (f"{stage.path}: {stage.result['tokens']:,} tokens in "
                    f"{stage.result['seconds']:.0f} s, last loss {stage.result['loss']:.3f}")


def _base_model(config: ConfigDict, workdir: Path, options: dict):
    from specialm import pipeline

    domain = _one_domain(config)
    if options["checkpoint"]:
        base = Path(options["checkpoint"])
        return pipeline.open_run(config, workdir, [domain]), base
    run = pipeline.open_run(config, workdir, [domain], used=(config.method,))
    return run, pipeline.pretrain(run, config.method, domain, config.seed, must_exist=True).path


def specialize(config_path: str, overrides: list[str], options: dict):
    """Fine-tunes a model on a domain; out of a bank or a mixture it takes one expert first."""
    from specialm import experts, pipeline

    config, workdir = _load(config_path, overrides, options)
    run, base = _base_model(config, workdir, options)
    key = pipeline.checkpoint_key(base)
    if not config.finetune.max_steps:
        stage = experts.take(run, base, config.domain, key)
        return ({"checkpoint": str(stage.path), "base": str(base), "reused": stage.reused,
                 **stage.result}, f"{stage.path}: a dense model, not fine-tuned")
    stage = experts.specialize(run, base, config.domain, config.seed, key)
    result = {"checkpoint": str(stage.path), "base": str(base), "reused": stage.reused,
              **stage.result}
    return result, (f"{stage.path}: best after {stage.result['best_step']} of "
                    f"{stage.result['steps']} steps, validation "
                    f"{stage.result['valid_nll']:.3f} nats per token")


def evaluate(config_path: str, overrides: list[str], options: dict):
    """Perplexity and bits per byte of one model."""
    from specialm import pipeline

    config, workdir = _load(config_path, overrides, options)
    if not options["checkpoint"]:
        raise UserError("--checkpoint is missing: the folder that `specialm train` or `specialm "
                        "specialize` printed.")
    base = Path(options["checkpoint"])
    key = pipeline.checkpoint_key(base)
    domains = pipeline.domains_of(config)
    run = pipeline.open_run(config, workdir, domains)
    scores = pipeline.score_heldout(run, base, ["generic", *domains], key, base.name)
    result = {name: {**dataclasses.asdict(s), "nll_per_token": s.nll_per_token,
                     "perplexity": s.perplexity, "bits_per_byte": s.bits_per_byte}
              for name, s in scores.items()}
    lines = [f"{'set':16} {'perplexity':>10} {'bits/byte':>10} {'tokens':>10}"]
    lines += [f"{name:16} {s.perplexity:10.2f} {s.bits_per_byte:10.3f} {s.tokens:10,}"
              for name, s in scores.items()]
    return result, "\n".join(lines)


def generate(config_path: str, overrides: list[str], options: dict):
    """Continues a prompt."""
    from specialm.serving import generate as generate_lib
    from specialm.training import runs, sharding

    settings, seed = config_lib.default().generate, 0
    if config_path:
        config = config_lib.load(config_path, overrides)
        settings, seed = config.generate, config.seed
    if not options["checkpoint"]:
        raise UserError("--checkpoint is missing: the folder of a trained model.")
    model = runs.load(options["checkpoint"], sharding.make_mesh())
    text = generate_lib.generate(model.params, model.config, model.vocabulary, options["prompt"],
                                 settings.tokens, settings.temperature, settings.top_k, seed)
    return {"text": text, "checkpoint": options["checkpoint"]}, text


def inspect(config_path: str, overrides: list[str], options: dict):
    """Parameters, FLOPs and memory of a config."""
    from specialm.evaluation.inspection import inspect_config

    config, _ = _load(config_path, overrides, options)
    result = inspect_config(config)
    return result, "\n".join(f"{name:28} {value:,}" if isinstance(value, int) else
                             f"{name:28} {value}" for name, value in result.items())


def demo(config_path: str, overrides: list[str], options: dict):
    """Everything, with a report."""
    from specialm import demo as demo_lib

    config, workdir = _load(config_path or "configs/local/demo.py", overrides, options)
    return demo_lib.demo(config, workdir)
