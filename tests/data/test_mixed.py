import numpy as np
import pytest
from conftest import build_store

from specialm.common.errors import UserError
from specialm.data import mixed
from specialm.data.sampler import Sampler


@pytest.fixture(scope="module")
def specialist(vocabulary, real_documents, tmp_path_factory):
    return build_store(
        tmp_path_factory.mktemp("specialist") / "s", vocabulary, real_documents[200:210]
    )


@pytest.fixture(scope="module")
def joined(store, specialist):
    return mixed.Joined(store, specialist, np.array([7, 3, 5]))


def test_a_joined_store_reads_both(joined, store, specialist):
    n = len(store)
    assert len(joined) == n + 3 and joined.context == store.context
    batch = joined.batch(np.array([n + 1, 4, n, n - 1, n + 2]))
    wanted = [
        specialist.read([3]),
        store.read([4]),
        specialist.read([7]),
        store.read([n - 1]),
        specialist.read([5]),
    ]
    np.testing.assert_array_equal(batch["targets"], np.concatenate(wanted))
    np.testing.assert_array_equal(batch["inputs"][:, 1:], batch["targets"][:, :-1])
    sizes = [
        specialist.sizes_N[3],
        store.sizes_N[4],
        specialist.sizes_N[7],
        store.sizes_N[n - 1],
        specialist.sizes_N[5],
    ]
    np.testing.assert_array_equal(batch["mask"].sum(axis=1), sizes)


@pytest.mark.parametrize("rows", [[0, 1], [-1, -2]])
def test_a_batch_of_one_side_alone(joined, rows):
    rows = np.arange(len(joined))[rows]
    assert joined.batch(rows)["targets"].shape == (2, joined.context)


def test_windows_of_another_length_are_refused(store, specialist):
    class Longer:
        context = store.context + 1

    with pytest.raises(UserError, match="data.context"):
        mixed.Joined(Longer(), specialist, np.arange(2))


@pytest.mark.parametrize("clusters", [None, 3])
def test_the_fraction_is_drawn(clusters):
    rng = np.random.default_rng(0)
    cluster_N = None if clusters is None else rng.integers(0, 3, 400)
    probability_K = None if clusters is None else np.array([0.7, 0.3, 0.0])
    generic = Sampler(400, 16, 5, cluster_N, probability_K)
    both = mixed.sampler(generic, 20, 0.1)
    drawn = np.concatenate([both.indices(step) for step in range(420)])  # 16 epochs of 420 slots
    own = drawn[drawn >= 400]
    assert len(own) / len(drawn) == pytest.approx(0.1, abs=0.002)
    counts = np.bincount(own - 400, minlength=20)
    assert len(counts) == 20 and counts.max() - counts.min() <= 16  # even, up to 1 an epoch
    if clusters:
        rest = cluster_N[drawn[drawn < 400]]
        shares = np.bincount(rest, minlength=3) / len(drawn)
        np.testing.assert_allclose(shares, [0.63, 0.27, 0.0], atol=0.003)


def test_an_empty_specialist_set_is_an_error():
    with pytest.raises(UserError, match=r"specialist_fraction=0\.1.*specialist_tokens"):
        mixed.sampler(Sampler(10, 2, 0), 0, 0.1)


def test_late_mixing_starts_at_its_step():
    generic = Sampler(50, 4, 1)
    both = mixed.sampler(generic, 5, 0.5)
    late = mixed.Late(generic, both, 3)
    assert late.batch_size == 4
    for step in range(6):
        drawn = (generic if step < 3 else both).indices(step)
        np.testing.assert_array_equal(late.indices(step), drawn)
