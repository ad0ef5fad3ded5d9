"""Which files a source has: links, loops, and what is left out."""

import os

import pytest

from specialm.common.errors import UserError
from specialm.data import file_tree
from specialm.data.documents import Counts
from specialm.data.file_tree import find_files
from specialm.data.sources import open_source


def write(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"the text of {name}")


def found(root, endings=None):
    files = find_files("s", str(root), endings)
    return [files.name(path) for path in files.files], dict(files.left_out)


def test_a_linked_folder_is_read_like_any_other(tmp_path):
    write(tmp_path, "notes/a.txt", "elsewhere/b.txt", "elsewhere/deep/c.txt")
    (tmp_path / "notes" / "more").symlink_to("../elsewhere")
    assert found(tmp_path / "notes") == (["a.txt", "more/b.txt", "more/deep/c.txt"], {})
    counts = Counts()
    documents = list(open_source(f"folder:{tmp_path / 'notes'}").documents(counts))
    assert [d.id for d in documents] == ["a.txt", "more/b.txt", "more/deep/c.txt"]


def test_nothing_is_read_twice_and_what_needs_no_link_is_read_without(tmp_path):
    write(tmp_path, "r/z/a.txt", "r/b.txt", "out/o.txt")
    root = tmp_path / "r"
    (root / "again").symlink_to("z")
    (root / "again.txt").symlink_to("b.txt")
    (root / "out1").symlink_to("../out")
    (root / "out2").symlink_to("../out")
    (root / "out3.txt").symlink_to("../out/o.txt")
    names, left_out = found(root)
    assert names == ["b.txt", "out1/o.txt", "z/a.txt"]
    assert left_out == {file_tree.SEEN_LINK: 4}


def test_loops_and_links_that_lead_nowhere_are_noticed(tmp_path):
    write(tmp_path, "r/sub/a.txt", "secret/not-mine.txt", "other/b.txt")
    root = tmp_path / "r"
    (root / "sub" / "up").symlink_to("..")
    (root / "above").symlink_to("../..")
    (root / "all").symlink_to("/")
    (root / "self").symlink_to("self")
    (root / "gone").symlink_to("nowhere")
    (root / "other").symlink_to("../other")
    (tmp_path / "other" / "back").symlink_to("../r")
    names, left_out = found(root)
    assert names == ["other/b.txt", "sub/a.txt"]
    assert left_out == {file_tree.LOOP: 2, file_tree.SEEN_LINK: 2, file_tree.BROKEN_LINK: 2}


def test_what_is_left_out_is_counted_by_kind_with_places(tmp_path):
    write(tmp_path, "a.jsonl", "b.txt", ".hidden.jsonl", ".git/c.jsonl", "sub/d.jsonl", "e.txt")
    os.mkfifo(tmp_path / "pipe.jsonl")
    files = find_files("s", str(tmp_path), (".jsonl",))
    assert [files.name(path) for path in files.files] == ["a.jsonl", "sub/d.jsonl"]
    assert files.left_out == {file_tree.HIDDEN: 2, file_tree.OTHER_ENDING: 2, file_tree.SPECIAL: 1}
    assert files.left_out.examples[file_tree.HIDDEN] == [".git", ".hidden.jsonl"]
    with pytest.raises(UserError, match="no file ending in .parquet below .*4 files with another"):
        find_files("s", str(tmp_path), (".parquet",))
    with pytest.raises(UserError, match="neither a file nor a folder"):
        find_files("s", str(tmp_path / "pipe.jsonl"), None)


def test_a_name_that_is_not_utf8_can_be_printed(tmp_path):
    with open(os.fsencode(tmp_path) + b"/caf\xe9.txt", "w") as stream:
        stream.write("text")
    (document,) = open_source(f"folder:{tmp_path}").documents(Counts())
    assert document.id == document.group == "caf\\udce9.txt"


def test_a_folder_that_is_the_link_itself(tmp_path):
    write(tmp_path, "real/a.txt")
    (tmp_path / "link").symlink_to("real")
    assert found(tmp_path / "link") == (["a.txt"], {})
