"""One process, and what each of two would do, one after the other over a made-up coordinator."""

import os
import subprocess
import sys

import jax
import pytest

from specialm.common import processes, runtime
from specialm.common.errors import UserError
from specialm.common.stages import Stages


def test_one_process_just_calls():
    assert (processes.count(), processes.is_first()) == (1, True)
    made = object()  # not even JSON-able
    assert processes.run_on_first("x", lambda: made) is made
    assert processes.run_on_all("x", lambda: made) == [made]


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="cores cannot be chosen here")
def test_a_job_that_is_bound_to_a_core_has_one_device():
    """As `taskset` and SLURM bind it; two devices would take turns on the one core."""
    program = "import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])\n"
    program += "from specialm.common import runtime; runtime.configure()\n"
    program += "import jax; print(jax.device_count())"
    given = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    found = subprocess.run(
        [sys.executable, "-c", program],
        env={**given, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.strip() == "1"


class Coordinator:
    """A key-value store as that of a job; a key that is not there is waited for once."""

    def __init__(self):
        self.said, self.asked = {}, []

    def key_value_set(self, key, value):
        assert key not in self.said
        self.said[key] = value

    def blocking_key_value_get(self, key, milliseconds):
        self.asked.append(key)
        if self.asked.count(key) == 1:
            raise jax.errors.JaxRuntimeError("DEADLINE_EXCEEDED: GetKeyValue() timed out")
        return self.said[key]


@pytest.fixture
def become(monkeypatch):
    """become(i): go on as process i of two, from the beginning."""
    coordinator = Coordinator()
    monkeypatch.setattr(processes, "_client", lambda: coordinator)
    monkeypatch.setattr(processes, "count", lambda: 2)

    def become(number):
        monkeypatch.setattr(jax, "process_index", lambda: number)
        monkeypatch.setattr(processes, "_calls", 0)

    return become


def never():
    raise AssertionError("only process 0 does this")


def test_the_others_get_what_process_0_made(become):
    def nested():
        return {"a": processes.run_on_first("inside", lambda: [1.5])}

    become(0)
    assert processes.is_first()
    assert [processes.run_on_first("x", nested), processes.run_on_first("y", lambda: 2)] == [
        {"a": [1.5]},
        2,
    ]
    become(1)
    assert not processes.is_first()
    assert [processes.run_on_first("x", never), processes.run_on_first("y", never)] == [
        {"a": [1.5]},
        2,
    ]


@pytest.mark.parametrize(
    ("raised", "told", "message"),
    [
        (UserError("data.x=1: wrong"), UserError, "^data.x=1: wrong$"),
        (ValueError("full"), RuntimeError, "^x: another process failed: ValueError: full$"),
        (KeyboardInterrupt(), RuntimeError, "KeyboardInterrupt"),
    ],
)
def test_the_others_end_as_process_0_does(become, raised, told, message):
    def fail():
        raise raised

    become(0)
    with pytest.raises(type(raised)):
        processes.run_on_first("x", fail)
    become(1)
    with pytest.raises(told, match=message):
        processes.run_on_first("x", never)


def test_processes_that_do_other_things_do_not_go_on(become):
    become(0)
    processes.run_on_first("stage a", lambda: 1)
    become(1)
    with pytest.raises(RuntimeError, match="stage b here, stage a in another"):
        processes.run_on_first("stage b", never)


def test_all_processes_cannot_be_asked_while_one_works(become):
    become(0)
    with pytest.raises(RuntimeError, match="takes all processes"):
        processes.run_on_first("x", lambda: processes.run_on_all("y", lambda: 1))


def test_a_stage_of_process_0_is_found_by_the_others(become, tmp_path, capsys):
    inputs = {"times": 1}
    become(0)
    made = Stages(tmp_path).run("s", inputs, lambda path: {"n": 3})
    assert capsys.readouterr().err.startswith("  s: ")
    become(1)
    # The file's time, an input, is another one on this host.
    got = Stages(tmp_path).run("s", {"times": 2}, lambda path: never())
    assert got == made and got.result == {"n": 3} and not got.reused
    assert capsys.readouterr().err == ""
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"COORDINATOR": "h:1"}, "not SPECIALM_PROCESSES, SPECIALM_PROCESS"),
        ({"COORDINATOR": "h", "PROCESSES": "2", "PROCESS": "0"}, "SPECIALM_COORDINATOR=h: must be"),
        (
            {"COORDINATOR": "h:99999", "PROCESSES": "2", "PROCESS": "0"},
            "SPECIALM_COORDINATOR=h:99999",
        ),
        ({"COORDINATOR": "h:1", "PROCESSES": "0", "PROCESS": "0"}, "SPECIALM_PROCESSES=0: must be"),
        ({"COORDINATOR": "h:1", "PROCESSES": "2", "PROCESS": "2"}, "PROCESS=2: .* from 0 to 1"),
        ({"COORDINATOR": "h:1", "PROCESSES": "2", "PROCESS": "-1"}, "SPECIALM_PROCESS=-1"),
    ],
)
def test_wrong_variables_are_named(monkeypatch, given, message):
    monkeypatch.setenv("SPECIALM_DISTRIBUTED", "1")
    for name, value in given.items():
        monkeypatch.setenv(f"SPECIALM_{name}", value)
    with pytest.raises(UserError, match=message):
        runtime.join_processes()
