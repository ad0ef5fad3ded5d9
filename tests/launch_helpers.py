"""Fakes of gcloud, kubectl, sbatch, srun, gcsfuse and pip, which record calls.

The launchers see a PATH of the fakes and a few named system tools, so that no real cloud tool can
be called; host.sh and the copying of the code are the real ones.
"""

import fcntl
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SYSTEM = (
    "bash env git tar gzip dirname basename cat cksum cut grep mkdir mktemp rm sleep date "
    "hostname flock setsid nohup touch true id"
).split()
CONFIG = "specialm/configs/local/slm.py"

# One program for all fakes. It records {"tool", "args"} and then does what the launchers rely on.
FAKE = r'''
import json, os, shlex, shutil, subprocess, sys
from pathlib import Path

here, tool, args = Path(os.environ["FAKES"]), Path(sys.argv[0]).name, sys.argv[1:]
line = {"tool": tool, "args": args}
with open(here / "calls.jsonl", "a") as calls:
    calls.write(json.dumps(line) + "\n")

def answers(name):
    """Takes the next prepared answer."""
    queue = here / f"{name}.answers"
    lines = queue.read_text().splitlines() if queue.exists() else []
    queue.write_text("\n".join(lines[1:]))
    return lines[0] if lines else ""

def worker():
    home = here / "worker"
    home.mkdir(exist_ok=True)
    return home

if tool == "gcloud" and "describe" in args:
    answer = answers("describe")
    if answer.startswith("ERROR"):
        sys.exit(answer)
    print(answer)
elif tool == "gcloud" and args[:2] == ["storage", "cp"]:
    copy = Path(args[3].replace("gs:/", os.environ["SPECIALM_GCS"]))
    copy.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(args[2], copy)
elif tool == "gcloud" and "scp" in args:
    if answers("scp"):
        sys.exit("ssh: connection refused")
    shutil.copy(args[4], worker() / args[5].split(":")[1])
elif tool == "gcloud" and "ssh" in args:
    command = next(a for a in args if a.startswith("--command="))[len("--command="):]
    sys.exit(subprocess.run(["bash", "-c", command], cwd=worker(),
                            env={**os.environ, "HOME": str(worker())}).returncode)
elif tool == "kubectl" and "get" in args:
    print(answers("get"))
elif tool == "kubectl" and "apply" in args:
    shutil.copy(args[1].split("=")[1], here / "applied.yaml")
elif tool == "gcsfuse":  # leaves a process behind, which keeps whatever files it was given open
    Path(args[-1]).mkdir(parents=True, exist_ok=True)
    left = subprocess.Popen(["sleep", "300"], close_fds=False)
    with open(here / "mounts.jsonl", "a") as mounts:
        mounts.write(json.dumps({"pid": left.pid}) + "\n")
elif tool == "mountpoint":
    sys.exit(not Path(args[-1]).exists())
elif tool == "python3" and args[0] == "-c":
    sys.exit(bool(answers("too old")))
elif tool == "python3" and "venv" in args:
    programs = Path(args[-1]) / "bin"
    programs.mkdir(parents=True)
    for name in ("python", "specialm"):
        shutil.copy(here / "bin/python3", programs / name)
elif tool == "specialm":
    names = ("SPECIALM_DISTRIBUTED", "JAX_PLATFORMS", "JAX_COMPILATION_CACHE_DIR", "PYTHONPATH")
    with open(here / "runs.jsonl", "a") as runs:
        runs.write(json.dumps({"args": args, "cwd": os.getcwd(),
                               **{name: os.environ[name] for name in names}}) + "\n")
    sys.exit(int(answers("specialm") or 0))
elif tool == "srun":
    sys.exit(subprocess.run(args[1:]).returncode)
'''


class Fakes:
    """A copy of the repository's launch files and a PATH where the cloud's tools are fakes."""

    def __init__(self, folder: Path):
        self.folder, self.bin, self.repository = folder, folder / "bin", folder / "repository"
        self.more: dict[str, str] = {}  # environment of a launch or a host
        self.detached = False  # whether a job was started behind an ssh session
        self.bin.mkdir()
        for name in SYSTEM:
            (self.bin / name).symlink_to(shutil.which(name))
        for name in (
            "gcloud",
            "kubectl",
            "sbatch",
            "srun",
            "scontrol",
            "gcsfuse",
            "mountpoint",
            "python3",
        ):
            (self.bin / name).write_text(f"#!{sys.executable} -S\n{FAKE}")
            (self.bin / name).chmod(0o755)
        for name in ("launch", "specialm/configs/local"):
            shutil.copytree(ROOT / name, self.repository / name)
        (self.repository / "configs").symlink_to("specialm/configs")
        for name in ("setup.cfg", "constraints.txt", ".gitignore"):
            shutil.copy(ROOT / name, self.repository / name)
        subprocess.run(["git", "init", "--quiet", self.repository], check=True)

    @property
    def environment(self) -> dict[str, str]:
        return {
            "PATH": str(self.bin),
            "HOME": str(self.folder),
            "FAKES": str(self.folder),
            "SPECIALM_POLL_SECONDS": "0",
            "SPECIALM_RETRY_SECONDS": "0",
            "SPECIALM_GCS": str(self.folder / "gcs"),
            **self.more,
        }

    def answer(self, name: str, *lines: str) -> None:
        (self.folder / f"{name}.answers").write_text("\n".join(lines))

    def launch(self, script: str, *options: str, status: int = 0):
        done = subprocess.run(
            ["bash", f"launch/{script}", *options],
            cwd=self.repository,
            env=self.environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == status, done.stdout + done.stderr
        self.detached = self.detached or "started; see" in done.stdout
        return done

    def recorded(self, name: str) -> list[dict]:
        path = self.folder / f"{name}.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def calls(self, *tools: str) -> list[list[str]]:
        return [
            [call["tool"], *call["args"]]
            for call in self.recorded("calls")
            if call["tool"] in tools
        ]

    def await_end(self, status: int | str = "") -> None:
        """Waits until the detached job of the fake worker has ended and let go of its lock."""
        log, end = self.folder / "worker/specialm.log", time.monotonic() + 60
        while not (
            log.exists() and f"ended with status {status}" in log.read_text() and self._unlocked()
        ):
            assert time.monotonic() < end, log.read_text() if log.exists() else "no log"
            time.sleep(0.02)

    def _unlocked(self) -> bool:
        with open(self.folder / "worker/specialm.lock") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
        return True


@pytest.fixture
def fakes(tmp_path):
    made = Fakes(tmp_path)
    yield made
    if made.detached:
        made.await_end()
    for mount in made.recorded("mounts"):
        os.kill(mount["pid"], signal.SIGKILL)


def shown(text: str) -> list[list[str]]:
    """The commands that a launcher shows, as words; its scratch folder, always a new one, as X."""
    lines = [shlex.split(line[2:]) for line in text.splitlines() if line.startswith("+ ")]
    return [without_scratch(words) for words in lines]


def without_scratch(words: list[str]) -> list[str]:
    return [
        word.replace(str(Path(word.partition("=")[2] or word).parent), "X")
        if "/tmp." in word
        else word
        for word in words
    ]


TPU = (
    "tpu_vm.sh",
    f"--config={CONFIG}",
    "--workdir=gs://bucket/run",
    "--topology=v5e:4x4",
    "--zone=us-west4-a",
)
GKE = ("gke.sh", f"--config={CONFIG}", "--workdir=gs://bucket/run", "--topology=v5e:4x4")
SLURM = ("slurm.sh", f"--config={CONFIG}")


def slurm(fakes: Fakes) -> tuple[str, ...]:
    return (*SLURM, f"--workdir={fakes.folder}/shared")
