"""Jobs of several processes on this machine: they train what one process does, each on its own
windows; killed and resumed, with as many or other processes; the real commands; errors."""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import conftest
import numpy as np
import pytest

PROGRAMS = Path(__file__).parents[1] / "programs"
STEPS, BATCH = 8, 16
SECONDS = 240  # that a job may take on a busy machine
pytestmark = pytest.mark.timeout(900)


class Job:
    """A program in several processes, which are gone when the `with` block is left."""

    def __init__(self, folder, processes, devices, program, *args):
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.processes = folder, processes
        env = {
            **os.environ,
            "JAX_PLATFORMS": "cpu",
            "SPECIALM_PROGRESS": "0",
            "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices} {conftest.QUICK}",
        }
        if processes > 1:
            env |= {
                "SPECIALM_DISTRIBUTED": "1",
                "SPECIALM_PROCESSES": str(processes),
                "SPECIALM_COORDINATOR": f"127.0.0.1:{free_port()}",
            }
        self.children = []
        for number in range(processes):
            with (
                self.file("out", number).open("w") as out,
                self.file("err", number).open("w") as error,
            ):
                self.children.append(
                    subprocess.Popen(
                        [sys.executable, str(PROGRAMS / program), *map(str, args)],
                        stdout=out,
                        stderr=error,
                        env={**env, "SPECIALM_PROCESS": str(number)},
                    )
                )

    def file(self, name, number):
        return self.folder / f"{name}-{number}.txt"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for child in self.children:
            with contextlib.suppress(ProcessLookupError):
                child.send_signal(signal.SIGKILL)
            child.wait()

    def finish(self, status=0, seconds=SECONDS):
        """(standard output, standard error) of each process."""
        until = time.monotonic() + seconds
        for number, child in enumerate(self.children):
            try:
                ended = child.wait(max(0.0, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                ended = f"no end after {seconds} s"
            assert ended == status, (number, ended, self.read("err", number)[-3000:])
        return [(self.read("out", i), self.read("err", i)) for i in range(self.processes)]

    def read(self, name, number):
        return self.file(name, number).read_text()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def training(folder, store, processes, devices, *runs, workdir=None):
    return Job(
        folder,
        processes,
        devices,
        "train_together.py",
        workdir or folder / "run",
        store.path,
        folder,
        *runs,
    )


def windows_read(job, run):
    """The windows of each step of a run, in the order of the processes: the batches."""
    files = [job.folder / f"windows-{i}.json" for i in range(job.processes)]
    read = [json.loads(file.read_text())[run] for file in files]
    return [sum(parts, []) for parts in zip(*read, strict=True)]


def trained(job):
    """({run: {step: loss}}, parameters, windows that each process read); process 0 alone talks."""
    (out, _), *others = job.finish()
    assert [out for out, _ in others] == [""] * len(others)
    losses = {}
    for line in map(json.loads, out.splitlines()):
        losses.setdefault(line["run"], {})[line["step"]] = line["loss"]
    read = [
        json.loads((job.folder / f"windows-{i}.json").read_text()) for i in range(job.processes)
    ]
    with np.load(job.folder / "params.npz") as params:
        return losses, dict(params), read


FAMILIES = ("dense", "projected", "mixture")


@pytest.fixture(scope="module")
def jobs(store, tmp_path_factory):
    """The same trainings on four devices of one, two and four processes."""
    folder = tmp_path_factory.mktemp("jobs")
    with (
        training(folder / "1", store, 1, 4, *FAMILIES) as one,
        training(folder / "2", store, 2, 2, *FAMILIES) as two,
    ):
        return folder, {1: trained(one), 2: trained(two)}


@pytest.fixture(scope="module")
def with_four(jobs, store):
    """Those of four processes too; fsdp=2 divides the dense model's parameters over processes."""
    folder, made = jobs
    with training(folder / "4", store, 4, 1, "dense:fsdp=2", "mixture") as four:
        return folder, made | {4: trained(four)}


def of(params, run):
    """{name: array} of a run's parameters."""
    return {
        name.partition(" ")[2]: value
        for name, value in params.items()
        if name.partition(" ")[0] == run
    }


def check_same(got, expected, steps=range(1, STEPS + 1)):
    """Losses and parameters are equal but for the order of float32 sums."""
    (losses, params), (expected_losses, expected_params) = got, expected
    np.testing.assert_allclose(
        [losses[i] for i in steps], [expected_losses[i] for i in steps], rtol=1e-4
    )
    assert set(params) == set(expected_params) and params
    for name, value in params.items():
        np.testing.assert_allclose(value, expected_params[name], rtol=1e-3, atol=1e-4, err_msg=name)


JOBS = [(2, "jobs"), pytest.param(4, "with_four", marks=pytest.mark.slow)]


@pytest.mark.parametrize("processes,fixture", JOBS)
def test_several_processes_train_what_one_does(processes, fixture, request):
    folder, made = request.getfixturevalue(fixture)
    for run in made[processes][0]:
        family = run.partition(":")[0]
        check_same(
            *(
                (losses[name], of(params, name))
                for (losses, params, _), name in ((made[processes], run), (made[1], family))
            )
        )
        assert sorted(made[processes][0][run]) == list(range(1, STEPS + 1))
        lines = (folder / str(processes) / "run" / run / "metrics.jsonl").read_text().splitlines()
        assert [json.loads(line)["step"] for line in lines] == list(range(1, STEPS + 1))


@pytest.mark.parametrize("processes,fixture", JOBS)
def test_each_process_reads_its_own_windows(processes, fixture, request):
    _, made = request.getfixturevalue(fixture)
    for run in made[processes][0]:
        whole = made[1][2][0][run.partition(":")[0]]
        read = [by_process[run] for by_process in made[processes][2]]
        assert {len(windows) for steps in read for windows in steps} == {BATCH // processes}
        # In the order of the processes they are the batch.
        assert [sum(parts, []) for parts in zip(*read, strict=True)] == whole


@pytest.mark.slow
def test_killed_and_resumed(jobs, store, tmp_path):
    """SIGKILL of all behind step 5: two processes go on to the last bit, and one goes on too."""
    _, made = jobs
    with training(tmp_path / "killed", store, 2, 2, "dense", workdir=tmp_path / "run") as job:
        while '"step": 5' not in job.read("out", 0):
            assert job.children[0].poll() is None, job.read("err", 0)[-3000:]
            time.sleep(0.02)
    assert {child.returncode for child in job.children} == {-signal.SIGKILL}
    shutil.copytree(tmp_path / "run", tmp_path / "copy")
    with (
        training(tmp_path / "2", store, 2, 2, "dense", workdir=tmp_path / "run") as two,
        training(tmp_path / "1", store, 1, 4, "dense", workdir=tmp_path / "copy") as one,
    ):
        again, other = trained(two), trained(one)
    steps = range(min(again[0]["dense"]), STEPS + 1)
    assert steps[0] in (3, 5) and sorted(again[0]["dense"]) == list(steps)
    assert again[0]["dense"] == {i: made[2][0]["dense"][i] for i in steps}
    for name, value in of(again[1], "dense").items():
        np.testing.assert_array_equal(value, of(made[2][1], "dense")[name], err_msg=name)
    check_same(
        (other[0]["dense"], of(other[1], "dense")),
        (made[2][0]["dense"], of(made[2][1], "dense")),
        steps,
    )
    records = (tmp_path / "run/dense/metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in records] == list(range(1, STEPS + 1))


@pytest.mark.slow
def test_a_signal_to_one_process_saves_the_same_step_in_all(jobs, store, tmp_path, monkeypatch):
    _, made = jobs
    monkeypatch.setenv("STEP_SECONDS", "0.3")  # else a busy machine sends the signal too late
    with training(tmp_path / "first", store, 2, 2, "dense", workdir=tmp_path / "run") as job:
        while '"step": 2' not in job.read("out", 0):
            assert job.children[0].poll() is None, job.read("err", 0)[-3000:]
            time.sleep(0.01)
        job.children[1].send_signal(signal.SIGTERM)
        ends = job.finish(status=143)
    said = {re.search(r"SIGTERM: step (\d) of 8 is saved", error)[1] for _, error in ends}
    assert len(said) == 1, ends
    (step,) = map(int, said)
    assert max(int(path.name) for path in (tmp_path / "run/dense/checkpoints").iterdir()) == step
    with training(tmp_path / "again", store, 2, 2, "dense", workdir=tmp_path / "run") as two:
        losses, params, _ = trained(two)
    assert losses["dense"] == {i: made[2][0]["dense"][i] for i in range(step + 1, STEPS + 1)}
    for name, value in of(params, "dense").items():
        np.testing.assert_array_equal(value, of(made[2][1], "dense")[name], err_msg=name)


@pytest.mark.slow
def test_on_two_then_four_then_one_process(jobs, store, tmp_path, monkeypatch):
    """Stopped twice: the windows of a run that never was, and its parameters within 2e-6."""
    _, made = jobs
    monkeypatch.setenv("STEP_SECONDS", "0.3")  # time to see the signal before the step ends
    monkeypatch.setenv("STOP", "in the second of three steps")
    windows: list = []
    for processes, devices in ((2, 2), (4, 1)):
        folder = tmp_path / str(processes)
        with training(folder, store, processes, devices, "dense", workdir=tmp_path / "run") as job:
            job.finish(status=143)
        windows += windows_read(job, "dense")
        assert len(windows) < STEPS
    monkeypatch.delenv("STOP")
    with training(tmp_path / "1", store, 1, 4, "dense", workdir=tmp_path / "run") as job:
        losses, params, _ = trained(job)
    assert windows + windows_read(job, "dense") == made[1][2][0]["dense"]
    assert sorted(losses["dense"]) == list(range(len(windows) + 1, STEPS + 1))
    for name, value in of(params, "dense").items():
        expected = of(made[1][1], "dense")[name]
        print(f"largest difference of {name}: {np.abs(value - expected).max():.1e}")
        np.testing.assert_allclose(value, expected, rtol=0, atol=2e-6, err_msg=name)


def documents(text):
    """The JSON documents that follow each other in a text."""
    found, decoder = [], json.JSONDecoder()
    while text.strip():
        made, end = decoder.raw_decode(text.lstrip())
        found, text = [*found, made], text.lstrip()[end:]
    return found


@pytest.mark.slow
def test_commands_over_one_work_folder(tmp_path):
    """`train` and `specialize` from nothing: the scores of one process, each stage once, one talks;
    then text without any document, which process 0 alone finds out."""
    conftest.write_docstrings(tmp_path)
    config = tmp_path / "config.py"
    config.write_text(conftest.BANK_CONFIG.format(root=tmp_path))
    (tmp_path / "empty.jsonl").write_text('{"text": ""}\n')
    common = [f"--config={config}", "--config.domain=linalg", "--json"]
    empty = ["train", *common, f"--config.data.generic=jsonl:{tmp_path / 'empty.jsonl'}"]

    def commands(folder, *more):
        workdir = f"--workdir={tmp_path / folder}"
        return json.dumps(
            [
                [*command, workdir]
                for command in (["train", *common], ["specialize", *common], *more)
            ]
        )

    with (
        Job(tmp_path / "1", 1, 2, "run_commands.py", commands("one")) as one,
        Job(tmp_path / "2", 2, 1, "run_commands.py", commands("two", empty)) as two,
    ):
        ((expected, _),) = one.finish()
        (out, error), (other_out, other_error) = two.finish(status=2)
    trained, specialised = documents(out)
    assert trained["steps"] == 20 and not trained["reused"]
    scores, wanted = (
        of["heldout"]["scores"]["linalg"] for of in (specialised, documents(expected)[1])
    )
    assert scores["perplexity"] == pytest.approx(wanted["perplexity"], rel=1e-3)
    assert scores["tokens"] == wanted["tokens"]
    message = [line for line in error.splitlines() if line.startswith("specialm: ")]
    assert len(message) == 1 and "has no document with text" in message[0]
    assert other_out == "" and other_error.splitlines() == message
    told = [line for line in error.splitlines() if line.startswith("  pretrained/slm_pn")]
    assert len(told) == 2 and told[1].endswith("reused")
    stages = {
        workdir: sorted(
            file.parent.relative_to(tmp_path / workdir).as_posix()
            for file in (tmp_path / workdir).rglob("stage.json")
        )
        for workdir in ("one", "two")
    }
    assert stages["one"] == stages["two"] and len(stages["two"]) > 15
