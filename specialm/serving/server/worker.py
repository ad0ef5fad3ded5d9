"""A thread with a model's engine: requests come from the event loop, tokens go back to it."""

import asyncio
import queue
import sys
import threading
import traceback
from collections.abc import AsyncGenerator, Callable
from typing import Any

from specialm.common.errors import UserError
from specialm.serving.decoding.engine import Engine
from specialm.serving.decoding.sampling import Sampling
from specialm.serving.decoding.sequence import Delta, Sequence
from specialm.serving.server.limits import Refused


class Job:
    """A text that is wanted: what comes of it is in `deltas`, an exception if that failed."""

    def __init__(self, prompt: list[int], sampling: Sampling, bare: bool):
        self.prompt, self.sampling, self.bare = prompt, sampling, bare
        self.loop = asyncio.get_running_loop()
        self.deltas: asyncio.Queue[Delta | Exception] = asyncio.Queue()
        self.sequence: Sequence | None = None  # set by the worker
        self.cancelled = False

    def cancel(self) -> None:
        """Frees its row at the next step."""
        self.cancelled = True
        if self.sequence is not None:
            self.sequence.cancelled = True

    async def stream(self) -> AsyncGenerator[Delta, None]:
        """What comes, up to the end; whoever leaves early cancels the rest."""
        try:
            while True:
                delta = await self.deltas.get()
                if isinstance(delta, Exception):
                    raise delta
                yield delta
                if delta.finish:
                    return
        finally:
            self.cancel()


class Worker:
    """Runs what is submitted; a failure of a step ends the texts of that step, not the worker."""

    def __init__(self, open_engine: Callable[[], Engine], most_waiting: int):
        self._open_engine, self._most_waiting = open_engine, most_waiting
        self.engine = open_engine()
        self._inbox: queue.SimpleQueue[Job | Callable[[], None] | None] = queue.SimpleQueue()
        self._jobs: dict[Sequence, Job] = {}
        self._unfinished, self._lock = 0, threading.Lock()
        self._thread = self._new_thread()
        self._stopped = self._retired = self._left = False

    def _new_thread(self) -> threading.Thread:
        return threading.Thread(target=self._run, name="engine", daemon=True)

    def start(self) -> None:
        """Begins to work."""
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread after the step that is running."""
        self._stopped = True
        self._inbox.put(None)
        self._thread.join()

    def retire(self) -> None:
        """Ends the thread when nothing is left to do; what comes later has one of its own."""
        self._retired = True
        self._inbox.put(None)

    def _put(self, what: "Job | Callable[[], None]") -> None:
        with self._lock:
            self._inbox.put(what)
            if self._left:
                self._left, self._thread = False, self._new_thread()
                self._thread.start()

    def _leaves(self) -> bool:
        """Whether the thread ends, as it is retired and has nothing to do."""
        with self._lock:
            self._left = self._retired and self._inbox.empty() and self.engine.is_idle
            return self._left

    @property
    def unfinished(self) -> int:
        """Texts that were submitted and have not ended."""
        return self._unfinished

    @property
    def running(self) -> int:
        """Texts that have a row."""
        return len(self.engine.active)

    def submit(self, prompts: list[list[int]], samplings: list[Sampling], bare: bool) -> list[Job]:
        """All of these texts, or none.

        Raises:
          Refused: too many wait (503).
        """
        with self._lock:
            most = self.engine.most_rows + self._most_waiting
            if self._unfinished + len(prompts) > most:
                raise Refused(
                    503,
                    f"{self._unfinished} texts are being continued or wait; try again.",
                    retry=True,
                )
            self._unfinished += len(prompts)
        jobs = [Job(p, s, bare) for p, s in zip(prompts, samplings, strict=True)]
        for job in jobs:
            self._put(job)
        return jobs

    async def call(self, function: Callable[[], Any]) -> Any:
        """The result of a function that runs between two steps."""
        loop, done = asyncio.get_running_loop(), asyncio.get_running_loop().create_future()

        def settle(result: Any, error: Exception | None) -> None:
            if not done.done():
                done.set_exception(error) if error else done.set_result(result)

        def run() -> None:
            try:
                result, error = function(), None
            except Exception as failed:
                result, error = None, failed
            loop.call_soon_threadsafe(settle, result, error)

        self._put(run)
        return await done

    def _run(self) -> None:
        while not self._stopped and not self._leaves():
            self._accept(block=self.engine.is_idle)
            if self._stopped:
                return
            try:
                events = self.engine.step()
            except Exception as error:
                self._fail(error)
                continue
            for sequence, delta in events:
                self._deliver(sequence, delta)

    def _accept(self, block: bool) -> None:
        """Takes what has come; waits for something if there is nothing to do."""
        while True:
            try:
                given = self._inbox.get(block=block)
            except queue.Empty:
                return
            block = False
            if given is None:
                continue
            if isinstance(given, Job):
                self._add(given)
            else:
                given()

    def _add(self, job: Job) -> None:
        try:
            job.sequence = self.engine.add(job.prompt, job.sampling, job.bare)
        except UserError as error:
            self._end(job, Refused(400, str(error)))
            return
        job.sequence.cancelled = job.cancelled
        self._jobs[job.sequence] = job

    def _deliver(self, sequence: Sequence, delta: Delta) -> None:
        job = self._jobs[sequence]
        if delta.finish:
            del self._jobs[sequence]
            self._end(job, delta)
        else:
            self._post(job, delta)

    def _end(self, job: Job, last: Delta | Exception) -> None:
        with self._lock:
            self._unfinished -= 1
        self._post(job, last)

    def _post(self, job: Job, delta: Delta | Exception) -> None:
        try:
            job.loop.call_soon_threadsafe(job.deltas.put_nowait, delta)
        except RuntimeError:  # the event loop has ended
            self._stopped = True

    def _fail(self, error: Exception) -> None:
        """Ends all texts, and begins anew: the cache may have been given away to what failed."""
        traceback.print_exception(error, file=sys.stderr)
        for job in self._jobs.values():
            self._end(job, Refused(500, f"the model failed ({type(error).__name__}); try again."))
        self._jobs = {}
        self.engine = self._open_engine()
