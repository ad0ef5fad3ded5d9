"""TFDS data sets and seqio Tasks as sources: a document for each example."""

import collections
import importlib
import re
from collections.abc import Iterable, Iterator
from functools import partial

from specialm.common import extras
from specialm.common.errors import UserError
from specialm.data.documents import NOT_UTF8, Document, Source, checked


def open_tfds(spec: str, name: str, field: str) -> Source:
    """Return the source of the data set `NAME[:SPLIT]`; it is opened when a pass starts."""
    return Source(spec, partial(_read_tfds, name, field))


def open_seqio(spec: str, task: str, field: str, modules: tuple[str, ...]) -> Source:
    """Return the source of the raw text of `TASK[:SPLIT]`; `modules` register the Tasks."""
    return Source(spec, partial(_read_seqio, task, field, modules))


def _read_tfds(spec: str, field: str, counts: collections.Counter) -> Iterator[Document]:
    tfds = extras.load("tensorflow_datasets", "seqio", f"source 'tfds:{spec}'")
    # NAME:SPLIT, where a name may end in :VERSION itself.
    name, _, split = spec.rpartition(":")
    if not name or re.fullmatch(r"[0-9*]+(\.[0-9*]+)*", split):
        name, split = spec, "train"
    try:
        examples = tfds.data_source(name, split=split)
    except Exception as error:
        raise UserError(f"source 'tfds:{spec}': {error}") from error
    yield from _read_examples(f"tfds:{spec}", examples, field, counts)


def _read_seqio(
    spec: str, field: str, modules: tuple[str, ...], counts: collections.Counter
) -> Iterator[Document]:
    seqio = extras.load("seqio", "seqio", f"source 'seqio:{spec}'")
    for module in modules:
        importlib.import_module(module)
    name, _, split = spec.partition(":")
    if name not in seqio.TaskRegistry.names():
        raise UserError(
            f"source 'seqio:{spec}': no seqio Task of that name; registered: "
            f"{', '.join(sorted(seqio.TaskRegistry.names())) or 'none'}. Name the "
            "module that registers it in data.seqio_modules."
        )
    source = seqio.TaskRegistry.get(name).source
    examples = source.get_dataset(split=split or "train", shuffle=False)
    yield from _read_examples(f"seqio:{spec}", examples, field, counts)


def _read_examples(
    spec: str, examples: Iterable, field: str, counts: collections.Counter
) -> Iterator[Document]:
    for number, example in enumerate(examples):
        if field not in example:
            raise UserError(f"data.field={field!r}: {spec} has the fields {sorted(example)}.")
        text = _decode(example[field])
        if text is None:
            counts[NOT_UTF8] += 1
            continue
        name = f"{spec}/{number}"
        yield from checked(name, text, name, counts)


def _decode(value) -> str | None:
    """Return the text of an example's field; None if its bytes are not UTF-8."""
    if hasattr(value, "numpy"):
        value = value.numpy()
    try:
        return value.decode("utf-8") if isinstance(value, bytes) else str(value)
    except UnicodeDecodeError:
        return None
