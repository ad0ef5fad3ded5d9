"""Training through seqio: the store's own batches, and Tasks and Mixtures of a user's own."""

import itertools
import json
import shutil
import sys
from functools import partial

import conftest
import jax
import needs
import numpy as np
import pytest

from specialm import cli
from specialm.common.errors import UserError
from specialm.data import feeds, tasks
from specialm.data.mixed import Joined, Late, sampler
from specialm.data.sampler import Sampler
from specialm.training import runs, sharding

pytestmark = needs.SEQIO
CONTEXT, K = 16, 6
PROBABILITY = np.array([0.45, 0.0, 0.3, 0.15, 0.08, 0.02])
MODULE = "feeds_of_a_test"


@pytest.fixture(scope="module")
def weighted(store):
    """Importance weights after uniform draws, with an epoch of its own."""
    cluster_N = np.random.default_rng(5).integers(0, K, len(store))
    drawn = Sampler(len(store), 8, 3, cluster_N, PROBABILITY, epoch=1000)
    return Late(Sampler(len(store), 8, 3), drawn, 2), drawn, cluster_N


@pytest.fixture(scope="module")
def own(real_documents, vocabulary, tmp_path_factory):
    """Registered here: the Tasks `own_a` and `own_b` of text, `own_tokens` of tokens, `own_bad`,
    and the Mixture `own_mixture` of the first two."""
    import seqio
    import tensorflow as tf

    def source(texts):
        def dataset(split, shuffle_files=False, seed=None):
            return tf.data.Dataset.from_tensor_slices({"text": texts})

        return seqio.FunctionDataSource(dataset, splits=["train"])

    rekey = partial(seqio.preprocessors.rekey, key_map={"targets": "text"})
    text = seqio.Feature(seqio.PassThroughVocabulary(0), False, dtype=tf.string, rank=0)
    pieces = seqio.SentencePieceVocabulary(str(vocabulary.path))
    tokens = seqio.Feature(pieces, add_eos=True)
    bad = seqio.Feature(seqio.PassThroughVocabulary(9), False, dtype=tf.float32, rank=1)
    keep = partial(seqio.preprocessors.tokenize, copy_pretokenized=False)
    tokenise = [rekey, keep, seqio.preprocessors.append_eos]
    floats = lambda ds: ds.map(lambda example: {"targets": tf.zeros([3])})  # noqa: E731
    made = {
        "own_a": (real_documents[:20], [rekey], text),
        "own_b": (real_documents[20:50], [rekey], text),
        "own_tokens": (real_documents[:20], tokenise, tokens),
        "own_bad": (real_documents[:2], [floats], bad),
    }
    for name, (texts, steps, feature) in made.items():
        seqio.TaskRegistry.add(name, source(texts), {"targets": feature}, steps)
    seqio.MixtureRegistry.add("own_mixture", [("own_a", 3.0), ("own_b", 1.0)])
    return {name: texts for name, (texts, _, _) in made.items()}


def open_own(feed, vocabulary, windows=400, seed=0):
    return feeds.own(f"seqio:{feed}", (), "text", vocabulary, CONTEXT, 8, windows, seed)


def assert_same(batch, expected):
    assert batch.keys() == expected.keys()
    for name in batch:
        assert batch[name].dtype == expected[name].dtype
        np.testing.assert_array_equal(batch[name], expected[name])


def test_batches_are_those_of_the_store(store, vocabulary, weighted):
    drawn, _, _ = weighted
    stream, ordered = feeds.registered("feed", store, store.start, vocabulary, drawn, 80)
    assert len(stream) == 80 and stream.context == CONTEXT and ordered.batch_size == 8
    for step in (0, 1, 2, 3, 4, 1):  # also back, as after a lost checkpoint
        assert_same(stream.batch(ordered.indices(step)), store.batch(drawn.indices(step)))


def test_it_goes_on_in_the_middle_and_by_rows(store, vocabulary, weighted):
    drawn, _, _ = weighted
    stream, ordered = feeds.registered("feed", store, 0, vocabulary, drawn, 80)
    rows = np.array([5, 1, 6])  # of one process
    for step in (7, 9):
        expected = store.batch(drawn.indices(step)[rows])
        assert_same(stream.batch(ordered.indices(step)[rows]), expected)


def test_it_is_the_registered_weighted_task(store, vocabulary, weighted):
    import seqio

    _, drawn, cluster_N = weighted
    name = tasks.register_weighted(
        "by_weight", store, vocabulary.path, cluster_N, PROBABILITY, 3, windows=80, epoch=1000
    )
    examples = seqio.TaskRegistry.get(name).get_dataset(None, "train", shuffle=False)
    stream, ordered = feeds.registered("feed", store, 0, vocabulary, drawn, 80)
    batch = stream.batch(np.arange(80))
    for row, example in enumerate(examples.as_numpy_iterator()):
        size = len(example["targets"])
        np.testing.assert_array_equal(batch["targets"][row, :size], example["targets"])
        assert batch["mask"][row].sum() == size
    assert row == 79


def test_specialist_text_mixed_in(store, vocabulary):
    joined = Joined(store, store, np.arange(7))
    drawn = sampler(Sampler(len(store), 8, 0), 7, 0.5)
    stream, ordered = feeds.registered("feed", joined, 0, vocabulary, drawn, 16)
    assert_same(stream.batch(ordered.indices(1)), joined.batch(drawn.indices(1)))


def test_a_mixture_of_text_is_mixed_by_its_rates_and_loses_nothing(own, vocabulary):
    fed = open_own("own_mixture", vocabulary, windows=4000)
    batch = fed.stream.batch(np.arange(4000))
    flat = batch["targets"][batch["mask"] > 0]
    ends = np.flatnonzero(flat == vocabulary.eos)
    read = [vocabulary.decode(part) for part in np.split(flat, ends + 1)[:-1]]
    known = [set(own["own_a"]), set(own["own_b"])]
    counts = [sum(text in texts for text in read) for texts in known]
    assert sum(counts) == len(read) > 80
    assert 0.6 < counts[0] / len(read) < 0.9  # 3 of 4
    assert fed.key["rates"] == {"own_a": 3.0, "own_b": 1.0}


def test_it_goes_on_where_it_was_and_depends_on_the_seed(own, vocabulary):
    whole, resumed = open_own("own_mixture", vocabulary), open_own("own_mixture", vocabulary)
    unbroken = [whole.stream.batch(whole.sampler.indices(step)) for step in range(12)]
    assert_same(resumed.stream.batch(resumed.sampler.indices(9)), unbroken[9])
    assert_same(resumed.stream.batch(resumed.sampler.indices(11)), unbroken[11])
    assert resumed.key == whole.key != open_own("own_mixture", vocabulary, seed=1).key


def test_tokens_are_cut_like_documents(own, vocabulary):
    import seqio

    fed = open_own("own_tokens", vocabulary)
    batch = fed.stream.batch(np.arange(400))
    # Where two ways to cut a word are equally likely, TensorFlow's tokeniser may take the other.
    its = seqio.SentencePieceVocabulary(str(vocabulary.path))
    encoded = [[*its.encode_tf(text).numpy(), vocabulary.eos] for text in own["own_tokens"]]
    cut = {tuple(t[i : i + CONTEXT]) for t in encoded for i in range(0, len(t), CONTEXT)}
    rows = zip(batch["targets"], batch["mask"].sum(axis=1).astype(int), strict=True)
    assert {tuple(row[:size].tolist()) for row, size in rows} <= cut


@pytest.mark.parametrize(
    ("feed", "message"),
    [
        ("nowhere", "no seqio Task of that name, and no Mixture; registered: "),
        ("own_a:test", "train.feed=seqio:own_a:test: own_a has no split 'test', but train."),
        ("own_bad", "its examples hold targets (float32 1-d); they must have text"),
    ],
)
def test_feeds_that_cannot_be_read(own, vocabulary, feed, message):
    with pytest.raises(UserError) as error:
        open_own(feed, vocabulary)
    assert message in str(error.value)


def test_tokens_of_another_vocabulary(own, vocabulary, bpe_vocabulary):
    with pytest.raises(UserError, match="another vocabulary than the model's"):
        open_own("own_tokens", bpe_vocabulary)


def test_a_stream_that_ends_says_so(vocabulary):
    stream = feeds.Stream(4, 0, 9, lambda i: iter([np.array([7, 8])] * (3 - i)), "train.feed=seqio")
    assert stream.batch([2])["targets"].tolist() == [[7, 8, 0, 0]]
    with pytest.raises(UserError, match="it ends after 3 windows"):
        stream.batch([3])


def test_without_seqio(monkeypatch, store, vocabulary, weighted):
    monkeypatch.setitem(sys.modules, "seqio", None)
    with pytest.raises(UserError, match=r"train.feed=seqio needs the extra 'seqio'"):
        feeds.registered("feed", store, 0, vocabulary, weighted[0], 8)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """root/config.py, and root/run in which all is prepared."""
    root = tmp_path_factory.mktemp("project")
    conftest.write_docstrings(root, generic=40, linalg=40)
    (root / "config.py").write_text(conftest.BANK_CONFIG.format(root=root))
    assert cli.main(["prepare", f"--config={root / 'config.py'}", f"--workdir={root / 'run'}"]) == 0
    return root


@pytest.fixture
def workdir(project, tmp_path):
    """A folder in which all is prepared and nothing is trained."""
    return shutil.copytree(project / "run", tmp_path / "run")


def train(project, workdir, method, *argv):
    """(exit status, the run folder or None)."""
    status = cli.main(
        [
            "train",
            f"--config={project / 'config.py'}",
            f"--workdir={workdir}",
            f"--config.method={method}",
            "--config.domain=linalg",
            "--config.clustering.k=4",
            "--config.train.tokens=1536",
            "--config.train.checkpoint_every=4",
            *argv,
        ]
    )
    (made,) = (workdir / "pretrained").glob(f"{method}-*") if status == 0 else (None,)
    return status, made


def params_of(path):
    return jax.tree.leaves(runs.load(path, sharding.make_mesh()).params)


def losses_of(path):
    return [json.loads(line)["loss"] for line in (path / "metrics.jsonl").open()]


def ledger_of(path):
    return json.loads((path / "model.json").read_text())["ledger"]


def assert_equal_models(one, other):
    assert one.name == other.name  # the same key
    for first, second in zip(params_of(one), params_of(other), strict=True):
        np.testing.assert_array_equal(first, second)


@pytest.mark.slow  # that their batches are equal is tested above
@pytest.mark.parametrize("method", ["slm_is", "slm_pn"])
def test_a_model_trained_through_the_task_is_that_of_the_store(project, workdir, tmp_path, method):
    again = shutil.copytree(workdir, tmp_path / "again")
    _, of_store = train(project, workdir, method)
    _, of_task = train(project, again, method, "--config.train.feed=seqio")
    assert of_store.name == of_task.name  # the same key
    assert losses_of(of_store) == losses_of(of_task)
    assert ledger_of(of_task)[-1]["feed"] == "seqio"
    if method == "slm_is":  # a bank is not loaded whole
        assert_equal_models(of_store, of_task)


def test_a_mixture_trains_and_resumes(own, project, workdir, tmp_path, monkeypatch, capsys):
    feed = "--config.train.feed=seqio:own_mixture"
    cut = shutil.copytree(workdir, tmp_path / "cut")
    _, whole = train(project, workdir, "slm", feed)
    assert losses_of(whole)[-1] < np.log(400)
    assert ledger_of(whole)[-1]["feed"] == "seqio:own_mixture"
    inputs = json.loads((whole / "stage.json").read_text())["inputs"]
    assert inputs["feed"]["name"] == "own_mixture" and "feed" not in inputs["train"]

    read, calls = feeds.Stream.batch, itertools.count()

    def failing(self, indices):
        if len(indices) == 8 and next(calls) == 6:
            raise UserError("power cut")
        return read(self, indices)

    monkeypatch.setattr(feeds.Stream, "batch", failing)
    assert train(project, cut, "slm", feed)[0] == 2
    assert "power cut" in capsys.readouterr().err
    monkeypatch.undo()
    assert_equal_models(whole, train(project, cut, "slm", feed)[1])


def test_a_mixture_takes_the_place_of_no_methods_draws(own, project, workdir, capsys):
    assert train(project, workdir, "slm_is", "--config.train.feed=seqio:own_mixture")[0] == 2
    assert "brings its own draws, and method='slm_is' for linalg has others" in (
        capsys.readouterr().err
    )


@pytest.mark.parametrize("feed", ["tfds", "seqio:", "seqio::train"])
def test_a_feed_that_is_none_is_told_before_anything(project, tmp_path, feed, capsys):
    assert train(project, tmp_path, "slm", f"--config.train.feed={feed}")[0] == 2
    told = capsys.readouterr().err
    assert f"train.feed={feed!r}: must be store, seqio" in told
