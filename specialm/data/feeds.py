"""What training reads its batches through (`train.feed`): the window store, or seqio.

- `store`: windows on disk.
- `seqio`: the same windows in the same order, through the Task that `tasks.register_drawn`
  registers: every batch is equal to the store's.
- `seqio:NAME[:SPLIT]`: a Task or Mixture of the user's own, mixed by its own rates. Examples that
  hold text (`data.field`, or `targets` of strings) are encoded with the run's vocabulary; those
  that hold tokens (`targets` of numbers) must be encoded with it already. Longer ones are cut into
  windows as documents are, so that nothing is lost.

TensorFlow and seqio are imported when a feed is opened.
"""

import hashlib
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from specialm.common import extras
from specialm.common.errors import UserError
from specialm.common.stages import digest
from specialm.data import tasks
from specialm.data.examples import import_modules
from specialm.data.mixed import Joined
from specialm.data.sampler import BatchSampler
from specialm.data.store import WindowStore
from specialm.data.stream import InOrder, Stream
from specialm.data.vocabularies import Vocabulary

STORE, SEQIO = "store", "seqio"
KNOWN_BY = 256  # windows at the beginning of a user's feed that identify it
ENCODED = 64  # texts that are encoded together


def check(feed: str) -> None:
    """Raise UserError for a value of `train.feed` that names no feed."""
    scheme, colon, name = feed.partition(":")
    if feed in (STORE, SEQIO) or (scheme == SEQIO and name.partition(":")[0]):
        return
    raise UserError(
        f"train.feed={feed!r}: must be {STORE}, {SEQIO} (the same windows through a seqio Task) or "
        f"{SEQIO}:NAME[:SPLIT] (a Task or Mixture of yours)."
    )


def is_own(feed: str) -> bool:
    """Return whether it names a Task or Mixture of the user's."""
    return feed.startswith(f"{SEQIO}:")


def registered(
    name: str,
    store: WindowStore | Joined,
    start: int,
    vocabulary: Vocabulary,
    sampler: BatchSampler,
    windows: int,
) -> tuple[Stream, InOrder]:
    """Return what a sampler draws, read through the seqio Task `specialm_NAME`.

    Args:
      name: of the Task, without its prefix.
      store: that the sampler draws from.
      start: the token that stands before every window.
      vocabulary: that of the store.
      sampler: of any method.
      windows: W, how many are asked for.

    Raises:
      UserError: seqio is not installed.

    """
    seqio = extras.load("seqio", "seqio", "train.feed=seqio")

    def open_at(first: int) -> Iterator[np.ndarray]:
        task = seqio.TaskRegistry.get(tasks.register_drawn(name, store, vocabulary, sampler, first))
        for example in _read(task.get_dataset(None, "train", shuffle=False, num_epochs=1)):
            yield example["targets"]

    stream = Stream(store.context, start, windows, open_at, f"train.feed={SEQIO}")
    return stream, InOrder(sampler.batch_size, sampler)


@dataclass(frozen=True)
class Own:
    """A Task or Mixture of the user's, opened.

    Attributes:
      stream: its windows.
      sampler: takes them in order.
      key: what identifies it, for the stage: name, split, rates and its first windows.

    """

    stream: Stream
    sampler: InOrder
    key: dict


def own(
    feed: str,
    modules: tuple[str, ...],
    field: str,
    vocabulary: Vocabulary,
    context: int,
    batch_size: int,
    windows: int,
    seed: int,
) -> Own:
    """Open `seqio:NAME[:SPLIT]`, shuffled by the seed and repeated without end.

    Args:
      feed: the setting `train.feed`.
      modules: imported first; they register it.
      field: that holds the text, if it has one of that name.
      vocabulary: of the model.
      context: L, tokens of a window at most.
      batch_size: B, windows a step.
      windows: W, how many are asked for.
      seed: of the order.

    Raises:
      UserError: seqio is not installed, nothing of that name is registered, there is no such
        split, or its examples hold neither text nor tokens of this vocabulary.

    """
    seqio = extras.load("seqio", "seqio", f"train.feed={feed}")
    import_modules(modules)
    name, _, split = feed.removeprefix(f"{SEQIO}:").partition(":")
    split = split or "train"
    provider = _provider(seqio, feed, name, split)
    to_windows = _reader(seqio, feed, provider, split, field, vocabulary, context)

    def open_at(first: int) -> Iterator[np.ndarray]:
        try:
            examples = _read(_dataset(provider, split, field, seed))
            yield from itertools.islice(to_windows(examples), first, None)
        except UserError:
            raise
        except Exception as error:  # preprocessors may raise anything
            raise _failed(feed, error) from error

    stream = Stream(context, vocabulary.start, windows, open_at, f"train.feed={feed}")
    known = stream.batch(np.arange(min(KNOWN_BY, windows)))
    rates = {}
    if hasattr(provider, "get_rate"):
        rates = {task.name: float(provider.get_rate(task)) for task in provider.tasks}
    content = [digest(known["targets"]), digest(known["mask"])]
    key = {"name": name, "split": split, "rates": rates, "windows": content}
    return Own(stream, InOrder(batch_size), key)


def _provider(seqio: Any, feed: str, name: str, split: str) -> Any:
    for registry in (seqio.TaskRegistry, seqio.MixtureRegistry):
        if name in registry.names():
            provider = registry.get(name)
            if split not in provider.splits:
                raise UserError(
                    f"train.feed={feed}: {name} has no split {split!r}, but "
                    f"{', '.join(sorted(provider.splits))}."
                )
            return provider
    names = sorted({*seqio.TaskRegistry.names(), *seqio.MixtureRegistry.names()})
    raise UserError(
        f"train.feed={feed}: no seqio Task of that name, and no Mixture; registered: "
        f"{', '.join(names) or 'none'}. Name the module that registers it in data.seqio_modules."
    )


def _dataset(provider: Any, split: str, field: str, seed: int) -> Any:
    """Its examples without end, none of them cut."""
    more = {"passthrough_features": [field]} if hasattr(provider, "get_rate") else {}
    return provider.get_dataset(
        None, split, shuffle=True, seed=seed, num_epochs=None, try_in_mem_cache=False, **more
    )


def _read(dataset: Any) -> Iterator[dict]:
    return dataset.as_numpy_iterator()


def _failed(feed: str, error: Exception) -> UserError:
    first = (str(error).splitlines() or [""])[0][:200]
    return UserError(f"train.feed={feed}: cannot be read ({type(error).__name__}: {first}).")


Windows = Callable[[Iterator[dict]], Iterator[np.ndarray]]  # examples -> windows


def _reader(
    seqio: Any,
    feed: str,
    provider: Any,
    split: str,
    field: str,
    vocabulary: Vocabulary,
    context: int,
) -> Windows:
    """How its examples become windows."""
    try:
        spec = _dataset(provider, split, field, 0).element_spec
    except Exception as error:
        raise _failed(feed, error) from error
    kinds = {name: (of.dtype.name, of.shape.rank) for name, of in spec.items()}
    for name in (field, "targets"):
        if kinds.get(name) == ("string", 0):
            return lambda examples: _of_texts(examples, name, vocabulary, context)
    if kinds.get("targets") in {("int32", 1), ("int64", 1)}:
        _check_vocabulary(seqio, feed, provider, vocabulary)
        return lambda examples: _of_tokens(examples, feed, vocabulary, context)
    has = ", ".join(f"{name} ({kind} {rank}-d)" for name, (kind, rank) in sorted(kinds.items()))
    raise UserError(
        f"train.feed={feed}: its examples hold {has or 'nothing'}; they must have text in "
        f"data.field={field!r} or in 'targets', or token ids in 'targets'."
    )


def _check_vocabulary(seqio: Any, feed: str, provider: Any, vocabulary: Vocabulary) -> None:
    """Raise UserError for tokens of another vocabulary than the model's."""
    its = provider.output_features["targets"].vocabulary
    if isinstance(its, seqio.SentencePieceVocabulary):
        import tensorflow as tf

        with tf.io.gfile.GFile(its.sentencepiece_model_file, "rb") as file:
            if hashlib.sha256(file.read()).hexdigest() == vocabulary.sha256:
                return
        what = f"with {its.sentencepiece_model_file}, which is"
    else:
        what = f"by a {type(its).__name__}, which may be"
    raise UserError(
        f"train.feed={feed}: its 'targets' are encoded {what} another vocabulary than the model's "
        f"({vocabulary.path}); set data.vocabulary to its file, or let the Task give text."
    )


def _of_texts(
    examples: Iterator[dict], field: str, vocabulary: Vocabulary, context: int
) -> Iterator[np.ndarray]:
    while batch := list(itertools.islice(examples, ENCODED)):
        texts = [example[field].decode("utf-8", "replace") for example in batch]
        for tokens in vocabulary.encode(texts):
            yield from _cut(np.append(tokens, vocabulary.eos), context)


def _of_tokens(
    examples: Iterator[dict], feed: str, vocabulary: Vocabulary, context: int
) -> Iterator[np.ndarray]:
    for example in examples:
        tokens = example["targets"]
        if tokens.size and not 0 <= tokens.min() <= tokens.max() < vocabulary.size:
            raise UserError(
                f"train.feed={feed}: token {int(tokens.max())} is not one of the "
                f"{vocabulary.size:,} of {vocabulary.path}."
            )
        yield from _cut(tokens, context)


def _cut(tokens: np.ndarray, context: int) -> Iterator[np.ndarray]:
    for first in range(0, len(tokens), context):
        yield tokens[first : first + context]
