"""seqio: our windows as Tasks, and the importance-weighted corpus for any seqio trainer.

    from specialm.data import tasks
    tasks.register("generic", "runs/demo/windows/generic-train-...")
    capped_K = report.capped.probability_K  # a WeightReport's
    tasks.register_weighted("generic_for_med", store, vocabulary, clusters_N, capped_K, seed=0,
                            epoch=report.epoch, replay=config.train.replay_fraction)
    dataset = seqio.get_mixture_or_task("specialm_generic_for_med").get_dataset(
        sequence_length={"targets": 128}, split="train", shuffle=False)

Windows end where their document does, with eos; `sequence_length` must be at least the store's
`context`, as seqio trims longer ones silently.

TensorFlow and seqio, the extra `seqio`, are imported only when a Task is registered.

`train.feed=seqio` trains from such a Task (`register_drawn`), see `data/feeds.py`.
"""

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from specialm.common import extras
from specialm.common.errors import UserError
from specialm.data import vocabularies
from specialm.data.mixed import Joined
from specialm.data.sampler import BatchSampler, Sampler, with_replay
from specialm.data.store import WindowStore
from specialm.data.vocabularies import Vocabulary
from specialm.data.vocabularies.unigram import Unigram

PREFIX = "specialm_"
CHUNK = 1024  # windows read at once


def register(name: str, store: WindowStore, vocabulary_path: str | Path) -> str:
    """Register the Task `specialm_NAME`, each window once in store order; return its name.

    Features: `targets`, the tokens of a window (unpadded), with eos at a document's end.

    Raises:
      UserError: the name is taken, the vocabulary is not the store's, or seqio is not installed.

    """
    vocabulary = _of_store(store, vocabulary_path)
    every = lambda: _blocks(np.arange(len(store)))  # noqa: E731
    return _register(name, store, vocabulary, every, len(store))


def register_weighted(
    name: str,
    store: WindowStore,
    vocabulary_path: str | Path,
    cluster_N: np.ndarray,
    probability_K: np.ndarray,
    seed: int,
    windows: int | None = None,
    epoch: int = 0,
    replay: float = 0.0,
) -> str:
    """Register `specialm_NAME`: windows drawn with the importance weights, as our trainer does.

    The stream is the trainer's own (`Sampler`): the same windows in the same order as training
    with this seed. It is deterministic, so shuffling is off.

    Args:
      name: of the Task, without its prefix.
      store: of the generic windows.
      vocabulary_path: that of the store.
      cluster_N: the cluster of each window (the store's sidecar).
      probability_K: the sampling distribution over clusters: `WeightReport.capped`, which is
        `WeightReport.sampling_K` where no repetitions are capped.
      seed: of the draws.
      windows: length of the stream; None for as many as the store has.
      epoch: `WeightReport.epoch`.
      replay: `train.replay_fraction`.

    """
    vocabulary = _of_store(store, vocabulary_path)
    size_K = np.bincount(cluster_N, minlength=len(probability_K))
    probability_K = with_replay(np.asarray(probability_K), size_K, replay)
    sampler = Sampler(len(store), CHUNK, seed, cluster_N, probability_K, epoch=epoch)
    total = len(store) if windows is None else windows

    def blocks():
        for start in range(0, total, CHUNK):
            yield sampler.draws(start, min(start + CHUNK, total))[0]

    return _register(name, store, vocabulary, blocks, total)


def register_drawn(
    name: str,
    store: WindowStore | Joined,
    vocabulary: Vocabulary,
    sampler: BatchSampler,
    first: int = 0,
) -> str:
    """Register `specialm_NAME`, the endless stream of what a sampler draws, step after step.

    A Task of that name is replaced: each is the same stream from another window on.

    Args:
      name: of the Task, without its prefix.
      store: that the sampler draws from.
      vocabulary: that of the store.
      sampler: of any method.
      first: window of the stream that the Task begins with.

    """

    def blocks():
        step, skipped = divmod(first, sampler.batch_size)
        while True:
            yield sampler.indices(step)[skipped:]
            step, skipped = step + 1, 0

    seqio = extras.load("seqio", "seqio", "a seqio Task")
    if PREFIX + name in seqio.TaskRegistry.names():
        seqio.TaskRegistry.remove(PREFIX + name)
    return _register(name, store, vocabulary, blocks, None)


def _of_store(store: WindowStore, vocabulary_path: str | Path) -> Vocabulary:
    """The vocabulary at a path; raises UserError if it is not the store's, or without seqio."""
    extras.load("seqio", "seqio", "a seqio Task")
    vocabulary = vocabularies.read(vocabulary_path)
    WindowStore(store.path, vocabulary.sha256)
    return vocabulary


def _blocks(indices: np.ndarray):
    for start in range(0, len(indices), CHUNK):
        yield indices[start : start + CHUNK]


def _register(
    name: str,
    store: WindowStore | Joined,
    vocabulary: Vocabulary,
    blocks: Callable[[], Iterable[np.ndarray]],
    total: int | None,
) -> str:
    seqio = extras.load("seqio", "seqio", "a seqio Task")
    import tensorflow as tf

    def examples():
        for indices in blocks():
            batch = store.batch(indices)
            sizes = batch["mask"].sum(axis=1).astype(int)
            for tokens, size in zip(batch["targets"], sizes, strict=True):
                yield {"targets": tokens[:size]}

    def dataset(split, shuffle_files=False, seed=None):
        signature = {"targets": tf.TensorSpec([None], tf.int32)}
        return tf.data.Dataset.from_generator(examples, output_signature=signature)

    if isinstance(vocabulary, Unigram):
        pieces = seqio.SentencePieceVocabulary(str(vocabulary.path))
    else:  # seqio has no class for it; ids are all that the Task gives
        pieces = seqio.PassThroughVocabulary(vocabulary.size, vocabulary.eos)
    _free(seqio.TaskRegistry, PREFIX + name)
    seqio.TaskRegistry.add(
        PREFIX + name,
        source=seqio.FunctionDataSource(
            dataset, splits=["train"], num_input_examples=total and {"train": total}
        ),
        preprocessors=[],
        output_features={"targets": seqio.Feature(pieces, add_eos=False)},
    )
    return PREFIX + name


def _free(registry, name: str) -> None:
    if name in registry.names():
        raise UserError(f"seqio has a Task or Mixture named {name!r} already; choose another name.")
