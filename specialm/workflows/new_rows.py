"""The vocabulary of a target text, and the first values of its tokens' rows, as stages."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from specialm.common.errors import UserError
from specialm.common.stages import Stage
from specialm.data import prepare, vocabularies
from specialm.data.store import WindowStore
from specialm.data.vocabularies import Vocabulary
from specialm.evaluation.contamination import window_texts
from specialm.specialize import embedding_init
from specialm.specialize.embedding_init import static_vectors
from specialm.training.objectives import MASK
from specialm.workflows.initial import Initial
from specialm.workflows.pipeline import Run

FILE = "weights.npz"
SIZE, KIND = "data.vocabulary_size", "data.vocabulary_kind"


def vocabulary(run: Run, base: Initial, how: str, given: set[str]) -> Vocabulary:
    """The vocabulary of the training text of `run.config.domain`.

    It has the size and the kind of the model's, unless the user gave others.

    Args:
      how: `new` trains one, `extend` fits the model's own to the text.
      given: names of the settings that the user gave.

    Raises:
      UserError: too little text for its size; a vocabulary that cannot be extended, or that hides
        tokens behind another one than the model does.
    """
    data, old = run.config.data, run.prepared.vocabulary
    size = data.vocabulary_size if SIZE in given else old.size
    kind = data.vocabulary_kind if KIND in given else _kind(old)
    texts, inputs = prepare.training_text(run.config, run.stages, run.config.domain)
    inputs |= {"old": old.sha256, "how": how, "size": size}
    inputs |= {"kind": kind, "longest": data.longest_piece} if how == "new" else {}

    def work(path: Path) -> dict:
        try:
            if how == "extend":
                made: Vocabulary = vocabularies.extend(old, texts(), path, size)
            else:
                made = vocabularies.train(texts(), path, size, kind, data.longest_piece)
        except UserError as error:
            raise UserError(
                f"the vocabulary of {run.config.domain}: {error} Its size is that of --from unless "
                f"--config.{SIZE} says otherwise."
            ) from error
        return {"sha256": made.sha256, "size": made.size}

    stage = run.stages.run(f"adapting/vocabulary-{run.config.domain}", inputs, work)
    made = vocabularies.of_run(stage.path)
    if not base.config.causal and made.token_bytes[MASK] != old.token_bytes[MASK]:
        raise UserError(
            f"--from={base.path}: id {MASK} stands for a hidden token, and the new vocabulary has "
            f"{made.token_bytes[MASK]!r} there; give --config.{KIND}={_kind(old)}."
        )
    return made


def _kind(old: Vocabulary) -> str:
    """The kind that a vocabulary like the old one is trained as."""
    for name, kind in vocabularies.KINDS.items():
        if kind.file in old.files and name != "bytes":
            return name
    raise UserError(
        f"{old.path}: a vocabulary of bytes is the same for every text; give another kind, as "
        f"--config.{KIND}=bpe --config.{SIZE}=4096."
    )


def rows(run: Run, target: Run, base: Initial, init: str, dictionary: str) -> Stage:
    """The stage that has the weights of a rule, see `embedding_init.weights`.

    Args:
      run: of the model's own vocabulary.
      target: the same text, cut with the new one.
      init: one of `embedding_init.RULES`.
      dictionary: a file of word pairs, for rules that compare words.

    Raises:
      UserError: what the rule needs is not here.
    """
    old, new = run.prepared.vocabulary, target.prepared.vocabulary
    needs = embedding_init.RULES[init].needs
    store = target.prepared.domains[target.config.domain]["train"]
    inputs: dict[str, Any] = {"old": old.sha256, "new": new.sha256, "init": init}
    if needs:
        inputs |= {"store": store.fingerprint, "vectors": static_vectors.VERSION}
    if needs == embedding_init.WORDS:
        inputs["source"] = run.generic.fingerprint
        inputs["dictionary"] = _digest(dictionary, init)

    def work(path: Path) -> dict:
        from scipy import sparse

        vectors = None
        if needs == embedding_init.TOKENS:
            vectors = embedding_init.Vectors(static_vectors.of_ids(_windows(store), new.size))
        elif needs == embedding_init.WORDS:
            vectors = _of_words(run.generic, old, store, new, dictionary)
        weights = embedding_init.weights(init, old, new, vectors)
        path.mkdir(parents=True, exist_ok=True)
        sparse.save_npz(path / FILE, weights)
        from_old = int(np.count_nonzero(np.diff(weights.indptr)))
        return {"tokens": new.size, "from_old": from_old, "drawn": new.size - from_old}

    return target.stages.run(f"adapting/{init}-{target.config.domain}", inputs, work)


def weights(stage: Stage) -> Any:
    """The weights [V', V] that `rows` wrote, a sparse matrix."""
    from scipy import sparse

    return sparse.load_npz(stage.path / FILE).tocsr()


def _digest(dictionary: str, init: str) -> str:
    if not dictionary:
        raise UserError(
            f"--init={init}: compares words of two languages and needs --dictionary=FILE, lines "
            "SOURCE_WORD<TAB>TARGET_WORD; without one use --init=focus."
        )
    try:
        return hashlib.sha256(Path(dictionary).read_bytes()).hexdigest()
    except OSError as error:
        raise UserError(f"--dictionary={dictionary}: cannot be read ({error}).") from error


def _windows(store: WindowStore) -> Iterator[np.ndarray]:
    """The tokens of the store's windows, many of them at a time, end to end."""
    for start in range(0, len(store), 1024):
        indices = np.arange(start, min(start + 1024, len(store)))
        tokens_BxL, sizes_B = store.read(indices), store.sizes_N[indices]
        yield tokens_BxL[np.arange(store.context) < sizes_B[:, None]]


def _of_words(
    source: WindowStore, old: Vocabulary, target: WindowStore, new: Vocabulary, dictionary: str
) -> embedding_init.Vectors:
    """Vectors of both vocabularies by their words, those of the target in the source's space."""
    (old_words, old_NxD), (new_words, new_NxD) = (
        static_vectors.of_words(list(window_texts(store, vocabulary, np.arange(len(store)))))
        for store, vocabulary in ((source, old), (target, new))
    )
    size = min(old_NxD.shape[1], new_NxD.shape[1])
    old_NxD, new_NxD = old_NxD[:, :size], new_NxD[:, :size]
    pairs = static_vectors.read_dictionary(dictionary, old_words, new_words)
    map_DxD = static_vectors.aligned(old_NxD, new_NxD, pairs)
    return embedding_init.Vectors(
        static_vectors.of_pieces(new, new_words, new_NxD @ map_DxD),
        static_vectors.of_pieces(old, old_words, old_NxD),
    )
