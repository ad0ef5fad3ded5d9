"""A small study of real text: its rows, what it cost, what a killed one repeats."""

import copy
import json

import numpy as np
import pytest
from ml_collections import ConfigDict

from specialm import config as config_lib
from specialm.common.errors import UserError
from specialm.workflows import experts, finetuning, grid, pretraining
from specialm.workflows import study as study_lib

KEYS = {
    "method",
    "variant",
    "domain",
    "target",
    "phase",
    "seed",
    "budget",
    "train_tokens",
    "specialist_tokens",
    "nll_per_token",
    "perplexity",
    "bits_per_byte",
    "generic_flops",
    "specialise_flops",
    "generic_tokens",
    "specialise_tokens",
    "device_seconds",
    "generic_device_seconds",
    "specialise_device_seconds",
    "expected_repetitions",
    "max_repetitions",
    "effective_fraction",
    "commit",
    "code",
    "changes",
}


@pytest.fixture(scope="module")
def config(real_documents, tmp_path_factory):
    root = tmp_path_factory.mktemp("text")
    made = config_lib.default()
    parts = {"generic": real_documents[:200], "a": real_documents[200:260]}
    for name, texts in parts.items():
        (root / f"{name}.jsonl").write_text(
            "".join(
                json.dumps({"id": f"{name}{i}", "text": text}) + "\n"
                for i, text in enumerate(texts)
            )
        )
    made.data.generic = f"jsonl:{root}/generic.jsonl"
    made.data.domains = ConfigDict({name: f"jsonl:{root}/{name}.jsonl" for name in "a"})
    made.data.context, made.data.vocabulary_size = 16, 400
    made.data.specialist_valid_fraction = 0.3
    made.data.valid_tokens, made.data.heldout_tokens = 500, 1000
    made.clustering.encoder, made.clustering.dim, made.clustering.k = "tfidf_svd", 8, 4
    model = made.model
    model.num_layers, model.d_model, model.num_heads, model.d_ff = 1, 16, 2, 32
    model.num_experts = 2
    made.train.batch_size, made.train.groups = 8, 2
    made.train.warmup_steps, made.train.log_every, made.train.tensorboard = 2, 10, False
    made.finetune.max_steps, made.finetune.eval_every, made.finetune.batch_size = 10, 5, 8
    study = made.study
    study.arms = ConfigDict(
        {
            "slm": (),
            "slm_nopt": (),
            "slm_d": ("method=slm", "teacher=slm"),
            "slm_is": (),
            "slm_pn": (),
            "slm_mixed": (
                "method=slm",
                "train.specialist_fraction=0.25",
                "train.specialist_start=0.5",
            ),
        }
    )
    study.budgets, study.specialist_tokens = (3000,), (400,)
    study.largest_only, study.histogram_k = ("slm_mixed",), (2, 4)
    study.variants = ("slm_pn/expert.choice=soup",)
    return made.lock()


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    return tmp_path_factory.mktemp("study")


@pytest.fixture(scope="module")
def killed(config, workdir):
    """What a study left that was killed in its third fine-tuning."""
    with pytest.MonkeyPatch.context() as patch:
        finetune, calls = finetuning.finetune, []

        def until_killed(*args, **kwargs):
            calls.append(args)
            if len(calls) == 3:
                raise KeyboardInterrupt
            return finetune(*args, **kwargs)

        patch.setattr(finetuning, "finetune", until_killed)
        with pytest.raises(KeyboardInterrupt):
            study_lib.study(config, workdir)
    return {path: path.stat().st_mtime_ns for path in workdir.glob("*/*/stage.json")}


@pytest.fixture(scope="module")
def study(config, workdir, killed):
    """(result, rows, record, stages that the study made anew after the kill)."""
    rows = (workdir / "results.jsonl").read_text()
    result, _ = study_lib.study(config, workdir)
    after = (workdir / "results.jsonl").read_text()
    assert after.startswith(rows)
    return (
        result,
        [json.loads(line) for line in after.splitlines()],
        json.loads((workdir / "study.json").read_text()),
    )


def of(rows, **wanted):
    return [row for row in rows if all(row[key] == value for key, value in wanted.items())]


def test_a_killed_study_repeats_nothing_that_it_finished(study, killed):
    assert any("pretrained" in str(path) for path in killed)
    assert sum("finetuned" in str(path) for path in killed) >= 2
    assert {path: path.stat().st_mtime_ns for path in killed} == killed


def test_a_study_killed_once_more_keeps_the_rows_it_had(study, config, workdir, monkeypatch):
    before = [(workdir / name).read_text() for name in ("results.jsonl", "study.json")]
    rows = study_lib.StudyRun.rows
    monkeypatch.setattr(
        study_lib.StudyRun,
        "rows",
        lambda self, cell: (
            rows(self, cell) if cell.arm.name == "slm" else (_ for _ in ()).throw(KeyboardInterrupt)
        ),
    )
    with pytest.raises(KeyboardInterrupt):
        study_lib.study(config, workdir)
    assert [(workdir / name).read_text() for name in ("results.jsonl", "study.json")] == before


def test_rows(study, config):
    result, rows, record = study
    assert result["cells"] == record["cells"]["done"] == record["cells"]["planned"] == 7
    assert result["results"] == len(rows)
    for row in rows:
        assert set(row) - {"steps", "best_step"} == KEYS
        assert ("steps" in row) == (row["phase"] == "finetuned")
        assert row["perplexity"] == pytest.approx(np.exp(row["nll_per_token"]))
        assert row["budget"] == (0 if row["method"] == "slm_nopt" else 3000)
        assert row["device_seconds"] == pytest.approx(
            row["generic_device_seconds"] + row["specialise_device_seconds"]
        )
    for method in config.study.arms:
        found = of(rows, method=method, variant="", phase="finetuned")
        assert [(row["domain"], row["target"]) for row in found] == [("a", "a"), ("macro", "")]
    generic = of(rows, domain="generic", variant="")
    assert sorted((row["method"], row["target"]) for row in generic) == [
        ("slm", ""),
        ("slm_is", "a"),
        ("slm_mixed", "a"),
        ("slm_pn", ""),
    ]


@pytest.mark.parametrize(
    ("arm", "sizes"),
    [
        ("slm", [400]),
        ("slm_is", [400]),
        ("slm_pn", [400, 800]),
        ("slm_mixed", [400, 800]),
        ("slm_d", []),
        ("slm_nopt", []),
    ],
)
def test_a_model_before_fine_tuning_is_told_once(study, config, workdir, arm, sizes):
    """For every size where it depends on the size: by the histogram, or the text mixed in."""
    run = study_lib.StudyRun(config, workdir)
    arm = next(each for each in grid.arms(config)[0] if each.name == arm)
    assert [
        size for size in (400, 800) if run._has_pretrained_rows(grid.Cell(arm, 3000, size, 0))
    ] == sizes


def test_costs(study):
    rows = of(study[1], phase="finetuned", domain="a", variant="")
    cost = {row["method"]: (row["generic_flops"], row["specialise_flops"]) for row in rows}
    tokens = {row["method"]: row["train_tokens"] for row in rows}
    assert tokens["slm_nopt"] == 0 and cost["slm_nopt"][0] == 0 < cost["slm_nopt"][1]
    # The teacher's pretraining is generic, its fine-tuning is not.
    assert cost["slm_d"][0] == 2 * cost["slm"][0]
    assert cost["slm_d"][1] > cost["slm"][1]
    # What is pretrained for one domain is paid for that domain.
    for method in ("slm_is", "slm_mixed"):
        assert cost[method][0] == 0 < cost["slm"][0] < cost[method][1]
        assert cost[method][1] - cost["slm"][0] < 2 * cost["slm"][1]


def test_record(study, config):
    record = study[2]
    assert set(record["models"]) == set(config.study.arms) | {"slm_pn/expert.choice=soup"}
    assert record["models"]["slm_d"]["params"] == record["models"]["slm"]["params"]
    assert record["models"]["slm_pn"]["pretrain_params"] > record["models"]["slm_pn"]["params"]
    of = record["contamination"]["a"]
    assert of["checked"] > 0 and of["against"]["specialist"]["leaked"] <= of["checked"]
    assert set(record["histograms"]) == {"2", "4"}
    for k, sets in record["histograms"].items():
        assert set(sets) == {"a", "generic"}
        for facts in sets.values():
            assert 0 <= facts["entropy"] <= np.log(int(k)) + 1e-9
            assert 1 / int(k) <= facts["top_fraction"] <= 1


def test_macro_rows():
    common = {
        "method": "slm",
        "phase": "finetuned",
        "seed": 1,
        "train_tokens": 9,
        "variant": "",
        "budget": 9,
        "specialist_tokens": 5,
        "bits_per_byte": 1.0,
        "perplexity": 0.0,
    }
    rows = [
        {
            **common,
            "domain": "a",
            "target": "a",
            "nll_per_token": 1.0,
            "generic_flops": 4,
            "specialise_flops": 10,
            "steps": 3,
        },
        {
            **common,
            "domain": "b",
            "target": "b",
            "nll_per_token": 4.0,
            "generic_flops": 4,
            "specialise_flops": 20,
            "steps": 4,
        },
    ]
    assert study_lib.macro(rows) == {
        **common,
        "domain": "macro",
        "target": "",
        "nll_per_token": 2.5,
        "perplexity": pytest.approx(np.exp(2.5)),
        "generic_flops": 4,
        "specialise_flops": 15,
        "steps": 3.5,
    }


def test_concentration():
    found = study_lib._concentration(np.array([0, 0, 0, 2]), 4)
    assert found["top_fraction"] == 0.75
    assert found["entropy"] == pytest.approx(-(0.75 * np.log(0.75) + 0.25 * np.log(0.25)))


def test_one_pretraining_serves_all_specialisations(study, workdir):
    names = sorted(path.name.rsplit("-", 1)[0] for path in (workdir / "pretrained").iterdir())
    assert names == ["slm-a-seed0", "slm-seed0", "slm_is-a-seed0", "slm_nopt-seed0", "slm_pn-seed0"]


@pytest.mark.slow
def test_the_generic_text_of_a_bank_is_scored_expert_by_expert(study, config, workdir):
    """Every window by its own cluster's expert: sums over windows scored one at a time."""
    from specialm.clustering.clusters import assign_heldout
    from specialm.models import families, transformer
    from specialm.specialize import choice
    from specialm.training import runs

    arm = next(arm for arm in grid.arms(config)[0] if arm.name == "slm_pn")
    run = study_lib.StudyRun(config, workdir).run(grid.Cell(arm, 3000, 400, 0))
    stage = pretraining.pretrain(run, "slm_pn", "", 0)
    store = run.prepared.generic_heldout
    clusters = run.clusters("slm_pn")
    cluster_N = assign_heldout(run.stages, run.prepared, clusters)
    model, known = runs.load(stage.path, run.mesh, experts.KINDS), runs.load_experts(stage.path)
    dense = [
        families.expert(model.config, model.params, known.features_kxC, choice.one_hot(expert, 2))
        for expert in range(2)
    ]
    nats, tokens = 0.0, 0
    for i in store.subset(1000):
        batch = store.batch(np.array([i]))
        nll = transformer.token_nll(
            dense[cluster_N[i]], batch["inputs"], batch["targets"], model.config.model
        )
        nats += float(np.sum(np.asarray(nll, np.float64) * batch["mask"]))
        tokens += int(batch["mask"].sum())
    (row,) = of(study[1], method="slm_pn", domain="generic", variant="")
    assert row["nll_per_token"] == pytest.approx(nats / tokens, rel=1e-5)
    assert len(np.unique(cluster_N)) == 2


def test_each_generic_window_is_scored_by_the_expert_of_its_cluster(study, config, workdir):
    """Whatever the experts have learnt: which windows each of them was given."""
    from specialm.clustering.clusters import assign_heldout
    from specialm.training import scoring

    arm = next(arm for arm in grid.arms(config)[0] if arm.name == "slm_pn")
    run = study_lib.StudyRun(config, workdir).run(grid.Cell(arm, 3000, 400, 0))
    stage = pretraining.pretrain(run, "slm_pn", "", 0)
    cluster_N = assign_heldout(run.stages, run.prepared, run.clusters("slm_pn"))
    given = []

    def spy(run, model, known, store, indices_kxN, title):
        given.extend(indices_kxN)
        return {0: scoring.Score(1.0, 1, 1, 1)}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(experts, "_score_experts", spy)
        experts.score_generic(run, stage.path, "another key", "which windows")
    assert [set(cluster_N[windows]) for windows in given] == [{0}, {1}]
    used = run.prepared.generic_heldout.subset(1000)
    assert sorted(np.concatenate(given)) == sorted(used)


def test_a_study_with_other_settings_keeps_the_results(study, config, workdir):
    before = (workdir / "results.jsonl").read_text()
    changed = copy.deepcopy(config).unlock()
    changed.study.arms = ConfigDict({"slm": ()})
    changed.study.variants, changed.study.largest_only = (), ()
    study_lib.study(changed.lock(), workdir)
    assert (workdir / "results.1.jsonl").read_text() == before
    again = (workdir / "results.jsonl").read_text()
    assert again and set(again.splitlines()) <= set(before.splitlines())  # nothing trained anew


def test_a_teacher_of_another_vocabulary_is_refused(study, config, workdir, tmp_path):
    arm = next(arm for arm in grid.arms(config)[0] if arm.name == "slm")
    run = study_lib.StudyRun(config, workdir).run(grid.Cell(arm, 3000, 400, 0))
    base = pretraining.pretrain(run, "slm", "", 0)
    record = json.loads((base.path / "model.json").read_text())
    (tmp_path / "model.json").write_text(json.dumps({**record, "vocabulary_sha256": "0" * 64}))
    with pytest.raises(UserError, match=r"teacher .* vocabulary 000000000000, the student"):
        experts.specialize(
            run, base.path, "a", 0, base.fingerprint, finetuning.Teacher(tmp_path, "other")
        )
