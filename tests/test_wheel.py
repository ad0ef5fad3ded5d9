"""The wheel alone, in an environment without the extra seqio, in an empty folder."""

import json
import math
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# Hides the modules that a light install lacks.
LIGHT = """
from importlib.machinery import PathFinder
find = PathFinder.find_spec
def find_spec(cls, name, path=None, target=None):
    return None if name.partition(".")[0] in {heavy} else find(name, path, target)
PathFinder.find_spec = classmethod(find_spec)
"""
HEAVY = {"seqio", "tensorflow", "tensorflow_text", "tensorflow_datasets", "keras", "t5", "clu"}
TINY = {
    "data.generic": "folder:generic",
    "data.domains.med": "folder:special",
    "data.vocabulary_size": 512,
    "data.context": 32,
    "data.part_chars": 1000,
    "data.generic_heldout_fraction": 0.1,
    "clustering.k": 4,
    "clustering.dim": 8,
    "model.num_layers": 1,
    "model.d_model": 32,
    "model.d_ff": 64,
    "train.tokens": 12 * 8 * 32,
    "train.batch_size": 8,
    "finetune.batch_size": 8,
    "finetune.max_steps": 8,
    "finetune.eval_every": 4,
    "evaluate.batch_size": 8,
}


def _env():
    """The environment without a path to the checkout; one device, which compiles faster."""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return env | {"XLA_FLAGS": env["XLA_FLAGS"].replace("device_count=2", "device_count=1")}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built from a copy of the package, so that nothing is left in the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    shutil.copytree(
        ROOT / "specialm", folder / "specialm", ignore=shutil.ignore_patterns("__pycache__")
    )
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    code = "from setuptools import build_meta; build_meta.build_wheel('.')"
    subprocess.run([sys.executable, "-c", code], cwd=folder, check=True, capture_output=True)
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def python(wheel, tmp_path_factory):
    """A fresh environment with the wheel; its dependencies are those of this environment."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    python = folder / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-index"]
    subprocess.run([*pip, "--no-deps", wheel], env=_env(), check=True, capture_output=True)
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    (site / "sitecustomize.py").write_text(LIGHT.format(heavy=HEAVY))
    return python


@pytest.fixture(scope="module")
def run(python, real_documents, tmp_path_factory):
    """Words of a command -> its JSON, in a folder with two folders of text in it."""
    folder = tmp_path_factory.mktemp("empty")
    for name, texts in (("generic", real_documents[:200:2]), ("special", real_documents[1:100:2])):
        (folder / name).mkdir()
        for number, text in enumerate(texts):
            (folder / name / f"{number:04}.txt").write_text(text, encoding="utf-8")

    def call(*words):
        done = subprocess.run(
            [python.with_name("specialm"), *words, "--json"],
            cwd=folder,
            env=_env(),
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        call.said = done.stderr
        return json.loads(done.stdout)

    call.folder = folder
    return call


def test_the_wheel_has_every_file_of_the_package(wheel):
    tracked = subprocess.run(
        ["git", "ls-files", "specialm"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    packed = zipfile.ZipFile(wheel).namelist()
    assert set(tracked.stdout.split()) <= set(packed)
    assert "specialm/configs/local/slm_is.py" in packed


def test_it_is_the_wheels_package_and_there_is_no_tensorflow(python, tmp_path):
    code = "import specialm; print(specialm.__file__); import tensorflow"
    done = subprocess.run(
        [python, "-c", code], cwd=tmp_path, env=_env(), capture_output=True, text=True
    )
    assert Path(done.stdout.strip()).is_relative_to(python.parents[1])
    assert "No module named 'tensorflow'" in done.stderr


@pytest.mark.slow
def test_slm_is_from_training_to_generation_in_an_empty_folder(run):
    given = ["--config=local/slm_is", "--workdir=runs", "--config.domain=med"]
    given += [f"--config.{name}={value}" for name, value in TINY.items()]
    given.append("--config.train.profile_steps=1")
    trained = run("train", *given)
    assert trained["steps"] == 12 and trained["loss"] < math.log(512)
    assert "profile_steps" not in run.said
    special = run("specialize", *given)
    assert "profile_steps" not in run.said
    assert special["best_step"] == 8 and special["valid_nll"] < trained["loss"]
    for folder in (trained["checkpoint"], special["checkpoint"]):
        assert (run.folder / folder / "metrics.jsonl").stat().st_size
        assert list((run.folder / folder).glob("tensorboard/events.*"))
        assert list((run.folder / folder).glob("profile/plugins/profile/*/*.xplane.pb"))
    assert run("train", *given)["reused"]
    assert "train.profile_steps=1: no step was traced, as pretrained/slm_is-med-seed0" in run.said
    scored = run("evaluate", *given, f"--checkpoint={special['checkpoint']}")
    assert scored["scores"]["med"] == special["heldout"]["scores"]["med"]
    said = run("generate", f"--checkpoint={special['checkpoint']}", "--prompt=The array")
    assert said["text"].startswith("The array") and len(said["text"]) > len("The array")
    assert sorted(path.name for path in run.folder.iterdir()) == ["generic", "runs", "special"]
