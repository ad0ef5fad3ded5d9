"""Text -> vocabulary and window stores, each a stage of its own.

Sets: `generic` has the splits train and heldout, each domain train, valid and heldout.
"""

import collections
import hashlib
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from specialm.data import vocabularies
from specialm.data.sources import Source, open_source, stable_hash
from specialm.data.store import StoreWriter, WindowStore
from specialm.data.windows import Split, windows
from specialm.errors import UserError
from specialm.progress import bar
from specialm.stages import Stage, Stages


@dataclass(frozen=True)
class Prepared:
    """Everything that training reads."""

    vocabulary: vocabularies.Vocabulary
    generic: WindowStore
    generic_heldout: WindowStore
    domains: dict[str, dict[str, WindowStore]]  # domain -> train | valid | heldout -> store

    def specialist_indices(self, domain: str, data: ConfigDict) -> dict[str, np.ndarray]:
        """Windows used of each split of a domain: whole documents up to the set token counts."""
        limits = {"train": data.specialist_tokens, "valid": data.valid_tokens,
                  "heldout": data.heldout_tokens}
        return {split: self.domains[domain][split].subset(tokens)
                for split, tokens in limits.items()}


def prepare(config: ConfigDict, stages: Stages, domains: list[str]) -> Prepared:
    """Runs the stages `scan`, `vocabulary` and `windows` for the generic set and the domains.

    Raises:
      UserError: a source that is missing, empty or unreadable; a domain with too few documents.
    """
    data = config.data
    specs = {"generic": data.generic, **{name: data.domains[name] for name in domains}}
    sources = {name: open_source(spec, data.field, data.corpora_root, tuple(data.seqio_modules))
               for name, spec in specs.items()}
    sources["generic"] = part_of(sources["generic"], data.generic_fraction)
    scans = {name: _scan(stages, name, source, data) for name, source in sources.items()}
    vocabulary = _vocabulary(stages, sources["generic"], scans["generic"], data)
    generic_split = Split(data.generic_heldout_fraction)
    domain_split = Split(data.specialist_heldout_fraction, data.specialist_valid_fraction)

    def store(name: str, split_name: str, split: Split) -> WindowStore:
        return _windows(stages, name, sources[name], scans[name], vocabulary, split, split_name,
                        data)

    generic = [store("generic", name, generic_split) for name in ("train", "heldout")]
    return Prepared(vocabulary, *generic, {
        domain: {name: store(domain, name, domain_split) for name in ("train", "valid", "heldout")}
        for domain in domains})


def part_of(source: Source, fraction: float) -> Source:
    """A source with this fraction of the documents; which ones depends on their names alone."""
    if fraction == 1:
        return source

    def documents(counts: collections.Counter):
        for document in source.documents(counts):
            if stable_hash("part" + document.group) < fraction * 2**64:
                yield document
            else:
                counts["documents"] -= 1
                counts["left out: data.generic_fraction"] += 1

    return Source(f"{source.name} x {fraction:g}", documents, source.files)


def _signature(source: Source) -> list:
    """Names, sizes and times of a source's files: whether its scan must be made again."""
    return [[str(path), path.stat().st_size, path.stat().st_mtime_ns] for path in source.files]


def _scan(stages: Stages, name: str, source: Source, data: ConfigDict) -> Stage:
    """Counts a source's documents and bytes, and hashes its content."""
    inputs = {"source": source.name, "field": data.field, "files": _signature(source)}

    def work(path: Path) -> dict:
        counts, digest, size = collections.Counter(), hashlib.sha256(), 0
        with bar(None, f"reading {name}", "document") as progress:
            for document in source.documents(counts):
                content = f"{document.id}\0{document.group}\0{document.text}\0"
                digest.update(content.encode("utf-8", "surrogatepass"))
                size += len(document.text.encode())
                progress.update(1)
        _report_skips(name, counts)
        if not counts["documents"]:
            raise UserError(f"data source {source.name!r} has no document with text "
                            f"({dict(counts) or 'nothing was read'}).")
        return {"documents": counts["documents"], "bytes": size, "sha256": digest.hexdigest(),
                "counts": dict(counts)}

    return stages.run(f"scan/{name}", inputs, work)


def _report_skips(name: str, counts: collections.Counter) -> None:
    for reason, count in sorted(counts.items()):
        if reason.startswith("skipped"):
            print(f"  {name}: {count} documents {reason}", file=sys.stderr)


def _vocabulary(stages, source: Source, scan: Stage, data: ConfigDict) -> vocabularies.Vocabulary:
    if data.vocabulary:
        return vocabularies.Vocabulary(data.vocabulary)
    inputs = {"text": scan.result["sha256"], "size": data.vocabulary_size,
              "sample_bytes": data.vocabulary_sample_bytes,
              "heldout": data.generic_heldout_fraction}
    share = data.vocabulary_sample_bytes / scan.result["bytes"]
    split = Split(data.generic_heldout_fraction)

    def texts():
        for document in source.documents(collections.Counter()):
            if document.key < share * 2**64 and split.of(document) == "train":
                yield document.text

    def work(path: Path) -> dict:
        print(f"  training a vocabulary of {data.vocabulary_size:,} pieces on about "
              f"{min(data.vocabulary_sample_bytes, scan.result['bytes']) / 1e6:.0f} MB",
              file=sys.stderr)
        made = vocabularies.train(texts(), path / "vocabulary.model", data.vocabulary_size)
        return {"sha256": made.sha256, "size": made.size}

    stage = stages.run("vocabulary", inputs, work)
    return vocabularies.Vocabulary(stage.path / "vocabulary.model")


def _windows(stages, name: str, source: Source, scan: Stage, vocabulary, split: Split,
             split_name: str, data: ConfigDict) -> WindowStore:
    inputs = {"text": scan.result["sha256"], "vocabulary_sha256": vocabulary.sha256,
              "context": data.context, "heldout": split.heldout, "valid": split.valid,
              "split": split_name}

    def write(path: Path) -> None:
        writer, counts = StoreWriter(path, inputs, data.shard_tokens), collections.Counter()
        documents = windows(source, vocabulary, data.context, split, split_name, counts,
                            skip=writer.documents)
        with bar(scan.result["bytes"], f"cutting {name} {split_name}", "B") as progress:
            writer.write(documents, counts,
                         lambda document: progress.update(int(document.bytes_N.sum())))
            progress.total = progress.n

    def work(path: Path) -> dict:
        if not (path / "index.json").exists():
            write(path)
        index = WindowStore(path).index
        return {key: index[key] for key in ("windows", "tokens", "documents", "bytes",
                                            "fingerprint")}

    stage = stages.run(f"windows/{name}-{split_name}", inputs, work)
    if not stage.result["windows"]:
        raise UserError(
            f"{name}: the {split_name} split has no windows: {scan.result['documents']} documents "
            "are too few for it; add text or change data.specialist_heldout_fraction or "
            "data.specialist_valid_fraction.")
    return WindowStore(stage.path, vocabulary.sha256)
