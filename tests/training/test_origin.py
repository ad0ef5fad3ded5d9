"""Where a model's generic windows lie, whatever is moved."""

import json
import shutil

import pytest

from specialm import config as config_lib
from specialm.training import origin, runs


@pytest.fixture
def work(tmp_path, store, vocabulary, tiny_model):
    """A work folder with the generic windows and a run folder."""
    root = tmp_path / "work"
    shutil.copytree(store.path, root / "windows" / "generic")
    generic = type(store)(root / "windows" / "generic")
    config, path = config_lib.default(), root / "pretrained" / "slm"
    path.mkdir(parents=True)
    runs.describe(
        path,
        tiny_model,
        vocabulary,
        "slm",
        "",
        0,
        [],
        origin.describe(path, config, {"train": generic, "heldout": generic}),
    )
    return root


def test_the_windows_are_found_where_they_lie(work, store, vocabulary):
    found = origin.generic_store(work / "pretrained" / "slm", "train", vocabulary.sha256)
    assert found.fingerprint == store.fingerprint and len(found) == len(store)


def test_what_is_made_of_a_model_finds_them_too(
    work, store, vocabulary, tiny_model, tmp_path, monkeypatch
):
    """From another work folder, relative paths, a link; and its settings are those of the base."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to(work / "pretrained" / "slm")
    base, child = (tmp_path / "link").relative_to(tmp_path), tmp_path / "a" / "b" / "child"
    made = origin.inherited(base, child)
    runs.describe(child, tiny_model, vocabulary, "slm", "mine", 0, [], made)
    found = origin.generic_store(child, "heldout", vocabulary.sha256)
    assert found.fingerprint == store.fingerprint
    assert runs.read_record(child)["settings"] == json.loads(
        json.dumps(config_lib.default().to_dict())
    )


def test_the_whole_work_folder_can_be_moved(work, vocabulary, tmp_path):
    shutil.move(work, tmp_path / "moved")
    base = tmp_path / "moved" / "pretrained" / "slm"
    assert origin.generic_store(base, "train", vocabulary.sha256) is not None


@pytest.mark.parametrize("change", ["gone", "other text", "other vocabulary", "old run folder"])
def test_other_windows_are_not_taken_for_them(work, vocabulary, change):
    base, index = work / "pretrained" / "slm", work / "windows" / "generic" / "index.json"
    sha = vocabulary.sha256
    if change == "gone":
        shutil.rmtree(index.parent)
    elif change == "other text":
        index.write_text(json.dumps(json.loads(index.read_text()) | {"fingerprint": "x"}))
    elif change == "other vocabulary":
        sha = "x"
    else:
        record = runs.read_record(base)
        del record["generic"], record["settings"]
        (base / "model.json").write_text(json.dumps(record))
        assert origin.inherited(base, base) == {}
    assert origin.generic_store(base, "train", sha) is None
