"""The embedding cache: restart after a kill, and never a vector of another encoder or text."""

import numpy as np
import pytest

from specialm.clustering.embeddings import embed
from specialm.common import files

TEXTS = [f"text {i}" for i in range(23)]


class CountingEncoder:
    """Vectors made from the text and the fingerprint; remembers what it encoded."""

    name, dim = "counting", 3

    def __init__(self, fingerprint: str = "a", stop_after: int | None = None):
        self.fingerprint, self.stop_after, self.seen = fingerprint, stop_after, []

    def vector(self, text: str) -> list[float]:
        return [float(text.split()[1]), len(text), ord(self.fingerprint)]

    def encode(self, texts, progress=True):
        if self.stop_after is not None and len(self.seen) >= self.stop_after:
            raise KeyboardInterrupt
        self.seen += texts
        progress(len(texts))
        return np.array([self.vector(text) for text in texts], np.float32)


def run(path, encoder, texts=TEXTS, key="store-1"):
    return embed(lambda i, j: texts[i:j], len(texts), encoder, path, chunk=5, key=key)


def expected(encoder, texts=TEXTS):
    return np.array([encoder.vector(text) for text in texts], np.float32)


def test_computed_once_and_found_again(tmp_path):
    path = tmp_path / "embeddings.npy"
    first, second = CountingEncoder(), CountingEncoder()
    vectors = run(path, first)
    assert isinstance(vectors, np.memmap) and vectors.dtype == np.float32
    np.testing.assert_array_equal(vectors, expected(first))
    np.testing.assert_array_equal(np.load(path), expected(first))
    assert first.seen == TEXTS
    np.testing.assert_array_equal(run(path, second), expected(second))
    assert second.seen == []
    facts = files.read_sealed(tmp_path / "embeddings.npy.json")
    assert [stop for stop, _ in facts.pop("digests")] == [5, 10, 15, 20, 23]
    assert facts == {
        "encoder": "counting",
        "fingerprint": "a",
        "key": "store-1",
        "count": 23,
        "dim": 3,
        "done": 23,
    }
    assert sorted(p.name for p in tmp_path.iterdir()) == [path.name, path.name + ".json"]


def test_goes_on_after_a_kill(tmp_path):
    path = tmp_path / "embeddings.npy"
    with pytest.raises(KeyboardInterrupt):
        run(path, CountingEncoder(stop_after=10))
    assert not path.exists()
    again = CountingEncoder()
    np.testing.assert_array_equal(run(path, again), expected(again))
    assert again.seen == TEXTS[10:]


def test_killed_just_before_the_last_rename(tmp_path):
    path = tmp_path / "embeddings.npy"
    run(path, CountingEncoder())
    path.rename(path.with_name(path.name + ".partial"))
    again = CountingEncoder()
    np.testing.assert_array_equal(run(path, again), expected(again))
    assert again.seen == []


@pytest.mark.parametrize("change", ["encoder", "key", "count"])
@pytest.mark.parametrize("finished", [True, False])
def test_a_cache_of_anything_else_is_not_used(tmp_path, change, finished):
    path = tmp_path / "embeddings.npy"
    if finished:
        run(path, CountingEncoder())
    else:
        with pytest.raises(KeyboardInterrupt):
            run(path, CountingEncoder(stop_after=10))
    encoder = CountingEncoder("b" if change == "encoder" else "a")
    texts = TEXTS[:20] if change == "count" else TEXTS
    vectors = run(path, encoder, texts, "store-2" if change == "key" else "store-1")
    assert encoder.seen == texts
    np.testing.assert_array_equal(vectors, expected(encoder, texts))


def test_a_switch_between_encoders_when_both_were_killed(tmp_path):
    """The half-made file of one never passes for that of the other."""
    path = tmp_path / "embeddings.npy"
    for name in "abab":
        with pytest.raises(KeyboardInterrupt):
            run(path, CountingEncoder(name, stop_after=5))
    last = CountingEncoder("a")
    np.testing.assert_array_equal(run(path, last), expected(last))
    assert last.seen == TEXTS


def test_no_windows(tmp_path):
    assert run(tmp_path / "none.npy", CountingEncoder(), []).shape == (0, 3)
