import dataclasses
import json
import sys
import types

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score

from specialm import cli
from specialm.common.errors import UserError
from specialm.evaluation import likelihood, tasks
from specialm.evaluation.questions import Question
from specialm.models import transformer
from specialm.serving import harness
from specialm.training import runs, sharding

TEXTS = ["Return a new array of given shape.", "The", "x" * 150, "Compute the", ""]


@pytest.fixture(scope="module")
def run(tiny_model, vocabulary, tmp_path_factory):
    """The run folder of a model with some preference."""
    path = tmp_path_factory.mktemp("model") / "run"
    params = jax.tree.map(lambda x: 5 * x, transformer.init(tiny_model, jax.random.key(3)))
    runs.save(path, params)
    runs.describe(path, tiny_model, vocabulary, "slm", "", 0, [])
    return path


@pytest.fixture(scope="module")
def likelihoods(run):
    return likelihood.Likelihoods(runs.load(run, sharding.make_mesh()))


def log_probabilities(model, ids):
    """float64 [L, V] of each token given those before it in the window: the plain forward pass."""
    inputs = np.array([[model.vocabulary.start, *ids[:-1]]])
    logits = np.asarray(transformer.logits(model._params, inputs, model.config), np.float64)[0]
    return logits - np.log(np.exp(logits).sum(1, keepdims=True))


def test_scores_are_those_of_the_plain_forward_pass(likelihoods):
    texts = likelihoods.starts(
        ["Return a"] * 2 + ["The", ""], ["Return a new", "Return also", "The array", "Copy"]
    )
    assert [first for _, first in texts][3] == 0
    for (ids, first), found in zip(texts, likelihoods.score(texts), strict=True):
        logs = log_probabilities(likelihoods, ids)
        own = [(i, ids[i]) for i in range(first, len(ids))]
        assert own and found.nats == pytest.approx(-sum(logs[i, t] for i, t in own), rel=1e-5)
        assert found.greedy == all(logs[i].argmax() == t for i, t in own)
        assert not found.cut


def test_what_the_model_finds_likeliest_is_greedy(likelihoods):
    ids = likelihoods.vocabulary.encode(["The array"])[0]
    for _ in range(3):
        ids = [*ids, int(log_probabilities(likelihoods, [*ids, 0])[-1].argmax())]
    found, other = likelihoods.score(
        [(ids, len(ids) - 3), ([*ids[:-1], ids[-1] ^ 1], len(ids) - 3)]
    )
    assert found.greedy and not other.greedy


def test_long_texts_lose_the_beginning_of_their_context(likelihoods):
    """Windows have 16 tokens: the last 16 of 40; a continuation of 33 in three windows."""
    ids = [int(i) for i in np.random.default_rng(0).integers(5, 500, 40)]
    end, whole = likelihoods.score([(ids, 35), (ids, 7)])
    logs = log_probabilities(likelihoods, ids[-16:])
    assert end.cut and whole.cut
    assert end.nats == pytest.approx(-sum(logs[11 + i, ids[35 + i]] for i in range(5)), rel=1e-5)
    parts = [ids[start : start + 16] for start in range(7, 40, 16)]
    wanted = sum(
        log_probabilities(likelihoods, part)[np.arange(len(part)), part].sum() for part in parts
    )
    assert whole.nats == pytest.approx(-wanted, rel=1e-5)


class Fixed:
    """Likelihoods by a function of the text."""

    def __init__(self, nats):
        self.nats = nats

    def starts(self, contexts, wholes):
        return [(whole, len(context)) for context, whole in zip(contexts, wholes, strict=True)]

    def score(self, texts, title=""):
        return [likelihood.Scored(self.nats(whole[first:]), False, False) for whole, first in texts]


def test_accuracies_against_scikit_learn():
    rng = np.random.default_rng(0)
    nats = {}
    asked = []
    for i in range(60):
        words = tuple(f"{'y' * int(rng.integers(1, 9))}{i}{letter}" for letter in "abc")
        nats |= {word: float(rng.exponential()) for word in words}
        asked.append(
            Question(tuple(("So", word) for word in words), int(rng.integers(3)), "ab"[i % 2])
        )
    report = tasks.evaluate(Fixed(nats.__getitem__), asked)
    right = [question.right for question in asked]
    for name, score in (
        ("by_text", lambda word: nats[word]),
        ("by_byte", lambda word: nats[word] / len(word)),
    ):
        chosen = [int(np.argmin([score(word) for _, word in q.choices])) for q in asked]
        assert report[name]["accuracy"] == pytest.approx(accuracy_score(right, chosen))
    assert report["chance"] == pytest.approx(1 / 3) and report["questions"] == 60
    halves = [report["groups"][group]["by_text"]["accuracy"] for group in "ab"]
    assert np.mean(halves) == pytest.approx(report["by_text"]["accuracy"])


def test_ties_are_wrong():
    asked = [Question((("", "same"), ("", "else")), right) for right in (0, 1)]
    report = tasks.evaluate(Fixed(lambda word: 1.0), asked)
    assert report["by_text"]["accuracy"] == report["by_byte"]["accuracy"] == 0.0
    assert not tasks.is_right(np.array([1.0, 1.0, 0.0]), 0)
    assert tasks.is_right(np.array([1.0, 1.1, 0.0]), 1)


def test_scores_by_byte_do_not_prefer_short_choices():
    asked = [Question((("", "a b c d e f"), ("", "z")), 0)]
    report = tasks.evaluate(Fixed(lambda text: 1.0 + 0.1 * len(text)), asked)
    assert report["by_text"]["accuracy"] == 0.0 and report["by_byte"]["accuracy"] == 1.0


@given(right=st.integers(0, 60), more=st.integers(0, 60))
def test_the_interval_is_where_the_score_test_rejects(right, more):
    """Its ends solve |share - p| = z sqrt(p (1 - p) / n), and hold the share."""
    count = right + more + 1
    low, high = tasks.wilson(right, count)
    share = right / count
    assert -1e-12 <= low <= share <= high <= 1 + 1e-12
    for end in (low, high):
        assert abs(share - end) == pytest.approx(
            tasks.NORMAL * np.sqrt(max(end * (1 - end), 0) / count), abs=1e-7
        )


def test_choices_are_scored_from_a_point_that_all_share(likelihoods):
    """A token across the boundary in one choice counts in the other too."""
    vocabulary = likelihoods.vocabulary
    context, choices = "The arr", ("ay of", "!!")
    asked = [Question(tuple((context, text) for text in choices), 0)]
    starts = likelihoods.starts([context] * 2, [context + text for text in choices])
    firsts = [first for _, first in starts]
    assert firsts[0] != firsts[1]  # "array" is a piece of this vocabulary
    shared = tasks._from_one_point(asked, starts)
    assert [first for _, first in shared] == [min(firsts)] * 2
    assert vocabulary.decode(shared[0][0]) == "The array of"


def test_the_command(run, tmp_path, capsys):
    path = tmp_path / "mine.jsonl"
    rows = [{"ctx": "Return a", "endings": ["new array", "zzz"], "label": 0}] * 3
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    argv = ["tasks", f"--checkpoint={run}", f"--tasks=pairs,{path}"]
    assert cli.main([*argv, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)["tasks"]
    assert report["pairs"]["questions"] == 600 and len(report["pairs"]["groups"]) == 12
    assert report["mine"]["questions"] == 3 and report["mine"]["chance"] == 0.5
    assert cli.main(argv) == 0
    text = capsys.readouterr().out
    assert "  negative polarity" in text and f"{report['pairs']['by_text']['accuracy']:.3f}" in text
    for tasks_given, words in (("", "is empty"), ("pairs,pairs", "is there twice")):
        assert cli.main([*argv[:2], f"--tasks={tasks_given}"]) == 2
        assert words in capsys.readouterr().err


def test_models_of_bytes_are_scored(tiny_model, vocabulary):
    config = dataclasses.replace(
        tiny_model, embedder="bytes", head="bytes_in_turn", byte_size=8, byte_heads=2
    )
    params = transformer.init(config, jax.random.key(0), vocabulary.pieces)
    model = runs.Model(None, config, params, vocabulary, {})
    found = likelihood.Likelihoods(model)
    texts = found.starts(["The"], ["The array"])
    logs = transformer.logits(params, np.array([[0, *texts[0][0][:-1]]]), config)[0]
    wanted = -sum(float(logs[i, t]) for i, t in list(enumerate(texts[0][0]))[texts[0][1] :])
    assert found.score(texts)[0].nats == pytest.approx(wanted, rel=1e-4)


@pytest.fixture
def language_model(run, monkeypatch):
    """Under a base class with the constructor of lm-eval's, if that is not installed."""
    try:
        import lm_eval.api.model  # noqa: F401
    except ModuleNotFoundError:
        base = type("LM", (), {"__init__": lambda self: setattr(self, "_rank", 0)})
        for name in ("lm_eval", "lm_eval.api", "lm_eval.api.model"):
            monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
        sys.modules["lm_eval.api.model"].LM = base
    return harness.language_model(run)


def request(*args):
    return types.SimpleNamespace(args=args)


def test_the_harness_gets_what_the_model_gives(language_model, likelihoods):
    assert language_model._rank == 0
    found = language_model.loglikelihood([request("Return a", " new"), request("", "Copy")])
    texts = likelihoods.starts(["Return a", ""], ["Return a new", "Copy"])
    assert found == [(-each.nats, each.greedy) for each in likelihoods.score(texts)]
    rolled = language_model.loglikelihood_rolling([request(text) for text in TEXTS])
    ids = [likelihoods.vocabulary.encode([text])[0] for text in TEXTS]
    assert rolled == [-each.nats for each in likelihoods.score([(own, 0) for own in ids])]
    assert rolled[-1] == 0 and len(ids[2]) > likelihoods.config.context
    made = language_model.generate_until(
        [request("The", {"until": ["\n\n"], "max_gen_toks": 5}), request("The", {"until": []})]
    )
    assert len(likelihoods.vocabulary.encode(made[:1])[0]) <= 8
    assert made[1].startswith(made[0].rstrip("\ufffd"))


def test_without_the_harness_it_says_so(run, monkeypatch):
    for name in ("lm_eval", "lm_eval.api", "lm_eval.api.model"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UserError, match="pip install lm-eval"):
        harness.language_model(run)
