"""A run folder from anybody: it executes nothing, opens nothing outside of itself, and what is
wrong in it is a sentence."""

import builtins
import copy
import io
import json
import os
import random
import shutil
import sys
from pathlib import Path

import pytest
from ml_collections import ConfigDict

from specialm import cli
from specialm import config as config_lib
from specialm.common import manifest
from specialm.common.errors import UserError
from specialm.common.stages import Stages
from specialm.training import model_record, origin, runs
from specialm.workflows import from_checkpoint, trust


@pytest.fixture
def given(bank, tmp_path, monkeypatch):
    """A copy of the bank's run folder, and a function that changes its `model.json`. Digests are no
    signatures: whoever changes a file can write its manifest anew, so none is asked here.
    """
    monkeypatch.setattr(manifest, "check", lambda path: None)
    folder = tmp_path / "theirs" / "bank"
    shutil.copytree((bank / "bank").resolve(), folder)

    def change(edit):
        record = json.loads((folder / "model.json").read_text())
        edit(record)
        (folder / "model.json").write_text(json.dumps(record))
        return folder

    return change


@pytest.fixture
def malicious(tmp_path, monkeypatch):
    """A module that says when it is executed."""
    (tmp_path / "malicious.py").write_text("import os\nos.environ['EXECUTED'] = 'yes'\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("EXECUTED", "no")
    monkeypatch.delitem(sys.modules, "malicious", raising=False)
    yield lambda: os.environ["EXECUTED"] == "yes"
    sys.modules.pop("malicious", None)


def name_modules(record):
    record["settings"]["method_modules"] = ["malicious"]
    record["settings"]["data"]["seqio_modules"] = ["malicious"]


def test_modules_that_model_json_names_are_not_executed(given, malicious):
    folder = given(name_modules)
    config = from_checkpoint.load(folder)
    assert config.method_modules == config.data.seqio_modules == ()
    assert not malicious()
    named = from_checkpoint.load(folder, ["--config.method_modules=('malicious',)"])
    assert malicious() and named.method_modules == ("malicious",)


def test_trust_is_to_execute_them(given, malicious):
    assert from_checkpoint.load(given(name_modules), trusted=True).method_modules == ("malicious",)
    assert malicious()


def test_a_method_of_such_a_module_is_named_with_what_to_do(given, malicious):
    def edit(record):
        name_modules(record)
        record["settings"]["method"] = "of_theirs"

    with pytest.raises(UserError, match=r"method 'of_theirs' is registered by the modules malici"):
        from_checkpoint.load(given(edit))
    assert not malicious()


def test_their_text_is_not_opened(given, bank):
    folder = given(lambda record: None)
    config = from_checkpoint.load(folder)
    with pytest.raises(UserError, match=r"linalg\.jsonl as the text of 'linalg'.*--trust"):
        from_checkpoint.open_run(config, folder.parent / "work", ["linalg"], folder)
    assert not (folder.parent / "work").exists()
    own = f"--config.data.domains.linalg=jsonl:{bank}/linalg.jsonl"
    named = from_checkpoint.load(folder, [own])
    trust.check_domains(named, ["linalg"], folder)  # the user names it


def test_the_default_corpora_are_the_users_own(given):
    def edit(record):
        record["settings"]["data"]["domains"] = {"med": "corpora:med", "up": "corpora:../../x"}
        record["settings"]["data"]["corpora_root"] = "/somewhere/else"

    config = from_checkpoint.load(given(edit))
    assert config.data.corpora_root == config_lib.default().data.corpora_root
    trust.check_domains(config, ["med"], Path("b"))
    with pytest.raises(UserError, match="not opened"):
        trust.check_domains(config, ["up"], Path("b"))


def test_nothing_outside_is_opened(given, monkeypatch, notes, tmp_path, capsys):
    """Every file that Python opens while a folder is specialised lies inside it, in the user's
    text, in the user's work folder or is a part of the installed software."""
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "index.json").write_text("{}")
    (secret / "a.jsonl").write_text('{"text": "secret"}\n')

    def edit(record):
        data = record["settings"]["data"]
        data["domains"] = {"linalg": f"jsonl:{secret}/a.jsonl"}
        data["generic"] = f"folder:{secret}"
        data["vocabulary"] = f"{secret}/v.model"
        data["corpora_root"] = record["settings"]["clustering"]["encoder_path"] = str(secret)
        record["generic"] = {
            split: {
                "path": os.path.relpath(secret, tmp_path / "theirs" / "bank"),
                "fingerprint": "x",
            }
            for split in ("train", "heldout")
        }

    folder, opened = given(edit), []

    def watch(function):
        def call(file, *args, **kwargs):
            opened.append(str(file))
            return function(file, *args, **kwargs)

        return call

    monkeypatch.chdir(tmp_path)
    for owner, name in ((builtins, "open"), (io, "open"), (os, "open"), (os, "scandir")):
        monkeypatch.setattr(owner, name, watch(getattr(owner, name)))
    arguments = ("--config.finetune.max_steps=2", "--config.finetune.eval_every=1")
    status = cli.main(["specialize", f"--checkpoint={folder}", f"--source={notes}", *arguments])
    assert status == 0, capsys.readouterr().err
    assert len(opened) > 50
    assert [path for path in opened if "secret" in path] == []
    assert (
        cli.main(["generate", f"--checkpoint={next(Path('runs/my-notes/finetuned').iterdir())}"])
        == 0
    )


def test_links_out_of_the_folder_are_refused(given, tmp_path, capsys):
    folder = given(lambda record: None)
    (folder / "inside").symlink_to("model.json")
    from_checkpoint.load(folder)
    (folder / "vocabulary.model").rename(tmp_path / "v.model")
    (folder / "vocabulary.model").symlink_to(tmp_path / "v.model")
    with pytest.raises(UserError, match="vocabulary.model is a link that leads out of the run"):
        from_checkpoint.load(folder)
    assert cli.main(["generate", f"--checkpoint={folder}"]) == 2
    assert "leads out of the run folder" in capsys.readouterr().err
    assert from_checkpoint.load(folder, trusted=True).data.context == 16


def test_generic_windows_are_found_in_the_same_work_folder_alone(bank):
    """As they lie beside the bank; from another place only if trusted."""
    base = (bank / "bank").resolve()
    record = runs.read_record(base)
    found = [
        origin.generic_store(base, split, record["vocabulary_sha256"], trusted=False)
        for split in ("train", "heldout")
    ]
    assert all(store is not None and len(store) for store in found)
    assert origin._in_work_folder(base, "../../windows/x")
    for path in ("../../windows", "../../windows/../x", "../../../windows/x", "/windows/x", "."):
        assert not origin._in_work_folder(base, path)


WRONG = [
    None,
    True,
    -1,
    0,
    1.5,
    10**30,
    float("nan"),
    "",
    "a",
    "../../up",
    [],
    [None],
    {},
    {"a": 1},
]


def places(value, path=()):
    """Every key of a JSON value."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield (*path, key)
            yield from places(inner, (*path, key))
    elif isinstance(value, list) and value:
        yield (*path, 0)
        yield from places(value[0], (*path, 0))


def put(record, path, value):
    """The record with another value at a place, or without it."""
    changed = copy.deepcopy(record)
    inner = changed
    for key in path[:-1]:
        inner = inner[key]
    if value is KeyError:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    return changed


def test_every_key_with_every_wrong_value_is_read_or_named(given, monkeypatch):
    """Nothing but a `UserError` that names the key or the file: two values for each key, with
    SPECIALM_FUZZ=all each of them (some 3,000)."""
    folder = given(lambda record: None)
    record = json.loads((folder / "model.json").read_text())
    read, refused, keys = 0, 0, list(places(record))
    whole = os.environ.get("SPECIALM_FUZZ") == "all"
    monkeypatch.setattr(trust, "check_links", lambda base: None)  # the same folder each time
    for path in keys:
        values = WRONG if whole else random.Random(str(path)).sample(WRONG, 1)
        for value in (*values, KeyError):
            changed = put(record, path, value)
            (folder / "model.json").write_text(json.dumps(changed))
            try:
                found = runs.read_record(folder)
                model_record.model_config(folder / "model.json", found)
                from_checkpoint.load(folder)
                read += 1
            except UserError as error:
                refused += 1
                names = [name for name in path if isinstance(name, str)]
                assert str(folder) in str(error), (path, value, str(error))
                # The key, or the mapping of domains that it was the only one in.
                named = names[-1].removesuffix("s") in str(error) or "model." in str(error)
                named |= names[-2:-1] == ["domains"] and "data.domains={}" in str(error)
                assert named, (path, value, str(error))
    assert len(keys) > 150 and refused > 150 and read > 10


@pytest.mark.parametrize("name", ["a.b", "../x", "/x", "", "a/b"])
def test_a_domain_of_theirs_whose_name_is_a_path(given, name):
    def edit(record):
        record["settings"]["data"]["domains"] = {name: "corpora:med"}

    with pytest.raises(UserError, match="model.json: settings.data.domains is"):
        from_checkpoint.load(given(edit))


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff", b"[" * 100_000, b'"a"'])
def test_what_is_no_record_is_named(given, content):
    folder = given(lambda record: None)
    (folder / "model.json").write_bytes(content)
    with pytest.raises(UserError, match="model.json: .*restore the file"):
        runs.read_record(folder)


@pytest.mark.parametrize("name", ["../x", "/tmp/x", "a/../../x", "finetuned/../../x"])
def test_no_stage_leads_out_of_the_work_folder(tmp_path, name):
    with pytest.raises(UserError, match="must not lead out of the work folder"):
        Stages(tmp_path, quiet=True).run(name, {}, lambda path: {})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["/x", "", "a/b", "a\\b", "-x", "a\n", "a\0"])
def test_no_domain_has_a_name_that_is_a_path(name):
    config = config_lib.default()
    config.data.domains = ConfigDict({name: "folder:x"})
    with pytest.raises(UserError, match="a domain.s name must begin"):
        config_lib.check(config)
    config.data.domains = ConfigDict({"My notes_2-a+": "folder:x", "méd": "folder:x"})
    config_lib.check(config)
