"""Banks and mixtures on a small real text, end to end: train, take one out, specialise."""

import contextlib
import dataclasses
import io
import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from conftest import write_docstrings

from specialm import budgets, cli
from specialm import config as config_lib
from specialm.common import manifest
from specialm.common.errors import UserError
from specialm.models import transformer
from specialm.settings import SETTINGS
from specialm.training import metrics, runs
from specialm.workflows import experts, pipeline, stage_keys

METHODS = ("slm_pn", "slm_hn", "soup", "slm_mix")
K = 4
CONFIG = """
from ml_collections import ConfigDict
from specialm.config import default

def get_config():
    config = default()
    data = config.data
    data.generic = "jsonl:{root}/generic.jsonl"
    data.domains = ConfigDict(dict(linalg="jsonl:{root}/linalg.jsonl"))
    data.context, data.vocabulary_size = 16, 400
    data.specialist_tokens, data.valid_tokens, data.heldout_tokens = 1000, 500, 500
    data.generic_heldout_fraction = 0.1
    config.domain = "linalg"
    config.clustering.encoder, config.clustering.dim, config.clustering.k = "tfidf_svd", 8, 4
    config.clustering.iterations = 10
    config.model.num_layers, config.model.d_model, config.model.num_heads = 2, 8, 2
    config.model.d_ff = 16
    config.model.num_experts, config.model.bank_layers, config.model.mixer_hidden = 4, (1,), 8
    config.train.batch_size, config.train.tokens = 8, 20 * 8 * 16
    config.train.groups, config.train.histogram_support = 2, 2
    config.train.learning_rate, config.train.warmup_steps, config.train.log_every = 0.02, 3, 5
    config.train.checkpoint_every, config.train.tensorboard = 8, False
    config.finetune.max_steps, config.finetune.eval_every, config.finetune.batch_size = 4, 2, 8
    config.finetune.warmup_steps = 1
    config.expert.halving_steps = 2
    return config
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Docstrings: NumPy's as the generic text, those of linalg and fft as the specialist one."""
    root = tmp_path_factory.mktemp("experts")
    write_docstrings(root, 80, 30)
    (root / "config.py").write_text(CONFIG.format(root=root))
    return root


def command(project, name, *argv):
    """Runs `specialm NAME` in this process: (exit status, JSON or error text)."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = cli.main(
            [
                name,
                f"--config={project / 'config.py'}",
                f"--workdir={project / 'run'}",
                "--json",
                *argv,
            ]
        )
    return status, json.loads(out.getvalue()) if status == 0 else err.getvalue()


def succeed(project, name, *argv):
    status, result = command(project, name, *argv)
    assert status == 0, result
    return result


@pytest.fixture(scope="module")
def trained(project):
    """The checkpoint of each method, made when first asked for."""

    class Trained(dict):
        def __missing__(self, method):
            made = succeed(project, "train", f"--config.method={method}")["checkpoint"]
            return self.setdefault(method, Path(made))

    return Trained()


@pytest.fixture(scope="module")
def specialised(project, trained):
    """(method, choice) -> what `specialize` prints, made when first asked for."""
    made = {}

    def get(method, choice):
        if (method, choice) not in made and trained[method]:
            made[method, choice] = succeed(
                project,
                "specialize",
                f"--config.method={method}",
                f"--config.expert.choice={choice}",
            )
        return made[method, choice]

    return get


def take(project, base, *argv):
    return succeed(
        project, "specialize", f"--checkpoint={base}", "--config.finetune.max_steps=0", *argv
    )


@pytest.fixture(scope="module")
def run(project):
    config = config_lib.load(str(project / "config.py"))
    return pipeline.open_run(config, project / "run", ["linalg"], used=METHODS)


@pytest.fixture(scope="module")
def histogram_k(run):
    """Shares of the clusters in the specialist training set."""
    cluster_N = run.clusters("slm_pn").domains["linalg"]
    assert len(cluster_N) == len(pipeline.specialist(run, "linalg").train_indices) > 40
    return np.array([np.mean(cluster_N == c) for c in range(K)])


def up_of(params):
    return params["layers"]["mlp"]["up"]


def params_of(path, run):
    return jax.tree.map(np.asarray, runs.load(path, run.mesh).params)


def reference(base, run, histogram_k):
    """The dense parameters for a histogram, by the formulas of docs/methods.md in NumPy."""
    model, known = runs.load(base, run.mesh, experts.KINDS), runs.load_experts(base)
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), model.params)
    if model.record["kind"] == "mixture":
        return jax.tree.map(lambda leaf: np.tensordot(histogram_k, leaf, 1), params)
    mixer, shared = params["mixer"], params["shared"]

    def network(features_C):
        hidden_U = np.tanh(features_C @ mixer["hidden"] + mixer["hidden_bias"])
        return hidden_U @ mixer["out"] + mixer["out_bias"]

    if model.config.family == "projected":  # W = sum_q sum_r E[i, q] M[q, r] T[r], averaged
        coefficients_Sxh = np.einsum("i,iq,Sqr->Sr", histogram_k, mixer["code"], mixer["mix"])
    elif model.config.family == "soup":
        coefficients_Sxh = network(histogram_k)
    else:
        coefficients_Sxh = sum(
            p * network(known.features_kxC[i].astype(np.float64)) for i, p in enumerate(histogram_k)
        )
    outside = shared["layers"]["mlp"]  # holds the MLP of layer 0; that of layer 1 is in the bank
    mlp = {
        name: np.concatenate(
            [
                outside[name],
                np.einsum("Sr,Sr...->S...", coefficients_Sxh, params["bank"]["mlp"][name]),
            ]
        )
        for name in ("up", "up_bias", "down", "down_bias")
    }
    return {**shared, "layers": {**shared["layers"], "mlp": mlp}}


def assert_close(found, wanted, rtol=1e-4, atol=1e-6):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=atol), found, wanted)


def record_of(path):
    return json.loads((Path(path) / "model.json").read_text())


def metrics_of(path):
    return [(line["step"], line["loss"]) for line in metrics.read(path / "metrics.jsonl")]


def stage_results(project, pattern):
    return [
        json.loads(path.read_text())["result"]
        for path in sorted((project / "run").glob(f"{pattern}/stage.json"))
    ]


@pytest.mark.parametrize("method", METHODS)
def test_training(method, trained, run):
    record = record_of(trained[method])
    assert record["kind"] == ("mixture" if method == "slm_mix" else "bank")
    assert record["method"] == method and record["model"]["num_experts"] == K
    assert [entry["phase"] for entry in record["ledger"]] == ["pretrained"]
    assert record["ledger"][0]["tokens"] == 20 * 8 * 16
    losses = metrics_of(trained[method])
    assert losses[-1][0] == 20 and losses[-1][1] < losses[0][1] - 0.3
    known = runs.load_experts(trained[method])
    cluster_N = run.clusters(method).generic_N
    np.testing.assert_allclose(known.probability_k, np.bincount(cluster_N) / len(cluster_N))
    assert known.clusters == run.clusters(method).fingerprint


@pytest.mark.parametrize("method", METHODS)
def test_any_expert_is_taken_out_as_a_dense_model(method, project, trained, run):
    taken = take(project, trained[method], "--config.expert.index=2")
    assert taken["expert"] == 2 and taken["histogram"] == [0, 0, 1, 0]
    record = record_of(taken["checkpoint"])
    assert record["kind"] == "dense" and record["ledger"] == record_of(trained[method])["ledger"]
    wanted = reference(trained[method], run, np.eye(K)[2])
    assert_close(params_of(taken["checkpoint"], run), wanted)
    other = reference(trained[method], run, np.eye(K)[1])
    assert np.abs(up_of(wanted)[1] - up_of(other)[1]).max() > 1e-3  # the experts differ
    assert take(project, trained[method], "--config.expert.index=2")["reused"] is True


@pytest.mark.parametrize("method", METHODS)
def test_a_soup_by_the_histogram_of_the_specialist_set(method, project, trained, run, histogram_k):
    taken = take(project, trained[method], "--config.expert.choice=soup")
    assert taken["expert"] is None
    np.testing.assert_allclose(taken["histogram"], histogram_k, atol=1e-6)
    wanted = reference(trained[method], run, histogram_k)
    assert_close(params_of(taken["checkpoint"], run), wanted)


@pytest.mark.parametrize("method", METHODS)
def test_the_most_frequent_cluster_names_the_expert(method, project, trained, run, histogram_k):
    """But a soup-of-experts has no experts: it is told the whole histogram."""
    taken = take(project, trained[method])
    if method == "soup":
        np.testing.assert_allclose(taken["histogram"], histogram_k, atol=1e-6)
    else:
        assert taken["expert"] == int(np.argmax(histogram_k))


@pytest.mark.parametrize("method", ["slm_pn", "slm_mix"])
def test_the_lowest_loss_on_the_specialist_training_set(method, project, trained, run):
    taken = take(project, trained[method], "--config.expert.choice=loss")
    data = pipeline.specialist(run, "linalg")
    batch = data.train_store.batch(data.train_indices)
    config = runs.load(taken["checkpoint"], run.mesh).config
    token_nll = jax.jit(transformer.token_nll, static_argnums=3)
    nll_k = []
    for expert in range(K):
        params = jax.tree.map(np.float32, reference(trained[method], run, np.eye(K)[expert]))
        nll_BxL = token_nll(params, batch["inputs"], batch["targets"], config) * batch["mask"]
        nll_k.append(float(nll_BxL.sum() / batch["mask"].sum()))
    (judged,) = stage_results(project, f"losses/{trained[method].name}-linalg-*")
    np.testing.assert_allclose(judged["nll"], nll_k, rtol=1e-4)
    assert taken["expert"] == int(np.argmin(judged["nll"]))
    spent = record_of(taken["checkpoint"])["ledger"][1]
    tokens = K * len(data.train_indices) * 16
    assert (spent["phase"], spent["choice"], spent["tokens"]) == ("selected", "loss", tokens)
    assert spent["flops"] == tokens * transformer.flops_per_token(config, train=False)


SPECIALISED = [
    *(
        (method, choice)
        for method in ("slm_pn", "slm_mix")
        for choice in SETTINGS["expert.choice"].allowed()
        if choice != "histogram"
    ),
    *((method, choice) for method in ("slm_hn", "soup") for choice in ("frequent", "soup")),
]


@pytest.mark.parametrize(("method", "choice"), SPECIALISED)
def test_specialising_ends_in_a_plain_dense_model(method, choice, specialised, run):
    result = specialised(method, choice)
    record = record_of(result["checkpoint"])
    assert (record["kind"], record["method"], record["domain"]) == ("dense", method, "linalg")
    assert not (Path(result["checkpoint"]) / "experts.npz").exists()
    model = runs.load(result["checkpoint"], run.mesh)
    assert model.config.num_layers == 2 and up_of(model.params).shape == (2, 8, 16)
    scores = pipeline.score_heldout(
        run,
        Path(result["checkpoint"]),
        ["linalg"],
        stage_keys.checkpoint_key(Path(result["checkpoint"])),
        f"{method}-{choice}",
    )
    assert 1 < scores["linalg"].perplexity < 300
    phases = [entry["phase"] for entry in record["ledger"]]
    wanted = {
        "frequent": ["pretrained", "finetuned"],
        "soup": ["pretrained", "finetuned"],
        "loss": ["pretrained", "selected", "finetuned"],
        "finetune_all": ["pretrained", "finetuned"] + 3 * ["selected"],
        # Two experts for a round, the better one to the end; the losses before.
        "halving": ["pretrained", "finetuned", "finetuned", "selected", "selected"],
    }
    if method == "soup":
        wanted["loss"] = wanted["frequent"]
    assert phases == wanted[choice]
    assert sum(entry["phase"] == "pretrained" for entry in record["ledger"]) == 1


@pytest.mark.parametrize("method", ["slm_pn", "slm_mix"])
def test_fine_tuning_all_keeps_the_best_and_costs_k_times(method, project, specialised):
    result = specialised(method, "finetune_all")
    tuned = stage_results(project, f"finetuned/{method}-finetune_all-expert?-linalg-seed0-*")
    assert len(tuned) == K
    assert result["valid_nll"] == min(entry["valid_nll"] for entry in tuned)
    ledger = record_of(result["checkpoint"])["ledger"]
    for name in ("tokens", "flops"):
        assert sum(e[name] for e in ledger[1:]) == sum(e[name] for e in tuned)
    assert sum(e["tokens"] for e in ledger[1:]) == K * 4 * 8 * 16
    assert sum(e["seconds"] for e in ledger[1:]) == pytest.approx(sum(e["seconds"] for e in tuned))
    assert {e.get("choice") for e in ledger[2:]} == {"finetune_all"}
    # The one that is kept is the one that is served.
    best = min(
        range(K),
        key=lambda expert: stage_results(
            project, f"finetuned/{method}-finetune_all-expert{expert}-linalg-seed0-*"
        )[0]["valid_nll"],
    )
    assert result["expert"] == best


@pytest.mark.parametrize("method", ["slm_pn", "slm_mix"])
def test_halving_tunes_the_better_half_and_accounts_for_it(method, project, specialised):
    result = specialised(method, "halving")
    (judged,) = stage_results(project, f"losses/{method}-seed0-*-linalg-*")
    order = np.argsort(judged["nll"])
    rounds = {
        int(expert): stage_results(
            project, f"finetuned/{method}-halving-expert{expert}-steps2-linalg-seed0-*"
        )
        for expert in order
    }
    assert [len(rounds[expert]) for expert in order] == [1, 1, 0, 0]
    assert all(rounds[expert][0]["steps"] == 2 for expert in order[:2])
    best = int(min(order[:2], key=lambda expert: rounds[expert][0]["valid_nll"]))
    assert result["expert"] == best
    (last,) = stage_results(project, f"finetuned/{method}-halving-expert?-linalg-seed0-*")
    assert result["valid_nll"] == last["valid_nll"] <= rounds[best][0]["valid_nll"]
    ledger = record_of(result["checkpoint"])["ledger"]
    spent = [judged, last, *(rounds[int(expert)][0] for expert in order[:2])]
    assert sum(e["tokens"] for e in ledger[1:]) == sum(e["tokens"] for e in spent)
    assert sum(e["flops"] for e in ledger[1:]) == sum(e["flops"] for e in spent)


def test_a_specialised_expert_generates_and_is_not_made_again(project, specialised):
    result = specialised("slm_pn", "frequent")
    text = succeed(
        project,
        "generate",
        f"--checkpoint={result['checkpoint']}",
        "--prompt=Return",
        "--config.generate.tokens=3",
        "--config.generate.top_k=5",
    )
    assert text["text"].startswith("Return")
    for choice in ("frequent", "finetune_all", "halving"):
        before = specialised("slm_pn", choice)
        again = succeed(
            project, "specialize", "--config.method=slm_pn", f"--config.expert.choice={choice}"
        )
        assert again["reused"] is True and again["checkpoint"] == before["checkpoint"]


def test_a_search_that_was_killed_goes_on_with_the_same_ledger(project, specialised):
    """The result was not written, nor the last fine-tuning: only these are made again."""
    result = specialised("slm_mix", "finetune_all")
    before = record_of(result["checkpoint"])
    shutil.rmtree(result["checkpoint"])
    (lost,) = (project / "run").glob("finetuned/slm_mix-finetune_all-expert3-linalg-seed0-*")
    shutil.rmtree(lost)
    kept = {
        path: path.stat().st_mtime_ns
        for path in (project / "run").glob(
            "finetuned/slm_mix-finetune_all-expert[012]-*/stage.json"
        )
    }
    again = succeed(
        project, "specialize", "--config.method=slm_mix", "--config.expert.choice=finetune_all"
    )
    assert again["reused"] is False and again["checkpoint"] == result["checkpoint"]
    assert (again["expert"], again["valid_nll"]) == (result["expert"], result["valid_nll"])
    after = record_of(result["checkpoint"])
    for record in (before, after):
        for entry in record["ledger"]:
            entry.pop("seconds")
    assert after == before
    assert kept == {path: path.stat().st_mtime_ns for path in kept}


@pytest.mark.parametrize("method", ["slm_hn", "slm_mix"])
def test_training_resumes_to_the_same_parameters(method, project, trained, run):
    """From the checkpoint of step 16, after the last one and the record are lost."""
    base = trained[method]
    before = jax.tree.map(np.asarray, runs.load(base, run.mesh, experts.KINDS).params)
    losses, key = metrics_of(base), (base / "experts.npz").read_bytes()
    saved = sorted(
        int(path.name) for path in (base / "checkpoints").iterdir() if path.name.isdigit()
    )
    assert saved[-2:] == [16, 20]
    shutil.rmtree(base / "checkpoints" / "20")
    (base / "stage.json").unlink()
    again = succeed(project, "train", f"--config.method={method}")
    assert again["reused"] is False and again["checkpoint"] == str(base)
    after = jax.tree.map(np.asarray, runs.load(base, run.mesh, experts.KINDS).params)
    jax.tree.map(np.testing.assert_array_equal, before, after)
    # Steps 1 to 16 were not run again: their records are the first session's.
    assert metrics_of(base)[:3] == losses[:3]
    assert (base / "experts.npz").read_bytes() == key


def test_pretraining_is_reused_when_nothing_it_depends_on_changed(project, trained):
    for method, unused in (
        ("slm_mix", "train.groups=4"),
        ("slm_pn", "train.histogram_support=1"),
        ("slm_pn", "expert.choice=soup"),
        ("slm_hn", "clustering.k=2"),
    ):
        base = str(trained[method])
        again = succeed(project, "train", f"--config.method={method}", f"--config.{unused}")
        assert again["reused"] is True and again["checkpoint"] == base, unused


def test_one_expert_trained_alone_is_that_of_the_mixture(project, trained, run):
    result = succeed(project, "train", "--config.method=slm_mix", "--config.model.only_expert=2")
    record = record_of(result["checkpoint"])
    assert record["kind"] == "dense" and result["steps"] == 20
    assert result["tokens"] * K == record_of(trained["slm_mix"])["ledger"][0]["tokens"]
    joint = reference(trained["slm_mix"], run, np.eye(K)[2])
    assert_close(params_of(result["checkpoint"], run), joint, atol=1e-4)
    other = reference(trained["slm_mix"], run, np.eye(K)[1])
    assert np.abs(other["embed"]["tokens"] - joint["embed"]["tokens"]).max() > 1e-2


def test_experts_start_from_the_trunk(project, run):
    """Half of the budget is the trunk's; experts that do not learn are the trunk."""
    still = (
        "--config.method=slm_mix",
        "--config.train.trunk_fraction=0.5",
        "--config.train.expert_multiplier=0.0",
        "--config.train.schedule=constant",
    )
    base = succeed(project, "train", *still)["checkpoint"]
    trunk, rest = record_of(base)["ledger"]
    assert trunk["tokens"] == rest["tokens"] == 10 * 8 * 16
    assert (
        rest["loss"]
        < metrics.read(next((project / "run").glob("pretrained/slm-seed0-*")) / "metrics.jsonl")[0][
            "loss"
        ]
    )
    first, other = (reference(Path(base), run, np.eye(K)[i]) for i in (0, 3))
    jax.tree.map(np.testing.assert_array_equal, first, other)
    alone = succeed(project, "train", *still, "--config.model.only_expert=3")["checkpoint"]
    assert_close(params_of(alone, run), other, atol=0)
    assert [entry["tokens"] for entry in record_of(alone)["ledger"]] == [1280, 320]


def test_one_expert_alone_with_one_window_a_step(project):
    """The joint mixture can be trained with as many windows as experts; so can one of them: on
    as many devices as its own batch divides over."""
    config = config_lib.load(
        str(project / "config.py"), ["--config.train.batch_size=4", "--config.model.only_expert=1"]
    )
    opened = pipeline.open_run(config, project / "run", ["linalg"], used=("slm_mix",))
    assert budgets.one_expert_settings(config.train, K).batch_size % opened.mesh.size == 0


@pytest.mark.parametrize("choice", ["frequent", "loss"])
def test_an_untrained_expert_is_not_chosen(choice, project, trained, run, histogram_k, tmp_path):
    """A cluster without generic text, in which most of the specialist set lies."""
    base = tmp_path / "base"
    shutil.copytree(trained["slm_pn"], base)
    known, best = runs.load_experts(base), int(np.argmax(histogram_k))
    probability_k = np.where(np.arange(K) == best, 0, known.probability_k)
    if choice == "loss":
        take(project, trained["slm_pn"], "--config.expert.choice=loss")
        (judged,) = stage_results(project, f"losses/{trained['slm_pn'].name}-linalg-*")
        probability_k = np.where(np.arange(K) == np.argmin(judged["nll"]), 0, known.probability_k)
        best = int(np.argmin(judged["nll"]))
    runs.save_experts(base, dataclasses.replace(known, probability_k=probability_k))
    manifest.write(base)
    config = config_lib.load(str(project / "config.py"), [f"--config.expert.choice={choice}"])
    changed = pipeline.open_run(config, project / "run", ["linalg"])
    taken = experts.take(changed, base, "linalg", f"without {best} {choice}")
    assert taken.result["expert"] != best
    assert probability_k[taken.result["expert"]] > 0


def test_a_demo_of_a_bank_and_a_mixture(project, specialised):
    for method in ("slm_pn", "slm_mix"):
        specialised(method, "frequent")  # these stages are reused
    specialised("slm_mix", "finetune_all")
    searched = succeed(
        project, "demo", "--config.methods=('slm_mix',)", "--config.expert.choice=finetune_all"
    )
    assert {row["phase"] for row in searched["results"]} == {"pretrained", "finetuned"}
    result = succeed(project, "demo", "--config.methods=('slm_pn','slm_mix')")
    rows = {(r["method"], r["domain"], r["phase"]): r for r in result["results"]}
    assert len(rows) == len(result["results"]) == 2 * 2 * 2 + 2 * 2  # two baselines
    for row in (row for (method, *_), row in rows.items() if method.startswith("slm")):
        assert row["train_tokens"] == 20 * 8 * 16 and row["perplexity"] > 1
    record = json.loads((project / "run" / "run.json").read_text())
    facts = record["models"]
    assert facts["slm_mix"]["pretrain_params"] == K * facts["slm_mix"]["params"]
    assert facts["slm_pn"]["params"] == facts["slm_mix"]["params"]


def test_wrong_experts_are_named(project, trained, specialised):
    bank, dense = trained["slm_pn"], specialised("slm_pn", "frequent")["checkpoint"]
    for argv, message in (
        (
            [f"--checkpoint={bank}", "--config.expert.index=4"],
            f"expert.index=4: {bank} has the experts 0 to 3",
        ),
        (
            [f"--checkpoint={dense}", "--config.expert.index=0"],
            "slm_pn is one dense model, with no experts to choose from",
        ),
        (
            [f"--checkpoint={bank}", "--config.model.num_experts=3"],
            "was trained on other clusters than those of this config (model.num_experts=3",
        ),
        (
            [f"--checkpoint={bank}", "--config.clustering.seed=1"],
            "was trained on other clusters than those of this config (model.num_experts=4",
        ),
        (["--config.method=slm_pn", "--config.seed=5"], "not pretrained yet"),
        ([f"--checkpoint={bank}", "--config.expert.choice=best"], "expert.choice='best'"),
    ):
        status, error = command(project, "specialize", *argv)
        assert status == 2 and message in error, (argv, error)
        assert "Traceback" not in error


def test_taking_an_expert_out_of_a_dense_model(project, specialised):
    """There is nothing to take out: an error that says so."""
    dense = specialised("slm_pn", "frequent")["checkpoint"]
    status, error = command(
        project, "specialize", f"--checkpoint={dense}", "--config.finetune.max_steps=0"
    )
    assert status == 2 and "dense" in error


@pytest.mark.parametrize("method", ["slm_pn", "slm_mix"])
def test_a_bank_is_not_a_model_to_score_or_to_sample_from(method, project, trained, run):
    base = trained[method]
    message = f"{method} is a .* of 4 experts. Take one out with `specialm specialize`"
    status, error = command(project, "generate", f"--checkpoint={base}", "--prompt=a")
    assert status == 2 and "of 4 experts. Take one out with `specialm specialize`" in error
    with pytest.raises(UserError, match=message):
        pipeline.score_heldout(run, base, ["linalg"], stage_keys.checkpoint_key(base), method)
    status, error = command(project, "evaluate", f"--checkpoint={base}")
    assert status == 2 and "of 4 experts. Take one out with `specialm specialize`" in error


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (
            ("--config.method=slm_pn", "--config.model.num_experts=100000"),
            "model.num_experts=100000: there are only",
        ),
        (
            (
                "--config.method=slm_mix",
                "--config.model.num_experts=100000",
                "--config.train.batch_size=100000",
            ),
            "model.num_experts=100000: there are only",
        ),
        (
            ("--config.method=slm_mix", "--config.model.num_experts=3"),
            "train.batch_size=8 is not a multiple of model.num_experts=3",
        ),
        (
            ("--config.method=slm_pn", "--config.train.groups=3"),
            "train.groups=3 does not divide train.batch_size=8",
        ),
        (
            ("--config.method=soup", "--config.train.histogram_support=5"),
            "train.histogram_support=5: there are only model.num_experts=4 clusters",
        ),
        (("--config.method=slm_mix", "--config.model.only_expert=4"), "model.only_expert=4"),
        (("--config.method=slm_hn", "--config.model.bank_layers=(2,)"), "model.bank_layers=(2,)"),
    ],
)
def test_bad_settings_are_named_before_any_training(argv, message, project):
    before = sorted((project / "run").glob("pretrained/*"))
    status, error = command(project, "train", *argv)
    assert status == 2 and message in error, error
    assert sorted((project / "run").glob("pretrained/*")) == before
