"""Text -> vocabulary and window stores, each a stage of its own.

Sets: `generic` has the splits train and heldout, each domain train, valid and heldout. A stage
whose work fails has no `stage.json`, so it is never taken for finished.
"""

import collections
import hashlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from specialm.common.errors import UserError
from specialm.common.stages import Stage, Stages
from specialm.data import vocabularies
from specialm.data.documents import Source, chance
from specialm.data.readers import LOCAL_READER, LocalReader
from specialm.data.sources import open_source
from specialm.data.store import WindowStore
from specialm.data.transforms import cut_long_documents, subsample
from specialm.data.windows import Split, changed_share

REPORTED = ("skipped", "left out", "cut into parts")  # counts of these kinds are printed


@dataclass(frozen=True)
class Prepared:
    """Everything that training reads. Fine-tuning reads the same without the generic text.

    Attributes:
      vocabulary: of all stores.
      domains: domain -> train | valid | heldout -> store.
      generic_splits: train | heldout -> store, as far as the generic text is prepared.
      scans: set -> what reading its source gave: `counts` of documents and of what was left out,
        and `examples`, the first places of each.

    """

    vocabulary: vocabularies.Vocabulary
    domains: dict[str, dict[str, WindowStore]]
    generic_splits: dict[str, WindowStore] = field(default_factory=dict)
    scans: dict[str, dict] = field(default_factory=dict)

    @property
    def generic(self) -> WindowStore:
        """The training windows of the generic text."""
        return self._generic("train")

    @property
    def generic_heldout(self) -> WindowStore:
        """The held-out windows of the generic text."""
        return self._generic("heldout")

    def _generic(self, split: str) -> WindowStore:
        if split not in self.generic_splits:
            raise ValueError(f"the generic text ({split}) is not prepared here")
        return self.generic_splits[split]

    def specialist_indices(self, domain: str, data: ConfigDict) -> dict[str, np.ndarray]:
        """Return the windows in use of each split of a domain.

        They are whole documents up to the token counts that the settings give.
        """
        limits = {
            "train": data.specialist_tokens,
            "valid": data.valid_tokens,
            "heldout": data.heldout_tokens,
        }
        return {
            split: self.domains[domain][split].subset(tokens) for split, tokens in limits.items()
        }


def prepare(
    config: ConfigDict, stages: Stages, domains: list[str], engine: LocalReader = LOCAL_READER
) -> Prepared:
    """Run the stages `scan`, `vocabulary` and `windows` for the generic set and the domains.

    Args:
      config: the run's settings.
      stages: of the work folder.
      domains: names of those to prepare.
      engine: reads the text.

    Raises:
      UserError: a source that is missing, empty or unreadable; a domain with too few documents.

    """
    data = config.data
    source = subsample(_open(data.generic, data), data.generic_fraction)
    opened = _open_domains(stages, domains, data, engine)
    scan = _scan(stages, "generic", source, data, engine)
    vocabulary = _vocabulary(stages, source, scan, data)
    split = Split(data.generic_heldout_fraction)
    generic = {
        name: _windows(stages, "generic", source, scan, vocabulary, split, name, data, engine)
        for name in ("train", "heldout")
    }
    scans = {"generic": scan.result, **_results(opened)}
    return Prepared(vocabulary, _domains(stages, opened, vocabulary, data, engine), generic, scans)


def prepare_generic(
    config: ConfigDict, stages: Stages, vocabulary: vocabularies.Vocabulary, splits: Sequence[str]
) -> dict[str, WindowStore]:
    """Run them for splits of the generic set only, with a given vocabulary: {split: store}.

    Raises:
      UserError: see `prepare`.

    """
    data = config.data
    source = subsample(_open(data.generic, data), data.generic_fraction)
    scan = _scan(stages, "generic", source, data)
    split = Split(data.generic_heldout_fraction)
    return {
        name: _windows(stages, "generic", source, scan, vocabulary, split, name, data)
        for name in splits
    }


def prepare_specialist(
    config: ConfigDict, stages: Stages, domains: list[str], vocabulary: vocabularies.Vocabulary
) -> Prepared:
    """Run them for the domains only, with a given vocabulary.

    Raises:
      UserError: see `prepare`.

    """
    opened = _open_domains(stages, domains, config.data)
    return Prepared(
        vocabulary, _domains(stages, opened, vocabulary, config.data), scans=_results(opened)
    )


def training_text(
    config: ConfigDict, stages: Stages, domain: str
) -> tuple[Callable[[], Iterator[str]], dict]:
    """Return a domain's training documents, for a vocabulary of it, and what identifies them.

    They are at most about `data.vocabulary_sample_bytes`, drawn by a hash of their text.

    Raises:
      UserError: see `prepare`.

    """
    data = config.data
    source, scan = _open_domains(stages, [domain], data)[domain]
    split = Split(data.specialist_heldout_fraction, data.specialist_valid_fraction)
    inputs = {
        "text": scan.result["sha256"],
        "part_chars": data.part_chars,
        "heldout": split.heldout,
        "valid": split.valid,
        "sample_bytes": data.vocabulary_sample_bytes,
    }
    share = data.vocabulary_sample_bytes / scan.result["bytes"]
    return lambda: _drawn_texts(source, split, share), inputs


def _drawn_texts(source: Source, split: Split, share: float) -> Iterator[str]:
    for document in source.documents(collections.Counter()):
        drawn = chance("vocabulary", document.text) < share * 2**64
        if drawn and split.assign(document) == "train":
            yield document.text


def _results(opened: dict[str, tuple[Source, Stage]]) -> dict[str, dict]:
    return {name: scan.result for name, (_, scan) in opened.items()}


def _open(spec: str, data: ConfigDict) -> Source:
    return open_source(
        spec, data.field, data.corpora_root, tuple(data.seqio_modules), data.max_document_bytes
    )


def _open_domains(
    stages: Stages, domains: list[str], data: ConfigDict, engine=LOCAL_READER
) -> dict[str, tuple[Source, Stage]]:
    """Return {domain: (source, scan)}."""
    sources = {
        name: cut_long_documents(_open(data.domains[name], data), data.part_chars)
        for name in domains
    }
    return {
        name: (source, _scan(stages, name, source, data, engine))
        for name, source in sources.items()
    }


def _domains(
    stages: Stages, opened: dict, vocabulary, data: ConfigDict, engine=LOCAL_READER
) -> dict:
    split = Split(data.specialist_heldout_fraction, data.specialist_valid_fraction)
    return {
        domain: {
            name: _windows(stages, domain, source, scan, vocabulary, split, name, data, engine)
            for name in ("train", "valid", "heldout")
        }
        for domain, (source, scan) in opened.items()
    }


def _signature(source: Source) -> list:
    """Return names, sizes and times of a source's files: if they change, it is scanned again."""
    try:
        return [[str(path), path.stat().st_size, path.stat().st_mtime_ns] for path in source.files]
    except OSError as error:
        raise UserError(f"source {source.name!r}: {error}; is something changing it?") from error


def _scan(
    stages: Stages, name: str, source: Source, data: ConfigDict, engine=LOCAL_READER
) -> Stage:
    """Count a source's documents and bytes, and hash its content."""
    inputs = {
        "source": source.name,
        "field": data.field,
        "max_document_bytes": data.max_document_bytes,
        "files": _signature(source),
    }

    def work(path: Path) -> dict:
        scanned = engine.scan(path, name, source)
        counts = collections.Counter(scanned.counts) + source.left_out
        examples = {**scanned.examples, **source.left_out.examples}
        report = skip_lines(counts, examples)
        for line in report:
            print(f"  {name}: {line}", file=sys.stderr)
        if not counts["documents"]:
            raise UserError(
                f"data source {source.name!r} has no document with text "
                f"({_skips(counts)}); look at its files and at data.field."
            )
        return {
            "documents": counts["documents"],
            "bytes": scanned.bytes,
            "sha256": _sha256(scanned.digests),
            "counts": dict(counts),
            "examples": examples,
        }

    return stages.run(f"scan/{name}", inputs, work)


def _sha256(digests: list[str]) -> str:
    """Return one hash of those of the files; of one file it is the file's own."""
    return (
        digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()
    )


def _skips(counts: collections.Counter) -> str:
    skipped = [
        f"{count} {reason.partition(': ')[2]}"
        for reason, count in sorted(counts.items(), key=lambda item: item[0], reverse=True)
        if reason.startswith(("skipped", "left out"))
    ]
    return f"skipped: {', '.join(skipped)}" if skipped else "nothing was read"


def skip_lines(counts: Mapping[str, int], examples: Mapping[str, list[str]]) -> list[str]:
    """Return a line for each reason for which something was not read as it is, with places."""
    lines = []
    for reason, count in sorted(counts.items()):
        kind, _, text = reason.partition(": ")
        if kind == "note":
            lines.append(text)
        elif kind in REPORTED:
            places = examples.get(reason, [])
            more = ", ..." if count > len(places) else ""
            what = "documents " * (kind == "skipped") + reason
            lines.append(f"{count:,} {what}" + f", as {'; '.join(places)}{more}" * bool(places))
    return lines


def _vocabulary(stages, source: Source, scan: Stage, data: ConfigDict) -> vocabularies.Vocabulary:
    if data.vocabulary:
        return _given(stages, vocabularies.read(data.vocabulary), data.longest_piece)
    kind = data.vocabulary_kind
    inputs = {
        "text": scan.result["sha256"],
        "size": data.vocabulary_size,
        "sample_bytes": data.vocabulary_sample_bytes,
        "heldout": data.generic_heldout_fraction,
        "drawn": "vocabulary",
        **({"kind": kind} if kind != "unigram" else {}),
        **({"longest": data.longest_piece} if data.longest_piece else {}),
    }
    share = data.vocabulary_sample_bytes / scan.result["bytes"]
    split = Split(data.generic_heldout_fraction)

    def work(path: Path) -> dict:
        print(
            f"  training a vocabulary of {data.vocabulary_size:,} pieces on about "
            f"{min(data.vocabulary_sample_bytes, scan.result['bytes']) / 1e6:.0f} MB",
            file=sys.stderr,
        )
        trained = vocabularies.train(
            _drawn_texts(source, split, share), path, data.vocabulary_size, kind, data.longest_piece
        )
        return {"sha256": trained.sha256, "size": trained.size}

    stage = stages.run("vocabulary", inputs, work)
    return vocabularies.of_run(stage.path)


def _given(stages, vocabulary: vocabularies.Vocabulary, longest: int) -> vocabularies.Vocabulary:
    """A vocabulary that was given, without longer pieces if that is asked for."""
    if not longest or vocabulary.piece_bytes.max() <= longest:
        return vocabulary

    def work(path: Path) -> dict:
        limited = vocabularies.limit(vocabulary, path, longest)
        return {"sha256": limited.sha256, "size": limited.size}

    inputs = {"vocabulary": vocabulary.sha256, "longest": longest}
    return vocabularies.of_run(stages.run("vocabulary", inputs, work).path)


def _windows(
    stages,
    name: str,
    source: Source,
    scan: Stage,
    vocabulary,
    split: Split,
    split_name: str,
    data: ConfigDict,
    engine=LOCAL_READER,
) -> WindowStore:
    inputs = {
        "text": scan.result["sha256"],
        "vocabulary_sha256": vocabulary.sha256,
        "context": data.context,
        "heldout": split.heldout,
        "valid": split.valid,
        "split": split_name,
        **({"start": vocabulary.start} if vocabulary.start else {}),
    }

    def work(path: Path) -> dict:
        if not (path / "index.json").exists():
            engine.write(
                path,
                f"{name} {split_name}",
                inputs,
                source,
                vocabulary,
                split,
                data.shard_tokens,
                scan.result["bytes"],
            )
        index = WindowStore(path).index
        if share := changed_share(index["counts"], split_name):
            print(
                f"  {name} {split_name}: the vocabulary does not give {share:.1%} of the documents "
                "back as they are (data.vocabulary)",
                file=sys.stderr,
            )
        return {
            key: index[key] for key in ("windows", "tokens", "documents", "bytes", "fingerprint")
        }

    stage = stages.run(f"windows/{name}-{split_name}", inputs, work)
    _check_size(name, split_name, stage.result, scan.result["documents"], data)
    return WindowStore(stage.path, vocabulary.sha256, vocabulary.size)


def _check_size(name: str, split_name: str, counts: dict, documents: int, data: ConfigDict) -> None:
    """Raise UserError for a split with less than one window of text."""
    if counts["tokens"] >= data.context:
        return
    size = (
        "no windows"
        if not counts["windows"]
        else f"{counts['tokens']} tokens, less than one window (data.context={data.context})"
    )
    if name == "generic":
        raise UserError(
            f"generic: the {split_name} split has {size}; data.generic has too little "
            "text, or change data.generic_heldout_fraction."
        )
    raise UserError(
        f"{name}: the {split_name} split has {size}: {documents} documents are too few, as whole "
        "documents, and all of one `group` or `id`, are put into one split. Add text, cut long "
        "documents into parts with --config.data.part_chars=4000, or change "
        "data.specialist_heldout_fraction or data.specialist_valid_fraction."
    )
