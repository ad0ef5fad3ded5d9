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
"""

from pathlib import Path

import numpy as np

from specialm.common import extras
from specialm.common.errors import UserError
from specialm.data.sampler import Sampler, with_replay
from specialm.data.store import WindowStore

PREFIX = "specialm_"
CHUNK = 1024  # windows read at once


def register(name: str, store: WindowStore, vocabulary_path: str | Path) -> str:
    """Register the Task `specialm_NAME`, each window once in store order; return its name.

    Features: `targets`, the tokens of a window (unpadded), with eos at a document's end.

    Raises:
      UserError: the name is taken, the vocabulary is not the store's, or seqio is not installed.

    """
    return _register(
        name, store, vocabulary_path, lambda: _blocks(np.arange(len(store))), len(store)
    )


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
    size_K = np.bincount(cluster_N, minlength=len(probability_K))
    probability_K = with_replay(np.asarray(probability_K), size_K, replay)
    sampler = Sampler(len(store), CHUNK, seed, cluster_N, probability_K, epoch=epoch)
    total = len(store) if windows is None else windows

    def blocks():
        for start in range(0, total, CHUNK):
            yield sampler.draws(start, min(start + CHUNK, total))[0]

    return _register(name, store, vocabulary_path, blocks, total)


def _blocks(indices: np.ndarray):
    for start in range(0, len(indices), CHUNK):
        yield indices[start : start + CHUNK]


def _register(name: str, store: WindowStore, vocabulary_path, blocks, total: int) -> str:
    seqio = extras.load("seqio", "seqio", "a seqio Task")
    import tensorflow as tf

    from specialm.data.vocabularies.unigram import Unigram  # what seqio reads

    WindowStore(store.path, Unigram(vocabulary_path).sha256)  # raises if it is another one

    def examples():
        for indices in blocks():
            sizes = store.sizes_N[indices]
            for tokens, size in zip(store.read(indices), sizes, strict=True):
                yield {"targets": tokens[:size]}

    def dataset(split, shuffle_files=False, seed=None):
        signature = {"targets": tf.TensorSpec([None], tf.int32)}
        return tf.data.Dataset.from_generator(examples, output_signature=signature)

    vocabulary = seqio.SentencePieceVocabulary(str(vocabulary_path))
    _free(seqio.TaskRegistry, PREFIX + name)
    seqio.TaskRegistry.add(
        PREFIX + name,
        source=seqio.FunctionDataSource(
            dataset, splits=["train"], num_input_examples={"train": total}
        ),
        preprocessors=[],
        output_features={"targets": seqio.Feature(vocabulary, add_eos=False)},
    )
    return PREFIX + name


def _free(registry, name: str) -> None:
    if name in registry.names():
        raise UserError(f"seqio has a Task or Mixture named {name!r} already; choose another name.")
