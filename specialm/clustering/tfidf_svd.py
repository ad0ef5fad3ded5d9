"""A fast encoder without weights: TF-IDF of words and a singular value decomposition."""

import hashlib
import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from specialm.common.errors import UserError
from specialm.common.progress import Progress, bar
from specialm.data import scripts


class TfidfSvd:
    """TF-IDF of words, projected on the leading singular vectors of a sample: no weights needed.

    Words of at least two letters, lower case, in texts of scripts that set no spaces characters in
    twos to fours (`data/scripts.py`): those in at least MIN_DOCUMENTS texts of the sample, the
    MAX_TERMS most frequent; sublinear term frequency. A text without any known word (an empty
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
        """Fit on `texts`; deterministic in them and the seed.

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

        return TfidfVectorizer(
            analyzer=scripts.terms, sublinear_tf=True, dtype=np.float32, **settings
        )

    @cached_property
    def fingerprint(self) -> str:
        """See `Encoder.fingerprint`."""
        terms = "\n".join(self.terms)
        # What 1 made of text without spaces was another thing.
        version = 2 if scripts.ANY.search(terms) else 1
        digest = hashlib.sha256(f"tfidf_svd {version}\n{terms}".encode())
        digest.update(self.idf_V.tobytes())
        digest.update(self.components_VxD.tobytes())
        return digest.hexdigest()

    @cached_property
    def _transform(self):
        vectorizer = self._vectorizer(vocabulary=self.terms)
        vectorizer.idf_ = self.idf_V
        return vectorizer.transform

    def encode(self, texts: Sequence[str], progress: Progress = True) -> np.ndarray:
        """Return float32 [N, D], see `Encoder.encode`."""
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
        """Write one .npz (no pickle), atomically."""
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
        """Read what `save` wrote."""
        with np.load(path, allow_pickle=False) as saved:
            terms = saved["terms"].tobytes().decode().split("\n")
            return cls(terms, saved["idf_V"], saved["components_VxD"])
