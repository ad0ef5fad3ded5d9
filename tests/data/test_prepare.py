"""Bad and small input, and that nothing of a failed preparation is taken for finished."""

import collections
import json

import pytest
from ml_collections import ConfigDict

from specialm import config as config_lib
from specialm.common.errors import UserError
from specialm.common.stages import Stages
from specialm.data.prepare import cut_long_documents, prepare, prepare_specialist
from specialm.data.sources import open_source
from specialm.data.store import WindowStore
from specialm.data.vocabularies.unigram import Unigram


@pytest.fixture
def make(tmp_path, vocabulary):
    """(source, settings) -> the stores of a domain `mine`."""

    def run(source, **settings):
        config = config_lib.default()
        config.data.domains = ConfigDict({"mine": str(source)})
        config.data.context = 16
        config.data.update(settings)
        return prepare_specialist(config, Stages(tmp_path / "work"), ["mine"], vocabulary).domains[
            "mine"
        ]

    return run


def fail(make, source, **settings) -> str:
    with pytest.raises(UserError) as error:
        make(source, **settings)
    return str(error.value)


def finished(tmp_path) -> list[str]:
    """STAGE/NAME of the finished stages."""
    return sorted(
        path.parent.relative_to(tmp_path / "work").as_posix().rpartition("-")[0]
        for path in (tmp_path / "work").rglob("stage.json")
    )


def test_the_domains_alone(make, notes, capsys):
    stores = make(f"folder:{notes}")
    documents = [name for store in stores.values() for name, _ in store.documents]
    assert len(documents) == len(set(documents)) == 30
    size = sum(len(path.read_bytes()) for path in notes.rglob("*.txt")) - len(b"caf\xe9")
    assert sum(int(store.bytes_N.sum()) for store in stores.values()) == size
    told = capsys.readouterr().err
    assert "mine: 2 documents skipped: binary (NUL bytes)" in told
    assert "mine: 1 documents skipped: not UTF-8" in told


def test_an_empty_folder(make, tmp_path):
    (tmp_path / "empty").mkdir()
    assert "no file below" in fail(make, f"folder:{tmp_path / 'empty'}")
    assert finished(tmp_path) == []


def test_a_folder_without_any_text(make, tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    (folder / "a.png").write_bytes(b"\x89PNG\0")
    (folder / "blank.txt").write_text("  \n")
    error = fail(make, f"folder:{folder}")
    assert "has no document with text" in error
    assert "1 binary (NUL bytes)" in error and "1 empty" in error
    assert finished(tmp_path) == []
    # Text is added: the same command works, nothing that failed is in the way.
    for i in range(40):
        (folder / f"{i}.txt").write_text(f"Some words of the document {i}. " * 20)
    assert len(make(f"folder:{folder}")["train"]) > 0


def test_one_file_cannot_be_split(make, tmp_path, real_documents):
    """The error names what to do, and doing it works."""
    text = "\n\n".join(real_documents[:40])
    (tmp_path / "book.txt").write_text(text)
    error = fail(make, f"folder:{tmp_path / 'book.txt'}")
    assert "split has no windows: 1 documents are too few" in error
    assert "--config.data.part_chars=4000" in error
    stores = make(f"folder:{tmp_path / 'book.txt'}", part_chars=1000)
    for split, store in stores.items():
        assert len(store) > 0, split
        assert all(name.startswith("book.txt#") for name, _ in store.documents)


def test_less_than_one_window(make, tmp_path, vocabulary):
    folder = tmp_path / "short"
    folder.mkdir()
    for i in range(40):
        (folder / f"{i}.txt").write_text(f"word {i}")
    tokens = [len(vocabulary.encode([f"word {i}"])[0]) + 1 for i in range(40)]
    error = fail(make, f"folder:{folder}", context=sum(tokens))
    assert "less than one window (data.context=" in error and "mine: the train split" in error
    assert len(make(f"folder:{folder}", context=8)["train"]) > 0


def test_generic_text_smaller_than_a_window(tmp_path, write_jsonl, vocabulary):
    config = config_lib.default()
    config.data.generic = f"jsonl:{write_jsonl(tmp_path / 'g.jsonl', [{'text': 'few words'}])}"
    config.data.vocabulary = str(vocabulary.path)
    with pytest.raises(UserError, match="generic: the .* split has .*data.generic has too little"):
        prepare(config, Stages(tmp_path / "work"), [])


def test_a_killed_preparation_goes_on(make, notes, tmp_path, monkeypatch):
    """What a stage left behind is no result: it is written again, and the same comes out."""
    whole = {name: store.fingerprint for name, store in make(f"folder:{notes}").items()}
    for path in (tmp_path / "work").rglob("*"):
        if path.name in ("stage.json", "index.json"):
            path.unlink()
    encode, calls = Unigram.encode, []

    def killed(self, texts, threads=None):
        calls.append(len(texts))
        raise KeyboardInterrupt

    monkeypatch.setattr(Unigram, "encode", killed)
    with pytest.raises(KeyboardInterrupt):
        make(f"folder:{notes}")
    assert calls and finished(tmp_path) == ["scan/mine"]
    monkeypatch.setattr(Unigram, "encode", encode)
    again = make(f"folder:{notes}")
    assert {name: store.fingerprint for name, store in again.items()} == whole
    for store in again.values():
        assert (
            len(WindowStore(store.path))
            == json.loads((store.path / "stage.json").read_text())["result"]["windows"]
        )


def test_parts_lose_no_text(make, tmp_path):
    """Cut at blank lines where there are some, else at line ends; a long line stays whole."""
    paragraphs = [f"Paragraph {i} " + "x" * 70 + "\nits second line" for i in range(50)]
    lines = [f"line {i} " + "y" * 40 for i in range(50)]
    folder = tmp_path / "parts"
    folder.mkdir()
    (folder / "a.txt").write_text("\n\n".join(paragraphs))
    (folder / "b.txt").write_text("\n".join(lines))
    (folder / "c.txt").write_text("z" * 3000)
    counts = collections.Counter()
    documents = list(cut_long_documents(open_source(f"folder:{folder}"), 400).documents(counts))
    assert counts["documents"] == len(documents) == len({d.group for d in documents})
    for name in "abc":
        parts = [d.text for d in documents if d.id.startswith(f"{name}.txt#")]
        text = (folder / f"{name}.txt").read_text()
        assert "".join("".join(parts).split()) == "".join(text.split())
    sizes = {name: [len(d.text) for d in documents if d.id.startswith(name)] for name in "abc"}
    assert all(400 <= size < 550 for size in sizes["a"][:-1])
    assert all(800 <= size < 900 for size in sizes["b"][:-1]) and len(sizes["b"]) > 2
    assert sizes["c"] == [3000]
    assert all(d.text.startswith("Paragraph") for d in documents if d.id.startswith("a"))


def test_what_is_not_read_is_told_with_places(make, tmp_path, capsys):
    folder = tmp_path / "more"
    folder.mkdir()
    (folder / ".hidden.txt").write_text("hidden")
    (folder / "gone.txt").symlink_to("nowhere")
    (folder / "a.bin").write_bytes(bytes(5))
    for i in range(60):
        (folder / f"{i:02d}.txt").write_text(f"The words of text {i}. " * 40)
    make(f"folder:{folder}")
    told = capsys.readouterr().err
    assert "mine: 1 documents skipped: binary (NUL bytes), as a.bin" in told
    assert "mine: 1 left out: hidden files and folders, as .hidden.txt" in told
    assert "mine: 1 left out: links that lead nowhere, as gone.txt" in told
