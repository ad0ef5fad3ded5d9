"""Progress bars with the time left, readable both on a terminal and in a log file."""

import os
import sys
from collections.abc import Callable
from contextlib import contextmanager

from specialm.common import processes

LOG_INTERVAL_SECONDS = 10.0

# True shows a bar, False nothing; a function is called with the number of items done since its
# last call.
Progress = bool | Callable[[int], object]


def _quiet() -> bool:
    return os.environ.get("SPECIALM_PROGRESS", "1") == "0"


@contextmanager
def bar(total: int | None, title: str, unit: str = "it", initial: int = 0):
    """Yield a tqdm bar: `b.update(n)` moves it, `b.set_postfix(loss=...)` adds figures.

    On a terminal it redraws in place; in a log it prints a line every ten seconds, so that a
    job's log stays short. `SPECIALM_PROGRESS=0` silences all bars; only the
    first of several processes has any.
    """
    from tqdm import tqdm

    terminal = sys.stderr.isatty()
    interval = 0.2 if terminal else LOG_INTERVAL_SECONDS
    with tqdm(
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
        file=sys.stderr,
    ) as progress:
        yield progress
