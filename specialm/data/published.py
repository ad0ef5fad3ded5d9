"""c4 and nine subsets of the Pile as seqio Tasks, with the settings of arXiv 2402.01093.

    from specialm.data import published
    published.register("c4_32k.model", root="/data")
    seqio.get_mixture_or_task("specialm_pile_arxiv_8m").get_dataset(
        sequence_length={"targets": published.CONTEXT}, split="train", shuffle=False)

Examples are non-overlapping windows of at most 1,024 tokens, eos at a document's end; the published
vocabulary is a SentencePiece model of 32,000 pieces trained on c4. The corpora are under `root` in
their Hugging Face layout, JSONL (.gz, .zst) or Parquet: `c4/en`, and `pile` with a subset's name in
`meta.pile_set_name`. Nothing is read before a Task is.

As a source of our own pipeline: `data.seqio_modules=("specialm.data.published_tasks",)` and
`seqio:specialm_c4`, which takes the Tasks' raw text, or the files themselves with
`hf:/data/pile:train?meta.pile_set_name=ArXiv`.
"""

import collections
import itertools
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from specialm.common import extras
from specialm.common.errors import UserError
from specialm.data.documents import Document
from specialm.data.sources import open_source

CONTEXT = 1024
SPECIALIST_TOKENS = {"1m": 1_000_000, "8m": 8_000_000, "64m": 64_000_000}
HELDOUT_DOCUMENTS = 20_000  # of each subset, its first ones
C4 = "c4/en:2.2.0"
PILE = {
    "arxiv": "ArXiv",
    "europarl": "EuroParl",
    "freelaw": "FreeLaw",
    "gutenberg": "Gutenberg (PG-19)",
    "opensubtitles": "OpenSubtitles",
    "openwebtext2": "OpenWebText2",
    "pubmed": "PubMed Abstracts",
    "stackexchange": "StackExchange",
    "wikipedia": "Wikipedia (en)",
}
PREFIX = "specialm_"


def register(
    vocabulary_path: str | Path = "",
    root: str | Path = "",
    context: int = CONTEXT,
    heldout_documents: int = HELDOUT_DOCUMENTS,
) -> list[str]:
    """Register the Tasks and return their names.

    `specialm_c4` (from TFDS) and `specialm_c4_hf`, splits `train` and `validation`;
    `specialm_pile_NAME`, splits `train` and `heldout`; and `specialm_pile_NAME_1m`, `_8m`, `_64m`,
    split `train`: its first documents, whole ones until so many tokens are reached.

    Args:
      vocabulary_path: a SentencePiece model; without one the Tasks have only the field `text`,
        and those of 1m, 8m and 64m, which count tokens, are left out.
      root: the folder with `c4/en` and `pile`; without one there is only `specialm_c4`.
      context: tokens of a window, at most.
      heldout_documents: of each subset of the Pile.

    Raises:
      UserError: `vocabulary_path` is no file, a Task of such a name is registered, or seqio is not
        installed (the extra `seqio`).

    """
    seqio = extras.load("seqio", "seqio", "a seqio Task")
    if vocabulary_path and not Path(vocabulary_path).is_file():
        raise UserError(
            f"vocabulary_path={str(vocabulary_path)!r}: no such SentencePiece model; give its path."
        )
    add = partial(_add, vocabulary_path, context)
    names = [add("c4", seqio.TfdsDataSource(C4, splits=["train", "validation"]))]
    if not root:
        return names
    names.append(
        add(
            "c4_hf",
            _source(
                {
                    split: partial(_documents, f"hf:{root}/c4/en:{split}")
                    for split in ("train", "validation")
                }
            ),
        )
    )
    for name, subset in PILE.items():
        read = partial(_documents, f"hf:{root}/pile:train?meta.pile_set_name={subset}")
        train = partial(read, heldout_documents, None)
        names.append(
            add(
                f"pile_{name}",
                _source({"train": train, "heldout": partial(read, 0, heldout_documents)}),
            )
        )
        for size, tokens in SPECIALIST_TOKENS.items() if vocabulary_path else ():
            names.append(
                add(
                    f"pile_{name}_{size}",
                    _source({"train": train}),
                    partial(first_tokens, tokens=tokens),
                )
            )
    return names


def _documents(spec: str, start: int = 0, stop: int | None = None) -> Iterator[Document]:
    return itertools.islice(open_source(spec).documents(collections.Counter()), start, stop)


def _source(splits: dict[str, Callable[[], Iterator[Document]]]):
    """Return a seqio source; `splits` is {split: function that starts a pass over it}."""
    import seqio
    import tensorflow as tf

    def dataset(split, shuffle_files=False, seed=None):
        return tf.data.Dataset.from_generator(
            lambda: ({"text": document.text} for document in splits[split]()),
            output_signature={"text": tf.TensorSpec([], tf.string)},
        )

    return seqio.FunctionDataSource(dataset, splits=list(splits))


def _add(vocabulary_path, context: int, name: str, source, *limits) -> str:
    import seqio

    name = PREFIX + name
    if name in seqio.TaskRegistry.names():
        raise UserError(
            f"seqio has a Task named {name!r} already; register the published corpora once."
        )
    steps, features = [], {}
    if vocabulary_path:
        vocabulary = seqio.SentencePieceVocabulary(str(vocabulary_path))
        features = {"targets": seqio.Feature(vocabulary, add_eos=True)}
        steps = [
            partial(seqio.preprocessors.rekey, key_map={"targets": "text"}),
            partial(seqio.preprocessors.tokenize, copy_pretokenized=False),
            seqio.preprocessors.append_eos,
            *limits,
            partial(windows, context=context),
        ]
    seqio.TaskRegistry.add(name, source=source, preprocessors=steps, output_features=features)
    return name


def first_tokens(dataset, tokens: int):
    """Take whole documents until `tokens` tokens are reached."""
    import tensorflow as tf

    def step(before, example):
        return before + tf.size(example["targets"], tf.int64), (before, example)

    counted = dataset.scan(tf.constant(0, tf.int64), step)
    return counted.take_while(lambda before, example: before < tokens).map(
        lambda before, example: example
    )


def windows(dataset, context: int):
    """Cut each document's tokens into non-overlapping windows of at most `context`."""
    import tensorflow as tf

    def cut(example):
        tokens = example["targets"]
        starts = tf.data.Dataset.range(0, tf.size(tokens, tf.int64), context)
        return starts.map(lambda start: {"targets": tokens[start : start + context]})

    return dataset.flat_map(cut)
