"""`specialm plan` and `score_plan` on a small text, and what is measured of it."""

import json

import numpy as np
import pytest

from specialm import cli
from specialm.common.errors import UserError
from specialm.evaluation import ngrams
from specialm.evaluation.kneser_ney import KneserNey
from specialm.planning import domain_text, evidence

LETTERS = np.array(list("etaoinshrdlu"))


def words(seed, count=1500):
    """Words of random letters: a text of them has some 2.5 bits per byte for an n-gram model."""
    generator = np.random.default_rng(seed)
    return ["".join(generator.choice(LETTERS, generator.integers(2, 9))) for _ in range(count)]


WORDS = words(0)


def text(seed, words, size=500):
    """Words as often as Zipf's law has it."""
    generator, share = np.random.default_rng(seed), 1 / np.arange(1, len(words) + 1)
    return " ".join(generator.choice(words, size, p=share / share.sum()))


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("plan")
    for name, vocabulary, count in (("notes", WORDS, 24), ("generic", words(1), 10)):
        (root / name).mkdir()
        for i in range(count):
            (root / name / f"{i}.txt").write_text(text(i, vocabulary))
    return root


@pytest.fixture(scope="module")
def measured(folders):
    return domain_text.measure(str(folders / "notes"), str(folders / "generic"))


def test_a_curve_is_that_of_the_n_gram_models(folders, measured):
    assert measured.name == "notes" and measured.documents == 24
    whole = sum(path.stat().st_size for path in (folders / "notes").iterdir())
    assert 0.4 * whole < measured.train_bytes < 0.8 * whole
    assert 0.05 * whole < measured.heldout_bytes < 0.5 * whole
    curve = measured.curve
    assert curve.bytes_y[0] == 15_000 and curve.bytes_y[-1] <= measured.train_bytes
    # A mixture whose weight is the best can only gain, once its search has ended.
    assert all(m <= o * 1.01 for m, o in zip(curve.mixed_y, curve.own_y, strict=True))


def test_bits_of_bytes_by_hand():
    train, heldout = (text(i, WORDS, 4000).encode() for i in (1, 2))
    windows = domain_text.windows(heldout)
    assert windows.tokens_NxL[windows.mask_NxL].tobytes() == np.array(list(heldout)).tobytes()
    model = KneserNey.of(domain_text.windows(train[:15_000]), 256, 5)
    p_T = model.probabilities(windows)[windows.mask_NxL]
    want = -np.log2(p_T).sum() / len(heldout)
    curve = domain_text.measured(train, heldout, None)
    assert curve.own_y[0] == pytest.approx(want) and curve.mixed_y == ()
    assert ngrams.bits_per_byte(p_T, len(heldout)) == pytest.approx(want)


def test_one_long_document_is_cut_into_parts(tmp_path):
    (tmp_path / "book.txt").write_text(text(3, WORDS, 14_000))
    assert domain_text.measure(str(tmp_path / "book.txt")).heldout_bytes > 2_000


def test_too_little_text_is_said(tmp_path):
    (tmp_path / "book.txt").write_text("short " * 100)
    with pytest.raises(UserError, match="a forecast needs 15,000"):
        domain_text.measure(str(tmp_path / "book.txt"))


def test_the_generic_sample_is_of_all_documents(tmp_path, monkeypatch):
    monkeypatch.setattr(domain_text, "SAMPLE", 2000)
    for i in range(50):
        (tmp_path / f"{i:02}.txt").write_text(f"{i:02}" * 50)
    taken = domain_text.sample(str(tmp_path))
    numbers = {int(line[:2]) for line in taken.decode().splitlines()}
    assert len(taken) == 2000 and len(numbers) > 15
    assert max(numbers) > 35 and min(numbers) < 15


ARGS = ["--generic_tokens=1e7", "--budget=5e12", "--inference_params=174000"]


def test_plan_and_score_as_a_user_would(folders, capsys):
    source, file = f"--source={folders / 'notes'}", folders / "forecast.json"
    argv = ["plan", source, f"--generic={folders / 'generic'}", *ARGS, f"--register={file}"]
    assert cli.main([*argv, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["domain"] == "notes" and file.exists()
    assert found["digest"] == json.loads(file.read_text())["digest"]
    assert cli.main(argv) == 2 and "is there already" in capsys.readouterr().err

    known = next(f for f in found["forecasts"] if f["bits_per_byte"])
    (folders / "run").mkdir()
    row = {
        "method": known["method"], "domain": "notes", "phase": "finetuned", "seed": 0,
        "train_tokens": known["tokens"], "bits_per_byte": known["bits_per_byte"],
        "specialist_tokens": 10_000,
    }  # fmt: skip
    facts = {"models": {known["method"]: {"params": 174_000}}, "settings": {}}
    (folders / "run" / "results.jsonl").write_text(json.dumps(row) + "\n")
    (folders / "run" / "study.json").write_text(json.dumps(facts))
    results = f"{folders / 'run' / 'results.jsonl'}"
    assert cli.main(["score_plan", f"--plan={file}", f"--results={results}", "--json"]) == 0
    scored = json.loads(capsys.readouterr().out)
    assert scored["methods"][0]["error"] == 0 and scored["methods"][0]["inside_80"]

    file.write_text(file.read_text().replace('"notes"', '"nates"'))
    assert cli.main(["score_plan", f"--plan={file}", f"--results={results}"]) == 2
    assert "was changed after" in capsys.readouterr().err

    assert cli.main(["plan", source, *ARGS, f"--proxies={results}", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["proxies"] == 1
    assert cli.main(["plan", source, *ARGS, f"--proxies={results}", "--domain=x"]) == 2
    assert "no fine-tuned model of the domain 'x' (there are notes)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("--budget=much", "--budget=much: must be a number"),
        ("--budget=0", "--budget=0: must be above 0"),
        ("--domains=0", "--domains=0: must be at least 1"),
        ("--bytes=1e6", "--inference_params=N or --bytes=N"),
        ("--inference_params=", "--inference_params=N or --bytes=N"),
        ("--generic_tokens=", "--generic_tokens is missing"),
        ("--positions=none", "--positions=none: must be rope or learned"),
        ("--source=", "--source is missing"),
        ("--source=/nowhere", "no such file or folder"),
        ("--specialist_tokens=-1", "--specialist_tokens=-1: must be at least 0"),
    ],
)
def test_wrong_words_are_named(change, message, tmp_path, capsys):
    assert cli.main(["plan", "--source=/nowhere", *ARGS, change]) == 2
    assert message in capsys.readouterr().err


def test_the_evidence_is_whole(monkeypatch, tmp_path):
    value = evidence.table()
    assert value["digest"] == evidence.digest(value)
    changed = tmp_path / "evidence.json"
    changed.write_text(evidence.PATH.read_text().replace('"soup"', '"soap"', 1))
    monkeypatch.setattr(evidence, "PATH", changed)
    with pytest.raises(UserError, match="is damaged"):
        evidence.table.__wrapped__()


@pytest.mark.parametrize("option", ["plan", "results"])
def test_score_plan_needs_both(option, capsys):
    given = {"plan": "a.json", "results": "b.jsonl"} | {option: ""}
    assert cli.main(["score_plan", *(f"--{n}={v}" for n, v in given.items())]) == 2
    assert f"--{option} is missing" in capsys.readouterr().err
