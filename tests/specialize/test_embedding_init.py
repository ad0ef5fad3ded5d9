"""Rules for the rows of new tokens, against sums that are written out by hand."""

import dataclasses

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from sklearn.linear_model import orthogonal_mp

from specialm.common.errors import UserError
from specialm.specialize import embedding_init
from specialm.specialize.embedding_init import pieces, similar, static_vectors


@dataclasses.dataclass
class Pieces:
    """A vocabulary of these tokens: an end of documents, what hides, then text."""

    texts: list[bytes]
    special = {"<pad>": 0, "</s>": 1, "<unk>": 2}
    start, eos = 0, 1

    @property
    def token_bytes(self):
        return [b"", b"", b"", *self.texts]

    @property
    def size(self):
        return len(self.token_bytes)

    def encode_bytes(self, content):
        """The longest token that fits, again and again."""
        ids = []
        while content:
            fit = [
                i for i, text in enumerate(self.token_bytes) if text and content.startswith(text)
            ]
            ids.append(max(fit, key=lambda i: len(self.token_bytes[i])))
            content = content[len(self.token_bytes[ids[-1]]) :]
        return ids


OLD = Pieces([b"a", b"b", b"c", b"ab", b"cab"])  # ids 3 ... 7
NEW = Pieces([b"c", b"abc", b"ab", b"bb", b"aab"])
OLD_VxD = np.random.default_rng(0).normal(2.0, 1.0, (OLD.size, 4))


def made(rule, vectors=None, seed=0):
    weights = embedding_init.weights(rule, OLD, NEW, vectors)
    return embedding_init.embeddings(weights, OLD_VxD, seed)


def close(got, wanted):
    np.testing.assert_allclose(got, wanted, rtol=1e-6)


def test_rules_by_bytes():
    cut = {3: OLD_VxD[5], 4: (OLD_VxD[6] + OLD_VxD[5]) / 2, 5: OLD_VxD[6], 6: OLD_VxD[4]}
    cut[7] = (OLD_VxD[3] + OLD_VxD[6]) / 2
    for rule in ("subword_mean", "fvt"):
        close(made(rule)[3:], [cut[i] for i in range(3, 8)])
    close(made("overlap")[[3, 5]], OLD_VxD[[5, 6]])


@pytest.mark.parametrize("rule", embedding_init.RULES)
def test_what_stands_for_no_text_stays_and_the_rest_is_drawn(rule):
    """Rows without weights have the old rows' mean and deviation, and are those of the seed."""
    vectors = embedding_init.Vectors(np.zeros((NEW.size, 3)), np.zeros((OLD.size, 3)))
    found = made(rule, vectors)
    close(found[:3], OLD_VxD[:3])
    assert found.dtype == np.float32 and np.isfinite(found).all()
    np.testing.assert_array_equal(found, made(rule, vectors))


def test_drawn_rows_have_the_moments_of_the_old_ones():
    many = Pieces([b"%d" % i for i in range(1000, 5000)])
    weights = embedding_init.weights("random", OLD, many)
    found = embedding_init.embeddings(weights, OLD_VxD, 1)[3:]
    np.testing.assert_allclose(found.mean(0), OLD_VxD.mean(0), atol=0.1)
    np.testing.assert_allclose(found.std(0), OLD_VxD.std(0), rtol=0.1)
    assert (found != embedding_init.embeddings(weights, OLD_VxD, 2)[3:]).all()


def test_a_byte_and_the_piece_of_one_letter_are_paired_in_order():
    twice = Pieces([b"a", b"b", b"b", b"a"])
    assert pieces.shared(twice, twice) == {i: i for i in range(3, 7)}
    assert pieces.shared(twice, Pieces([b"b"])) == {3: 4}
    assert pieces.shared(Pieces([b"b"]), twice) == {4: 3, 5: 3}


def test_focus_is_a_sparsemax_of_cosines():
    """The projection onto the simplex by its definition, with a search for its threshold."""
    rng = np.random.default_rng(3)
    target_VxD = rng.normal(size=(NEW.size, 3))
    target_VxD[7] = 0  # never seen: it is drawn
    found = made("focus", embedding_init.Vectors(target_VxD))
    close(found[[3, 5]], OLD_VxD[[5, 6]])  # both have them
    for new in (4, 6):
        cosines = [
            target_VxD[new] @ v / np.linalg.norm(target_VxD[new]) / np.linalg.norm(v)
            for v in target_VxD[[3, 5]]
        ]
        low, high = min(cosines) - 1, max(cosines)
        for _ in range(60):
            middle = (low + high) / 2
            total = sum(max(c - middle, 0) for c in cosines)
            low, high = (middle, high) if total > 1 else (low, middle)
        weights = [max(c - low, 0) for c in cosines]
        close(found[new], weights[0] * OLD_VxD[5] + weights[1] * OLD_VxD[6])
    assert np.abs(found[7] - OLD_VxD[[5, 6]]).min() > 1e-3


@hypothesis.given(st.lists(st.floats(-4, 4), min_size=1, max_size=6))
def test_sparsemax_is_on_the_simplex_and_keeps_the_order(scores):
    (found,) = similar.sparsemax(np.array([scores]))
    assert found.sum() == pytest.approx(1) and (found >= 0).all()
    order = np.argsort(scores)
    assert (np.diff(found[order]) >= -1e-12).all()


@pytest.mark.parametrize("count", [1, 3, 8])
def test_pursuit_finds_what_scikit_learn_finds(count):
    rng = np.random.default_rng(0)
    atoms_NxD, wanted_MxD = rng.normal(size=(20, 8)), rng.normal(size=(5, 8))
    lengths = np.linalg.norm(atoms_NxD, axis=1)
    unit = (atoms_NxD / lengths[:, None]).T
    wanted = orthogonal_mp(unit, wanted_MxD.T, n_nonzero_coefs=count).T / lengths
    found = similar.pursuit(wanted_MxD, atoms_NxD, count)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)
    assert ((found != 0).sum(1) <= count).all()


def test_pursuit_stops_at_an_exact_sum():
    atoms_NxD = np.eye(4)[:3]
    found = similar.pursuit(np.array([[0, 2.0, -1, 0], [0, 0, 0, 0]]), atoms_NxD, 3)
    np.testing.assert_allclose(found, [[0, 2, -1], [0, 0, 0]], atol=1e-7)


def test_omp_gives_the_coefficients_to_the_old_rows(monkeypatch):
    """Of vectors of length 1; one atom for so many numbers, at least one."""
    target_VxD = np.zeros((NEW.size, 2))
    target_VxD[3], target_VxD[5] = [1, 0], [0, 2]
    target_VxD[4] = [3, 4]
    found = made("omp", embedding_init.Vectors(target_VxD))
    close(found[4], 0.8 * OLD_VxD[6])
    monkeypatch.setattr(similar, "NUMBERS_AN_ATOM", 1)
    found = made("omp", embedding_init.Vectors(target_VxD))
    close(found[4], 0.6 * OLD_VxD[5] + 0.8 * OLD_VxD[6])


def test_wechsel_is_a_softmax_over_the_nearest(monkeypatch):
    monkeypatch.setattr(similar, "NEIGHBOURS", 2)
    rng = np.random.default_rng(1)
    source, target = rng.normal(size=(OLD.size, 3)), rng.normal(size=(NEW.size, 3))
    source[:4] = 0  # not seen
    found = made("wechsel", embedding_init.Vectors(target, source))
    for new in range(3, NEW.size):
        cosines = {
            old: target[new]
            @ source[old]
            / np.linalg.norm(target[new])
            / np.linalg.norm(source[old])
            for old in range(4, OLD.size)
        }
        near = sorted(cosines, key=cosines.get)[-2:]
        weights = np.exp([cosines[old] / 0.1 for old in near])
        close(found[new], weights / weights.sum() @ OLD_VxD[near])


@pytest.mark.parametrize("chunk", [1, 1 << 20])
def test_vectors_are_the_singular_values_of_pmi(monkeypatch, chunk):
    monkeypatch.setattr(static_vectors, "WINDOW", 2)
    monkeypatch.setattr(static_vectors, "CHUNK", chunk)
    rows = [np.array([0, 1, 2, 0, 1, 3, 3]), np.array([2, 0, 1]), np.array([3, 4])]
    pairs = np.zeros((5, 5))
    for row in rows:
        for i in range(len(row)):
            for j in range(len(row)):
                if 0 < abs(i - j) <= 2:
                    pairs[row[i], row[j]] += 1
    pairs[4] = pairs[:, 4] = 0  # comes once
    totals = pairs.sum(1)
    with np.errstate(divide="ignore", invalid="ignore"):
        pmi = np.log(pairs * pairs.sum() / np.outer(totals, totals))
    pmi = np.where(pairs > 0, np.maximum(pmi, 0), 0)
    found = static_vectors.of_ids(rows, 5)
    left, values, _ = np.linalg.svd(pmi)
    wanted = left * np.sqrt(values)
    np.testing.assert_allclose(np.abs(found[:, :3]), np.abs(wanted[:, :3]), atol=1e-6)
    assert found.shape == (5, 4) and not found[4].any()


def test_words_are_aligned_by_a_dictionary(tmp_path):
    """A rotated copy of the vectors is rotated back."""
    rng = np.random.default_rng(0)
    source = rng.normal(size=(9, 3))
    rotation = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    target = (source @ rotation)[::-1]
    old = {f"w{i}": 5 for i in range(9)}
    new = {f"v{8 - i}": 5 for i in range(9)}
    (tmp_path / "pairs").write_text("".join(f"W{i}\tv{i}\n" for i in range(7)) + "no pair here\n")
    pairs = static_vectors.read_dictionary(tmp_path / "pairs", old, new)
    assert pairs == [(i, 8 - i) for i in range(7)]
    map_DxD = static_vectors.aligned(source, target, pairs)
    np.testing.assert_allclose(target @ map_DxD, source[::-1], atol=1e-9)
    (tmp_path / "other").write_text("x y\n")
    with pytest.raises(UserError, match="none of its 1 pairs has a word"):
        static_vectors.read_dictionary(tmp_path / "other", old, new)
    with pytest.raises(UserError, match="--dictionary=.*missing: cannot be read"):
        static_vectors.read_dictionary(tmp_path / "missing", old, new)


def test_a_piece_has_the_mean_of_its_words(vocabulary):
    texts = ["array of zeros", "array of ones array of zeros"]
    words, vectors_NxD = static_vectors.of_words(texts)
    assert words == {"array": 3, "of": 3, "zeros": 2}
    found = static_vectors.of_pieces(vocabulary, words, vectors_NxD)
    wanted = np.zeros_like(found)
    for token in range(vocabulary.size):
        having = [i for i, w in enumerate(words) if token in vocabulary.encode([f" {w}"])[0]]
        if having:
            counts = [list(words.values())[i] for i in having]
            wanted[token] = np.average(vectors_NxD[having], axis=0, weights=counts)
    np.testing.assert_allclose(found, wanted, atol=1e-12)
    assert 3 <= np.any(found, 1).sum() < 20
