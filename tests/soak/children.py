"""Commands in forked children, which have the libraries imported already, and their ends."""

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

FILE_EVENTS = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "open", "shutil.rmtree")


@dataclass(frozen=True)
class End:
    """How a child ended."""

    status: int  # exit status, or minus the number of the signal
    said: str  # on standard output and standard error
    seconds: float

    @property
    def traceback(self) -> bool:
        """Whether it said more than a user should see."""
        return "Traceback" in self.said or "Exception ignored" in self.said


class Child:
    """A function in a forked child: its result is the exit status."""

    def __init__(self, log: Path, work: Callable[[], int]):
        self.log, self.started = log, time.monotonic()
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            self._be(work)

    def _be(self, work: Callable[[], int]) -> None:
        status = 1
        try:
            number = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(number, 1)
            os.dup2(number, 2)
            sys.stdout = os.fdopen(1, "w", buffering=1)
            sys.stderr = os.fdopen(2, "w", buffering=1)
            for signal_number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
                signal.signal(signal_number, signal.SIG_DFL)
            status = work()
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            os._exit(status)

    def send(self, number: int) -> None:
        """Send a signal, if it is still there."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def ended(self) -> bool:
        """Whether it has ended; `end` takes its status."""
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def end(self, within: float = 1800.0) -> End:
        """Wait for its end; raise AssertionError for one that takes too long, which is killed."""
        until = time.monotonic() + within
        while not self.ended() and time.monotonic() < until:
            time.sleep(0.01)
        late = not self.ended()
        if late:
            self.send(signal.SIGKILL)
        _, status = os.waitpid(self.pid, 0)
        assert not late, f"no end after {within:.0f} s: {self.log.read_text()[-3000:]}"
        seconds = time.monotonic() - self.started
        said = self.log.read_text(errors="replace")
        return End(os.waitstatus_to_exitcode(status), said, seconds)


def command(arguments: list[str], kill_at: int = 0, count_into: Path | None = None):
    """A command of specialm, as the work of a child.

    Args:
      kill_at: kill -9 before this file operation below the work folder, counted from 1; 0: never.
      count_into: a file that gets the number of file operations at the end.
    """

    def work() -> int:
        from specialm import cli

        workdir = next(w.partition("=")[2] for w in arguments if w.startswith("--workdir="))
        seen = [0]

        def hook(event: str, values: tuple) -> None:
            if event not in FILE_EVENTS or not _path(event, values).startswith(workdir):
                return
            seen[0] += 1
            if seen[0] == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)

        if kill_at or count_into:
            sys.addaudithook(hook)
        status = cli.main(arguments)
        if count_into:
            count_into.write_text(str(seen[0]))
        return status

    return work


def _path(event: str, values: tuple) -> str:
    """What an event is about; inside `shutil.rmtree` names are those in an open folder."""
    if event in ("os.remove", "os.rmdir") and values[1] >= 0:
        return os.path.join(os.readlink(f"/proc/self/fd/{values[1]}"), values[0])
    return str(values[0])


def preload() -> None:
    """Import what the commands import, so that a forked child starts at once."""
    import scipy.stats  # noqa: F401
    import sentencepiece  # noqa: F401
    import sklearn.decomposition
    import sklearn.feature_extraction.text  # noqa: F401

    from specialm.commands import checkpoints, jobs, planning  # noqa: F401
    from specialm.data import prepare  # noqa: F401
    from specialm.specialize import distill  # noqa: F401
    from specialm.workflows import heldout, pretraining, study  # noqa: F401
