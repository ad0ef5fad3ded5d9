"""A bundle: one folder, copied to where nothing else is, from which domains are specialised."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from numpy_bert import WORDS, write_folder

from specialm import cli
from specialm import config as config_lib
from specialm.clustering import minilm_files
from specialm.common import manifest
from specialm.common.errors import UserError
from specialm.training import runs
from specialm.workflows import bundles, from_checkpoint

FEW = ("--config.finetune.max_steps=4", "--config.finetune.eval_every=2")


@pytest.fixture(scope="module")
def bundle(bank, tmp_path_factory):
    """The bundle of the small bank."""
    folder = tmp_path_factory.mktemp("bundles") / "given"
    assert cli.main(["bundle", f"--checkpoint={bank / 'bank'}", f"--to={folder}"]) == 0
    return folder


@pytest.fixture
def command(capsys, monkeypatch, tmp_path):
    """Runs `specialm NAME` in an empty folder: (exit status, JSON or error text)."""
    monkeypatch.chdir(tmp_path)

    def run(*argv):
        status = cli.main([*map(str, argv), "--json"])
        captured = capsys.readouterr()
        return status, json.loads(captured.out) if status == 0 else captured.err

    return run


def test_what_is_in_it(bundle, bank):
    about = json.loads((bundle / "bundle.json").read_text())
    base = runs.read_record(bank / "bank")
    assert (about["method"], about["experts"], about["encoder"]) == ("slm_pn", 4, "tfidf_svd")
    record = runs.read_record(bundle)
    assert record["ledger"] == base["ledger"] and record["model"] == base["model"]
    assert "generic" not in record
    # The generic histogram, and the settings, among them those of evaluation.
    ours, theirs = runs.load_experts(bundle), runs.load_experts(bank / "bank")
    np.testing.assert_array_equal(ours.probability_k, theirs.probability_k)
    assert ours.clusters == theirs.clusters
    for section in ("evaluate", "finetune", "model", "clustering"):
        assert record["settings"][section] == base["settings"][section]
    # Every file is listed, and nothing names a place of the machine that it was made on.
    listed = {path.relative_to(bundle).as_posix() for path in bundle.rglob("*") if path.is_file()}
    assert set(manifest.read(bundle)["files"]) == listed - {"verified.json"}
    assert str(bank) not in (bundle / "model.json").read_text()
    assert record["settings"]["data"]["domains"] == config_lib.default().data.domains.to_dict()
    size = sum(file.stat().st_size for file in bundle.rglob("*") if file.is_file())
    run = (bank / "bank").resolve()
    assert size < sum(file.stat().st_size for file in run.rglob("*") if file.is_file())


def test_its_models_are_those_of_the_run_folder(bundle, bank, notes, command):
    given = (f"--source={notes}", *FEW)
    status, ours = command("specialize", f"--bundle={bundle}", *given, "--workdir=a")
    assert status == 0, ours
    status, theirs = command("specialize", f"--checkpoint={bank / 'bank'}", *given, "--workdir=b")
    assert status == 0, theirs
    assert ours["before"] == {"my-notes": theirs["before"]["my-notes"]}
    scores = [each["heldout"]["scores"]["my-notes"] for each in (ours, theirs)]
    for score in scores:
        score.pop("clean", None)  # the run folder's generic text is there to compare with
    assert scores[0] == scores[1]
    # Any command that takes a run folder takes it.
    status, again = command("specialize", f"--checkpoint={bundle}", *given, "--workdir=a")
    assert status == 0 and again["reused"] is True


def test_the_domain_is_named_and_not_fine_tuned(bundle, notes, command):
    argv = ("specialize", f"--bundle={bundle}", f"--source={notes}", "--no_finetune")
    status, taken = command(*argv, "--name=minutes")
    assert status == 0, taken
    assert set(taken["heldout"]["scores"]) == {"minutes"} and taken["before"] is None
    assert Path(taken["checkpoint"]).parent.name == "experts"
    assert sum(taken["histogram"]) == pytest.approx(1)
    for more, wrong in (
        ("--config.finetune.max_steps=3", "--no_finetune: leave out --config.finetune.max_steps"),
        ("--checkpoint=x", "it has its settings; leave out --checkpoint=x"),
        ("--config=x.py", "it has its settings; leave out --config=x.py"),
        ("--name=a/b", "a domain's name must begin"),
        ("--plain=x", "--plain=x: is for --sources"),
        ("--sources=x", "--sources=x: leave out --source"),
    ):
        status, error = command(*argv, more)
        assert status == 2 and wrong in error, error


OFFLINE = """
import os, socket, sys

def refuse(event, arguments):
    internet = event == "socket.__new__" and arguments[1] in (socket.AF_INET, socket.AF_INET6)
    if internet or event in ("socket.getaddrinfo", "socket.connect", "socket.gethostbyname"):
        raise RuntimeError(f"no network here: {event} {arguments}")

sys.addaudithook(refuse)
try:
    socket.create_connection(("127.0.0.1", 9))
except RuntimeError:
    pass
else:
    sys.exit("sockets are not blocked")
from specialm import cli
status = cli.main(sys.argv[1:])
heavy = {"tensorflow", "seqio", "torch", "transformers", "starlette"} & set(sys.modules)
sys.exit(status or f"imported: {heavy}" if heavy else status)
"""


def test_offline_in_an_empty_folder(bundle, notes, tmp_path):
    """In a process of its own that can open no socket, from a copy: only the text is there."""
    copy = tmp_path / "copy"
    shutil.copytree(bundle, copy)
    text = tmp_path / "notes.jsonl"
    texts = [file.read_text() for file in sorted(notes.rglob("[0-9]*.txt"))]
    text.write_text("".join(json.dumps({"text": each}) + "\n" for each in texts))
    argv = ["specialize", f"--bundle={copy}", f"--source={text}", *FEW, "--json"]
    done = subprocess.run(
        [sys.executable, "-c", OFFLINE, *argv], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert 1 < found["heldout"]["scores"]["notes"]["perplexity"] < 400
    assert found["steps"] <= 4


def test_every_changed_byte_is_named(bundle, notes, command, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(bundle, copy)
    argv = ("specialize", f"--bundle={copy}", f"--source={notes}", "--no_finetune")
    for number, path in enumerate(sorted(copy.rglob("*"))):
        if not path.is_file() or not path.stat().st_size:
            continue
        content = path.read_bytes()
        changed = bytearray(content)
        changed[number * 7 % len(changed)] ^= 1
        path.write_bytes(changed)
        status, error = command(*argv)
        assert status == 2 and str(path) in error and "Traceback" not in error, (path, error)
        path.unlink()
        status, error = command(*argv)
        assert status == 2, path
        named = str(path) if path.name not in ("bundle.json", "verified.json") else path.name
        assert named in error, error
        path.write_bytes(content)
    assert not list(tmp_path.glob("runs/*"))


def test_a_manifest_opens_nothing_outside(bundle, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(bundle, copy)
    for name in ("../secret", "/etc/hostname", "a/../../secret"):
        manifest.write(copy, every=True)
        listed = json.loads((copy / "verified.json").read_text())
        listed["files"][name] = [1, "0" * 32]
        manifest.write_sealed(copy / "verified.json", {"files": listed["files"]})
        with pytest.raises(UserError, match=f"'{name}' is no file of this folder"):
            bundles.find(str(copy))
    manifest.write(copy, every=True)
    (copy / "extra").symlink_to(tmp_path)
    with pytest.raises(UserError, match="extra is a link that leads out"):
        bundles.find(str(copy))


def test_another_format_and_what_is_no_bundle(bundle, bank, tmp_path):
    with pytest.raises(UserError, match=r"bank: no bundle.json with verified.json there"):
        bundles.find(str(bank / "bank"))
    copy = tmp_path / "copy"
    shutil.copytree(bundle, copy)
    about = json.loads((copy / "bundle.json").read_text())
    (copy / "bundle.json").write_text(json.dumps({**about, "format": 9}))
    manifest.write(copy, every=True)
    with pytest.raises(UserError, match="has format=9, this version reads 1"):
        bundles.find(str(copy))


def test_nothing_is_overwritten_or_left_behind(bundle, bank, tmp_path, command, monkeypatch):
    argv = ("bundle", f"--checkpoint={bank / 'bank'}")
    status, error = command(*argv, f"--to={bundle}")
    assert status == 2 and "is there already; nothing is overwritten" in error
    assert command(*argv)[1].startswith("specialm: --to is missing")
    status, error = command("bundle", f"--to={tmp_path / 'x'}")
    assert status == 2 and "--checkpoint is missing" in error
    shutil.copytree((bank / "bank").resolve(), tmp_path / "old")
    shutil.rmtree(tmp_path / "old" / "clusters")
    manifest.write(tmp_path / "old")
    status, error = command("bundle", f"--checkpoint={tmp_path / 'old'}", f"--to={tmp_path / 'x'}")
    assert status == 2 and "has no clusters" in error
    assert not (tmp_path / "x").exists() and not list(tmp_path.glob(".x*"))


def test_a_bundle_of_a_bundle_and_its_settings(bundle, tmp_path, command):
    status, made = command("bundle", f"--checkpoint={bundle}", "--to=b")
    assert status == 0, made
    assert made["files"] == len(manifest.read(tmp_path / "b")["files"])
    ours = from_checkpoint.load(tmp_path / "b")
    assert ours.to_dict() == from_checkpoint.load(bundle).to_dict()


def test_minilm_is_carried(bank, notes, tmp_path, command, monkeypatch):
    """Its weights are in the bundle, and are read from there alone."""
    words = Counter((bank / "generic.jsonl").read_text().split())
    common = [word for word, _ in words.most_common(len(WORDS))]
    weights = write_folder(tmp_path / "weights", words=common)
    place = f"--config.clustering.encoder_path={weights}"
    made = ("--config.clustering.encoder=minilm", place, "--config.clustering.max_tokens=12")
    argv = ("train", f"--config={bank / 'config.py'}", f"--workdir={tmp_path / 'run'}", *made)
    status, trained = command(*argv)
    assert status == 0, trained
    base = f"--checkpoint={trained['checkpoint']}"
    monkeypatch.setattr(minilm_files, "MINILM_PACKAGE", "no-such-package-of-weights")
    status, error = command("bundle", base, "--to=b")
    assert status == 2 and "its weights are not here" in error and not Path("b").exists()
    status, made = command("bundle", base, "--to=b", place)
    assert status == 0 and made["encoder"] == "minilm"
    shutil.rmtree(weights)
    argv = ("specialize", "--bundle=b", f"--source={notes}", "--no_finetune")
    status, taken = command(*argv)
    assert status == 0, taken
    assert sum(taken["histogram"]) == pytest.approx(1) and max(taken["histogram"]) < 1
    file = Path("b/clusters/minilm/model.safetensors")
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    for option in ("--bundle=b", "--checkpoint=b"):
        status, error = command("specialize", option, *argv[2:], "--workdir=other")
        assert status == 2 and f"{file}: is damaged" in error


@pytest.mark.parametrize("method", ["slm_mix", "slm"])
def test_a_mixture_that_was_upcycled_and_a_dense_model(method, bank, notes, tmp_path, command):
    config, work = f"--config={bank / 'config.py'}", f"--workdir={bank / 'run'}"
    status, dense = command("train", config, work, "--config.method=slm")
    assert status == 0, dense
    base = dense["checkpoint"]
    if method == "slm_mix":
        more = ("--config.method=slm_mix", f"--init={base}", "--config.model.num_experts=4")
        status, made = command("train", config, work, *more)
        assert status == 0, made
        base = made["checkpoint"]
    status, made = command("bundle", f"--checkpoint={base}", "--to=b")
    assert status == 0 and made["method"] == method, made
    assert made["experts"] == (4 if method == "slm_mix" else 1)
    argv = ("specialize", "--bundle=b", f"--source={notes}")
    status, tuned = command(*argv, *FEW)
    assert status == 0, tuned
    assert tuned["heldout"]["scores"]["my-notes"]["perplexity"] < 400
    if method == "slm":
        assert not Path("b/clusters").exists()
        status, error = command(*argv, "--no_finetune")
        assert status == 2 and "one dense model, with no experts to choose from" in error


def test_the_commands_of_the_page_are_commands():
    """With the options that they have."""
    page = (Path(__file__).parents[2] / "docs" / "bundles.md").read_text()
    code = "".join(re.findall(r"^```sh\n(.*?)^```", page, re.M | re.S))
    lines = [shlex.split(line, comments=True) for line in code.splitlines()]
    assert [line[1] for line in lines if line[0] == "specialm"].count("specialize") >= 4
    for program, name, *words in lines:
        assert program == "specialm" and cli.parse(name, words)[0]
