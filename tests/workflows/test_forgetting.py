"""What specialise and evaluate say of generic text, before and after; text to replay."""

import contextlib
import io
import json
from pathlib import Path

import pytest

from specialm import cli
from specialm.training import runs


@pytest.fixture(scope="module")
def dense(bank):
    argv = [f"--config={bank / 'config.py'}", f"--workdir={bank / 'run'}", "--json"]
    with contextlib.redirect_stdout(io.StringIO()) as told:
        assert cli.main(["train", *argv, "--config.method=slm"]) == 0
    return Path(json.loads(told.getvalue())["checkpoint"])


@pytest.fixture
def command(capsys, tmp_path):
    def run(name, *argv):
        status = cli.main([name, f"--workdir={tmp_path / 'w'}", *map(str, argv)])
        captured = capsys.readouterr()
        if status:
            return status, captured.err
        return status, json.loads(captured.out) if "--json" in argv else captured.out

    return run


FAST = ("--config.finetune.max_steps=2", "--config.finetune.learning_rate=0.01")


def test_generic_text_stands_beside_the_domains(dense, command, notes):
    """Trained here: the generic windows are found; evaluate repeats what specialise said."""
    status, found = command(
        "specialize", f"--checkpoint={dense}", f"--source={notes}", "--trust", "--json", *FAST
    )
    assert status == 0, found
    after = found["heldout"]["scores"]
    assert list(after) == ["generic", "my-notes"] == list(found["before"])
    assert after["generic"]["bits_per_byte"] != found["before"]["generic"]["bits_per_byte"]
    status, again = command(
        "evaluate",
        f"--checkpoint={found['checkpoint']}",
        f"--before={dense}",
        f"--source={notes}",
        "--trust",
        "--json",
    )
    assert status == 0, again
    assert again["before"] == found["before"]
    assert again["scores"] == after
    status, text = command(
        "evaluate",
        f"--checkpoint={found['checkpoint']}",
        f"--before={dense}",
        f"--source={notes}",
        "--trust",
    )
    assert "generic before" in text and "generic after" in text


@pytest.fixture
def alone(dense, tmp_path):
    """The same model where its generic text is not."""
    import shutil

    shutil.copytree(dense, tmp_path / "elsewhere" / "alone")
    return tmp_path / "elsewhere" / "alone"


def test_without_generic_text_it_is_said_and_can_be_given(alone, command, notes, bank):
    argv = (f"--checkpoint={alone}", f"--source={notes}", *FAST)
    status, text = command("specialize", *argv)
    assert status == 0
    assert "forgetting was not measured" in text and "--generic=corpora:generic" in text
    status, error = command("specialize", *argv, "--config.finetune.replay_fraction=0.5")
    assert status == 2 and "no generic text here to replay; give it with --generic" in error
    given = f"--generic=jsonl:{bank / 'generic.jsonl'}"
    status, found = command(
        "specialize", *argv, given, "--config.finetune.replay_fraction=0.5", "--json"
    )
    assert status == 0, found
    assert list(found["before"]) == ["generic", "my-notes"]
    windows = found["sets"]["my-notes"]["windows"]["train"]
    assert found["epochs"] == pytest.approx(2 * 8 * 0.5 / windows)
    by_weight = (
        "--config.finetune.replay_fraction=0.5",
        "--config.finetune.replay_draws=importance",
    )
    few = ("--config.clustering.k=3", "--config.clustering.encoder=tfidf_svd")
    status, weighted = command("specialize", *argv, given, *by_weight, *few, "--json")
    assert status == 0, weighted
    assert weighted["heldout"]["scores"] != found["heldout"]["scores"]
    status, error = command("specialize", *argv, given, by_weight[1])
    assert status == 2 and "no generic text is replayed; set finetune.replay_fraction" in error
    # The windows are recorded, so that they are found again.
    record = runs.read_record(found["checkpoint"])
    assert set(record["generic"]) >= {"train", "heldout"}
    status, again = command(
        "evaluate", f"--checkpoint={found['checkpoint']}", f"--source={notes}", "--json"
    )
    assert status == 0, again
    assert again["scores"]["generic"] == found["heldout"]["scores"]["generic"]


def test_the_option_is_for_a_checkpoint_alone(command, bank):
    argv = (f"--config={bank / 'config.py'}", "--generic=corpora:generic")
    status, error = command("specialize", *argv)
    assert status == 2 and "--config.data.generic" in error
    status, error = command("specialize", "--checkpoint=x", "--generic=nowhere")
    assert status == 2
