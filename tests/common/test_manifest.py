import os
import shutil

import numpy as np
import pytest

from specialm.common import files, manifest
from specialm.common.errors import UserError
from specialm.common.stages import Stages


def work(path):
    (path / "sub").mkdir(exist_ok=True)
    (path / "sub" / "a.bin").write_bytes(bytes(range(200)))
    files.save_array(path / "b.npy", np.arange(50))
    return {"n": 1}


@pytest.fixture
def stage(tmp_path):
    return Stages(tmp_path, quiet=True).run("s", {"x": 1}, work)


def again(stage):
    return Stages(stage.path.parent, quiet=True).run("s", {"x": 1}, lambda _: pytest.fail("runs"))


def test_every_file_of_a_finished_stage_is_listed(stage):
    listed = manifest.read(stage.path)["files"]
    assert sorted(listed) == ["b.npy", "inputs.json", "sub/a.bin"]
    assert listed["sub/a.bin"] == [200, manifest.digest(stage.path / "sub" / "a.bin")]
    assert again(stage).reused
    manifest.check(stage.path)
    np.testing.assert_array_equal(manifest.load_array(stage.path / "b.npy"), np.arange(50))


def test_any_changed_bit_is_noticed_when_the_file_is_opened(stage):
    path = stage.path / "b.npy"
    content = path.read_bytes()
    for place in range(0, len(content), 7):
        changed = bytearray(content)
        changed[place] ^= 1 << place % 8
        path.write_bytes(changed)
        with pytest.raises(UserError, match=f"b.npy: is damaged: .*digest.* remove {stage.path}"):
            manifest.load_array(path)
    path.write_bytes(content)
    manifest.load_array(path)


@pytest.mark.parametrize("name", ["b.npy", "sub/a.bin", "inputs.json", "verified.json"])
@pytest.mark.parametrize("damage", ["cut", "emptied", "removed"])
def test_a_file_of_another_size_is_noticed_when_the_stage_is_found(stage, name, damage):
    path = stage.path / name
    if damage == "removed":
        path.unlink()
    else:
        os.truncate(path, 0 if damage == "emptied" else path.stat().st_size // 2)
    with pytest.raises(UserError, match=f"{path}: is damaged"):
        again(stage)


def test_an_emptied_stage_record_is_named_and_a_removed_one_is_no_stage(stage):
    os.truncate(stage.path / "stage.json", 0)
    with pytest.raises(UserError, match="stage.json: is damaged"):
        again(stage)
    (stage.path / "stage.json").unlink()
    assert not Stages(stage.path.parent, quiet=True).run("s", {"x": 1}, work).reused


def test_a_file_is_read_once_until_it_changes(stage, monkeypatch):
    read = []
    digest = manifest.digest
    monkeypatch.setattr(manifest, "digest", lambda path: (read.append(path), digest(path))[1])
    path = stage.path / "sub" / "a.bin"
    for _ in range(3):
        manifest.check(path)
    assert read == [path]
    path.write_bytes(path.read_bytes())
    os.utime(path, ns=(1, 1))
    manifest.check(path)
    assert read == [path, path]


def test_a_folder_with_a_manifest_of_its_own_is_checked_through_it(tmp_path):
    def nested(path):
        (path / "steps" / "4").mkdir(parents=True)
        (path / "steps" / "4" / "array").write_bytes(b"1234")
        manifest.write(path / "steps" / "4", {"step": 4})
        return {}

    stage = Stages(tmp_path, quiet=True).run("s", {}, nested)
    assert sorted(manifest.read(stage.path)["files"]) == ["inputs.json", "steps/4/verified.json"]
    manifest.check(stage.path / "steps")
    (stage.path / "steps" / "4" / "array").write_bytes(b"1235")
    with pytest.raises(UserError, match="array: is damaged"):
        manifest.check(stage.path / "steps")


def test_a_stage_of_an_earlier_version_is_read_and_told_once(stage, capsys):
    record = files.read_sealed(stage.path / "stage.json")
    del record["verified"]
    files.write_json(stage.path / "stage.json", record)
    (stage.path / "verified.json").unlink()
    assert again(stage).reused
    for _ in range(2):
        manifest.check(stage.path / "b.npy")
    assert capsys.readouterr().err.count("cannot be verified") == 1


def test_a_moved_stage_is_verified_where_it_is(stage, tmp_path):
    shutil.move(stage.path, tmp_path / "elsewhere")
    manifest.check(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "b.npy").write_bytes(b"x")
    with pytest.raises(UserError, match="elsewhere/b.npy"):
        manifest.check(tmp_path / "elsewhere" / "b.npy")


def test_a_foreign_manifest_above_a_folder_is_none_of_ours(tmp_path):
    (tmp_path / "manifest.json").write_text('{"name": "of a web page"}')
    (tmp_path / "a.bin").write_bytes(b"1")
    manifest.check(tmp_path / "a.bin")
