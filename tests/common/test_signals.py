"""Each program in a process of its own, as a signal ends it."""

import signal
import subprocess
import sys
import time

import pytest

from specialm.common import signals

LOOP = """
import sys, time
from specialm.common import signals
signals.install(goes_on=True)
with signals.Stop() as stop:
    for step in range(1000):
        if step == 1 and "hold" in sys.argv:
            stop.hold()
            print("ready", flush=True)
        elif step == 1:
            print("ready", flush=True)
        time.sleep(float(sys.argv[1]) if step else 0)
        if stop.number:
            print(signals.message(stop.number, f"step {step} is saved"), file=sys.stderr)
            sys.exit(signals.status(stop.number))
"""


def listen():
    """In the child: what the shell of the tests may have set for its background does not hold."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.fixture
def start():
    """(code, arguments) -> a process that has said that it is ready."""
    children = []

    def begin(code, *arguments, prepare=listen):
        child = subprocess.Popen(
            [sys.executable, "-c", code, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=prepare,
        )
        children.append(child)
        assert child.stdout.readline() == "ready\n"
        return child

    yield begin
    for child in children:
        child.kill()
        child.wait()


def ended(child, within=20):
    _, error = child.communicate(timeout=within)
    assert "Traceback" not in error and "Exception" not in error, error
    return child.returncode, error


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGUSR1, 143)]
)
def test_without_a_step_to_save_it_ends_at_once(start, number, status):
    child, started = start(LOOP, "30"), time.monotonic()
    child.send_signal(number)
    assert ended(child) == (
        status,
        f"\nspecialm: {number.name}: interrupted; the same command goes on from here.\n",
    )
    assert time.monotonic() - started < 10


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_step_under_way_ends_first(start, number, status):
    child = start(LOOP, "0.05", "hold")
    child.send_signal(number)
    found, error = ended(child)
    assert found == status
    assert error.startswith(f"specialm: {number.name}: step ") and "is saved; the same" in error


def test_a_second_ctrl_c_does_not_wait_for_the_step_but_a_second_sigterm_does(start):
    child, started = start(LOOP, "5", "hold"), time.monotonic()
    child.send_signal(signal.SIGTERM)
    time.sleep(signals.AGAIN_SECONDS + 0.2)
    child.send_signal(signal.SIGTERM)
    assert "is saved" in ended(child)[1]
    child, started = start(LOOP, "30", "hold"), time.monotonic()
    child.send_signal(signal.SIGINT)
    time.sleep(signals.AGAIN_SECONDS + 0.2)
    child.send_signal(signal.SIGINT)
    status, error = ended(child)
    assert status == 130 and "interrupted" in error and time.monotonic() - started < 15


def test_what_does_not_go_on_does_not_say_so():
    signals._goes_on = False
    assert signals.message(signal.SIGINT) == "specialm: SIGINT: interrupted."


def test_a_signal_that_is_ignored_stays_ignored(start):
    def ignore():
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    child = start(LOOP, "0.3", prepare=ignore)
    child.send_signal(signal.SIGINT)
    time.sleep(0.5)
    assert child.poll() is None
    child.send_signal(signal.SIGTERM)
    assert ended(child)[0] == 143


def test_a_forked_child_has_its_own_signals(start):
    code = (
        "import os, signal, time\n"
        "from specialm.common import signals\n"
        "signals.install()\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    time.sleep(30)\n"
        "time.sleep(0.3)\n"
        "os.kill(child, signal.SIGTERM)\n"
        "assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGTERM\n"
        "print('ready', flush=True)\n"
        "time.sleep(0.3)\n"
    )
    child = start(code)
    assert ended(child)[0] == 0


@pytest.mark.parametrize("seconds", [0.1, 1.0, 2.5])
def test_ctrl_c_at_any_moment_of_a_command_is_one_line(tmp_path, seconds):
    """Also while it imports its libraries; Python's own start is before that."""
    code = "import sys; from specialm.cli import main; print(1, flush=True); sys.exit(main())"
    with subprocess.Popen(
        [sys.executable, "-c", code, "prepare", "--config=configs/local/slm.py"]
        + [f"--workdir={tmp_path}", f"--config.data.corpora_root={tmp_path}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=listen,
    ) as child:
        assert child.stdout.readline() == "1\n"
        time.sleep(seconds)
        child.send_signal(signal.SIGINT)
        status, error = ended(child)
    # It was quicker than the signal, and there are no corpora; then the signal may end Python itself.
    quicker = status in (2, -signal.SIGINT) and "run `specialm fetch` first" in error
    assert quicker or (status == 130 and error.count("\n") <= 2), (status, error)
