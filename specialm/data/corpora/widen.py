"""The default corpora widened from npm and Debian where those clients exist.

    root/generic_wide/<name>.jsonl    a source; `corpora:generic_wide` is these and root/generic
    root/domains/<name>.jsonl         more domains
    root/manifest_wide.json           as manifest.json, and the versions found in place of others

The default corpora stay as they are. A document that is in any other file is dropped. A file is
made again if its own packages or the code have changed. What cannot be downloaded is left out,
the reason is recorded, and the next call tries again.
"""

import dataclasses
import hashlib
import inspect
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from specialm.common.errors import UserError
from specialm.common.files import write_json
from specialm.data.corpora import archives, catalogue, download, extractors, pages, prose, wide
from specialm.data.corpora.build import SHORTEST, build, package_facts, text_keys
from specialm.data.corpora.catalogue import Corpus, DebianPackage, Package, Part

GENERIC = "generic_wide"
MANIFEST = "manifest_wide.json"


def is_wide(name: str) -> bool:
    """Whether a corpus, or the generic corpus of this name, comes with `fetch --wide` only."""
    return name == GENERIC or any(corpus.name == name for corpus in wide.CORPORA)


def fetch(
    root: Path,
    names: Sequence[str] | None = None,
    widen: bool = False,
    corpora: Sequence[Corpus] = wide.CORPORA,
    defaults: Sequence[Corpus] = catalogue.CORPORA,
) -> dict:
    """Build the default corpora below `root`, and the wide ones that are asked for.

    Args:
      root: the folder.
      names: corpora to add to those already there, default ones and wide ones; None for all
        default ones. `generic` is all default generic sources, `generic_wide` those and all wide
        ones.
      widen: build all wide corpora.
      corpora: the catalogue of the wide ones.
      defaults: the catalogue of the default ones.

    Returns:
      The manifest of the default corpora, with the wide ones if they were asked for.

    Raises:
      UserError: as `download.fetch`; a wide archive that is damaged.
    """
    root = Path(root)
    ours = {corpus.name for corpus in corpora} | {GENERIC}
    known = [*(corpus.name for corpus in defaults), "generic", *sorted(ours)]
    download.check_names(names or (), known)
    others = None if names is None else [name for name in names if name not in ours]
    if others is not None and GENERIC in (names or ()):
        others.append("generic")
    manifest = download.fetch(root, others, defaults)
    if not widen and ours.isdisjoint(names or ()):
        return manifest
    wanted = [
        corpus
        for corpus in corpora
        if widen
        or corpus.name in (names or ())
        or (corpus.role == GENERIC and GENERIC in (names or ()))
    ]
    files = [root / entry["path"] for entry in manifest["corpora"].values()]
    widened = _Widening(root, corpora, _digest_of(defaults)).run(wanted, files)
    return {
        **manifest,
        "corpora": manifest["corpora"] | widened["corpora"],
        "left_out": manifest["left_out"] + widened["left_out"],
    }


def _digest_of(defaults: Sequence[Corpus]) -> str:
    """Hash what decides which documents the default corpora have, installed packages apart."""
    facts = [
        [corpus.name, corpus.limit, [package_facts(p) for p in archives.packages_of([corpus])]]
        for corpus in defaults
    ]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


class _Widening:
    """One call: what is there, what could not be got, which versions were found."""

    def __init__(self, root: Path, catalogue_: Sequence[Corpus], defaults: str):
        self.root = root
        self.defaults = defaults
        self.before = download.read_manifest(root / MANIFEST)
        self.versions: dict[str, dict] = self.before.get("versions", {})
        self.failed: dict[str, str] = {}  # package -> why
        self.errors: dict[str, str] = {}  # those of `failed` that a client tried to get
        self.left_out: list[tuple[str, str]] = []
        names = [corpus.name for corpus in catalogue_]
        self.built = {n: e for n, e in self.before["corpora"].items() if n in names}
        gone = [e["path"] for n, e in self.before["corpora"].items() if n not in names]
        download.remove(root, gone)

    def run(self, wanted: Sequence[Corpus], files: list[Path]) -> dict:
        """Build the files of `wanted` that are not up to date; return the manifest.

        Args:
          wanted: corpora of the catalogue.
          files: the default corpora.
        """
        stale, paths = self._download(wanted)
        if self.errors:
            first, *_ = self.errors.values()
            _tell(f"left out, as they could not be downloaded: {', '.join(self.errors)} ({first}).")
        stale = [kept for corpus in stale if (kept := self._available(corpus))]
        names = {corpus.name for corpus in stale}
        there = [e["path"] for n, e in self.built.items() if n not in names]
        seen = text_keys([*files, *(self.root / path for path in there)]) if stale else set()
        for corpus, entry in build(self.root, stale, paths, seen, self._unreadable):
            self.built[corpus.name] = {**entry, "fingerprint": self._fingerprint(corpus)}
            self._write()
        return self._write()

    def _download(self, wanted: Sequence[Corpus]) -> tuple[list[Corpus], dict[str, Path]]:
        """Return the corpora that are out of date and the archives that could be had.

        If a version was found in place of another, every corpus of that package is out of date.
        """
        while True:
            located = [self._located(corpus) for corpus in wanted]
            stale = [c for c in located if not self._is_valid(c)]
            packages = [p for p in archives.packages_of(stale) if p.name not in self.failed]
            before = dict(self.versions), dict(self.failed)
            paths = archives.download(
                self.root / "downloads", self._reachable(packages), self._fail, self._replace
            )
            if before == (self.versions, self.failed):
                return stale, paths

    def _located(self, corpus: Corpus) -> Corpus:
        """Return a corpus with the versions of its packages that were found before."""
        parts = [dataclasses.replace(part, package=self._version(part)) for part in corpus.parts]
        return dataclasses.replace(corpus, parts=tuple(parts))

    def _version(self, part: Part) -> Any:
        found = self.versions.get(part.package.name)
        if not isinstance(part.package, DebianPackage) or found is None:
            return part.package
        if found["instead_of"] != part.package.version:
            return part.package
        return DebianPackage(part.package.name, found["version"], found["archive"], found["sha256"])

    def _is_valid(self, corpus: Corpus) -> bool:
        entry = self.before["corpora"].get(corpus.name)
        return download.valid(self.root, entry, self._fingerprint(corpus))

    def _reachable(self, packages: list[Package]) -> list[Package]:
        """Drop the packages whose client is missing, unless their archive is there."""
        reachable = []
        reasons: dict[str, list[str]] = {}
        for package in packages:
            reason = archives.CLIENTS[type(package)].missing()
            if reason and not (self.root / "downloads" / package.archive).exists():
                reasons.setdefault(reason, []).append(package.name)
                self.failed[package.name] = reason
            else:
                reachable.append(package)
        for reason, names in reasons.items():
            _tell(f"{reason}; left out: {', '.join(names)}.")
        return reachable

    def _fail(self, package: Package, error: UserError) -> None:
        self.failed[package.name] = self.errors[package.name] = str(error).rstrip(".")

    def _unreadable(self, corpus: Corpus, error: UserError) -> None:
        self.left_out.append((corpus.name, str(error)))
        _tell(f"{corpus.name} is left out: {error}")

    def _replace(self, pinned: Package, found: Package) -> None:
        before = self.versions.get(pinned.name, {})
        replaced = before.get("version") == pinned.version
        original = before["instead_of"] if replaced else pinned.version
        self.versions[pinned.name] = {**package_facts(found), "instead_of": original}
        _tell(f"{found.name}: version {found.version} in place of {pinned.version}.")
        self._write()

    def _available(self, corpus: Corpus) -> Corpus | None:
        """Return what can be built of a corpus; None if nothing, or if an older file is kept."""
        lost = [part.package.name for part in corpus.parts if part.package.name in self.failed]
        self.left_out += [(f"{corpus.name} ({name})", self.failed[name]) for name in lost]
        entry = self.built.get(corpus.name)
        if not lost:
            return corpus
        if download.valid(self.root, entry, entry["fingerprint"] if entry else ""):
            _tell(f"{corpus.name} stays as it was built before.")
            return None
        parts = tuple(part for part in corpus.parts if part.package.name not in lost)
        return dataclasses.replace(corpus, parts=parts) if parts else None

    def _write(self) -> dict:
        reasons = [*wide.LEFT_OUT, *self.left_out]
        manifest = {
            "format": download.FORMAT,
            "corpora": self.built,
            "left_out": [{"source": source, "reason": reason} for source, reason in reasons],
            "versions": self.versions,
        }
        write_json(self.root / MANIFEST, manifest)
        return manifest

    def _fingerprint(self, corpus: Corpus) -> str:
        """Hash what a file depends on: its packages, the code, the default catalogue."""
        functions = [getattr(part.extract, "func", part.extract) for part in corpus.parts]
        modules = {inspect.getmodule(f) for f in functions} | {prose, pages, extractors}
        code = sorted(inspect.getsource(module) for module in modules if module)
        parts = [
            [package_facts(part.package), f.__name__, getattr(part.extract, "keywords", {})]
            for part, f in zip(corpus.parts, functions, strict=True)
        ]
        members = [part.members for part in corpus.parts]
        own = [corpus.name, corpus.role, corpus.limit, corpus.prefix, parts, members]
        facts = json.dumps([download.FORMAT, SHORTEST, self.defaults, own, code])
        return hashlib.sha256(facts.encode()).hexdigest()


def _tell(text: str) -> None:
    print(f"specialm: {text}", file=sys.stderr, flush=True)
