"""TFDS data sets, seqio Tasks and Mixtures as sources: a document for each example."""

import collections
import importlib
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import Any

from specialm.common.errors import UserError
from specialm.data.documents import NOT_UTF8, Document, Skipped, Source, checked, read_record


def open_tfds(spec: str, name: str, field: str, limit: int) -> Source:
    """Return the source of the data set `NAME[:SPLIT]`; it is opened when a pass starts."""
    return Source(spec, partial(_read_tfds, name, field, limit))


def open_seqio(spec: str, task: str, field: str, modules: tuple[str, ...], limit: int) -> Source:
    """Return the source of the text of `TASK[:SPLIT]` or `MIXTURE[:SPLIT]`.

    A Task is read through its preprocessors if their output has the field as text, else its raw
    examples are, which is noted. Of a Mixture each Task is read once, one after the other.

    Args:
      spec: the whole source, for errors.
      task: what follows `seqio:`.
      field: that holds the text.
      modules: imported first; they register the Tasks.
      limit: bytes of a text, at most.

    """
    return Source(spec, partial(_read_seqio, task, field, modules, limit))


def _read_tfds(
    spec: str, field: str, limit: int, counts: collections.Counter
) -> Iterator[Document]:
    import tensorflow_datasets as tfds

    # NAME:SPLIT, where a name may end in :VERSION itself.
    name, _, split = spec.rpartition(":")
    if not name or re.fullmatch(r"[0-9*]+(\.[0-9*]+)*", split):
        name, split = spec, "train"
    try:
        examples = tfds.data_source(name, split=split)
    except Exception as error:
        raise UserError(f"source 'tfds:{spec}': {error}") from error
    yield from _read_examples(f"tfds:{spec}", examples, field, limit, counts)


def _read_seqio(
    spec: str, field: str, modules: tuple[str, ...], limit: int, counts: collections.Counter
) -> Iterator[Document]:
    import seqio

    import_modules(modules)
    name, _, split = spec.partition(":")
    if name in seqio.TaskRegistry.names():
        tasks = [seqio.TaskRegistry.get(name)]
    elif name in seqio.MixtureRegistry.names():
        tasks = sorted(seqio.MixtureRegistry.get(name).tasks, key=lambda task: task.name)
        counts[
            f"note: seqio:{name} is a Mixture: every example of its {len(tasks)} Tasks is read "
            "once, its rates are not applied"
        ] = 1
    else:
        names = sorted({*seqio.TaskRegistry.names(), *seqio.MixtureRegistry.names()})
        raise UserError(
            f"source 'seqio:{spec}': no seqio Task of that name, and no Mixture; registered: "
            f"{', '.join(names) or 'none'}. Name the module that registers it in "
            "data.seqio_modules."
        )
    for task in tasks:
        called = f"seqio:{task.name}:{split or 'train'}"
        examples = _task_examples(called, task, split or "train", field, counts)
        yield from _read_examples(called, examples, field, limit, counts)


def import_modules(modules: tuple[str, ...]) -> None:
    """Import the modules that register Tasks.

    Raises:
      UserError: one cannot be imported, or fails when it is.

    """
    for module in modules:
        try:
            importlib.import_module(module)
        except UserError:
            raise
        except Exception as error:
            raise UserError(
                f"data.seqio_modules: {module!r} cannot be imported ({type(error).__name__}: "
                f"{error}); it must be a module on PYTHONPATH."
            ) from error


def _task_examples(called: str, task, split: str, field: str, counts: collections.Counter):
    """Return the examples of a Task: preprocessed if they then have the text, else raw."""
    failed = ""
    try:
        examples = task.get_dataset(
            None, split, shuffle=False, seed=0, num_epochs=1, try_in_mem_cache=False
        )
        if _is_text(examples.element_spec.get(field)):
            return examples
        fields = _described(examples.element_spec)
    except Exception as error:  # preprocessors may raise anything
        failed = f"they fail: {type(error).__name__}: {str(error)[:200]}"
        fields = "nothing, as " + failed
    try:
        raw = task.source.get_dataset(split=split, shuffle=False)
    except Exception as error:
        raise UserError(f"source {called!r}: {error}") from error
    if not _is_text(raw.element_spec.get(field)):
        raise UserError(
            f"data.field={field!r}: {called} has no text of that name: its preprocessors give "
            f"{fields}, its raw examples have {_described(raw.element_spec)}. Name a field of text."
        )
    if len(task.preprocessors):
        why = failed or f"what they give has no text in field {field!r}"
        counts[f"note: {called} is read without its preprocessors: {why}"] = 1
    return raw


def _is_text(spec: Any) -> bool:
    """Whether a tensor of this type may hold a text: a scalar string."""
    if spec is None:
        return False
    return getattr(getattr(spec, "dtype", None), "name", "") == "string" and not (
        spec.shape.rank or hasattr(spec, "ragged_rank")
    )


def _described(spec: Mapping[str, Any]) -> str:
    """Return fields with their types: "inputs (int32 [None]), text (string [])"."""
    return ", ".join(f"{name} ({_type(of)})" for name, of in sorted(spec.items())) or "no fields"


def _type(of: Any) -> str:
    try:
        return f"{of.dtype.name} {list(of.shape)}"
    except (AttributeError, ValueError, TypeError):  # no tensor, or of no known rank
        return type(of).__name__


def _read_examples(
    spec: str, examples: Iterable, field: str, limit: int, counts: collections.Counter
) -> Iterator[Document]:
    for number, example in enumerate(_all(spec, examples)):
        name = f"{spec}/{number}"
        make = partial(_document, spec, name, example, field, limit)
        yield from read_record(make, name, counts)


def _all(spec: str, examples: Iterable) -> Iterator[Mapping]:
    try:
        yield from examples
    except (MemoryError, UserError):
        raise
    except Exception as error:
        first = str(error).split("\n")[0]
        raise UserError(
            f"source {spec!r}: cannot be read to its end ({type(error).__name__}: {first})."
        ) from error


def _document(spec: str, name: str, example: Mapping, field: str, limit: int) -> Document:
    if field not in example:
        raise UserError(f"data.field={field!r}: {spec} has the fields {sorted(example)}.")
    return checked(name, _text(spec, field, example[field]), name, limit)


def _text(spec: str, field: str, value: Any) -> str:
    """Return the text of an example's field.

    Raises:
      Skipped: its bytes are not UTF-8.
      UserError: it holds no text.

    """
    if hasattr(value, "numpy"):
        value = value.numpy()
    if getattr(value, "shape", None) == ():  # of NumPy, without an axis
        value = value.item()
    if isinstance(value, str):
        return value
    if not isinstance(value, bytes):
        kind = type(value).__name__
        if hasattr(value, "dtype"):
            kind = f"{value.dtype} {list(value.shape)}"
        raise UserError(
            f"data.field={field!r}: {spec} holds {kind} there, not text; name a field of text."
        )
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Skipped(NOT_UTF8) from error
