"""Sentence encoders: text in, unit vectors out. MiniLM, and a fast one without weights."""

import difflib
import hashlib
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Protocol

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from specialm.clustering import passes
from specialm.clustering.minilm_files import MINILM_FILES, find_minilm, sha256
from specialm.clustering.tfidf_svd import TfidfSvd
from specialm.common.errors import UserError
from specialm.common.progress import Progress, bar
from specialm.models import minilm

# Tokens of one batch on one device: on a CPU the activations have to stay in the cache.
TOKENS_PER_BATCH = {"cpu": 1024}
TOKENS_PER_BATCH_ACCELERATOR = 65_536


class Encoder(Protocol):
    """Turns texts into vectors."""

    name: str
    dim: int

    @property
    def fingerprint(self) -> str:
        """A hash that changes whenever the vectors would."""

    def encode(self, texts: Sequence[str], progress: Progress = True) -> np.ndarray:
        """Return float32 [N, D], rows of unit length, in the order of `texts`.

        Args:
          texts: N of them.
          progress: True shows a bar, False nothing; a function is called with the number of texts
            done since its last call.

        """


def make_encoder(
    name: str,
    path: str | Path | None = None,
    seed: int = 0,
    dim: int = 128,
    max_tokens: int = 256,
    sample: Sequence[str] | None = None,
) -> Encoder:
    """Return the encoder called `name`.

    Args:
      name: minilm | tfidf_svd.
      path: minilm: the folder with its weights (None looks in the usual places, see
        `find_minilm`); tfidf_svd: a file that `TfidfSvd.save` wrote, unless `sample` is given.
      seed: tfidf_svd: of the fit.
      dim: tfidf_svd: dimensions of a vector.
      max_tokens: minilm: tokens read of a text, at most.
      sample: tfidf_svd: the texts to fit on (see `sample_texts`).

    Raises:
      UserError: unknown name (`clustering.encoder`), or no weights or fitted file is there.

    """
    if name == "minilm":
        return MiniLM(find_minilm(path), max_tokens)
    if name == "tfidf_svd":
        if sample is not None:
            return TfidfSvd.fit(sample, dim, seed)
        if path and Path(path).is_file():
            return TfidfSvd.load(path)
        raise UserError(
            f"clustering.encoder='tfidf_svd': it has to be fitted on texts first, and "
            f"no fitted file is at {path}; run `specialm prepare`."
        )
    near = difflib.get_close_matches(name, ("minilm", "tfidf_svd"), n=1, cutoff=0.0)[0]
    raise UserError(
        f"clustering.encoder={name!r}: must be minilm or tfidf_svd. Did you mean {near!r}?"
    )


class MiniLM:
    """all-MiniLM-L6-v2 in JAX: batches of similar lengths, split over all local devices.

    An empty text is its two special tokens, and has a vector like any other.

    Args:
      folder: holds model.safetensors, tokenizer.json and config.json.
      max_tokens: word pieces read of a text, at most, with [CLS] and [SEP]; the model was trained
        on up to 256 and has positions for 512.
      dtype: of the matrix products: float32 | bfloat16 (faster, vectors right to about 1e-3).

    Raises:
      UserError: `clustering.max_tokens` is outside the positions of the model.

    """

    name = "minilm"

    def __init__(self, folder: Path, max_tokens: int = 256, dtype: str = "float32"):
        from tokenizers import Tokenizer

        self.folder, self.max_tokens, self.dtype = Path(folder), max_tokens, dtype
        params, config = minilm.load(self.folder, dtype)
        positions, dim = params.positions_LxD.shape
        self.dim = int(dim)
        if not 3 <= max_tokens <= positions:
            raise UserError(
                f"clustering.max_tokens={max_tokens}: must be between 3 and "
                f"{positions}, the positions of the model in {folder}."
            )
        mesh = passes.make_mesh()
        self._devices = mesh.size
        self._split = NamedSharding(mesh, PartitionSpec("data"))
        self._params = jax.device_put(params, NamedSharding(mesh, PartitionSpec()))
        self._apply = jax.jit(partial(minilm.apply, config=config))
        self._tokenizer = Tokenizer.from_file(str(self.folder / "tokenizer.json"))
        # The file comes with padding and truncation fixed at 128.
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(max_tokens)

    def __reduce__(self):
        return MiniLM, (self.folder, self.max_tokens, self.dtype)  # other processes load it

    @cached_property
    def fingerprint(self) -> str:
        """See `Encoder.fingerprint`."""
        digest = hashlib.sha256(f"minilm 1 {self.max_tokens} {self.dtype}".encode())
        for name in MINILM_FILES:
            digest.update(sha256(self.folder / name).encode())
        return digest.hexdigest()

    def token_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Return ids with [CLS] and [SEP], at most `max_tokens` of each text, unpadded."""
        return [encoding.ids for encoding in self._tokenizer.encode_batch_fast(list(texts))]

    def encode(self, texts: Sequence[str], progress: Progress = True) -> np.ndarray:
        """Return float32 [N, D], see `Encoder.encode`."""
        if progress is True:
            with bar(len(texts), "embedding", unit="window") as b:
                return self.encode(texts, b.update)
        report = progress or (lambda rows: None)
        vectors_NxD = np.empty((len(texts), self.dim), np.float32)
        running = None
        # The result of a batch is fetched while the next one runs.
        for batch in [*self._batches(self.token_ids(texts)), None]:
            if running:
                rows, vectors_BxD = running
                vectors_NxD[rows] = np.asarray(vectors_BxD)[: len(rows)]
                report(len(rows))
            if batch:
                rows, ids_BxL, mask_BxL = batch
                ids_BxL, mask_BxL = jax.device_put((ids_BxL, mask_BxL), self._split)
                running = rows, self._apply(self._params, ids_BxL, mask_BxL)
        return vectors_NxD

    def _batches(self, ids: list[list[int]]):
        """Yield (rows, ids_BxL, mask_BxL), the longest texts first.

        There are few shapes, so few compilations. Rows of one token fill up the last batch.
        """
        lengths_N = np.array([len(row) for row in ids], np.int64)
        order_N = np.argsort(-lengths_N, kind="stable")
        start = 0
        while start < len(order_N):
            length = min(_bucket(lengths_N[order_N[start]]), self.max_tokens)
            size = self._batch_size(length)
            rows = order_N[start : start + size]
            mask_BxL = np.zeros((size, length), np.int32)
            mask_BxL[:, 0] = 1
            mask_BxL[: len(rows)] = np.arange(length) < lengths_N[rows, None]
            ids_BxL = np.zeros((size, length), np.int32)
            ids_BxL[: len(rows)][mask_BxL[: len(rows)] == 1] = np.concatenate(
                [ids[row] for row in rows]
            )
            yield rows, ids_BxL, mask_BxL
            start += size

    def _batch_size(self, length: int) -> int:
        tokens = TOKENS_PER_BATCH.get(jax.default_backend(), TOKENS_PER_BATCH_ACCELERATOR)
        return max(tokens // length, 1) * self._devices


def _bucket(length: int) -> int:
    """Return the padded length: a multiple of 16 up to 128, of 32 beyond."""
    step = 16 if length <= 128 else 32
    return -(-int(length) // step) * step


def sample_texts(
    read_texts: Callable[[int, int], list[str]], count: int, size: int = 20_000, seed: int = 0
) -> list[str]:
    """Return `size` texts spread over the `count` that `read_texts` reads, or all if fewer.

    It takes one text from each of `size` equal ranges, at a place drawn from the seed.

    Args:
      read_texts: (start, stop) -> texts.
      count: of all texts.
      size: of the sample.
      seed: of the places.

    """
    size = min(size, count)
    edges = np.linspace(0, count, size + 1)
    places = edges[:-1] + np.random.default_rng(seed).random(size) * np.diff(edges)
    return [read_texts(place, place + 1)[0] for place in np.floor(places).astype(int).tolist()]
