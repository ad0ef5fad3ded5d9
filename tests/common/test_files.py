import json
import os
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from specialm.common import disk, files
from specialm.common.errors import UserError

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
    max_leaves=10,
)


def test_json_has_no_nan_and_the_error_says_where():
    with pytest.raises(ValueError, match=re.escape("a.b[1] = nan, c = inf")):
        files.to_json({"a": {"b": [1.0, float("nan")]}, "c": float("inf")})
    assert json.loads(files.to_json({"a": [1.5, None]})) == {"a": [1.5, None]}


@settings(max_examples=10)
@given(st.dictionaries(st.text().filter(lambda key: key != files.SEAL), JSON))
def test_a_sealed_file_comes_back(tmp_path_factory, value):
    path = tmp_path_factory.mktemp("sealed") / "x.json"
    files.write_sealed(path, value)
    assert files.read_sealed(path) == value


def test_no_changed_bit_of_a_sealed_file_is_read_as_another_value(tmp_path):
    path, value = tmp_path / "x.json", {"steps": 100, "loss": 1.25, "of": {"name": [1, 2]}}
    files.write_sealed(path, value)
    content, refused = path.read_bytes(), 0
    for place in range(len(content)):
        for bit in (0, 3, 6):
            changed = bytearray(content)
            changed[place] ^= 1 << bit
            path.write_bytes(changed)
            try:
                found = files.read_sealed(path)
            except UserError as error:
                assert str(path) in str(error)
                refused += 1
            else:  # white space, or the name of the seal itself
                assert {key: found.get(key) for key in value} == value, bytes(changed)
    assert refused > 0.7 * 3 * len(content)


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "x.txt"
    files.write_text(path, "old")

    def half(stream):
        stream.write(b"ne")
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError):
        files.write_with(path, half)
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_what_is_written_is_flushed_before_it_has_its_name(tmp_path, monkeypatch):
    order = []
    replace, fsync = os.replace, os.fsync
    monkeypatch.setattr(os, "fsync", lambda number: (order.append("fsync"), fsync(number)))
    monkeypatch.setattr(os, "replace", lambda *paths: (order.append("replace"), replace(*paths)))
    files.save_array(tmp_path / "x.npy", np.arange(3))
    assert order == ["fsync", "replace"]


def test_a_full_disk_is_a_sentence(tmp_path):
    """/dev/full is what the kernel has for this."""

    def fill(_):
        with open("/dev/full", "wb") as full:
            full.write(b"x")

    with pytest.raises(
        UserError, match=r"x.bin: the disk is full \([\d,.]+ MB free\).*same command"
    ):
        files.write_with(tmp_path / "x.bin", fill)
    assert not list(tmp_path.iterdir())
    try:
        raise ValueError("RESOURCE_EXHAUSTED: [OS error 28: No space left on device]")
    except ValueError as error:
        assert disk.is_full(error) and not disk.is_full(ValueError("space"))


def test_a_removal_killed_on_the_way_leaves_no_half_of_a_folder(tmp_path, monkeypatch):
    folder = tmp_path / "pieces"

    def killed(*_, **__):
        raise KeyboardInterrupt

    (folder / "00000").mkdir(parents=True)
    (folder / "00000" / "scan.json").write_text("{}")
    with monkeypatch.context() as patch:
        patch.setattr(os, "rmdir", killed)
        with pytest.raises(KeyboardInterrupt):
            files.remove_folder(folder)
    assert not folder.exists() and (tmp_path / "pieces.tmp").exists()
    folder.mkdir()
    files.remove_folder(folder)
    assert not list(tmp_path.iterdir())
