"""clustering.method=tree through the commands: prepare, weights, train, and a bank by itself."""

import json
import re

import numpy as np
import pytest
from conftest import write_docstrings

from specialm import cli
from specialm.clustering import tree

CONFIG = """
from ml_collections import ConfigDict
from specialm.config import default

def get_config():
    config = default()
    data = config.data
    data.generic = "jsonl:{root}/generic.jsonl"
    data.domains = ConfigDict(dict(linalg="jsonl:{root}/linalg.jsonl"))
    data.context, data.vocabulary_size, data.generic_heldout_fraction = 16, 400, 0.1
    data.specialist_tokens, data.valid_tokens, data.heldout_tokens = 1000, 500, 1000
    config.method, config.domain = "slm_is", "linalg"
    config.clustering.encoder, config.clustering.dim, config.clustering.iterations = (
        "tfidf_svd", 8, 5)
    config.clustering.method, config.clustering.branching = "tree", (4, 8)
    config.model.num_layers, config.model.d_model, config.model.num_heads = 1, 8, 2
    config.model.d_ff, config.model.num_experts = 16, 4
    config.train.batch_size, config.train.tokens, config.train.groups = 8, 6 * 8 * 16, 2
    config.train.warmup_steps, config.train.tensorboard = 3, False
    config.finetune.max_steps = 0
    config.expert.choice = "soup"
    return config
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    root = tmp_path_factory.mktemp("project")
    write_docstrings(root, 40, 40)
    (root / "config.py").write_text(CONFIG.format(root=root))
    return root


@pytest.fixture
def command(project, capsys):
    """Runs `specialm NAME`: (exit status, JSON or error text)."""

    def run(name, *argv, config=True):
        given = [f"--config={project / 'config.py'}", f"--workdir={project / 'run'}"]
        status = cli.main([name, *(given if config else []), "--json", *argv])
        captured = capsys.readouterr()
        return status, json.loads(captured.out) if status == 0 else captured.err

    return run


def test_one_tree_serves_all_levels(command, project):
    status, prepared = command("prepare")
    assert status == 0 and prepared["clusters"] == 32
    (folder,) = (project / "run" / "clusters").glob("tree-*")
    leaf_N = np.load(folder / "leaves.npy")
    found = [
        command("weights", f"--config.clustering.level={level}")[1]["linalg"] for level in (0, 1)
    ]
    fine, coarse = (np.array(each["generic_histogram"]) for each in found)
    np.testing.assert_allclose(fine, np.bincount(leaf_N, minlength=32) / len(leaf_N))
    np.testing.assert_allclose(coarse, fine.reshape(4, 8).sum(1))
    fine, coarse = (np.array(each["specialist_histogram"]) for each in found)
    np.testing.assert_allclose(coarse, fine.reshape(4, 8).sum(1), atol=1e-6)
    assert list((project / "run" / "clusters").glob("tree-*")) == [folder]
    (embeddings,) = (project / "run" / "embeddings").glob("generic-*")
    np.testing.assert_array_equal(
        leaf_N,
        tree.assign(np.load(embeddings / "embeddings.npy"), tree.load(folder / "tree.npz"))[0],
    )


def test_train_draws_by_the_level_that_is_chosen(command):
    status, trained = command("train")
    assert status == 0
    status, again = command("train", "--config.clustering.level=2")  # the leaves by number
    assert status == 0 and again["reused"] and again["checkpoint"] == trained["checkpoint"]
    status, error = command("specialize", "--config.clustering.level=1")
    assert status == 2 and "not pretrained yet" in error


def test_a_bank_carries_its_tree(command, project, tmp_path):
    """Without config and generic text it assigns a domain's windows as with them."""
    status, trained = command("train", "--config.method=slm_pn", "--config.domain=")
    assert status == 0
    base = f"--checkpoint={trained['checkpoint']}"
    carried = tree.load(f"{trained['checkpoint']}/clusters/tree.npz")
    assert carried.branching == (4,)  # model.num_experts=4 is the first level
    with_config = command("specialize", base, "--config.method=slm_pn")[1]
    alone = command(
        "specialize",
        base,
        "--config.domain=linalg",
        f"--workdir={tmp_path}",
        "--trust",
        config=False,
    )[1]
    assert sum(with_config["histogram"]) == pytest.approx(1, abs=1e-4)
    assert alone["histogram"] == with_config["histogram"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["level=3"], "clustering.level=3: .*levels 1 to 2; 0 is the last one"),
        (["branching=(4,0)"], r"clustering.branching=\(4, 0\): must be a tuple of whole numbers"),
        (["branching=(100000,4)"], r"clustering.branching=\(100000, 4\): there are only"),
        (["sample=0"], "clustering.sample=0: must be at least 1"),
        (["method=trees"], "Did you mean 'tree'"),
    ],
)
def test_settings_that_make_no_sense(command, overrides, message):
    status, error = command("prepare", *(f"--config.clustering.{change}" for change in overrides))
    assert status == 2
    assert re.search(message, error), error


def test_experts_need_a_level_of_their_number(command):
    status, error = command("train", "--config.method=slm_pn", "--config.model.num_experts=5")
    assert status == 2 and "model.num_experts=5" in error and "levels of 4, 32" in error
