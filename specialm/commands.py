"""What each subcommand of `specialm` does: (config path, overrides, options) -> (JSON, text)."""

import os
import sys
from pathlib import Path

from ml_collections import ConfigDict

from specialm import command_inputs as inputs
from specialm import config as config_lib
from specialm import methods
from specialm.common import processes, runtime
from specialm.common.errors import UserError
from specialm.models import quantization
from specialm.planning import precheck


def fetch(config_path: str, overrides: list[str], options: dict):
    """Downloads the default corpora, or those and the wide ones."""
    runtime.join_processes()
    from specialm.data.corpora import download, widen

    manifest = processes.run_on_first(
        "fetch", lambda: widen.fetch(Path(options["root"]), widen=options["wide"])
    )
    return manifest, download.table(manifest)


def prepare(config_path: str, overrides: list[str], options: dict):
    """Vocabulary, windows, embeddings and clusters."""
    config, workdir = inputs.load(config_path, overrides, options, precheck.check_clusters)
    from specialm.workflows import pipeline

    method = methods.with_clusters(config)
    run = pipeline.open_run(config, workdir, pipeline.domains_of(config), used=(method,))
    from specialm.data import shares

    sets = store_counts(run)
    sources = shares.by_source(run.generic, run.generic_heldout)
    result = {
        "vocabulary_sha256": run.prepared.vocabulary.sha256,
        "clusters": len(run.clusters(method).centroids_KxD),
        "sets": sets,
        "generic_sources": sources,
    }
    lines = [f"{'set':20} {'windows':>10} {'documents':>10} {'tokens':>12} {'bytes':>12}"]
    lines += [
        f"{name:20} {c['windows']:10,} {c['documents']:10,} {c['tokens']:12,} {c['bytes']:12,}"
        for name, c in sets.items()
    ]
    return result, "\n".join(lines + shares.lines(sources))


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
    """Importance weights of the domains, or of a text of the user's."""
    config, workdir = inputs.load(config_path, overrides, options, precheck.check_clusters)
    from specialm.workflows import own_text, pipeline, repeats, weight_report

    if options["topics"]:
        return _weights_of_topics(config, workdir, options)
    path = weight_report.path_of(options["report"], workdir) if options["report"] else None
    if options["source"]:
        kept = own_text.given(overrides, config)
        config = own_text.with_source(config, options["source"], kept, options["name"])
    run = pipeline.open_run(config, workdir, pipeline.domains_of(config))
    reports = {domain: pipeline.weigh(run, domain) for domain in run.domains}
    texts = []
    for domain, report in reports.items():
        found = repeats.of(run, methods.IMPORTANCE, domain, config.seed)
        texts.append("\n".join([report.table(), *repeats.lines(found, domain)]))
    if path is None:
        return {domain: report.to_json() for domain, report in reports.items()}, "\n\n".join(texts)
    record = weight_report.write(run, reports, path)
    return record["weights"], "\n\n".join([*texts, *weight_report.lines(record), f"{path}"])


def _weights_of_topics(config: ConfigDict, workdir: Path, options: dict) -> tuple[dict, str]:
    """Importance weights of a domain that is described in words."""
    from specialm.workflows import pipeline, topics

    if options["source"] or options["report"]:
        raise UserError("--topics stands alone; leave out --source and --report.")
    words = topics.parse(options["topics"])
    described = topics.describe(pipeline.open_run(config, workdir, []), words)
    result = described.report.to_json()
    result["sampling_error"] = described.error and described.error.to_json()
    return result, "\n".join([described.report.table(), *described.lines()])


def train(config_path: str, overrides: list[str], options: dict):
    """Pretrains one model, or goes on from one."""
    config, workdir, init = inputs.load_from(
        config_path, overrides, options, precheck.check_training
    )
    from specialm.workflows import pipeline, pretraining, repeats

    domains = precheck.pretrained(config)
    branch = inputs.other_model("branch", options["branch"], options["trust"])
    run = pipeline.open_run(config, workdir, domains, used=(config.method,), init=init)
    stage = pretraining.pretrain(run, config.method, config.domain, config.seed, branch=branch)
    repetitions = repeats.row(run, config.method, config.domain, config.seed)
    result = {"checkpoint": str(stage.path), "reused": stage.reused, **stage.result, **repetitions}
    return result, (
        f"{stage.path}: {stage.result['tokens']:,} tokens in "
        f"{stage.result['seconds']:.0f} s, last loss {stage.result['loss']:.3f}"
    )


def specialize(config_path: str, overrides: list[str], options: dict):
    """Fine-tunes a model on a domain, or on many, and scores it; out of a bank or a mixture it
    takes one expert first.
    """
    options, overrides = inputs.of_specialize(config_path, overrides, options)
    if options["sources"]:
        return _specialize_all(overrides, options)
    run, base = inputs.open_run(config_path, overrides, options, every_domain=False)
    from specialm.workflows import heldout, pretraining, specialising, stage_keys

    config = run.config
    if base is None:
        base = pretraining.pretrain(
            run, config.method, config.domain, config.seed, must_exist=True
        ).path
    teacher = inputs.teacher(options["teacher"], options["trust"])
    made = specialising.specialise(run, base, stage_keys.checkpoint_key(base), teacher)
    return made.to_json(), "\n".join([made.text(), *heldout.no_generic(run)])


def _specialize_all(overrides: list[str], options: dict):
    """Specialises one model to every domain of a file."""
    inputs.join_alone("--sources")
    from specialm.workflows import domains, mixes, side_by_side

    found = domains.read(options["sources"])
    base = inputs.other_model("checkpoint", options["checkpoint"], options["trust"])
    plain = inputs.other_model("plain", options["plain"], options["trust"])
    assert base is not None
    workdir = Path(options["workdir"] or "runs/domains")
    jobs = options["jobs"] or side_by_side.devices()
    if jobs > 1:  # what they finish is found again below
        side_by_side.specialise([base, *filter(None, [plain])], found, overrides, options, jobs)
    rows = domains.specialise(
        domains.Base.of(base),
        found,
        overrides,
        workdir,
        options["trust"],
        domains.Base.of(plain) if plain else None,
        precheck.check_batches,
    )
    text = domains.table(rows)
    failed = [row["domain"] for row in rows if "error" in row]
    if failed:
        raise UserError(f"{len(failed)} of {len(rows)} domains failed.\n{text}")
    return {"domains": rows, "written": str(workdir / mixes.FILE)}, text


def evaluate(config_path: str, overrides: list[str], options: dict):
    """Perplexity and bits per byte of one model, with a leak check and what the model cost."""
    inputs.need_checkpoint(
        options, "the folder that `specialm train` or `specialm specialize` printed."
    )
    run, base = inputs.open_run(config_path, overrides, options, every_domain=True)
    from specialm.workflows import coverage, heldout, stage_keys

    scored, before = heldout.sets(run), None
    if earlier := inputs.other_model("before", options["before"], options["trust"]):
        before = heldout.scores(run, earlier, stage_keys.checkpoint_key(earlier), scored)
    key, name = stage_keys.checkpoint_key(base), base.resolve().name
    report = heldout.evaluate(run, base, scored, key, name)
    sets = coverage.sets(run)
    found = {"checkpoint": str(base), **report, "before": before, "sets": sets}
    lines = [*coverage.lines(sets), "", heldout.table(report, before)]
    if options["positions"]:
        from specialm.evaluation import positions

        ranges = heldout.by_position(run, base, scored)
        found["positions"] = {name: [vars(each) for each in of] for name, of in ranges.items()}
        lines += ["", positions.table(ranges)]
    return found, "\n".join(lines)


def baselines(config_path: str, overrides: list[str], options: dict):
    """What a person would use instead of a small network."""
    if options["order"] < 1 or options["bytes"] < 0:
        raise UserError(
            f"--order={options['order']}, --bytes={options['bytes']}: must be at least 1 and 0."
        )
    config, workdir = inputs.load(config_path, overrides, options)
    from specialm.workflows import baselines as baselines_lib

    model = inputs.other_model("checkpoint", options["checkpoint"], options["trust"])
    rows = baselines_lib.baselines(config, workdir, options["order"], options["bytes"], model)
    return {"results": rows}, baselines_lib.table(rows)


def tasks(config_path: str, overrides: list[str], options: dict):
    """Accuracies on questions with one right choice."""
    from specialm.evaluation import tasks as tasks_lib

    inputs.need_checkpoint(options)
    asked = tasks_lib.load(options["tasks"])
    inputs.join_alone("tasks")
    from specialm.evaluation.likelihood import Likelihoods
    from specialm.training import runs, sharding

    path = inputs.other_model("checkpoint", options["checkpoint"], options["trust"])
    assert path is not None
    likelihoods = Likelihoods(runs.load(path, sharding.make_mesh()))
    report = {name: tasks_lib.evaluate(likelihoods, of, name) for name, of in asked.items()}
    return {"checkpoint": str(path), "tasks": report}, tasks_lib.table(report)


def generate(config_path: str, overrides: list[str], options: dict):
    """Continues a prompt."""
    inputs.need_checkpoint(options)
    config = config_lib.load(config_path, overrides) if config_path else None
    inputs.join_alone("generate")
    from specialm.serving import continuing
    from specialm.training import runs, sharding
    from specialm.workflows import from_checkpoint, listing, trust

    path = listing.resolve(options["checkpoint"])
    if not options["trust"]:
        trust.check_links(path)
    if config is None:
        config = from_checkpoint.load(path, overrides, trusted=options["trust"], must_carry=False)
    prompts = continuing.prompts(options["prompt"], options["prompts"])
    out = None if options["json"] else sys.stdout
    made = continuing.run(
        runs.load(path, sharding.make_mesh()), prompts, config, options["chat"], out
    )
    return {"checkpoint": str(path), **made}, ""


def serve(config_path: str, overrides: list[str], options: dict):
    """Models with OpenAI's interface and a page, until a signal comes."""
    from specialm.serving.server.limits import Limits

    if not options["checkpoint"] and not options["bundle"]:
        raise UserError(
            "--checkpoint is missing: the folder of a trained model; give it again for more."
        )
    if bool(options["bundle"]) != bool(options["domains"]):
        raise UserError(
            "--bundle and --domains go together: a bundle, and what `specialm specialize --bundle "
            "--sources` wrote of its domains."
        )
    inputs.join_alone("serve")
    from specialm.serving import serve as serve_lib
    from specialm.workflows import listing, mixes, trust

    token = serve_lib.token_of(options["token_file"])
    serve_lib.check_address(options["host"], options["port"], token)
    paths = [listing.resolve(path) for path in options["checkpoint"]]
    for path in paths:
        if not options["trust"]:
            trust.check_links(path)
    given = {name: options[name] for name in ("rows", "waiting", "tokens", "seconds", "held")}
    for name, value in given.items():
        if value < 1:
            raise UserError(f"--{name}={value}: must be at least 1.")
    address = (options["host"], options["port"], token)
    of_bundles = mixes.of_bundles(options["bundle"], options["domains"], options["trust"])
    serve_lib.serve(paths, *address, Limits(**given), of_bundles, serve_lib.announce)
    return {"checkpoints": [str(path) for path in (*paths, *of_bundles)]}, "The server has ended."


def bundle(config_path: str, overrides: list[str], options: dict):
    """A model with all that specialising it takes, in one folder."""
    from specialm.common import files

    if config_path:
        raise UserError(f"--config={config_path}: a bundle has the settings of its checkpoint.")
    inputs.need_checkpoint(options, "the folder of a pretrained bank or mixture.")
    files.check_new_folder("to", options["to"])
    inputs.join_alone("bundle")
    from specialm.workflows import bundles, from_checkpoint

    base = inputs.other_model("checkpoint", options["checkpoint"], options["trust"])
    assert base is not None
    config = from_checkpoint.load(base, overrides, trusted=options["trust"])
    result = bundles.write(base, options["to"], config)
    return result, bundles.summary(result)


def import_model(config_path: str, overrides: list[str], options: dict):
    """An open checkpoint as a run folder."""
    inputs.join_alone("import")
    from specialm.workflows import open_models

    given = {name: options[name] for name in ("hf", "gguf", "model")}
    workdir = Path(options["workdir"] or "runs/open")
    stage = open_models.import_model(given, workdir, options["context"])
    result = {"checkpoint": str(stage.path), "reused": stage.reused, **stage.result}
    return result, open_models.summary(stage)


def init_model(config_path: str, overrides: list[str], options: dict):
    """A model of other sizes."""
    if config_path:
        raise UserError(f"--config={config_path}: init takes sizes as --config.model.d_model=288.")
    if not options["from"]:
        raise UserError("--from is missing: the folder of a dense model.")
    noise = inputs.number("noise", options["noise"])
    inputs.join_alone("init")
    from specialm.workflows import initial, resizing, stage_keys

    path = inputs.other_model("from", options["from"], options["trust"])
    assert path is not None
    base = initial.read(path, stage_keys.checkpoint_key(path), "from")
    target = resizing.target_sizes(base.config, overrides)
    workdir = Path(options["workdir"] or "runs/sizes")
    stage = resizing.resize(base, options["method"], target, noise, workdir)
    result = {"checkpoint": str(stage.path), "reused": stage.reused, **stage.result}
    return result, resizing.summary(stage)


def adapt(config_path: str, overrides: list[str], options: dict):
    """A model with a vocabulary for another text."""
    if config_path:
        raise UserError(f"--config={config_path}: adapt has the settings of the model in --from.")
    if not options["from"]:
        raise UserError("--from is missing: the folder of a dense model.")
    inputs.join_alone("adapt")
    from specialm.workflows import (
        adapting,
        adapting_plan,
        from_checkpoint,
        initial,
        own_text,
        stage_keys,
    )

    path = inputs.other_model("from", options["from"], options["trust"])
    assert path is not None
    base = initial.read(path, stage_keys.checkpoint_key(path), "from")
    names = ("via", "init", "vocabulary", "layer", "new_layers", "tokens", "mini_tokens")
    plan = adapting_plan.Plan(
        **{name: options[name] for name in names}, dictionary=options["dictionary"]
    )
    adapting_plan.checked(plan, base.config)
    source, given = options["source"], own_text.given(overrides)
    config = from_checkpoint.load(path, overrides, source, options["trust"], name=options["name"])
    precheck.check_batches(config)
    domain = precheck.one_domain(config)
    workdir = Path(options["workdir"] or f"runs/{domain}")
    run = from_checkpoint.open_run(
        config, workdir, [domain], path, options["trust"], options["generic"], trained=True
    )
    made = adapting.adapt(run, base, plan, source, given)
    return made.to_json(), made.text()


def quantize(config_path: str, overrides: list[str], options: dict):
    """A model in fewer bits, with what that costs."""
    inputs.need_checkpoint(options)
    quantization.check_bits("--bits", options["bits"])
    inputs.join_alone("quantize")
    run, base = inputs.open_run(config_path, overrides, options, every_domain=True)
    from specialm.workflows import heldout, quantizing, stage_keys

    key, sets = stage_keys.checkpoint_key(base), heldout.sets(run)
    stage = quantizing.quantize(base, key, options["bits"], run.stages)
    before = heldout.scores(run, base, key, sets)
    after = heldout.scores(run, stage.path, stage.fingerprint, sets)
    result = {"checkpoint": str(stage.path), "reused": stage.reused, **stage.result}
    return result | {"before": before, "heldout": after}, quantizing.summary(stage, before, after)


def export(config_path: str, overrides: list[str], options: dict):
    """A model for another program."""
    inputs.need_checkpoint(options)
    inputs.join_alone("export")
    from specialm.serving import exporting
    from specialm.training import runs, sharding
    from specialm.workflows import listing, trust

    exporting.check_options(options["to"], options["format"], options["dtype"])
    path = listing.resolve(options["checkpoint"])
    if not options["trust"]:
        trust.check_links(path)
    model = runs.load(path, sharding.make_mesh())
    scores = listing.held_out_rows(path)
    result = exporting.export(
        model, Path(options["to"]), options["format"], options["dtype"], scores, options["base"]
    )
    return {"checkpoint": str(path), **result}, exporting.summary(result)


def list_models(config_path: str, overrides: list[str], options: dict):
    """The models below a folder."""
    runtime.join_processes()
    from specialm.workflows import listing

    root = Path(options["workdir"] or "runs")
    models = listing.find(root)
    text = listing.table(models) if models else f"{root}: no models there."
    return {"models": [model.to_json() for model in models]}, text


def inspect(config_path: str, overrides: list[str], options: dict):
    """Parameters, FLOPs and memory of a config."""
    config, _, init = inputs.load_from(config_path, overrides, options, lambda config: None)
    from specialm.planning.inspection import inspect_config

    result = inspect_config(config, init.dense(config) if init else None)
    return result, "\n".join(
        f"{name:28} {value:,}" if isinstance(value, int) else f"{name:28} {value}"
        for name, value in result.items()
    )


def plan(config_path: str, overrides: list[str], options: dict):
    """Which method to train, forecast."""
    inputs.join_alone("plan")
    from specialm.planning import plans

    return plans.make(options)


def score_plan(config_path: str, overrides: list[str], options: dict):
    """What came of a registered forecast."""
    inputs.join_alone("score_plan")
    from specialm.planning import plans

    return plans.score(options)


def compile_for(config_path: str, overrides: list[str], options: dict):
    """The training step on a TPU slice: cost, memory and time of a step."""
    os.environ.setdefault("JAX_PLATFORMS", "cpu")  # libtpu compiles, but there are no chips
    config, _ = inputs.load(config_path, overrides, options)
    from specialm.planning import compilation

    result = compilation.compile_report(
        config, options["topology"], options["windows_per_device"], options["largest"]
    )
    return result, compilation.table(result)


def check(config_path: str, overrides: list[str], options: dict):
    """Whether a config can be run, without JAX."""
    command, devices, chip = options["command"], options["devices"], ""
    if command not in ("train", "specialize"):
        raise UserError(f"--command={command}: must be train or specialize.")
    for name, least in (("devices", 0), ("slices", 1)):
        if options[name] < least:
            raise UserError(f"--{name}={options[name]}: must be at least {least}.")
    if options["topology"]:
        devices, chip = precheck.devices_of(options["topology"], options["slices"])
    config, _ = inputs.load(
        config_path,
        overrides,
        options,
        lambda config: precheck.check_command(config, command, devices, chip),
    )
    result = {"config": config_path, "method": config.method, "command": command}
    where = f"{devices} devices" if devices else "this machine"
    return result | {"devices": devices}, f"{config_path}: {command} can run on {where}."


def settings(config_path: str, overrides: list[str], options: dict):
    """The table of settings."""
    from specialm.settings import listing

    return listing.rows(options["name"]), (
        listing.markdown() if options["markdown"] else listing.text(options["name"])
    )


def demo(config_path: str, overrides: list[str], options: dict):
    """Everything, with a report."""
    config, workdir = inputs.load(
        config_path or "configs/local/demo.py", overrides, options, precheck.check_demo
    )
    from specialm.workflows import demo as demo_lib

    return demo_lib.demo(config, workdir)


def study(config_path: str, overrides: list[str], options: dict):
    """The grid of arms, budgets, sizes, domains and seeds."""
    config, workdir = inputs.load(config_path or "configs/local/study.py", overrides, options)
    from specialm.workflows import demo as demo_lib
    from specialm.workflows import grid
    from specialm.workflows import study as study_lib

    grid.cells(config)  # says what is wrong with the arms before anything is downloaded
    demo_lib.fetch(config)
    return study_lib.study(config, workdir)


def report(config_path: str, overrides: list[str], options: dict):
    """Draws figures, tables and the page of a demo or a study, finished or interrupted."""
    if not options["workdir"]:
        raise UserError("--workdir is missing: the folder of `specialm demo` or `specialm study`.")
    runtime.join_processes()
    from specialm.workflows import report as report_lib

    written = processes.run_on_first(
        "report", lambda: [str(path) for path in report_lib.report(Path(options["workdir"]))]
    )
    return {"written": written}, "\n".join(written)
