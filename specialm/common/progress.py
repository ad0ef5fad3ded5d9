"""Progress with the time left: a bar on a terminal, lines in a log file."""

import os
import sys
from collections.abc import Callable
from contextlib import contextmanager
from typing import Any, TextIO

from specialm.common import processes

LOG_INTERVAL_SECONDS = 10.0
LOG_FORMAT = "{desc}: {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_fmt}{postfix}]"

# True shows a bar, False nothing; a function is called with the number of items done since its
# last call.
Progress = bool | Callable[[int], object]


def _quiet() -> bool:
    return os.environ.get("SPECIALM_PROGRESS", "1") == "0"


class _Lines:
    """A log file for tqdm, which goes back to the start of a line: each state is a line instead."""

    encoding = "ascii"

    def __init__(self, file: TextIO):
        self._file = file

    def write(self, text: str) -> None:
        for line in text.replace("\r", "\n").split("\n"):
            if line.strip():
                self._file.write(f"{line.rstrip()}\n")

    def flush(self) -> None:
        self._file.flush()


@contextmanager
def bar(total: int | None, title: str, unit: str = "it", initial: int = 0):
    """Yield a tqdm bar: `b.update(n)` moves it, `b.set_postfix(loss=...)` adds figures.

    On a terminal it redraws in place; elsewhere it prints a line at its start and end and about
    every ten seconds in between. `SPECIALM_PROGRESS=0` silences all bars; only the first of several
    processes has any.
    """
    from tqdm import tqdm

    class Logged(tqdm):
        """A bar that is written only when it is due."""

        def set_postfix(self, *args: Any, refresh: bool = False, **figures: Any) -> None:
            super().set_postfix(*args, refresh=refresh, **figures)

    terminal = sys.stderr.isatty()
    interval = 0.2 if terminal else LOG_INTERVAL_SECONDS
    kind = tqdm if terminal else Logged
    with kind(
        total=total,
        desc=title,
        unit=unit,
        unit_scale=True,
        initial=initial,
        disable=_quiet() or not title or not processes.is_first(),
        mininterval=interval,
        maxinterval=interval,
        dynamic_ncols=terminal,
        leave=True,
        file=sys.stderr if terminal else _Lines(sys.stderr),
        bar_format=None if terminal else LOG_FORMAT,
    ) as progress:
        yield progress
