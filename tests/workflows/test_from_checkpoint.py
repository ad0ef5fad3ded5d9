"""A user's own text and a run folder, nothing else: no config, no generic text, no clusters."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from specialm import cli
from specialm import config as config_lib
from specialm.common import manifest, provenance
from specialm.common.errors import UserError
from specialm.training import runs
from specialm.workflows import from_checkpoint, own_text


@pytest.fixture(scope="module")
def moved(bank, tmp_path_factory):
    """The bank's run folder, copied to where nothing else of it is."""
    target = tmp_path_factory.mktemp("elsewhere") / "a" / "b" / "bank"
    shutil.copytree((bank / "bank").resolve(), target)
    return target


@pytest.fixture
def command(capsys, monkeypatch, tmp_path):
    """Runs `specialm NAME` in an empty folder: (exit status, JSON or error text)."""
    monkeypatch.chdir(tmp_path)

    def run(*argv):
        status = cli.main([*map(str, argv), "--json"])
        captured = capsys.readouterr()
        return status, json.loads(captured.out) if status == 0 else captured.err

    return run


def test_the_settings_come_back(bank):
    """All of them, with their types, as the config file gave them."""
    wanted = config_lib.load(str(bank / "config.py"))
    loaded = from_checkpoint.load(bank / "bank", trusted=True)
    assert provenance.flat(loaded) == provenance.flat(wanted)
    assert loaded.to_dict() == wanted.to_dict()  # tuples are tuples again
    assert loaded.is_locked
    with_override = from_checkpoint.load(
        bank / "bank", ["--config.finetune.max_steps=7", "--config.train.learning_rate=0.5"]
    )
    assert (with_override.finetune.max_steps, with_override.train.learning_rate) == (7, 0.5)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("--config.finetune.max_stepz=7", "max_steps"),
        ("--config.finetune.max_steps=a", "max_steps"),
        ("--config.model.d_model=0", "model.d_model=0: must be at least 1"),
        ("--config.domain=nowhere", "domain='nowhere': must be one of linalg"),
    ],
)
def test_wrong_overrides_are_named(bank, override, message):
    with pytest.raises(UserError, match=message):
        from_checkpoint.load(bank / "bank", [override])


def test_a_run_folder_without_settings_asks_for_the_config(bank, tmp_path):
    shutil.copytree((bank / "bank").resolve(), tmp_path / "old")
    record = runs.read_record(tmp_path / "old")
    del record["settings"]
    (tmp_path / "old" / "model.json").write_text(json.dumps(record))
    manifest.write(tmp_path / "old")
    with pytest.raises(UserError, match="old carries no settings.* give the --config"):
        from_checkpoint.load(tmp_path / "old")


def test_settings_of_another_version(bank, tmp_path):
    """A field that is gone is left out, a new one has its default."""
    shutil.copytree((bank / "bank").resolve(), tmp_path / "other")
    record = runs.read_record(tmp_path / "other")
    record["settings"]["finetune"]["gone"] = 1
    del record["settings"]["finetune"]["patience"]
    (tmp_path / "other" / "model.json").write_text(json.dumps(record))
    manifest.write(tmp_path / "other")
    loaded = from_checkpoint.load(tmp_path / "other")
    assert "gone" not in loaded.finetune
    assert loaded.finetune.patience == config_lib.default().finetune.patience


def test_all_of_a_source_is_used_unless_said_otherwise(bank, notes):
    loaded = from_checkpoint.load(bank / "bank", source=str(notes))
    assert loaded.data.domains.to_dict() == {"my-notes": f"folder:{notes}"}
    assert loaded.domain == "my-notes" and loaded.data.specialist_tokens == 0
    limited = from_checkpoint.load(
        bank / "bank", ["--config.data.specialist_tokens=300"], str(notes)
    )
    assert limited.data.specialist_tokens == 300
    # And it is trained on for as long as that helps, whatever the bank's own domains had.
    assert loaded.finetune.max_steps == own_text.SETTINGS["finetune.max_steps"] > 4
    short = from_checkpoint.load(bank / "bank", ["--config.finetune.max_steps=7"], str(notes))
    assert short.finetune.max_steps == 7
    assert short.finetune.max_epochs == own_text.SETTINGS["finetune.max_epochs"]
    assert from_checkpoint.load(bank / "bank").finetune.max_steps == 4  # not without a source


def test_with_a_config_file_what_it_changes_holds(bank, notes):
    """Of what a user's text has other defaults for; a file's own default is no wish."""
    config = config_lib.load(str(bank / "config.py"))
    kept = own_text.given(["--config.finetune.max_epochs=9.0"], config)
    changed = own_text.with_source(config, str(notes), kept)
    assert changed.finetune.max_steps == 4 and changed.data.specialist_tokens == 1000
    assert changed.finetune.max_epochs == config.finetune.max_epochs
    plain = own_text.with_source(config_lib.default(), str(notes), own_text.given([]))
    for name, value in own_text.SETTINGS.items():
        section, setting = name.split(".")
        assert plain[section][setting] == value


def test_from_a_folder_of_text_to_a_small_model(bank, moved, notes, command, tmp_path):
    """A copied bank and a folder of text; the generic corpus is not there."""
    few = "--config.finetune.max_steps=4"
    status, result = command("specialize", f"--checkpoint={moved}", f"--source=folder:{notes}", few)
    assert status == 0, result
    model = Path(result["checkpoint"])
    assert model.parent == Path("runs/my-notes/finetuned")
    assert result["sets"]["my-notes"]["skipped"] == {"binary (NUL bytes)": 2, "not UTF-8": 1}
    assert result["sets"]["my-notes"]["documents"] == 30
    score = result["heldout"]["scores"]["my-notes"]
    assert score["windows"] == result["sets"]["my-notes"]["windows"]["heldout"]
    assert 1 < score["perplexity"] < 400
    assert result["heldout"]["contamination"]["my-notes"]["against"]["generic"] is None
    assert [stage.name for stage in Path("runs/my-notes/windows").glob("generic*")] == []
    # What was made is a dense model that knows where it comes from.
    record = runs.read_record(model)
    assert record["kind"] == "dense" and record["domain"] == "my-notes"
    assert record["settings"] == runs.read_record(moved)["settings"]
    again = command("specialize", f"--checkpoint={moved}", f"--source={notes}", few)[1]
    assert again["reused"] is True and again["heldout"] == result["heldout"]
    # It can be scored, and fine-tuned again, in the same way.
    status, scores = command(
        "evaluate", f"--checkpoint={model}", f"--source=folder:{notes}", "--workdir=runs/my-notes"
    )
    assert status == 0, scores
    assert scores["scores"] == result["heldout"]["scores"]
    assert scores["macro"]["perplexity"] == pytest.approx(score["perplexity"])
    # It continues a text by the settings that it carries, with overrides; --config is not needed.
    prompt = (f"--checkpoint={model}", "--prompt=Return", "--config.generate.temperature=0")
    one, six = (
        command("generate", *prompt, f"--config.generate.tokens={tokens}")[1]["text"]
        for tokens in (1, 6)
    )
    assert six.startswith(one) and len(one) < len(six)
    for override, message in (
        ("generate.top_k=-1", "generate.top_k=-1: must be at least 0"),
        ("generate.tokns=5", "Did you mean 'generate.tokens'"),
        ("generate.tokens=few", "--config.generate.tokens=few: must be a whole number"),
    ):
        status, error = command("generate", *prompt, f"--config.{override}")
        assert status == 2 and message in error
    status, tuned = command("specialize", f"--checkpoint={model}", f"--source=folder:{notes}", few)
    assert status == 0 and tuned["checkpoint"] != str(model)
    # The bank that was copied is as it was.
    assert sorted(p.name for p in moved.iterdir()) == sorted(
        p.name for p in (bank / "bank").iterdir()
    )


def test_what_is_used_of_how_much_is_said(bank, notes, command, capsys):
    """Of each split, with the setting that keeps the rest out; and texts that occur twice."""
    (notes / "again.txt").write_text((notes / "0.txt").read_text())
    few = ("--config.finetune.max_steps=2", "--config.data.valid_tokens=40")
    argv = (f"--checkpoint={bank / 'bank'}", f"--source={notes}", *few)
    status, result = command("specialize", *argv)
    assert status == 0, result
    of = result["sets"]["my-notes"]
    parts = of["splits"]
    assert {split: part["windows"] for split, part in parts.items()} == of["windows"]
    assert sum(part["all_documents"] for part in parts.values()) == of["documents"] == 31
    assert of["copies"] == 1 and of["bytes"] == sum(
        file.stat().st_size for file in notes.rglob("*.txt") if file.name != "latin.txt"
    )
    train, valid = parts["train"], parts["valid"]
    assert train["windows"] == train["all_windows"] and train["limit"] == ""
    assert 3 <= valid["windows"] < valid["all_windows"]  # 40 tokens, 16 a window, whole documents
    assert valid["documents"] < valid["all_documents"]
    assert valid["limit"] == "data.valid_tokens=40"
    assert cli.main(["specialize", *argv]) == 0
    text = capsys.readouterr().out
    assert re.search(
        rf"^  validation +{valid['windows']} of {valid['all_windows']} windows, 1 of "
        rf"{valid['all_documents']} documents: no more by data.valid_tokens=40 \(0 for all\)$",
        text,
        re.M,
    )
    assert f"training       {train['windows']:,} of {train['windows']:,} windows" in text
    assert "1 documents have the same text as another one" in text
    assert "the last of 2 steps (0.0 times over the text); to train longer raise" in text


def test_the_score_before_fine_tuning_is_that_of_its_expert(bank, notes, command, capsys):
    argv = (f"--checkpoint={bank / 'bank'}", f"--source={notes}")
    status, tuned = command("specialize", *argv, "--config.finetune.max_steps=2")
    assert status == 0, tuned
    status, taken = command("specialize", *argv, "--config.finetune.max_steps=0")
    assert status == 0 and taken["before"] is None
    assert taken["heldout"]["scores"]["my-notes"] | {"clean": 0} == tuned["before"]["my-notes"] | {
        "clean": 0
    }
    assert tuned["before"] != tuned["heldout"]["scores"]
    assert cli.main(["specialize", *argv, "--config.finetune.max_steps=2"]) == 0
    text = capsys.readouterr().out
    for name, scores in (("before", tuned["before"]), ("after", tuned["heldout"]["scores"])):
        score = scores["my-notes"]
        figures = rf"{score['perplexity']:.2f} +{score['bits_per_byte']:.3f} +{score['tokens']:,}"
        assert re.search(rf"^my-notes {name} +{figures}$", text, re.M)


def test_the_same_expert_as_with_the_config(bank, moved, command):
    """The clusters that the bank carries give the histogram that the whole corpus gives."""
    common = ("--config.finetune.max_steps=0", "--config.domain=linalg")
    status, alone = command("specialize", f"--checkpoint={moved}", *common, "--trust")
    assert status == 0, alone
    status, whole = command(
        "specialize",
        f"--checkpoint={bank / 'bank'}",
        *common,
        f"--config={bank / 'config.py'}",
        f"--workdir={bank / 'run'}",
    )
    assert status == 0, whole
    assert alone["histogram"] == whole["histogram"]
    assert max(alone["histogram"]) < 1  # several clusters occur
    for name in ("nll", "windows"):
        assert (
            alone["heldout"]["scores"]["linalg"][name] == whole["heldout"]["scores"]["linalg"][name]
        )


def test_beside_its_generic_text_it_is_checked_against_it(bank, notes, command):
    """And scored on it; also what was made out of it, from another work folder."""
    status, result = command(
        "specialize",
        f"--checkpoint={bank / 'bank'}",
        f"--source={notes}",
        "--config.finetune.max_steps=4",
    )
    assert status == 0, result
    trained = len(np.load(next(bank.glob("run/clusters/generic-*")) / "clusters.npy"))
    assert (
        result["heldout"]["contamination"]["my-notes"]["against"]["generic"]["trained"] == trained
    )
    scored = ("evaluate", f"--checkpoint={result['checkpoint']}", f"--source={notes}")
    status, scores = command(*scored)  # the generic text lies in another work folder
    assert status == 0, scores
    assert scores["contamination"]["my-notes"]["against"]["generic"] is None
    status, scores = command(*scored, "--trust")
    assert status == 0, scores
    assert set(scores["scores"]) == {"generic", "my-notes"}
    assert scores["contamination"]["generic"]["against"]["generic"]["trained"] == trained


@pytest.mark.parametrize("make", ["missing", "empty", "binary", "one file"])
def test_bad_text_is_named_and_leaves_nothing(make, moved, notes, command, tmp_path):
    folder = tmp_path / "text"
    folder.mkdir()
    wanted = {
        "missing": "no such file or folder: '/nowhere'",
        "empty": "no file below",
        "binary": "has no document with text (skipped: 1 binary (NUL bytes))",
        "one file": "1 documents are too few",
    }[make]
    if make == "binary":
        (folder / "a.bin").write_bytes(bytes(5))
    elif make == "one file":
        (folder / "a.txt").write_text("Some words. " * 99)
    source = "/nowhere" if make == "missing" else folder
    status, error = command("specialize", f"--checkpoint={moved}", f"--source=folder:{source}")
    assert status == 2 and wanted in error, error
    assert "Traceback" not in error
    assert not list(tmp_path.rglob("finetuned")) and not list(tmp_path.rglob("scores"))


def test_longer_windows_than_the_model_reads(moved, notes, command):
    status, error = command(
        "specialize", f"--checkpoint={moved}", f"--source={notes}", "--config.data.context=32"
    )
    assert status == 2 and "reads windows of at most 16 tokens" in error


def test_clusters_of_another_bank(bank, moved, notes, command, tmp_path):
    """A bank whose clusters were exchanged, or left out, is refused."""
    for change, message in (
        ("exchanged", "was trained on other clusters"),
        ("encoder", "computed with another version of tfidf_svd"),
        ("left out", "has no clusters"),
    ):
        broken = tmp_path / change
        shutil.copytree(moved, broken)
        facts = json.loads((broken / "clusters" / "clusters.json").read_text())
        if change == "left out":
            shutil.rmtree(broken / "clusters")
        else:
            facts["fingerprint" if change == "exchanged" else "encoder_fingerprint"] = "x"
            (broken / "clusters" / "clusters.json").write_text(json.dumps(facts))
        manifest.write(broken)
        status, error = command("specialize", f"--checkpoint={broken}", f"--source={notes}")
        assert status == 2 and message in error, error
