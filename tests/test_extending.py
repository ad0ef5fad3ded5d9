"""The examples of docs/extending.md: methods from outside of the tree, each in one file."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import BANK_CONFIG, write_docstrings

from specialm import config as config_lib
from specialm import draws, methods
from specialm.clustering import weights
from specialm.clustering.clusters import Clusters
from specialm.common.errors import UserError

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "docs" / "examples"


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A config of a tiny model over docstrings of NumPy."""
    root = tmp_path_factory.mktemp("extending")
    write_docstrings(root)
    (root / "config.py").write_text(BANK_CONFIG.format(root=root))
    return root


@pytest.fixture
def table(monkeypatch):
    """The table of methods, as it was before the test afterwards."""
    monkeypatch.setattr(methods, "METHODS", dict(methods.METHODS))
    monkeypatch.setattr(sys, "path", list(sys.path))


def specialm(project, command, module, *argv):
    """What `specialm COMMAND` prints as JSON, run where the examples lie; they are on no path."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", "specialm.cli", command, "--json"]
        + [f"--config={project / 'config.py'}", f"--workdir={project / 'run'}"]
        + [f"--config.method_modules=('{module}',)", *argv],
        cwd=EXAMPLES,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def load(name):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", sorted(path.stem for path in EXAMPLES.glob("*.py")))
def test_the_page_quotes_the_examples(name):
    page = (ROOT / "docs" / "extending.md").read_text()
    assert f"```python\n{(EXAMPLES / f'{name}.py').read_text()}```" in page


def test_a_distribution_from_outside_is_trained_and_specialised(project):
    chosen = ("--config.method=slm_is_tempered", "--config.domain=linalg")
    trained = specialm(project, "train", "tempered_weights", *chosen)
    assert np.isfinite(trained["loss"]) and trained["tokens"] == 20 * 8 * 16
    assert "slm_is_tempered-linalg" in trained["checkpoint"]
    tuned = specialm(project, "specialize", "tempered_weights", *chosen)
    assert tuned["base"] == trained["checkpoint"]
    # Its settings name the module, so the checkpoint is enough, if it is trusted.
    refused, again = (
        subprocess.run(
            [sys.executable, "-P", "-m", "specialm.cli", "evaluate", "--json", *trust]
            + [f"--checkpoint={tuned['checkpoint']}", f"--workdir={project / 'alone'}"],
            cwd=EXAMPLES,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=300,
        )
        for trust in ((), ("--trust",))
    )
    assert refused.returncode == 2 and "not imported" in refused.stderr
    assert again.returncode == 0, again.stderr
    found, wanted = json.loads(again.stdout), tuned["heldout"]
    nats = [report["scores"]["linalg"]["nll_per_token"] for report in (found, wanted)]
    assert nats[0] == pytest.approx(nats[1], rel=1e-5)


def test_tempered_weights_are_drawn(table):
    """By hand: weights 3, 1 and 1/3 of clusters of 20, 30 and 50 windows, to the power 1/2."""
    load("tempered_weights")
    config = config_lib.default()
    cluster_N = np.repeat([0, 1, 2], [20, 30, 50])
    report = weights.report("d", np.array([20, 30, 50]), np.array([36, 18, 10]), 0.0, 100)
    assert report.weights_K == pytest.approx(np.array([3, 1, 1 / 3]) * report.weights_K[1])
    clusters = Clusters(np.zeros((3, 2)), np.zeros((100, 2)), cluster_N, {}, "f")
    source = draws.Source(100, clusters, weights=report)
    sampler = methods.sampler(config, "slm_is_tempered", source, 0)
    wanted_K = np.array([20 * np.sqrt(3), 30, 50 / np.sqrt(3)])
    np.testing.assert_allclose(sampler.probability_K, wanted_K / wanted_K.sum())
    drawn = np.concatenate([sampler.indices(step) for step in range(25)])  # 16 epochs
    share_K = np.bincount(cluster_N[drawn], minlength=3) / len(drawn)
    np.testing.assert_allclose(share_K, wanted_K / wanted_K.sum(), atol=0.01)


def test_a_module_that_is_not_there(project, table):
    with pytest.raises(UserError, match=r"method_modules: 'no_such_method' cannot be imported"):
        config_lib.load(str(project / "config.py"), ["--config.method_modules=('no_such_method',)"])


def test_a_method_that_no_module_registers(project, table):
    with pytest.raises(UserError, match=r"method='slm_is_tempred': must be one of slm, "):
        config_lib.load(str(project / "config.py"), ["--config.method=slm_is_tempred"])


def test_a_name_in_result_rows_is_not_trained(project):
    with pytest.raises(UserError, match=r"method='slm_d': must be one of "):
        config_lib.load(str(project / "config.py"), ["--config.method=slm_d"])


def test_two_methods_of_one_name(table):
    record = methods.get("slm")
    assert methods.register(record) is record  # the same again, as when a module is reloaded
    with pytest.raises(UserError, match=r"two methods are named 'slm'"):
        methods.register(methods.Method("slm", "Mine", "", "#000000", "o", family="dense"))


def test_settings_that_only_some_methods_use():
    used = {name: set(record.settings) for name, record in methods.METHODS.items()}
    bank = {"train.groups", "train.mixer_multiplier", "train.bank_every"}
    assert used["slm_pn"] == used["slm_hn"] == bank
    assert used["soup"] == bank | {"train.histogram_support"}
    assert used["slm_mix"] == {"train.trunk_fraction", "train.expert_multiplier"}
    assert not any(used[name] for name in ("slm", "slm_is", "slm_is_shuffled", "llm", "slm_nopt"))


@pytest.mark.slow
def test_a_family_from_outside_is_trained_and_specialised(project):
    chosen = ("--config.method=root_soup", "--config.model.bank_size=5")
    trained = specialm(project, "train", "root_soup", *chosen, "--config.train.histogram_support=2")
    assert np.isfinite(trained["loss"]) and trained["tokens"] == 20 * 8 * 16
    tuned = specialm(
        project,
        "specialize",
        "root_soup",
        *chosen,
        "--config.train.histogram_support=2",
        "--config.domain=linalg",
    )
    assert tuned["base"] == trained["checkpoint"]
    record = json.loads((Path(tuned["checkpoint"]) / "model.json").read_text())
    assert record["kind"] == "dense" and record["method"] == "root_soup"


def test_the_sizes_of_the_family_are_checked(project):
    done = subprocess.run(
        [sys.executable, "-P", "-m", "specialm.cli", "inspect"]
        + [f"--config={project / 'config.py'}", "--config.method=root_soup"]
        + ["--config.method_modules=('root_soup',)"],
        cwd=EXAMPLES,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 2 and "model.bank_size=4: a root soup needs" in done.stderr
