"""Whether each Python can install specialm: a dry run of pip for each, from wheels alone.

    python tests/programs/resolve_pythons.py [--python=3.14 ...] [--extras=seqio,gpu]

The versions are those of the classifiers in setup.cfg, with constraints.txt. pip evaluates markers
for the Python that runs it, so ours are evaluated here. Needs a network.
"""

import argparse
import configparser
import subprocess
import sys
import tempfile
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
CLASSIFIER = "Programming Language :: Python :: 3."
FULL = "dev,seqio,tensorboard,wandb"
# Pure Python without wheels on the index: built here, as pip takes wheels only for another Python.
WITHOUT_WHEELS = {"seqio": ("promise",)}


def settings() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    return parser


def pythons() -> list[str]:
    """["3.11", ...]: what setup.cfg says."""
    lines = settings()["metadata"]["classifiers"].split("\n")
    return [f"3.{line.removeprefix(CLASSIFIER)}" for line in lines if line.startswith(CLASSIFIER)]


def requirements(python: str, extras: list[str]) -> list[str]:
    """What specialm with these extras needs on a Python, without markers."""
    parser = settings()
    sections = [parser["options"]["install_requires"]]
    sections += [parser["options.extras_require"][extra] for extra in extras]
    lines = [line for section in sections for line in section.split("\n")]
    found = [Requirement(line) for line in lines if line and not line.startswith("#")]
    needed = [
        requirement
        for requirement in found
        if not requirement.marker or requirement.marker.evaluate({"python_version": python})
    ]
    for requirement in needed:
        requirement.marker = None
    return [str(requirement) for requirement in needed]


def pip(command: str, *words: str) -> subprocess.CompletedProcess:
    call = [sys.executable, "-m", "pip", command, "--quiet", "--disable-pip-version-check"]
    call += ["-c", str(ROOT / "constraints.txt"), *words]
    return subprocess.run(call, capture_output=True, text=True)


def resolve(python: str, extras: list[str]) -> str:
    """pip's errors, "" if it found everything."""
    with tempfile.TemporaryDirectory() as folder:
        for package in (name for extra in extras for name in WITHOUT_WHEELS.get(extra, ())):
            pip("wheel", "--no-deps", f"--wheel-dir={folder}", package).check_returncode()
        done = pip(
            "install",
            "--dry-run",
            "--ignore-installed",
            "--only-binary=:all:",
            f"--find-links={folder}",
            f"--python-version={python}",
            f"--target={folder}/target",
            *requirements(python, extras),
        )
    errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
    return " ".join(errors or [done.stderr]) if done.returncode else ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--python", action="append", help="only this one; may be repeated")
    parser.add_argument("--extras", action="append", help="A,B; may be repeated")
    options = parser.parse_args()
    failed = 0
    for python in options.python or pythons():
        for extras in options.extras or ["", FULL]:
            error = resolve(python, extras.split(",") if extras else [])
            failed += bool(error)
            print(f"Python {python} [{extras}]: {error or 'resolves'}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
