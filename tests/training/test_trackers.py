"""What shows metrics besides metrics.jsonl: TensorBoard's files and Weights & Biases."""

import json
import sys
import time
import types

import needs
import pytest

from specialm.common.errors import UserError
from specialm.training import metrics, trackers


@pytest.fixture
def train():
    from specialm import config

    settings = config.default().train
    settings.tensorboard = False
    return settings


def write(path, train, steps, resumed=0):
    writer = metrics.MetricsWriter(path, train, {"seed": 3, "train": train.to_dict()}, resumed)
    for step in steps:
        writer.write(step, {"loss": 1 / (step + 1), "phase": "not a number"})
    writer.close()


def test_every_tracker_has_a_setting_that_changes_no_result(train):
    from specialm.workflows import stage_keys

    assert set(trackers.TRACKERS) <= set(train) & set(stage_keys.NOT_IN_RESULT)
    assert "profile_steps" in stage_keys.NOT_IN_RESULT
    assert trackers.start("unused", train, {}, 0) == []


@pytest.mark.parametrize(("first", "resumed"), [(5, 4), (1, 0), (0, -1)])
def test_tensorboard_has_what_the_jsonl_has_also_after_a_resume(
    train, tmp_path, monkeypatch, first, resumed
):
    """`first` and some steps after it are written again."""
    # TensorBoard's own sign that it should leave TensorFlow alone, which takes long to load.
    monkeypatch.setitem(sys.modules, "tensorboard.compat.notf", types.ModuleType("notf"))
    accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator",
        reason="needs the extra tensorboard",
    )
    train.tensorboard = True
    write(tmp_path, train, range(min(first, 1), 7))
    time.sleep(1.1)  # a session's file is named by the second
    write(tmp_path, train, range(first, 9), resumed)
    written = {line["step"]: line["loss"] for line in metrics.read(tmp_path / "metrics.jsonl")}
    assert list(written) == list(range(min(first, 1), 9))
    shown = accumulator.EventAccumulator(str(tmp_path / "tensorboard"))
    shown.Reload()
    assert shown.Tags()["scalars"] == ["loss"]
    scalars = {event.step: event.value for event in shown.Scalars("loss")}
    assert scalars == pytest.approx(written)


def test_without_wandb_the_extra_is_named(train, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    train.wandb = "mine"
    with pytest.raises(
        UserError, match=r"train.wandb='mine' needs the extra 'wandb'.*'\.\[wandb\]'"
    ):
        write(tmp_path, train, [1])


@pytest.fixture
def offline(monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_DISABLE_GIT", "true")


def offline_records(path):
    """The records of all sessions, which `wandb sync` would send."""
    from wandb.proto import wandb_internal_pb2
    from wandb.sdk.internal.datastore import DataStore

    for file in sorted(path.glob("wandb/offline-run-*/*.wandb")):
        store = DataStore()
        store.open_for_scan(str(file))
        while (data := store.scan_data()) is not None:
            record = wandb_internal_pb2.Record()
            record.ParseFromString(data)
            yield record


def written_records(path, sessions):
    """The same once all are there: wandb's own process writes them, some after `finish`."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        records = list(offline_records(path))
        if sum(record.WhichOneof("record_type") == "exit" for record in records) == sessions:
            return records
        time.sleep(0.1)
    raise TimeoutError(path)


@needs.WANDB
def test_wandb_offline_and_resumed(train, tmp_path, offline):
    train.wandb = "mine"
    path = tmp_path / "pretrained" / "slm-seed0"
    write(path, train, [1, 2])
    time.sleep(1.1)  # a session's folder is named by the second
    write(path, train, [2, 3], resumed=1)
    records = written_records(path, sessions=2)
    for run in (record.run for record in records if record.run.run_id):
        assert run.run_id == (path / "wandb_id").read_text()  # one run, of two sessions
        assert (run.project, run.run_group, run.display_name) == (
            "mine",
            path.parent.name,
            path.name,
        )
        config = {item.key: json.loads(item.value_json) for item in run.config.update}
        assert config["seed"] == 3 and config["train"]["learning_rate"] == train.learning_rate
    lines = [
        {item.nested_key[0]: json.loads(item.value_json) for item in record.history.item}
        for record in records
        if record.history.item
    ]
    assert [line["step"] for line in lines] == [1, 2, 2, 3]
    assert [line["loss"] for line in lines] == pytest.approx([1 / 2, 1 / 3, 1 / 3, 1 / 4])


@needs.WANDB
def test_wandb_that_does_not_start_says_what_to_do(train, tmp_path, monkeypatch):
    import wandb

    def refuse(**_):
        raise wandb.errors.UsageError("No API key configured.")

    monkeypatch.setattr(wandb, "init", refuse)
    train.wandb = "mine"
    with pytest.raises(UserError, match="(?s)train.wandb='mine'.*No API key.*wandb login.*offline"):
        write(tmp_path, train, [1])
    assert not (tmp_path / "metrics.jsonl").exists()
