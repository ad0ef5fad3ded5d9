"""Which code made a result: its commit, a digest of it, and the changes that moved results.

A digest says whether two results are of the same code; it changes with every statement of the rooms
below, most of which move no figure. So what is known to have moved figures is listed by hand in
`CHANGES`, and every result says how many of these its code had.
"""

import ast
import hashlib
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
# Rooms and files of the package that decide figures; reports, serving and commands do not.
ROOMS = (
    "data",
    "clustering",
    "models",
    "training",
    "specialize",
    "evaluation",
    "workflows",
    "settings",
    "budgets.py",
    "draws.py",
    "methods.py",
)


@dataclass(frozen=True)
class Change:
    """A change of the code after which the same command gives other figures.

    Attributes:
      name: for people.
      moves: what of a result it moves, of `PARTS`.
    """

    name: str
    moves: str


DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
UNKNOWN = "unknown"  # code of stages that did not record it
PARTS = ("clusters", "text", "control", "cost", "exchange")
# In order; only ever appended to.
CHANGES = (
    Change("k-means over a sample that doubles", "clusters"),
    Change("Keras's documentation in place of TensorFlow's", "text"),
    Change("caps and splits by independent hashes, every source held out alike", "text"),
    Change("the control repeats as much as importance sampling", "control"),
    Change("validation passes count in the FLOPs of fine-tuning", "cost"),
    Change("on v5p too a sum of which a slice is kept counts as a reduce-scatter", "exchange"),
)


def made_by(stages: Iterable[Any] = ()) -> dict:
    """Return what result rows say of the code: commit, code, changes.

    Args:
      stages: what the rows come from. Those that other code has run, and that were reused, add
        their digests to `code`.
    """
    others = {stage.code or UNKNOWN for stage in stages} - {digest()}
    return {
        "commit": commit(),
        "code": "+".join([digest(), *sorted(others)]),
        "changes": len(CHANGES),
    }


@cache
def digest(root: Path = ROOT, room: str = "") -> str:
    """Return a digest of the statements of `ROOMS`, or of one of them, 12 hexadecimal digits."""
    hasher = hashlib.sha256()
    for name in [room] if room else ROOMS:
        top = root / name
        for path in [top] if top.suffix else sorted(top.rglob("*.py")):
            hasher.update(f"{path.relative_to(root).as_posix()}\0".encode())
            hasher.update(statements(path.read_text(encoding="utf-8")).encode())
    return hasher.hexdigest()[:12]


def statements(source: str) -> str:
    """Return the lines of a Python file but blank ones, comments and docstrings.

    Lines and not the syntax tree, which differs between versions of Python.
    """
    left_out: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
            text = node.body[0]
            left_out |= set(range(text.lineno, (text.end_lineno or text.lineno) + 1))
    kept = (line for n, line in enumerate(source.splitlines(), 1) if n not in left_out)
    return "\n".join(line for line in kept if line.strip() and line.lstrip()[0] != "#")


@cache
def commit() -> str:
    """Return the commit of the package's repository, with "+" if code was changed after it; ""
    where there is none, as of an installed package. Rows that a run writes are no code.
    """
    head = _git("rev-parse", "--short=12", "HEAD")
    inside = _git("ls-files", "--", str(ROOT / "common" / "code.py"))
    code = (":/specialm", ":/benchmarks", ":/configs")
    changed = _git("status", "--porcelain", "--untracked-files=no", "--", *code)
    return head + "+" * bool(changed) if head and inside else ""


def _git(*words: str) -> str:
    try:
        done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True)
    except OSError:  # no git
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
