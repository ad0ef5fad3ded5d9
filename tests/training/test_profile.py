"""JAX's trace of some steps."""

import gzip
import json

import jax
import pytest

from specialm import config as config_lib
from specialm.data.sampler import Sampler
from specialm.training import loop, sharding
from specialm.training.profile import Profile


def traced_steps(path):
    """Calls of the training step in the one trace below a run folder."""
    (file,) = path.glob("profile/plugins/profile/*/perfetto_trace.json.gz")
    assert list(file.parent.glob("*.xplane.pb"))
    events = json.loads(gzip.decompress(file.read_bytes()))["traceEvents"]
    calls = [e for e in events if e.get("name") == "PjitFunction(train_step)"]
    count, end = 0, 0.0
    for call in sorted(calls, key=lambda call: call["ts"]):  # a call is there twice, nested
        if call["ts"] >= end:
            count, end = count + 1, call["ts"] + call["dur"]
    return count


def test_the_asked_steps_of_a_run_are_traced(tiny_model, store, tmp_path):
    train = config_lib.default().train
    train.tokens, train.batch_size, train.tensorboard = 6 * 8 * 16, 8, False
    train.profile_steps = 2
    sampler = Sampler(len(store), 8, 0)
    loop.pretrain(tmp_path, tiny_model, train, store, sampler, 0, sharding.make_mesh())
    assert traced_steps(tmp_path) == 2


@pytest.fixture
def traces(monkeypatch):
    """What happened in turn: steps, "start" and "stop"."""
    happened = []
    monkeypatch.setattr(jax.profiler, "start_trace", lambda *_, **__: happened.append("start"))
    monkeypatch.setattr(jax.profiler, "stop_trace", lambda: happened.append("stop"))
    return happened


def run(profile, happened, numbers):
    for number in numbers:
        profile.before(number)
        happened.append(number)
        profile.after(number, {})
    profile.close({})


@pytest.mark.parametrize(
    ("steps", "numbers", "expected"),
    [
        (0, range(4), [0, 1, 2, 3]),
        (1, range(4), [0, 1, "start", 2, "stop", 3]),
        (2, range(40, 46), [40, 41, "start", 42, 43, "stop", 44, 45]),  # a resumed run
        (9, range(4), [0, 1, "start", 2, 3, "stop"]),  # the run ends first
    ],
)
def test_steps_after_the_first_two_are_traced(traces, tmp_path, capsys, steps, numbers, expected):
    run(Profile(tmp_path, steps, numbers[0]), traces, numbers)
    assert traces == expected and not capsys.readouterr().err


def test_too_few_steps_are_said(traces, tmp_path, capsys):
    run(Profile(tmp_path, 3, 0), traces, range(2))
    assert traces == [0, 1]
    assert "train.profile_steps=3: no step was traced, as this session" in capsys.readouterr().err
