"""Commands that make or score models from text, and show what came of it."""

from pathlib import Path

from ml_collections import ConfigDict

from specialm import command_inputs as inputs
from specialm import methods
from specialm.common import processes, runtime
from specialm.common.errors import UserError
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
