"""Does the test suite notice small bugs? Plants those of planted_bugs.toml, one at a time.

    python -m benchmarks.planted_bugs                       # all of them; killed, it goes on
    python -m benchmarks.planted_bugs --rooms=data,models   # some rooms
    python -m benchmarks.planted_bugs --check               # only: does the list still apply?
    python -m benchmarks.planted_bugs --markdown            # the rows so far as tables

A bug is one replacement of text in a copy of the tree; it is noticed if a test of its room fails
with it that passes without it. Tests that share words with the bug are tried first, then all. Rows
go to results/planted_bugs.jsonl; a row is used again as long as the bug is the same, and the test
that noticed it, or all its test files if none did.
"""

import argparse
import ast
import collections
import functools
import hashlib
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from dataclasses import dataclass
from pathlib import Path

import filelock

ROOT = Path(__file__).resolve().parent.parent
LIST = Path(__file__).with_suffix(".toml")
RESULTS = ROOT / "results" / "planted_bugs.jsonl"
TIMEOUT = 400  # seconds of the test files of one bug
TIMED_OUT = "timeout"
# Imported once and inherited by every run: none of them starts a thread when imported.
HEAVY = (
    "hypothesis",
    "jax",
    "numpy",
    "optax",
    "orbax.checkpoint",
    "pytest",
    "sentencepiece",
    "flax",
    "ml_collections",
    "tokenizers",
    "sklearn.cluster",
)


@dataclass(frozen=True)
class Bug:
    """One entry of the list."""

    id: str
    file: str
    old: str  # text that is in the file once
    new: str
    tests: tuple[str, ...]
    equivalent: str = ""  # why no test can notice it

    @property
    def room(self) -> str:
        """The part of the package that it is in."""
        parts = Path(self.file).parts
        return parts[1].removesuffix(".py")

    def key(self, failed: str) -> str:
        """Changes with the bug, and with the test that noticed it, or with all if none did."""
        file, _, name = failed.partition("::")
        if failed:
            tests = [_tests(file).get(name.partition("[")[0], "")]
        else:
            tests = [_text(test) for test in self.tests]
        return _hash([self.file, self.old, self.new, *tests])

    def planted(self, text: str) -> str:
        """The file's text with the bug.

        Raises:
          ValueError: the text to replace is not there once, or what comes out is no Python.
        """
        if text.count(self.old) != 1:
            raise ValueError(
                f"{self.id}: {self.file} has its `old` {text.count(self.old)} times; "
                f"bring the entry of {LIST.name} up to date or remove it"
            )
        planted = text.replace(self.old, self.new)
        if planted == text:
            raise ValueError(f"{self.id}: `new` is `old`")
        compile(planted, self.file, "exec")
        return planted


def read() -> list[Bug]:
    """The list."""
    entries = tomllib.loads(LIST.read_text())["bug"]
    return [Bug(**entry | {"tests": tuple(entry["tests"])}) for entry in entries]


def problems(bugs: list[Bug]) -> list[str]:
    """What no longer applies."""
    found = [f"{name} is there twice" for name, n in _count(bug.id for bug in bugs) if n > 1]
    for bug in bugs:
        found += [f"{bug.id}: no {test}" for test in bug.tests if not (ROOT / test).is_file()]
        try:
            bug.planted((ROOT / bug.file).read_text())
        except (OSError, ValueError, SyntaxError) as error:
            found.append(str(error))
    return found


def likely(bug: Bug, count: int = 6) -> tuple[str, ...]:
    """The tests that share the most words with a bug, rare words counting more."""
    found = {}
    for file in bug.tests:
        found |= {f"{file}::{name}": _words(text) for name, text in _tests(file).items()}
    sought = _words(" ".join([bug.id, bug.old, bug.new, Path(bug.file).stem]))
    tests_with = collections.Counter(word for words in found.values() for word in words)

    def score(name: str) -> float:
        return sum(math.log(1 + len(found) / tests_with[word]) for word in found[name] & sought)

    return tuple(sorted(found, key=score, reverse=True)[:count])


@functools.cache
def _text(file: str) -> str:
    """A file as it was when it was first asked for: so it is in the copy."""
    return (ROOT / file).read_text() if (ROOT / file).is_file() else ""


@functools.cache
def _tests(file: str) -> dict[str, str]:
    """{name: source} of the test functions of a file."""
    text = _text(file)
    return {
        node.name: ast.get_source_segment(text, node) or ""
        for node in ast.parse(text).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


def _words(text: str) -> set[str]:
    return set(re.findall(r"[a-z]{3,}", text.lower()))


def _count(names):
    return collections.Counter(names).items()


def _hash(parts) -> str:
    return hashlib.sha256(json.dumps(list(parts)).encode()).hexdigest()[:16]


class Tree:
    """A copy of the checkout in which bugs are planted and tests are run."""

    def __init__(self, work: Path):
        self.path = work / "tree"
        shutil.rmtree(self.path, ignore_errors=True)
        files = subprocess.run(
            ["git", "ls-files", "-co", "--exclude-standard", "-z"],
            cwd=ROOT,
            capture_output=True,
            check=True,
        ).stdout.split(b"\0")
        for name in map(os.fsdecode, filter(None, files)):
            if (ROOT / name).exists():
                (self.path / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, self.path / name, follow_symlinks=False)

    def run(self, tests: tuple[str, ...], timeout: float) -> dict:
        """Runs test files until one fails: {"failed": its name or "", "seconds"}."""
        shutil.rmtree(self.path / ".hypothesis", ignore_errors=True)  # no examples of other bugs
        report, started = self.path.parent / "failed", time.perf_counter()
        report.write_text(TIMED_OUT)
        child = os.fork()
        if not child:
            self._test(tests, report)
        failed = _wait(child, time.monotonic() + timeout) and report.read_text()
        return {"failed": failed or "", "seconds": round(time.perf_counter() - started, 1)}

    def _test(self, tests: tuple[str, ...], report: Path) -> None:
        """In the child: never returns."""
        status = 1
        try:
            os.setsid()
            log = os.open(self.path.parent / "log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(log, 1), os.dup2(log, 2)
            os.chdir(self.path)
            sys.path[:] = [str(self.path), *(p for p in sys.path if Path(p or ".") != ROOT)]
            os.environ["PYTHONPATH"] = str(self.path)
            for name in [n for n in sys.modules if n.partition(".")[0] in ("benchmarks", "tests")]:
                del sys.modules[name]
            import pytest

            options = [
                "-x",
                "-q",
                "--timeout=0",
                "-p",
                "no:xdist",
                "-p",
                "no:cacheprovider",
                "-o",
                "addopts=",
            ]
            status = pytest.main([*options, *tests], plugins=[_First(report)])
            if status in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
                report.write_text("")
        finally:
            os._exit(int(status))

    def planted(self, bug: Bug, first: tuple[str, ...], timeout: float) -> dict:
        """Runs the tests of a bug with it, `first` before all of them."""
        path = self.path / bug.file
        text, times = path.read_text(), path.stat()
        try:
            path.write_text(bug.planted(text))
            found = self.run(first, timeout)
            return found if "::" in found["failed"] else self.run(bug.tests, timeout)
        finally:
            path.write_text(text)
            os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


class _First:
    """Writes down the first test that fails."""

    def __init__(self, report: Path):
        self.report, self.found = report, False

    def _take(self, report) -> None:
        if report.failed and not self.found:
            self.found = True
            self.report.write_text(report.nodeid or "collection")

    pytest_runtest_logreport = pytest_collectreport = _take


def _wait(child: int, end: float) -> bool:
    """Whether it failed; it is ended after the time limit, with all that it started."""
    while time.monotonic() < end:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return status != 0
        time.sleep(0.05)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return True


def _prepare() -> None:
    """What every run inherits."""
    if os.nice(0) == 0:
        os.nice(10)
    sys.dont_write_bytecode = True  # a file with a bug leaves nothing compiled
    for module in HEAVY:
        __import__(module)


def _environment(cache: Path) -> None:
    os.environ |= {"PYTEST_XDIST_WORKER": "gw0", "JAX_COMPILATION_CACHE_DIR": str(cache)}
    os.environ |= {"PYTHONDONTWRITEBYTECODE": "1"}
    sys.path.insert(0, str(ROOT / "tests"))
    __import__("conftest")  # sets what JAX reads when it is imported
    del sys.modules["conftest"], sys.path[0]
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"  # most bugs change few programs


def rows(path: Path) -> dict[str, dict]:
    """{id: last row} of earlier runs; a line that was cut off is left out."""
    lines = path.read_text().splitlines() if path.exists() else []
    return {row["id"]: row for line in lines if line.endswith("}") for row in [json.loads(line)]}


def judged(bugs: list[Bug], before: dict[str, dict]) -> dict[str, dict]:
    """{id: row} of the bugs that are what they were when they were planted."""
    rows = [(bug, before[bug.id]) for bug in bugs if bug.id in before]
    return {bug.id: row for bug, row in rows if row["key"] == bug.key(row["failed"])}


def run(bugs: list[Bug], results: Path, work: Path, timeout: float) -> None:
    """Plants all bugs without a row; appends one for each."""
    before, started = rows(results), time.perf_counter()
    done = judged(bugs, before)
    todo = [bug for bug in bugs if bug.id not in done]
    for bug in todo:
        bug.key("")  # reads its tests as they are now
    print(f"{len(bugs) - len(todo)} of {len(bugs)} done before", file=sys.stderr)
    if not todo:
        return
    _environment(work / "compiled")
    alone = filelock.FileLock(work / "lock")
    alone.acquire(timeout=0)  # one bug at a time in the copy; held until the process ends
    tree = Tree(work)
    _prepare()
    passing = {row["failed"] for row in before.values()}  # seen to pass without any bug
    for number, bug in enumerate(todo):
        earlier = before[bug.id]["failed"] if bug.id in before else ""
        first = (earlier,) if earlier else likely(bug)
        found = tree.planted(bug, first, timeout)
        failed = found["failed"]
        if failed and failed not in passing and "::" in failed:
            if tree.run((failed,), timeout)["failed"]:
                print(f"{bug.id}: {failed} fails without it too: no row", file=sys.stderr)
                continue
            passing.add(failed)
        if failed == TIMED_OUT:
            print(f"{bug.id}: took longer than {timeout:.0f} s: no row", file=sys.stderr)
            continue
        row = {"id": bug.id, "room": bug.room, "key": bug.key(failed), **found}
        with results.open("a") as out:
            out.write(json.dumps(row) + "\n")
        left = (time.perf_counter() - started) / (number + 1) * (len(todo) - number - 1)
        print(
            f"{bug.room:12} {bug.id}: {failed or 'NOT NOTICED'}"
            f" ({found['seconds']:.0f} s, {left / 60:.0f} min left)",
            file=sys.stderr,
            flush=True,
        )


def by_room(bugs: list[Bug], done: dict[str, dict]) -> dict[str, tuple[int, int, int]]:
    """{room: (noticed, of so many that are not equivalent and were run, in the list)}."""
    table = {}
    for room in sorted({bug.room for bug in bugs}):
        listed = [bug for bug in bugs if bug.room == room and not bug.equivalent]
        ran = [done[bug.id] for bug in listed if bug.id in done]
        table[room] = sum(bool(row["failed"]) for row in ran), len(ran), len(listed)
    return table


def summary(bugs: list[Bug], done: dict[str, dict]) -> list[str]:
    """A Markdown table of rooms, what was not noticed, and what no test can notice."""
    table = by_room(bugs, done)
    table["all"] = tuple(map(sum, zip(*table.values(), strict=True)))
    lines = ["| room | noticed | run | listed |", "|---|---|---|---|"]
    lines += [f"| {room} | {a} | {b} | {c} |" for room, (a, b, c) in table.items()]
    missed = [bug for bug in bugs if bug.id in done and not done[bug.id]["failed"]]
    lines += ["", "Not noticed:", ""]
    lines += [f"- `{bug.id}` ({bug.file})" for bug in missed if not bug.equivalent]
    lines += ["", "Equivalent:", ""]
    lines += [f"- `{bug.id}` ({bug.file}): {bug.equivalent}" for bug in bugs if bug.equivalent]
    return lines


def main() -> int:
    """Runs what is asked for; 1 if the list no longer applies."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rooms", default="", help="some rooms, with commas; all by default")
    parser.add_argument("--ids", default="", help="some bugs, with commas")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--work", type=Path, help="a folder for the copy, kept; else a new one")
    parser.add_argument("--timeout", type=float, default=TIMEOUT, help="seconds for each bug")
    parser.add_argument("--check", action="store_true", help="only whether the list applies")
    parser.add_argument("--markdown", action="store_true", help="only the rows so far, as tables")
    options = parser.parse_args()
    bugs = read()
    if found := problems(bugs):
        print("\n".join(found), file=sys.stderr)
        return 1
    rooms, ids = (set(filter(None, names.split(","))) for names in (options.rooms, options.ids))
    some = [b for b in bugs if (not rooms or b.room in rooms) and (not ids or b.id in ids)]
    if not (options.check or options.markdown):
        with tempfile.TemporaryDirectory() as temporary:
            run(some, options.results, options.work or Path(temporary), options.timeout)
    if not options.check:
        print("\n".join(summary(some, judged(some, rows(options.results)))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
