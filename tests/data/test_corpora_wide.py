"""Widening the default corpora: missing clients, other versions, what stays. Nothing is downloaded.

The clients of npm and Debian are replaced by ones that copy files, except where their programs are.
"""

import collections
import dataclasses
import hashlib
import io
import json
import re
import shutil
import subprocess
import tarfile
from functools import partial
from pathlib import Path
from zipfile import ZipFile

import pytest

from specialm import cli
from specialm.common.errors import UserError
from specialm.data.corpora import archives, build, catalogue, debian, npm, wide, widen
from specialm.data.corpora.catalogue import Corpus, DebianPackage, NpmPackage, Package, Part
from specialm.data.documents import Document
from specialm.data.sources import open_source


def line(word, size=220):
    return (f"{word} " * size)[: size - 1] + "."


def lines_of(files):
    """Extractor of the tests: a document a line of each file."""
    for name, content in files:
        for number, text in enumerate(content.decode().splitlines()):
            yield Document(f"{name}/{number}", text, f"{name}/{number % 2}")


def wheel_lines(archive, member):
    yield from lines_of([(member, archive.read(member))])


def tarball(path, files):
    """Write a .tgz and return its sha256."""
    with tarfile.open(path, "w:gz") as archive:
        for name, text in files.items():
            member = tarfile.TarInfo(f"./{name}")
            member.size = len(text.encode())
            archive.addfile(member, io.BytesIO(text.encode()))
    return hashlib.sha256(path.read_bytes()).hexdigest()


class World:
    """A shelf of archives, the catalogues that pin them, and clients that copy from the shelf."""

    def __init__(self, folder, monkeypatch):
        self.folder, self.shelf = folder / "root", folder / "shelf"
        self.shelf.mkdir()
        self.asked = []  # names of the packages that a client was asked for
        self.missing = {"npm": "", "debian": ""}
        wheel = self.folder / "downloads" / "pack-1.0.whl"
        wheel.parent.mkdir(parents=True)
        with ZipFile(wheel, "w") as opened:
            opened.writestr("law.txt", line("law"))
            opened.writestr("web.txt", "\n".join(line(word) for word in ("web", "cat", "dog")))
        pip = Package("pack", "1.0", wheel.name, archives.sha256(wheel))
        self.defaults = (
            self._corpus("law", "domain", Part(pip, partial(wheel_lines, member="law.txt"))),
            self._corpus("web", "generic", Part(pip, partial(wheel_lines, member="web.txt")), 450),
        )
        self.deb = DebianPackage("doc", "1", "doc_1_all.deb", self.put("doc_1_all.deb", "owl elk"))
        other = DebianPackage("talk", "1", "talk_1_all.deb", self.put("talk_1_all.deb", "law hen"))
        self.npm = NpmPackage("@x/lib", "2", "x-lib-2.tgz", self.put("x-lib-2.tgz", "owl ant"))
        self.corpora = (
            self._corpus("speech", "domain", Part(other, lines_of, r".*\.txt")),
            self._rest(),
            self._corpus("docs", "generic_wide", Part(self.deb, lines_of, r".*\.txt")),
            self._corpus("lib", "generic_wide", Part(self.npm, lines_of, r".*\.txt")),
        )
        for kind, name in ((NpmPackage, "npm"), (DebianPackage, "debian")):
            client = archives.Client(partial(self.missing.get, name), self._copy, npm.opened)
            monkeypatch.setitem(archives.CLIENTS, kind, client)

    def _corpus(self, name, role, *parts):
        limit = parts[-1] if isinstance(parts[-1], int) else 10**6
        parts = tuple(part for part in parts if isinstance(part, Part))
        return Corpus(name, role, parts, limit, "CC0-1.0", "made up")

    def _rest(self):
        return dataclasses.replace(
            self.defaults[1], name="web-rest", role="generic_wide", limit=10**6, prefix="web"
        )

    def put(self, name, words):
        content = "\n".join(line(word) for word in words.split())
        return tarball(self.shelf / name, {"a.txt": content, "b.png": "no text"})

    def _copy(self, package, folder):
        self.asked.append(package.name)
        found = self.shelf / package.archive
        others = sorted(self.shelf.glob(f"{package.name}_*.deb"))
        if not found.exists() and not others:
            raise UserError(f"no {package.name}")
        found = found if found.exists() else others[-1]
        shutil.copy(found, folder)
        version = found.name.split("_")[1] if "_" in found.name else package.version
        return dataclasses.replace(package, archive=found.name, version=version)

    def fetch(self, names=None, widen_=True):
        return widen.fetch(self.folder, names, widen_, self.corpora, self.defaults)

    def words(self, path):
        raw = (self.folder / path).read_text().splitlines()
        return [json.loads(text)["text"].split()[0] for text in raw]

    def state(self):
        """{file: content} of everything but the downloads."""
        return {
            path.relative_to(self.folder).as_posix(): path.read_bytes()
            for path in self.folder.rglob("*")
            if path.is_file() and "downloads" not in path.parts
        }


@pytest.fixture
def world(tmp_path, monkeypatch):
    return World(tmp_path, monkeypatch)


def test_wide_adds_files_and_leaves_the_default_ones_as_they_are(world):
    default = world.fetch(widen_=False)
    before = world.state()
    manifest = world.fetch()
    after = world.state()
    assert {name: after[name] for name in before} == before
    assert list(manifest["corpora"]) == ["law", "web", "speech", "web-rest", "docs", "lib"]
    assert manifest["corpora"]["web"] == default["corpora"]["web"]
    # `law` is in a default domain, `owl` in docs; of web's three the default corpus has two.
    assert world.words("domains/speech.jsonl") == ["hen"]
    assert world.words("generic_wide/lib.jsonl") == ["ant"]
    rest = world.words("generic_wide/web-rest.jsonl")
    assert sorted(rest + world.words("generic/web.jsonl")) == ["cat", "dog", "web"]
    entry = manifest["corpora"]["docs"]
    assert entry["packages"] == [dataclasses.asdict(world.deb)]
    assert (entry["role"], entry["documents"], entry["licence"]) == ("generic_wide", 2, "CC0-1.0")
    assert json.loads(after["manifest_wide.json"])["corpora"]["docs"] == entry


def test_generic_documents_are_groups_of_their_own_and_in_one_file_alone(world):
    world.fetch()
    groups = []
    for path in ("generic/web.jsonl", "generic_wide/web-rest.jsonl"):
        for raw in (world.folder / path).read_text().splitlines():
            row = json.loads(raw)
            assert row["group"] == row["id"] and re.match(r"web/web\.txt/", row["group"])
            groups.append(row["group"])
    assert len(groups) == len(set(groups)) == 3


def test_a_default_fetch_afterwards_changes_nothing_and_a_second_one_reads_nothing(
    world, monkeypatch
):
    first = world.fetch()
    before, asked = world.state(), list(world.asked)
    shutil.rmtree(world.folder / "downloads")
    monkeypatch.setattr(build, "write", None)
    default = world.fetch(widen_=False)
    assert list(default["corpora"]) == ["law", "web"]
    assert world.fetch() == first
    assert world.state() == before and world.asked == asked


def test_without_a_client_its_sources_are_left_out_and_come_later(world, capsys):
    world.missing["npm"] = "npm is not installed"
    world.missing["debian"] = "apt-get not installed"
    manifest = world.fetch()
    assert list(manifest["corpora"]) == ["law", "web", "web-rest"]
    reasons = {item["source"]: item["reason"] for item in manifest["left_out"]}
    assert reasons["docs (doc)"] == reasons["speech (talk)"] == "apt-get not installed"
    assert reasons["lib (@x/lib)"] == "npm is not installed"
    told = [text for text in capsys.readouterr().err.splitlines() if "left out" in text]
    assert len(told) == 2 and all(text.startswith("specialm: ") for text in told)
    assert "apt-get not installed; left out: talk, doc." in told[0]
    assert world.asked == []
    world.missing.update(npm="", debian="")
    manifest = world.fetch()
    assert list(manifest["corpora"]) == ["law", "web", "web-rest", "speech", "docs", "lib"]
    assert "docs (doc)" not in {item["source"] for item in manifest["left_out"]}


def test_what_a_client_cannot_find_is_left_out_alone(world, capsys):
    (world.shelf / "doc_1_all.deb").unlink()
    manifest = world.fetch()
    assert list(manifest["corpora"]) == ["law", "web", "speech", "web-rest", "lib"]
    assert {"source": "docs (doc)", "reason": "no doc"} in manifest["left_out"]
    told = capsys.readouterr().err
    assert "specialm: left out, as they could not be downloaded: doc (no doc).\n" in told


def test_what_another_version_does_not_have_is_left_out(world, capsys):
    """Its files have other names, or the archive is of another kind."""
    (world.shelf / "doc_1_all.deb").unlink()
    tarball(world.shelf / "doc_2_all.deb", {"a.html": line("elk")})
    (world.shelf / "x-lib-2.tgz").write_bytes(b"not an archive")
    package = dataclasses.replace(world.npm, sha256=archives.sha256(world.shelf / "x-lib-2.tgz"))
    corpus = dataclasses.replace(world.corpora[3], parts=(Part(package, lines_of, r".*\.txt"),))
    world.corpora = (*world.corpora[:3], corpus)
    manifest = world.fetch()
    assert list(manifest["corpora"]) == ["law", "web", "speech", "web-rest"]
    reasons = {item["source"]: item["reason"] for item in manifest["left_out"]}
    assert reasons["docs"] == "there is no text for 'docs' in doc 2."
    assert "x-lib-2.tgz cannot be read as expected" in reasons["lib"]
    assert "docs is left out: there is no text" in capsys.readouterr().err


def test_of_several_parts_those_that_are_there_are_built(world):
    missing = dataclasses.replace(world.deb, name="gone", archive="gone_1_all.deb")
    corpus = world.corpora[2]
    parts = (*corpus.parts, Part(missing, lines_of, r".*\.txt"))
    world.corpora = (dataclasses.replace(corpus, parts=parts),)
    manifest = world.fetch()
    assert world.words("generic_wide/docs.jsonl") == ["owl", "elk"]
    assert [package["name"] for package in manifest["corpora"]["docs"]["packages"]] == ["doc"]
    assert {"source": "docs (gone)", "reason": "no gone"} in manifest["left_out"]


def test_another_version_is_taken_recorded_and_kept(world, capsys):
    (world.shelf / "doc_1_all.deb").unlink()
    digest = world.put("doc_2_all.deb", "yak")
    manifest = world.fetch()
    assert "doc: version 2 in place of 1" in capsys.readouterr().err
    found = {"name": "doc", "version": "2", "archive": "doc_2_all.deb", "sha256": digest}
    assert manifest["corpora"]["docs"]["packages"] == [found]
    assert world.words("generic_wide/docs.jsonl") == ["yak"]
    before, asked = world.state(), list(world.asked)
    assert world.fetch() == manifest
    assert world.state() == before and world.asked == asked
    shutil.rmtree(world.folder / "downloads")  # and the file is lost: the version now there is got
    (world.folder / "generic_wide" / "docs.jsonl").unlink()
    (world.shelf / "doc_2_all.deb").unlink()
    world.put("doc_3_all.deb", "gnu")
    manifest = world.fetch()
    assert world.words("generic_wide/docs.jsonl") == ["gnu"]
    assert manifest["corpora"]["docs"]["packages"][0]["version"] == "3"
    before, asked = world.state(), list(world.asked)
    assert world.fetch() == manifest
    assert world.state() == before and world.asked == asked
    versions = json.loads(world.state()["manifest_wide.json"])["versions"]
    assert (versions["doc"]["version"], versions["doc"]["instead_of"]) == ("3", "1")
    newer = dataclasses.replace(world.deb, version="4", archive="doc_4_all.deb")
    newer = dataclasses.replace(newer, sha256=world.put("doc_4_all.deb", "bee"))
    corpus = dataclasses.replace(world.corpora[2], parts=(Part(newer, lines_of, r".*\.txt"),))
    world.corpora = (*world.corpora[:2], corpus, world.corpora[3])
    world.fetch()  # a new catalogue's version is preferred to one found for the older catalogue
    assert world.words("generic_wide/docs.jsonl") == ["bee"]


def test_an_older_file_stays_when_its_archive_cannot_be_had(world, capsys):
    world.fetch()
    content = (world.folder / "generic_wide" / "docs.jsonl").read_bytes()
    shutil.rmtree(world.folder / "downloads")
    world.missing["debian"] = "apt-get not installed"
    changed = dataclasses.replace(world.corpora[2], limit=300)
    world.corpora = (*world.corpora[:2], changed, world.corpora[3])
    assert "docs" in world.fetch()["corpora"]
    assert (world.folder / "generic_wide" / "docs.jsonl").read_bytes() == content
    assert "docs stays as it was built before." in capsys.readouterr().err


def test_a_killed_call_goes_on_after_the_last_source(world, monkeypatch):
    write = build.write

    def killed(corpus, *rest):
        if corpus.name == "lib":
            raise KeyboardInterrupt
        return write(corpus, *rest)

    monkeypatch.setattr(build, "write", killed)
    with pytest.raises(KeyboardInterrupt):
        world.fetch()
    built = []
    monkeypatch.setattr(
        build, "write", lambda corpus, *rest: built.append(corpus.name) or write(corpus, *rest)
    )
    world.fetch()
    assert built == ["lib"]
    assert collections.Counter(world.asked) == {"talk": 1, "doc": 1, "@x/lib": 1}


def test_a_damaged_archive_is_an_error(world):
    world.fetch()
    (world.folder / "downloads" / "doc_1_all.deb").write_bytes(b"something else")
    (world.folder / "generic_wide" / "docs.jsonl").unlink()
    with pytest.raises(UserError, match=r"doc_1_all\.deb.*sha256.*Delete"):
        world.fetch()


def test_wrong_content_from_npm_is_an_error_of_that_source(world):
    world.put("x-lib-2.tgz", "bad")
    manifest = world.fetch()
    assert "lib" not in manifest["corpora"]
    (reason,) = (i["reason"] for i in manifest["left_out"] if i["source"] == "lib (@x/lib)")
    assert "sha256" in reason
    assert not (world.folder / "downloads" / "x-lib-2.tgz").exists()


def test_names_choose_wide_corpora(world):
    assert list(world.fetch(["speech"], False)["corpora"]) == ["speech"]
    assert list(world.fetch(["generic_wide"], False)["corpora"]) == [
        "web",
        "speech",
        "web-rest",
        "docs",
        "lib",
    ]
    with pytest.raises(UserError, match="did you mean 'speech'"):
        world.fetch(["speach"], False)


def test_sources_read_the_default_corpus_or_the_widened_one(world):
    with pytest.raises(UserError, match="run `specialm fetch --wide` first"):
        open_source("corpora:generic_wide", corpora_root=str(world.folder))
    with pytest.raises(UserError, match="run `specialm fetch --wide` first"):
        open_source("corpora:math", corpora_root=str(world.folder))
    world.fetch()

    def words(spec):
        source = open_source(spec, corpora_root=str(world.folder))
        return sorted(d.text.split()[0] for d in source.documents(collections.Counter()))

    assert len(words("corpora:generic")) == 2
    assert words("corpora:generic_wide") == ["ant", "cat", "dog", "elk", "owl", "web"]
    assert words("corpora:speech") == ["hen"]


def test_the_command_widens(monkeypatch, tmp_path, capsys):
    calls = []

    def fetch(root, widen):
        calls.append((root, widen))
        return {"corpora": {}, "left_out": []}

    monkeypatch.setattr(widen, "fetch", fetch)
    assert cli.main(["fetch", f"--root={tmp_path}", "--wide"]) == 0
    assert cli.main(["fetch", f"--root={tmp_path}"]) == 0
    assert calls == [(tmp_path, True), (tmp_path, False)]


# ---- Clients -------------------------------------------------------------------------------------


def test_npm_packs_and_reads_a_tarball(tmp_path, monkeypatch):
    package = NpmPackage("lib", "2", "lib-2.tgz", tarball(tmp_path / "lib-2.tgz", {"x/a.txt": "A"}))

    def run(command, cwd, **_):
        assert command == ["npm", "pack", "lib@2", "--ignore-scripts"]
        if package.archive == "lib-2.tgz":
            shutil.copy(tmp_path / "lib-2.tgz", cwd)
        said = "npm error no network\nnpm error A complete log of this run is in x\n"
        return subprocess.CompletedProcess(command, 0, "", said)

    monkeypatch.setattr(npm.subprocess, "run", run)
    monkeypatch.chdir(tmp_path)
    paths = archives.download(Path("downloads"), [package])
    with archives.opened(package, paths["lib"], r".*\.txt") as files:
        assert list(files) == [("x/a.txt", b"A")]
    package = dataclasses.replace(package, archive="lib-3.tgz")
    with pytest.raises(UserError, match=r"npm could not download lib@2 \(no network\)"):
        archives.download(tmp_path / "downloads", [package])


@pytest.mark.skipif(not shutil.which("dpkg-deb"), reason="dpkg-deb is not installed")
def test_debian_takes_another_version_and_reads_it(tmp_path, monkeypatch):
    tree = tmp_path / "tree"
    (tree / "DEBIAN").mkdir(parents=True)
    control = "Package: doc\nVersion: 1:2-1\nArchitecture: all\nMaintainer: A <a@b.c>\n"
    (tree / "DEBIAN" / "control").write_text(f"{control}Description: text\n")
    (tree / "usr").mkdir()
    (tree / "usr" / "a.txt").write_text("A")
    (tree / "usr" / "b.png").write_text("B")
    (tree / "usr" / "c.txt").symlink_to("a.txt")
    archive = tmp_path / "doc_1%3a2-1_all.deb"
    subprocess.run(["dpkg-deb", "--build", tree, archive], check=True, capture_output=True)
    run = subprocess.run
    asked = []

    def apt(command, **options):
        if command[0] != "apt-get":
            return run(command, **options)
        asked.append(command[-1])
        if command[-1] == "doc":
            shutil.copy(archive, options["cwd"])
            return subprocess.CompletedProcess(command, 0, "", "W: unsandboxed\n")
        return subprocess.CompletedProcess(command, 100, "", "W: w\nE: Unable to locate it\n")

    monkeypatch.setattr(debian.subprocess, "run", apt)
    package = DebianPackage("doc", "1:1-1", "doc_1%3a1-1_all.deb", "0" * 64)
    found = []
    paths = archives.download(
        tmp_path / "downloads", [package], replaced=lambda *pair: found.append(pair)
    )
    assert asked == ["doc=1:1-1", "doc"]
    digest = archives.sha256(archive)
    assert found == [(package, DebianPackage("doc", "1:2-1", archive.name, digest))]
    with archives.opened(package, paths["doc"], r"usr/.*\.txt") as files:
        assert list(files) == [("usr/a.txt", b"A")]
    with pytest.raises(UserError, match="could not download no .E: Unable.*apt-get update"):
        archives.download(tmp_path / "downloads", [dataclasses.replace(package, name="no")])
    paths["doc"].write_bytes(archive.read_bytes()[:200])
    with (
        pytest.raises(UserError, match="cannot be read as expected"),
        archives.opened(package, paths["doc"], r".*") as files,
    ):
        list(files)


@pytest.mark.parametrize("client", [npm, debian])
def test_clients_say_what_is_missing(client, monkeypatch):
    monkeypatch.setattr(client.shutil, "which", lambda program: None)
    assert "not installed" in client.missing()
    monkeypatch.setattr(client.shutil, "which", lambda program: f"/usr/bin/{program}")
    assert client.missing() == ""


# ---- The catalogue -------------------------------------------------------------------------------


def test_catalogue_of_the_wide_corpora():
    names = [corpus.name for corpus in (*catalogue.CORPORA, *wide.CORPORA)]
    assert len(set(names)) == len(names) and not {"generic", "generic_wide"} & set(names)
    roles = [corpus.role for corpus in wide.CORPORA]
    assert set(roles) == {"domain", "generic_wide"} and roles == sorted(roles)
    assert all(corpus.licence and corpus.note for corpus in wide.CORPORA)
    used = {package.name for package in archives.packages_of(wide.CORPORA)}
    assert set(wide.PACKAGES) <= used
    for package in archives.packages_of(wide.CORPORA):
        assert re.fullmatch("[0-9a-f]{64}", package.sha256)
        assert ":" not in package.archive
    for corpus in wide.CORPORA:
        for part in corpus.parts:
            assert type(part.package) is Package or re.compile(part.members).pattern


def test_the_rest_of_a_default_corpus_is_read_in_the_same_way():
    default = {corpus.name: corpus for corpus in catalogue.CORPORA}
    rests = [corpus for corpus in wide.CORPORA if corpus.name.endswith("-rest")]
    assert len(rests) >= 3
    for corpus in rests:
        assert corpus.parts == default[corpus.prefix].parts
        assert corpus.name == f"{corpus.prefix}-rest"
