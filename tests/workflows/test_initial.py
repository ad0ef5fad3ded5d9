"""`specialm train --init=RUN`: what it starts as, what it keeps, what it refuses."""

import json
import re
import shutil
import types

import jax
import numpy as np
import pytest

from specialm import cli
from specialm import config as config_lib
from specialm.common import manifest
from specialm.models import families, transformer
from specialm.serving import model_card
from specialm.specialize import finetune
from specialm.training import rates, runs, sharding
from specialm.workflows import finetuning, initial, open_models, stage_keys

METHODS = ("slm_is", "slm_pn", "slm_mix")


@pytest.fixture(scope="module")
def work(bank):
    """The folder of `bank`, with a dense model in it."""
    argv = [f"--config={bank / 'config.py'}", f"--workdir={bank / 'run'}"]
    assert cli.main(["train", *argv, "--config.method=slm"]) == 0
    return bank


@pytest.fixture(scope="module")
def dense(work):
    (made,) = (work / "run" / "pretrained").glob("slm-*")
    return made


@pytest.fixture(scope="module")
def opened(dense, work, tmp_path_factory):
    """The dense model as if others had trained it, with more rows than its vocabulary has."""
    path = tmp_path_factory.mktemp("open") / "model"
    shutil.copytree(dense, path)
    record = json.loads((path / "model.json").read_text())
    record["method"] = "imported"
    record["ledger"] = [
        {"phase": "imported", "tokens": 0, "flops": 0, "seconds": 1.0, "model": "Theirs"}
    ]
    record["imported"] = {
        "name": "Theirs",
        "format": "gguf",
        "source": "somewhere",
        "licence": "apache-2.0",
        "sha256": "0" * 64,
        "architecture": "gpt2",
        "context": 16,
    }
    (path / "model.json").write_text(json.dumps(record))
    manifest.write(path)
    return path


@pytest.fixture
def command(capsys, work):
    """Runs `specialm NAME` in the work folder of `bank`: (exit status, JSON or error text)."""

    def run(name, *argv):
        status = cli.main([name, f"--workdir={work / 'run'}", "--json", *map(str, argv)])
        captured = capsys.readouterr()
        return status, json.loads(captured.out) if status == 0 else captured.err

    return run


def load(path):
    return runs.load(path, sharding.make_mesh(), families.KINDS)


FREEZE = "--config.train.init_learning_rate=1e-30"


@pytest.mark.parametrize("method", METHODS)
def test_it_starts_as_the_model_and_tells_where_from(method, opened, work, command):
    """With a rate that changes nothing a trained model is what it started as."""
    status, found = command(
        "train",
        f"--config={work / 'config.py'}",
        f"--init={opened}",
        f"--config.method={method}",
        "--config.domain=linalg",
        "--config.clustering.k=4",
        "--config.train.tokens=256",
        FREEZE,
    )
    assert status == 0, found
    before, after = load(opened), load(found["checkpoint"])
    for expert in range(1 if method == "slm_is" else 4):
        params = after.params
        if method != "slm_is":
            known = runs.load_experts(after.path)
            one_hot_k = np.eye(4, dtype=np.float32)[expert]
            params = families.expert(after.config, params, known.features_kxC, one_hot_k)
        jax.tree.map(np.testing.assert_array_equal, params, before.params)
    assert after.record["imported"] == before.record["imported"]
    assert [entry["phase"] for entry in after.record["ledger"]] == ["imported", "pretrained"]
    assert families.dense(after.config).d_model == before.config.d_model
    if method == "slm_is":
        again = stage_keys.checkpoint_key(opened)
        inputs = json.loads((after.path / "inputs.json").read_text())
        assert inputs["init"] == again and inputs["train"]["learning_rate"] == 1e-30
        about = {"name": "x", "licence": "apache-2.0", "library": "transformers", "base": ""}
        card = model_card.write(after, about, "", "f32", {"checked": False, "why": "a test"}, [])
        assert "It starts from Theirs (licence apache-2.0" in card


def test_without_a_config_its_own_settings_hold(dense, command, work):
    status, found = command(
        "train",
        f"--init={dense}",
        "--trust",
        "--config.train.tokens=256",
        "--config.train.batch_size=4",
    )
    assert status == 0, found
    made, before = load(found["checkpoint"]), load(dense)
    assert made.config == before.config
    settings = made.record["settings"]
    assert settings["data"]["generic"] == f"jsonl:{work}/generic.jsonl"
    assert settings["train"]["learning_rate"] == 4e-3
    inputs = json.loads((made.path / "inputs.json").read_text())
    assert inputs["train"]["learning_rate"] == pytest.approx(4e-3 / 3)
    spent = [entry["tokens"] for entry in made.record["ledger"]]
    assert spent == [20 * 8 * 16, 256]


def test_rates_where_none_is_given(opened, dense):
    """A third of the pretraining's; of an open model by its width, in fine-tuning as well."""
    train = config_lib.default().train
    ours, theirs = (initial.read(path, "") for path in (dense, opened))
    assert ours.rated(train).learning_rate == pytest.approx(train.learning_rate / 3)
    assert theirs.rated(train).learning_rate == 1e-4
    assert rates.of_open(1152) == pytest.approx(0.5e-4)
    train.init_learning_rate = 0.25
    assert ours.rated(train).learning_rate == theirs.rated(train).learning_rate == 0.25
    assert finetuning._open_rate(ours.record) == 0.0
    assert finetuning._open_rate(theirs.record) == 1e-4
    tune = config_lib.default().finetune
    store = types.SimpleNamespace(sizes_N=np.full(10, 16))
    part = finetune.Specialist("d", store, np.arange(10), store, np.arange(2))
    assert finetune.for_set(train, tune, part, False, open_rate=1e-4).learning_rate == 1e-4
    tune.learning_rate = 0.5
    assert finetune.for_set(train, tune, part, False, open_rate=1e-4).learning_rate == 0.5


@pytest.mark.parametrize("context", [16, 384, 512, 1024])
def test_an_imported_model_has_batches_for_its_windows(context):
    """About as many tokens a step as the defaults have, and groups that divide them."""
    sizes = transformer.Config(
        vocab_size=64, context=context, num_layers=1, d_model=8, num_heads=2, d_ff=16
    )
    made = open_models.settings(sizes, 64)
    train = made["train"]
    assert train["batch_size"] * context <= max(8192, 64 * context) and train["batch_size"] >= 4
    assert train["batch_size"] % train["groups"] == 0
    assert made["finetune"]["batch_size"] == max(1, train["batch_size"] // 4)
    assert made["data"]["context"] == context


def test_it_is_validated_on_the_domain(opened, command):
    status, found = command(
        "train",
        f"--init={opened}",
        "--trust",
        "--config.method=slm_is",
        "--config.clustering.k=4",
        "--config.domain=linalg",
        "--config.train.tokens=512",
        "--config.train.valid_every=2",
        FREEZE,
    )
    assert status == 0, found
    jax.tree.map(
        np.testing.assert_array_equal, load(found["checkpoint"]).params, load(opened).params
    )


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("--config.model.d_model=16",), "model.d_model=16 contradicts --init=.* which has 8"),
        (("--config.model.head_size=2",), "model.head_size=2 contradicts .* which has 4"),
        (("--config.data.context=32",), "data.context=32 contradicts .* at most 16 tokens"),
        (("--config.method=slm_nopt",), "slm_nopt.* has no pretraining"),
    ],
)
def test_contradictions_are_refused(argv, message, dense, command, work):
    for config in ((), (f"--config={work / 'config.py'}",)):
        status, error = command("train", f"--init={dense}", "--trust", *config, *argv)
        assert status == 2
        assert re.search(message, error), error


def test_a_config_file_with_other_sizes_is_refused(dense, command, work, tmp_path):
    text = (work / "config.py").read_text().replace("d_model, config", "d_ff, config")
    other = tmp_path / "other.py"
    other.write_text(text.replace("return config", "config.model.d_model = 24; return config"))
    status, error = command("train", f"--init={dense}", f"--config={other}")
    assert status == 2 and "model.d_model=24 contradicts" in error


def test_another_vocabulary_is_refused(dense, command, vocabulary):
    argv = f"--config.data.vocabulary={vocabulary.path}"
    status, error = command("train", f"--init={dense}", "--trust", argv)
    assert status == 2 and "data.vocabulary=" in error and "contradicts" in error


def test_a_text_that_only_the_folder_names_is_not_opened(dense, command):
    status, error = command("train", f"--init={dense}")
    assert status == 2 and "add --trust, or give the text with --config.data.generic" in error


def test_a_bank_is_no_start(work, command):
    status, error = command("train", f"--init={work / 'bank'}", "--trust")
    assert status == 2 and "slm_pn is a bank; only a dense model" in error


def test_inspect_takes_the_sizes_of_the_model(dense, command):
    argv = ("--trust", "--config.method=slm_pn")
    status, found = command("inspect", f"--init={dense}", *argv)
    assert status == 0, found
    assert found["inference_params"] == families.num_params(load(dense).config)
