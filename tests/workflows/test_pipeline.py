"""The whole way on a small real text: every command, the demo, what is reused and what is not."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

from specialm import cli
from specialm.common.errors import UserError
from specialm.evaluation import baselines

CONFIG = """
from ml_collections import ConfigDict
from specialm.config import default

def get_config():
    config = default()
    data = config.data
    data.generic = "jsonl:{root}/generic"
    data.domains = ConfigDict(dict(linalg="jsonl:{root}/linalg.jsonl",
                                   random="folder:{root}/random"))
    data.context, data.vocabulary_size = 16, 400
    data.specialist_tokens, data.valid_tokens, data.heldout_tokens = 2000, 1000, 2000
    data.generic_heldout_fraction = 0.05
    config.clustering.encoder, config.clustering.dim, config.clustering.k = "tfidf_svd", 16, 8
    config.clustering.iterations = 10
    config.model.num_layers, config.model.d_model, config.model.num_heads = 1, 16, 2
    config.model.d_ff = 32
    config.train.tokens, config.train.batch_size = 6000, 8
    config.train.warmup_steps, config.train.log_every = 5, 10
    config.finetune.max_steps, config.finetune.eval_every = 20, 5
    return config
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory, write_lines):
    """Docstrings: generic ones in two sources, specialist ones of linalg and random."""
    import inspect

    root = tmp_path_factory.mktemp("project")

    def documents(module):
        found = {inspect.getdoc(getattr(module, name)) for name in dir(module)}
        return [
            {"id": f"{module.__name__}/{i}", "text": text}
            for i, text in enumerate(sorted(t for t in found if t and len(t) > 100))
        ]

    write_lines(root / "generic" / "numpy.jsonl", documents(np))
    write_lines(root / "generic" / "ma.jsonl", documents(np.ma))
    write_lines(root / "linalg.jsonl", documents(np.linalg) + documents(np.fft))
    (root / "random").mkdir()
    for i, line in enumerate(documents(np.random.RandomState)):
        (root / "random" / f"{i}.txt").write_text(line["text"])
    (root / "random" / "latin.txt").write_bytes(b"caf\xe9")
    (root / "config.py").write_text(CONFIG.format(root=root))
    return root


@pytest.fixture(scope="module")
def write_lines():
    def write(path, lines):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")

    return write


@pytest.fixture
def command(project, capsys):
    """Runs `specialm NAME` in this process: (exit status, JSON or error text)."""

    def run(name, *argv, workdir="run"):
        status = cli.main(
            [
                name,
                f"--config={project / 'config.py'}",
                f"--workdir={project / workdir}",
                "--json",
                *argv,
            ]
        )
        captured = capsys.readouterr()
        return status, json.loads(captured.out) if status == 0 else captured.err

    return run


@pytest.fixture(scope="module")
def demo(project):
    """A finished demo of all three methods, and what a person would use instead."""
    status = cli.main(
        [
            "demo",
            f"--config={project / 'config.py'}",
            f"--workdir={project / 'run'}",
            "--config.methods=('slm','slm_is','slm_is_shuffled')",
        ]
    )
    assert status == 0
    lines = (project / "run" / "results.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_demo_rows(demo):
    kinds = {(r["method"], r["domain"], r["phase"]) for r in demo}
    # methods, domains with macro, phases; two baselines
    assert len(demo) == len(kinds) == 3 * 3 * 2 + 2 * 3
    for row in (row for row in demo if row["method"] not in ("ngram", "lzma")):
        assert set(row) == {
            "method",
            "domain",
            "phase",
            "seed",
            "train_tokens",
            "nll_per_token",
            "perplexity",
            "bits_per_byte",
            "expected_repetitions",
            "max_repetitions",
            "effective_fraction",
            "commit",
            "code",
            "changes",
            "served_bytes",
            "train_flops",
        }
        assert row["perplexity"] == pytest.approx(np.exp(row["nll_per_token"]))
        assert row["train_tokens"] == 6016  # 47 steps of 8 windows of 16
        assert 1 < row["perplexity"] < 400
    for method in ("slm", "slm_is"):
        by = {(r["phase"], r["domain"]): r["nll_per_token"] for r in demo if r["method"] == method}
        for phase in ("pretrained", "finetuned"):
            assert by[phase, "macro"] == pytest.approx(
                (by[phase, "linalg"] + by[phase, "random"]) / 2
            )
        assert by["finetuned", "macro"] < by["pretrained", "macro"]


def test_baselines_stand_beside_the_models(demo):
    """LZMA's bytes are those of the compressor on the same text; both are served in some size."""
    rows = {(r["method"], r["domain"]): r for r in demo if r["method"] in ("ngram", "lzma")}
    for (name, _), row in rows.items():
        assert row["phase"] == "finetuned" and row["train_flops"] == 0
        assert row["served_bytes"] > 1000
        assert 0 < row["bits_per_byte"] < 8
        assert ("specialist_share" in row) == (name == "ngram")
    for name in ("ngram", "lzma"):
        both = [rows[name, domain]["bits_per_byte"] for domain in ("linalg", "random")]
        assert rows[name, "macro"]["bits_per_byte"] == pytest.approx(np.mean(both))


def test_the_command_of_the_baselines(demo, command, project):
    """As in the demo; smaller and of another order; as large as a model's parameters."""
    whole = {(r["method"], r["domain"]): r for r in demo if r["method"] in ("ngram", "lzma")}
    status, result = command("baselines")
    assert status == 0
    found = {(r["method"], r["domain"]): r for r in result["results"]}
    assert found.keys() == whole.keys()
    for key, row in found.items():
        for name in ("bits_per_byte", "served_bytes", "seed", "phase"):
            assert row[name] == whole[key][name], (key, name)
    most = round(whole["ngram", "linalg"]["served_bytes"] / 3)
    status, result = command(
        "baselines", "--config.baselines=('ngram',)", "--config.domain=linalg", f"--bytes={most}"
    )
    small = result["results"][0]
    assert status == 0 and 0.3 * most < small["served_bytes"] <= most
    assert small["bits_per_byte"] > whole["ngram", "linalg"]["bits_per_byte"]
    one = "--config.domain=linalg"
    status, result = command("baselines", "--config.baselines=('ngram',)", one, "--order=2")
    assert status == 0 and result["results"][0]["served_bytes"] < small["served_bytes"] * 3
    (model,) = (project / "run" / "pretrained").glob("slm-seed0-*")
    status, result = command(
        "baselines", "--config.baselines=('ngram',)", one, f"--checkpoint={model}"
    )
    shapes = json.loads((model / "model.json").read_text())
    assert status == 0 and shapes["kind"] == "dense"
    assert result["results"][0]["served_bytes"] != small["served_bytes"]
    status, error = command("baselines", "--config.baselines=()")
    assert status == 2 and "config.baselines is empty" in error
    status, error = command("baselines", "--order=0")
    assert status == 2 and "--order=0" in error


@pytest.mark.usefixtures("demo")
def test_only_baselines_that_are_missing_are_computed(command, monkeypatch):
    def fails(text):
        raise UserError("this one is computed")

    for name, baseline in baselines.BASELINES.items():
        monkeypatch.setitem(baselines.BASELINES, name, dataclasses.replace(baseline, score=fails))
    assert command("baselines")[0] == 0
    status, error = command("baselines", "--order=4")
    assert status == 2 and "this one is computed" in error


def test_two_ways_to_choose_text(command, project):
    """DSIR and the source filter aim at a domain without clusters, and say how often they repeat."""
    one = ("--config.domain=linalg", "--config.train.tokens=1000")
    status, result = command("train", "--config.method=dsir", *one)
    assert status == 0 and 1 < result["max_repetitions"] <= 4
    (stage,) = (project / "run" / "likeness").glob("linalg-*")
    by_source = json.loads((stage / "stage.json").read_text())["result"]["by_source"]
    assert set(by_source) == {"numpy.jsonl", "ma.jsonl"}
    status, filtered = command("train", "--config.method=source_filter", *one)
    assert status == 0 and filtered["max_repetitions"] < result["max_repetitions"]
    assert filtered["effective_fraction"] > result["effective_fraction"]
    status, error = command("train", "--config.method=dsir", "--config.domain=")
    assert status == 2 and "config.domain is empty" in error


def test_demo_report_and_record(demo, project):
    page = (project / "run" / "report.html").read_text()
    record = json.loads((project / "run" / "run.json").read_text())
    assert record["results"] == demo
    assert "linalg" in page and "slm_is" in page.lower().replace("-", "_")
    assert record["settings"]["clustering.k"] == 8
    for domain in ("linalg", "random"):
        weights = record["weights"][domain]
        assert sum(weights["specialist_histogram"]) == pytest.approx(1)
        assert weights["planned_windows"] == 376


def test_a_second_demo_reuses_every_stage(demo, project, capsys):
    before = sorted(project.glob("run/*/*/stage.json"))
    assert (
        cli.main(
            [
                "demo",
                f"--config={project / 'config.py'}",
                f"--workdir={project / 'run'}",
                "--config.methods=('slm','slm_is','slm_is_shuffled')",
            ]
        )
        == 0
    )
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("  ")]
    assert lines and all(line.endswith("reused") for line in lines)
    assert sorted(project.glob("run/*/*/stage.json")) == before


def test_a_changed_setting_redoes_only_what_depends_on_it(demo, project, capsys):
    assert (
        cli.main(
            [
                "demo",
                f"--config={project / 'config.py'}",
                f"--workdir={project / 'run'}",
                "--config.methods=('slm',)",
                "--config.finetune.batch_size=4",
            ]
        )
        == 0
    )
    made = {
        line.split(":")[0].strip()
        for line in capsys.readouterr().err.splitlines()
        if line.startswith("  ") and not line.endswith("reused")
    }
    assert made == {
        f"{stage}/slm-{domain}{phase}-seed0"
        for domain in ("linalg", "random")
        for stage, phase in (("finetuned", ""), ("scores", "-finetuned"))
    }
    # The earlier report is kept beside the new one.
    assert (project / "run" / "report.1.html").exists()
    assert len((project / "run" / "results.1.jsonl").read_text().splitlines()) == 24
    for name in ("results", "run", "report"):
        ending = {"results": "jsonl", "run": "json", "report": "html"}[name]
        shutil.move(project / "run" / f"{name}.1.{ending}", project / "run" / f"{name}.{ending}")


def test_prepare_counts_and_skips(command):
    status, result = command("prepare")
    assert status == 0 and result["clusters"] == 8
    counts = result["sets"]["random/train"]["counts"]
    assert counts["skipped: not UTF-8"] == 1
    assert (
        counts["documents"]
        == counts["split: train"] + counts["split: valid"] + counts["split: heldout"]
    )


def test_a_fraction_of_the_generic_documents(command):
    status, result = command("prepare", "--config.data.generic_fraction=0.5")
    assert status == 0
    counts = result["sets"]["generic/train"]["counts"]
    kept = counts["documents"] / (counts["documents"] + counts["left out: data.generic_fraction"])
    assert 0.4 < kept < 0.6
    assert counts["documents"] == counts["split: train"] + counts["split: heldout"]


def test_weights(command):
    status, result = command("weights", "--config.domain=linalg")
    assert status == 0
    report = result["linalg"]
    generic, specialist = (
        np.array(report[f"{name}_histogram"]) for name in ("generic", "specialist")
    )
    np.testing.assert_allclose(np.array(report["weights"]) * generic, specialist, atol=1e-12)
    sampled = np.array(report["sampling"])
    np.testing.assert_allclose(sampled, specialist, atol=1e-12)


def test_a_cap_trains_anew_and_says_what_it_moved(demo, project, capsys):
    """First what is expected, then the training; a second time the model is reused."""
    uniform, plain = (
        next(r for r in demo if (r["method"], r["domain"]) == (method, "linalg"))
        for method in ("slm", "slm_is")
    )
    assert uniform["expected_repetitions"] == uniform["max_repetitions"]
    assert plain["max_repetitions"] > plain["expected_repetitions"]
    said, cap = [], (uniform["max_repetitions"] + plain["max_repetitions"]) / 2
    for _ in range(2):
        argv = ["train", f"--config={project / 'config.py'}", f"--workdir={project / 'run'}"]
        argv += ["--json", "--config.method=slm_is", "--config.domain=linalg"]
        assert cli.main([*argv, f"--config.clustering.max_repetitions={cap}"]) == 0
        captured = capsys.readouterr()
        said.append((json.loads(captured.out), captured.err))
    (trained, error), (again, silent) = said
    assert not trained["reused"] and again["reused"]
    assert trained["max_repetitions"] == pytest.approx(cap)
    (capped,) = (line for line in error.splitlines() if "clustering.max_repetitions=" in line)
    assert "to neighbours" in capped and "max_repetitions" not in silent
    assert trained["expected_repetitions"] < plain["expected_repetitions"]


def test_the_cap_and_the_clusters_chosen_by_a_proxy(demo, command, project, capsys):
    """Said, the lowest of those tried, found once, and the same as if it had been set."""
    auto = ("--config.clustering.max_repetitions=auto", "--config.clustering.candidates=(4,8)")
    argv = ["weights", f"--config={project / 'config.py'}", f"--workdir={project / 'run'}"]
    assert cli.main([*argv, *auto, "--json"]) == 0
    captured = capsys.readouterr()
    reports = json.loads(captured.out)
    (clusters,) = {len(report["weights"]) for report in reports.values()}
    assert f"k: chosen {clusters} by the n-gram proxy" in captured.err
    for domain, report in reports.items():
        (line,) = (line for line in captured.err.splitlines() if line.startswith(f"{domain}: cho"))
        tried = dict(pair.split(": ") for pair in line.partition("(")[2].strip(")").split(", "))
        assert tried[f"{report['cap']:g}"] == min(tried.values(), key=float)
        status, given = command(
            "weights",
            f"--config.domain={domain}",
            f"--config.clustering.max_repetitions={report['cap']}",
            f"--config.clustering.k={clusters}",
        )
        assert status == 0 and given[domain] == report
    scored = {path: path.stat().st_mtime_ns for path in (project / "run").glob("proxy/*/*")}
    assert cli.main([*argv, *auto, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == reports
    assert scored == {path: path.stat().st_mtime_ns for path in (project / "run").glob("proxy/*/*")}


def test_train_specialize_evaluate_generate(command, project):
    assert command("specialize", "--config.domain=linalg", "--config.seed=7")[0] == 2
    status, trained = command("train", "--config.method=slm_is", "--config.domain=linalg")
    assert status == 0 and trained["reused"] is True  # the demo made it
    status, tuned = command(
        "specialize", "--config.domain=linalg", f"--checkpoint={trained['checkpoint']}"
    )
    assert status == 0 and tuned["best_step"] > 0
    status, scores = command(
        "evaluate", "--config.domain=linalg", f"--checkpoint={tuned['checkpoint']}", "--positions"
    )
    assert status == 0 and set(scores["scores"]) == {"generic", "linalg"}
    ranges = scores["positions"]["linalg"]
    assert sum(each["tokens"] for each in ranges) == scores["scores"]["linalg"]["tokens"]
    rows = [json.loads(line) for line in (project / "run/results.jsonl").read_text().splitlines()]
    row = next(
        r
        for r in rows
        if (r["method"], r["domain"], r["phase"]) == ("slm_is", "linalg", "finetuned")
    )
    assert scores["scores"]["linalg"]["nll_per_token"] == pytest.approx(
        row["nll_per_token"], rel=1e-9
    )
    assert scores["scores"]["linalg"] == tuned["heldout"]["scores"]["linalg"]
    assert set(scores["contamination"]) == {"generic", "linalg"}
    assert scores["cost"]["specialisation"]["tokens"] > 6016  # pretrained for linalg alone, too
    status, text = command(
        "generate",
        f"--checkpoint={tuned['checkpoint']}",
        "--prompt=Return",
        "--config.generate.tokens=5",
    )
    assert status == 0 and text["text"].startswith("Return")
    ledger = json.loads((project / tuned["checkpoint"] / "model.json").read_text())["ledger"]
    assert [entry["phase"] for entry in ledger] == ["pretrained", "finetuned"]
    assert ledger[0]["tokens"] == 6016


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["weights", "--config.clustering.k=100000"], "clustering.k=100000"),
        (["prepare", "--config.data.domains.linalg=folder:/nowhere"], "'/nowhere'"),
        (["prepare", "--config.data.specialist_heldout_fraction=0.999999"], "split has no windows"),
        (["prepare", "--config.data.specialist_valid_fraction=1e-9"], "valid split has no windows"),
        (["prepare", "--config.data.vocabulary=/nowhere.model"], "no such SentencePiece model"),
        (["train", "--config.method=slm_is"], "config.domain is empty"),
        (["specialize", "--config.domain=linalg", "--checkpoint=/nowhere"], "no model.json there"),
        (["evaluate"], "--checkpoint is missing"),
    ],
)
def test_bad_input_is_named(command, demo, argv, message):
    status, error = command(argv[0], *argv[1:])
    assert status == 2 and message in error, error


def test_a_changed_vocabulary_against_an_old_model(command, demo, project):
    status, trained = command("train")
    assert status == 0
    status, error = command(
        "specialize",
        "--config.domain=linalg",
        "--config.data.vocabulary_size=500",
        f"--checkpoint={trained['checkpoint']}",
    )
    assert status == 2 and "was trained with vocabulary" in error
