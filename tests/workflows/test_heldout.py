"""The report on held-out text: contamination counts, clean scores, macro average, cost."""

import collections
import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest

from specialm.data.sources import stable_hash
from specialm.evaluation import contamination
from specialm.training import runs
from specialm.training.scoring import Score
from specialm.workflows import experts, from_checkpoint, heldout, pipeline

COPIES = 4


@pytest.fixture(scope="module")
def run(bank, tmp_path_factory):
    """A run on a domain of which held-out documents are copies of training text: of its own, and
    of the generic text."""
    root = tmp_path_factory.mktemp("leaky")
    config = from_checkpoint.load(bank / "bank", source=str(bank / "linalg.jsonl"))
    clean = from_checkpoint.open_run(config, root / "clean", ["linalg"], bank / "bank")
    texts = [json.loads(line)["text"] for line in (bank / "linalg.jsonl").open()]
    generic = [json.loads(line)["text"] for line in (bank / "generic.jsonl").open()]
    stores = clean.prepared.domains["linalg"]
    trained = {key for split in ("train", "valid") for _, key in stores[split].documents}
    held = {key for _, key in clean.prepared.generic_heldout.documents}
    mine = [text for text in texts if stable_hash(text) in trained][:COPIES]
    theirs = [text for text in generic if stable_hash(text) not in held][:COPIES]
    folder = root / "linalg"
    folder.mkdir()
    for i, text in enumerate(texts):
        (folder / f"{i}.txt").write_text(text)
    # Names that are held out, for the copies.
    names = (f"copy{i}.txt" for i in range(1000))
    names = [name for name in names if stable_hash(name) < 0.25 * 2**64]
    for name, text in zip(names, [*mine, *theirs], strict=False):
        (folder / name).write_text(text)
    config = from_checkpoint.load(bank / "bank", ["--config.data.heldout_tokens=0"], str(folder))
    return from_checkpoint.open_run(config, root / "run", ["linalg"], bank / "bank")


@pytest.fixture(scope="module")
def model(run, bank):
    return experts.take(run, bank / "bank", "linalg", "bank")


@pytest.fixture(scope="module")
def report(run, model):
    return heldout.evaluate(run, model.path, ["generic", "linalg"], model.fingerprint, "model")


def near_duplicates(run, store, indices, trained) -> dict[int, float]:
    """{window: largest Jaccard similarity of its 5-word shingles}, from all pairs that share one;
    1 for those of equal words."""

    def shingles(text):
        words = contamination.words(text)
        return (
            {tuple(words[i : i + 5]) for i in range(len(words) - 4)},
            " ".join(words or text.split()),
        )

    def decoded(store, indices):
        return [shingles(run.prepared.vocabulary.decode(row)) for row in store.read(indices)]

    seen = [pair for of, used in trained for pair in decoded(of, used)]
    texts, having = {text for _, text in seen}, collections.defaultdict(set)
    for number, (other, _) in enumerate(seen):
        for shingle in other:
            having[shingle].add(number)
    found = {}
    for index, (mine, text) in zip(indices.tolist(), decoded(store, indices), strict=True):
        others = {number for shingle in mine for number in having[shingle]}
        best = max((len(mine & seen[n][0]) / len(mine | seen[n][0]) for n in others), default=0)
        found[index] = 1.0 if text in texts else best
    return found


def test_leaks_against_all_pairs(run, report):
    """Generic and own specialist windows apart, counts and windows."""
    store, indices = pipeline.heldout(run, "linalg")
    part = pipeline.specialist(run, "linalg")
    generic = run.prepared.generic
    found = report["contamination"]["linalg"]
    assert found["checked"] == len(indices)
    every = set()
    for name, trained in (
        (
            "specialist",
            [(part.train_store, part.train_indices), (part.valid_store, part.valid_indices)],
        ),
        ("generic", [(generic, np.arange(len(generic)))]),
    ):
        similar = near_duplicates(run, store, indices, trained)
        wanted = {window for window, value in similar.items() if value >= 0.8}
        assert found["against"][name]["trained"] == sum(len(used) for _, used in trained)
        assert found["against"][name]["leaked"] == len(wanted) >= 3 * COPIES
        every |= wanted
    assert every <= set(found["windows"]) < set(indices.tolist())
    assert found["windows"] == sorted(found["windows"])


def test_clean_scores_leave_exactly_those_windows_out(run, model, report):
    store, indices = pipeline.heldout(run, "linalg")
    kept = np.setdiff1d(indices, report["contamination"]["linalg"]["windows"])
    again = pipeline.score_heldout(
        run, model.path, ["linalg"], model.fingerprint, "kept", {"linalg": kept}
    )["linalg"]
    score = report["scores"]["linalg"]
    assert score["windows"] == len(indices)
    assert score["tokens"] == store.sizes_N[indices].sum()
    clean = score["clean"]
    assert (clean["windows"], clean["tokens"], clean["bytes"]) == (
        len(kept),
        store.sizes_N[kept].sum(),
        store.bytes_N[kept].sum(),
    )
    assert clean["nll"] == pytest.approx(again.nll, rel=1e-6)
    assert clean["perplexity"] == pytest.approx(np.exp(clean["nll"] / clean["tokens"]))
    assert clean["perplexity"] != score["perplexity"]


def test_macro_is_over_the_domains_alone(report):
    assert report["macro"]["nll_per_token"] == report["scores"]["linalg"]["nll_per_token"]
    assert report["macro"]["nll_per_token"] != report["scores"]["generic"]["nll_per_token"]


def test_the_cost_is_that_of_the_ledger(report, bank, model):
    (entry,) = runs.read_record(model.path)["ledger"]
    generic = report["cost"]["generic"]
    assert (generic["flops"], generic["tokens"]) == (entry["flops"], 20 * 8 * 16)
    assert generic["device_seconds"] == entry["seconds"] * entry["devices"]
    assert generic["gpu_hours"] == pytest.approx(entry["flops"] / (0.4 * 312e12) / 3600)
    assert report["cost"]["specialisation"]["flops"] == 0


def test_the_check_is_made_once(run, model, report, monkeypatch):
    def again(*_, **__):
        raise AssertionError("checked again")

    monkeypatch.setattr(contamination, "find_contamination", again)
    assert heldout.check(run, ["generic", "linalg"]) == report["contamination"]


def test_the_table_says_all_of_it(report):
    lines = heldout.table(report).splitlines()
    found = report["contamination"]["linalg"]["against"]
    score = report["scores"]["linalg"]
    assert lines[0].split() == ["set", "perplexity", "bits/byte", "tokens"]
    row = next(i for i, line in enumerate(lines) if line.startswith("linalg"))
    assert lines[row].split()[1:3] == [
        f"{score['perplexity']:.2f}",
        f"{score['bits_per_byte']:.3f}",
    ]
    assert f"{score['clean']['perplexity']:.2f}" in lines[row + 1]
    line = next(line for line in lines if line.startswith("  linalg:"))
    for name in ("generic", "specialist"):
        assert f"against {found[name]['trained']:,} {name} windows" in line
        assert (
            f"{found[name]['leaked']} of {report['contamination']['linalg']['checked']:,}" in line
        )


def test_without_generic_text_or_check(run, model, bank, tmp_path):
    """It says so, in place of counts that would look clean."""
    alone = tmp_path / "alone"
    shutil.copytree((bank / "bank").resolve(), alone)
    opened = from_checkpoint.open_run(run.config, tmp_path / "work", ["linalg"], alone)
    found = heldout.evaluate(opened, model.path, ["linalg"], model.fingerprint, "model")
    assert found["contamination"]["linalg"]["against"]["generic"] is None
    assert found["contamination"]["linalg"]["against"]["specialist"]["leaked"] > 0
    assert "the generic text that the model was trained on is not here" in heldout.table(found)
    opened.config.unlock().evaluate.contamination_check = False
    found = heldout.evaluate(opened, model.path, ["linalg"], model.fingerprint, "model")
    assert found["contamination"] is None and "clean" not in found["scores"]["linalg"]
    assert "contamination check: off" in heldout.table(found)


def test_nothing_left_but_leaks():
    """A set of which every window leaked has no clean perplexity, not one of 0 / 0."""
    score = Score(10.0, 5, 20, 2)
    assert heldout._without(score, score) is None
    assert heldout._without(score, Score(4.0, 2, 8, 1)) == Score(6.0, 3, 12, 1)


def test_documents_that_another_vocabulary_has_cut():
    """One's windows of the documents that some of the other's are of, however many there are."""
    coarse = SimpleNamespace(documents=["a", "b", "c"], document_N=np.array([0, 1, 1, 2]))
    fine = SimpleNamespace(documents=["a", "b", "c"], document_N=np.array([0, 0, 1, 1, 1, 2, 2]))
    found = pipeline.same_documents(fine, coarse, np.array([2, 3]))
    np.testing.assert_array_equal(found, [2, 3, 4, 5, 6])
    np.testing.assert_array_equal(pipeline.same_documents(coarse, fine, np.array([0, 1])), [0])
