"""Documents of a corpus: read from its archives, told apart, sampled and written as JSON lines."""

import collections
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from specialm.common.errors import UserError
from specialm.common.files import write_bytes
from specialm.common.progress import bar
from specialm.data.corpora import archives
from specialm.data.corpora.catalogue import Corpus, Installed, Package, Part
from specialm.data.documents import Document, chance, stable_hash

SHORTEST = 200  # characters; shorter documents are titles and remainders


def build(
    root: Path,
    corpora: Sequence[Corpus],
    paths: dict[str, Path],
    seen: set[int],
    failed: Callable[[Corpus, UserError], object] | None = None,
) -> Iterator[tuple[Corpus, dict]]:
    """Write the files of the corpora, one by one; yield each with its entry of the manifest.

    Args:
      root: the folder.
      corpora: what to write, in this order.
      paths: {package name: its archive}.
      seen: keys of texts that are dropped (see `text_keys`); those written are added.
      failed: called with a corpus that cannot be read or has no text, and why; None to raise it.
    """
    total = sum(corpus.limit for corpus in corpora)
    with bar(total, "extracting corpora" if corpora else "", unit="B") as progress:
        for corpus in corpora:
            progress.set_postfix(source=corpus.name, refresh=False)
            try:
                documents, counts = _documents(corpus, paths, seen)
            except UserError as error:
                if failed is None:
                    raise
                failed(corpus, error)
            else:
                seen |= {_text_key(document.text) for document in documents}
                yield corpus, {**write(corpus, root, documents), "counts": dict(counts)}
            progress.update(corpus.limit)


def _documents(
    corpus: Corpus, paths: dict[str, Path], seen: set[int]
) -> tuple[list[Document], collections.Counter]:
    """Return the documents of a corpus, and how many were dropped and why."""
    counts: collections.Counter = collections.Counter()
    documents = _sample(_distinct(_read(corpus, paths), seen, counts), corpus.limit, counts)
    if not documents:
        packages = ", ".join(_title(part.package) for part in corpus.parts)
        raise UserError(f"there is no text for {corpus.name!r} in {packages}.")
    return documents, counts


def _title(package: Package | Installed) -> str:
    """Return name and version."""
    return " ".join([package.name, *([package.version] if isinstance(package, Package) else [])])


def text_keys(paths: Iterable[Path]) -> set[int]:
    """Return the keys of the texts in files of documents."""
    return {_text_key(json.loads(line)["text"]) for path in paths for line in path.open("rb")}


def package_facts(package: Package | Installed) -> dict:
    """Return what identifies a package's content."""
    if isinstance(package, Package):
        return {
            "name": package.name,
            "version": package.version,
            "archive": package.archive,
            "sha256": package.sha256,
        }
    return {"name": package.name, "version": archives.installed_version(package)}


def _path(corpus: Corpus) -> str:
    return f"{'domains' if corpus.role == 'domain' else corpus.role}/{corpus.name}.jsonl"


def _read(corpus: Corpus, paths: dict[str, Path]) -> Iterable[Document]:
    """Yield the documents of all parts; ids begin with the package's name if there are several.

    Generic text is held out document by document, for held-out text that is whole books and
    speeches holds none of most sources.
    """
    for part in corpus.parts:
        prefix = corpus.prefix or corpus.name
        prefix = prefix if len(corpus.parts) == 1 else f"{prefix}/{part.package.name}"
        for document in _extract(part, paths):
            group = document.group if corpus.role == "domain" else document.id
            yield Document(f"{prefix}/{document.id}", document.text, f"{prefix}/{group}")


def _extract(part: Part, paths: dict[str, Path]) -> Iterable[Document]:
    if isinstance(part.package, Installed):
        yield from part.extract(archives.installed_folder(part.package))
    else:
        with archives.opened(part.package, paths[part.package.name], part.members) as archive:
            yield from part.extract(archive)


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
    """Return at most `limit` bytes: documents drawn by their ids, in their own order."""
    documents = list(documents)
    chosen, size = set(), 0
    for number in sorted(
        range(len(documents)), key=lambda n: chance("corpus limit", documents[n].id)
    ):
        bytes_ = len(documents[number].text.encode())
        if size + bytes_ > limit:
            break
        size += bytes_
        chosen.add(number)
    if len(chosen) < len(documents):
        counts["left out: over the limit"] = len(documents) - len(chosen)
    return [document for number, document in enumerate(documents) if number in chosen]


def split_ranks(documents: Iterable[Document]) -> dict[str, float]:
    """Return {group: the middle of its text, 0 to 1, in a random order of the groups}.

    What lies below a fraction is that fraction of the corpus's text, to half a group. So every
    source has the same share of the text that is held out as of the rest.
    """
    size_of: collections.Counter = collections.Counter()
    for document in documents:
        size_of[document.group] += len(document.text.encode())
    ranks, before = {}, 0
    for group in sorted(size_of, key=lambda group: (chance("held out", group), group)):
        ranks[group] = (before + size_of[group] / 2) / size_of.total()
        before += size_of[group]
    return ranks


def write(corpus: Corpus, root: Path, documents: list[Document]) -> dict:
    """Write the file of a corpus and return its entry of the manifest."""
    ranks = split_ranks(documents)
    lines = [
        json.dumps(
            {
                "id": document.id,
                "text": document.text,
                "source": corpus.name,
                "group": document.group,
                "split_rank": ranks[document.group],
            },
            ensure_ascii=False,
        )
        for document in documents
    ]
    content = "".join(f"{line}\n" for line in lines).encode("utf-8")
    path = root / _path(corpus)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, content)
    return {
        "role": corpus.role,
        "path": _path(corpus),
        "documents": len(documents),
        "groups": len({document.group for document in documents}),
        "bytes": sum(len(document.text.encode()) for document in documents),
        "sha256": hashlib.sha256(content).hexdigest(),
        "packages": [package_facts(part.package) for part in corpus.parts],
        "licence": corpus.licence,
        "note": corpus.note,
    }
