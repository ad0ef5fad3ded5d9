"""SIGINT, SIGTERM and SIGUSR1: training ends with its step saved, all else ends at once.

What is on disk is always good to go on from, so without a step to save the process leaves at once,
with a line and no traceback. A thread does that: it does not have to wait until the main thread
comes back from a long call into C++, nor until imports let an exception pass. In a training loop
(`Stop`), once a step is done, the step under way ends and is saved first.
"""

import os
import signal
import threading
import time

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
AGAIN_SECONDS = 0.5  # a second Ctrl-C after this leaves without saving

_goes_on = False  # whether the running command, given again, goes on
_pipe = -1  # what is written into it the thread reads
_stop: "Stop | None" = None  # the loop that is running


class Interrupted(BaseException):
    """A signal came, and what there was to save is saved.

    Not an `Exception`: nothing on the way should take it for an error of its own.
    """

    def __init__(self, number: int, saved: str):
        super().__init__(saved)
        self.number, self.saved = number, saved

    @property
    def status(self) -> int:
        """The exit status."""
        return status(self.number)


def status(number: int) -> int:
    """130 for SIGINT, else 143: a scheduler that warns with SIGUSR1 means the same as SIGTERM."""
    return 130 if number == signal.SIGINT else 143


def message(number: int, saved: str = "") -> str:
    """What is said at the end."""
    what = f"{signal.Signals(number).name}: {saved or 'interrupted'}"
    return (
        f"specialm: {what}; the same command goes on from here."
        if _goes_on
        else (f"specialm: {what}.")
    )


class Stop:
    """A loop that ends between two steps when a signal has come.

    `with Stop() as stop:` around the loop; `stop.hold()` once there is something to save;
    `stop.number` is the signal, or 0.
    """

    def __init__(self):
        self.number, self.holding, self._first = 0, False, 0.0

    def __enter__(self) -> "Stop":
        global _stop
        _stop = self
        return self

    def __exit__(self, *_) -> None:
        global _stop
        _stop = None

    def hold(self) -> None:
        """From here on a signal waits until the loop asks for it."""
        self.holding = True

    def take(self, number: int) -> bool:
        """Note a signal; return whether the loop will see to it."""
        impatient = number == signal.SIGINT and self.number == number
        if not self.holding or (impatient and time.monotonic() - self._first > AGAIN_SECONDS):
            return False
        if not self.number:
            self._first = time.monotonic()
        self.number = number
        return True


def install(goes_on: bool = False) -> None:
    """Have the three signals as described above from now on.

    Only in the main thread of a program; a signal that is ignored (nohup) stays so.

    Args:
      goes_on: whether the same command, given again, goes on from what is on disk.

    """
    global _goes_on
    _goes_on = goes_on
    if threading.current_thread() is not threading.main_thread():
        return
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _noted)
    if _pipe < 0:
        threading.Thread(target=_watch, args=(_open_pipe(),), daemon=True).start()
        os.register_at_fork(after_in_child=_forget)


def reinstall() -> None:
    """Have them so again, after a library has taken one of them."""
    if _pipe >= 0:
        install(_goes_on)


def _open_pipe() -> int:
    """Return the reading end of a pipe into which the interpreter writes each signal's number."""
    global _pipe
    read, _pipe = os.pipe()
    os.set_blocking(_pipe, False)
    signal.set_wakeup_fd(_pipe, warn_on_full_buffer=False)
    return read


def _noted(number: int, _) -> None:
    """Write it once more, later: a library may have taken the interpreter's pipe away."""
    try:
        os.write(_pipe, bytes([number]))
    except BlockingIOError:
        pass


def _watch(read: int) -> None:
    while True:
        for number in os.read(read, 64):
            if number in SIGNALS and not (_stop and _stop.take(number)):
                leave(number)


def leave(number: int) -> None:
    """End the process now, whatever it is doing."""
    os.write(2, f"\n{message(number)}\n".encode())
    os._exit(status(number))


def _forget() -> None:
    """A forked child has the ordinary signals."""
    signal.set_wakeup_fd(-1)
    for number in SIGNALS:
        if signal.getsignal(number) is _noted:
            signal.signal(number, signal.SIG_DFL)
