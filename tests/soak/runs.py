"""The jobs run, unbroken once, then killed, interrupted, started twice, gone on from damage."""

import json
import random
import re
import shutil
import signal
import time
from collections import Counter
from functools import cached_property
from pathlib import Path

from soak import children, mounts, outcome, project

SIGNALS = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGUSR1: 143}


class Trial:
    """A job in a folder of its own, and what it comes to when nothing happens to it."""

    def __init__(self, root: Path, job: project.Job, templates: dict):
        self.root, self.job = root, job
        self.folder = root / job.name.replace(" ", "_")
        self.folder.mkdir(parents=True, exist_ok=True)
        self.workdir = self.folder / "work"
        self._templates = templates  # commands -> a work folder in which they ran

    @cached_property
    def before(self) -> Path:
        """A work folder in which what comes before the job has run."""
        if self.job.before not in self._templates:
            path = self._templates[self.job.before] = self.folder / "before"
            path.mkdir()
            for command in self.job.before:
                self.check(self.start(path, command).end())
        return self._templates[self.job.before]

    @cached_property
    def whole(self) -> tuple[dict, float, int]:
        """(what it comes to, seconds, file operations) when unbroken; once to compile, once more."""
        path = self.folder / "whole"
        for _ in range(2):
            shutil.rmtree(path, ignore_errors=True)
            shutil.copytree(self.before, path)
            end = self.start(path, self.job.command, count_into=self.folder / "count").end()
            self.check(end)
        return self.outcome(path), end.seconds, int((self.folder / "count").read_text())

    def start(self, path: Path, command: tuple, name: str = "log", **how) -> children.Child:
        """Start a command."""
        arguments = project.arguments(self.root, path, command)
        return children.Child(self.folder / name, children.command(arguments, **how))

    def again(self) -> None:
        """The work folder as it is before the job."""
        shutil.rmtree(self.workdir, ignore_errors=True)
        shutil.copytree(self.before, self.workdir)

    def run(self, **how) -> children.Child:
        """Start the job in the work folder."""
        return self.start(self.workdir, self.job.command, **how)

    def check(self, end: children.End) -> None:
        """Raise AssertionError for an end that is none of success."""
        assert end.status == 0, f"{self.job.name}: status {end.status}\n{end.said[-3000:]}"
        assert not end.traceback, f"{self.job.name}\n{end.said[-3000:]}"

    def outcome(self, path: Path) -> dict:
        """What a work folder holds; read in a child, so that JAX never starts in this process."""
        file = self.folder / "outcome.json"

        def work() -> int:
            file.write_text(json.dumps(outcome.of(path)))
            return 0

        self.check(children.Child(self.folder / "outcome.log", work).end())
        return json.loads(file.read_text())

    def compare(self) -> None:
        """Raise AssertionError if the work folder holds something else than the unbroken run."""
        found, whole = self.outcome(self.workdir), self.whole[0]
        ways = {
            "are missing": sorted(whole.keys() - found.keys()),
            "should not be there": sorted(found.keys() - whole.keys()),
            "differ": sorted(k for k in found.keys() & whole if found[k] != whole[k]),
        }
        wrong = [f"{len(names)} {way}, as {names[:5]}" for way, names in ways.items() if names]
        if wrong:
            kept = self.folder / f"wrong{sum(1 for _ in self.folder.glob('wrong*'))}"
            shutil.copytree(self.workdir, kept)
            wrong.append(f"it lies in {kept}, the unbroken one in {self.folder / 'whole'}")
        assert not wrong, f"{self.job.name}: {'; '.join(wrong)}"


def kills(trial: Trial, draw: random.Random, most: int = 6) -> Counter:
    """kill -9 up to six times, at random moments or before random file operations; then the same
    command has to come to what the unbroken run came to."""
    seconds, operations = trial.whole[1:]
    trial.again()
    counts: Counter = Counter()
    for _ in range(draw.randint(1, most)):
        if draw.random() < 0.3:
            child = trial.run()
            time.sleep(draw.uniform(0, seconds))
            child.send(signal.SIGKILL)
        else:
            child = trial.run(kill_at=draw.randint(1, operations))
        end = child.end()
        assert end.status in (0, -signal.SIGKILL), end.said[-3000:]
        assert not end.traceback, end.said[-3000:]
        counts["killed"] += end.status != 0
        counts["inside a save"] += any(trial.workdir.glob("*/*/*/*.orbax-checkpoint-tmp*"))
    trial.check(trial.run().end())
    trial.compare()
    return counts


def signals(trial: Trial, draw: random.Random) -> Counter:
    """A signal at a random moment; its status, the seconds until the end, the steps lost."""
    number = draw.choice(list(SIGNALS))
    trial.again()
    seconds = trial.whole[1]
    child = trial.run()
    if trial.job.command[0] == "train" and draw.random() < 0.7:  # while it takes steps
        metrics = "pretrained/*/metrics.jsonl"  # its first record is that of step 4
        while not (child.ended() or any(f.stat().st_size for f in trial.workdir.glob(metrics))):
            time.sleep(0.002)
        seconds /= 20
    else:
        time.sleep(0.3)
    time.sleep(draw.uniform(0, seconds))
    sent = time.monotonic()
    child.send(number)
    end = child.end()
    after = time.monotonic() - sent
    assert not end.traceback, end.said[-3000:]
    assert end.status in (0, SIGNALS[number]), (number, end.status, end.said[-3000:])
    counts = Counter({"signals": 1})
    if end.status:
        assert "the same command goes on from here" in end.said, end.said[-3000:]
        counts["interrupted"] = 1
        counts["milliseconds until the end"] = round(1000 * after)
        if found := re.search(r"step (\d+) of \d+ is saved in (\S+);", end.said):
            steps = [int(p.name) for p in Path(found[2], "checkpoints").iterdir()]
            assert max(steps) == int(found[1]), (steps, end.said)
            counts["with its step saved"] = 1
    trial.check(trial.run().end())
    trial.compare()
    return counts


def pairs(trial: Trial, draw: random.Random) -> Counter:
    """Two starts of the job on one work folder."""
    trial.again()
    first = trial.run(name="first.log")
    time.sleep(draw.uniform(0, 1) * trial.whole[1])
    second = trial.run(name="second.log")
    ends = [first.end(), second.end()]
    for end in ends:
        trial.check(end)
    trial.compare()
    return Counter({"pairs": 1, "waited": sum("waiting for it" in end.said for end in ends)})


def damaged_steps(trial: Trial, draw: random.Random) -> Counter:
    """An interrupted training whose newest step is damaged, empty, half there or a stray one: it
    goes on from the one before and comes to the same, or says what is wrong."""
    trial.again()
    steps: list[Path] = []
    for _ in range(20):  # until it is caught between two steps and the end
        child = trial.run()
        time.sleep(draw.uniform(0.5, 0.95) * trial.whole[1])
        child.send(signal.SIGKILL)
        child.end()
        steps = sorted(trial.workdir.glob("pretrained/*/checkpoints/[0-9]*"), key=_number)
        steps = [step for step in steps if step.name.isdecimal()]
        if steps and not list(trial.workdir.glob("pretrained/*/stage.json")):
            break
        trial.again()
    else:
        return Counter()
    how = _damage(steps[-1], draw)
    end = trial.run().end()
    assert not end.traceback, (how, end.said[-3000:])
    if end.status == 2:
        assert str(steps[-1].parent) in end.said, (how, end.said[-3000:])
        return Counter({"damaged steps": 1, "refused": 1})
    trial.check(end)
    trial.compare()
    assert "cannot be read" in end.said or how == "flip", (how, end.said[-3000:])
    return Counter({"damaged steps": 1, "gone on": 1})


def _number(path: Path) -> int:
    return int(path.name) if path.name.isdecimal() else -1


def _damage(step: Path, draw: random.Random) -> str:
    how = draw.choice(("empty", "half", "stray empty", "stray copy", "flip"))
    files = sorted(path for path in step.rglob("*") if path.is_file())
    if how == "empty":
        shutil.rmtree(step)
        step.mkdir()
    elif how == "half":
        for path in files:
            if draw.random() < 0.5:
                path.unlink()
    elif how == "stray empty":
        step.with_name("9999").mkdir()
    elif how == "stray copy":
        shutil.copytree(step, step.with_name("9999"))
    else:
        path = draw.choice([path for path in files if path.stat().st_size])
        content = bytearray(path.read_bytes())
        content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        path.write_bytes(content)
    return how


def full_disk(trial: Trial, draw: random.Random) -> Counter:
    """A disk that gets full on the way: a sentence with the path; with more room the same command
    goes on and comes to the same. Needs a root that may mount."""
    assert trial.whole
    small, large = (_size(path) for path in (trial.before, trial.folder / "whole"))
    room = max(draw.uniform(0, 1) * (1.5 * large - small), 1 << 16)
    if not mounts.mounted(trial.workdir, int(small + room)):
        return Counter({"not allowed to mount": 1})
    try:
        shutil.copytree(trial.before, trial.workdir, dirs_exist_ok=True)
        end = trial.run().end()
        assert not end.traceback, end.said[-5000:]
        assert end.status in (0, 2), (end.status, end.said[-3000:])
        if end.status:
            assert "the disk is full" in end.said and str(trial.workdir) in end.said, end.said
        found, earlier = trial.outcome(trial.workdir), trial.outcome(trial.before)
        assert all(found[name] == earlier[name] for name in earlier if name in found)
        mounts.grow(trial.workdir)
        trial.check(trial.run().end())
        trial.compare()
    finally:
        mounts.unmount(trial.workdir)
    return Counter({"disks": 1, "full": int(end.status == 2)})


def _size(path: Path) -> int:
    pages = (-(-file.stat().st_size // 4096) for file in path.rglob("*") if file.is_file())
    return 4096 * sum(pages)
