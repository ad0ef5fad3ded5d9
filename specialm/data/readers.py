"""Reading the text of a source in this process: scanning it, cutting it into a window store."""

import collections
import hashlib
from dataclasses import dataclass, field
from pathlib import Path

from specialm.common.progress import bar
from specialm.data.documents import Counts, Source
from specialm.data.store import StoreWriter
from specialm.data.windows import Split, windows


@dataclass(frozen=True)
class Scan:
    """Counts, bytes of text and the sha256 of each file's text, for some files of a source.

    `examples` has the first places of what is counted.
    """

    counts: dict[str, int]
    bytes: int
    digests: list[str]
    examples: dict[str, list[str]] = field(default_factory=dict)


def merge_scans(parts: list[Scan]) -> Scan:
    """Return the scan of the files of all parts, in this order."""
    counts = Counts()
    for part in parts:
        counts.update(part.counts)
        counts.remember(part.examples)
    return Scan(
        dict(counts),
        sum(part.bytes for part in parts),
        [digest for part in parts for digest in part.digests],
        counts.examples,
    )


class LocalReader:
    """Reads text in this process; `pieces.InPieces` distributes the work."""

    def scan(self, path: Path, name: str, source: Source) -> Scan:
        """Count and hash a source; `path` is the stage's folder."""
        with bar(None, f"reading {name}", "document") as progress:
            return scan_files(source, source.files, progress.update)

    def write(
        self,
        path: Path,
        name: str,
        settings: dict,
        source: Source,
        vocabulary,
        split: Split,
        shard_tokens: int,
        size: int,
    ) -> None:
        """Write the windows of the split `settings["split"]` into a store at `path`.

        Args:
          path: the stage's folder.
          name: of the set and split, for the progress bar.
          settings: of the store.
          source: of the documents.
          vocabulary: to encode them with.
          split: assigns documents to splits.
          shard_tokens: tokens of a shard.
          size: bytes of the source's text, for the progress bar.

        """
        writer = StoreWriter(path, settings, shard_tokens)
        counts: collections.Counter = collections.Counter()
        documents = windows(
            source,
            vocabulary,
            settings["context"],
            split,
            settings["split"],
            counts,
            skip=writer.documents,
        )
        with bar(size, f"cutting {name}", "B") as progress:
            writer.write(
                documents, counts, lambda document: progress.update(int(document.bytes_N.sum()))
            )
            progress.total = progress.n


LOCAL_READER = LocalReader()


def scan_files(source: Source, files: tuple[Path, ...], progress=lambda count: None) -> Scan:
    """Count and hash these files of a source; a source without files counts as one file."""
    counts = Counts()
    digests, size = [], 0
    for documents in (
        (source.read((path,), counts) for path in files)
        if source.read
        else [source.documents(counts)]
    ):
        digest = hashlib.sha256()
        for document in documents:
            content = f"{document.id}\0{document.group}\0{document.text}\0"
            if document.split_rank is not None:
                content += f"{document.split_rank}\0"
            digest.update(content.encode("utf-8", "surrogatepass"))
            size += len(document.text.encode())
            progress(1)
        digests.append(digest.hexdigest())
    return Scan(dict(counts), size, digests, counts.examples)
