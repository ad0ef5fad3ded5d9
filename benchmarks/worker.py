"""A side of a benchmark in a process of its own, which waits while the other sides work."""

import json
import os
import subprocess
import time


class Worker:
    """A process that trains one side: `answer` is what it said after its first step."""

    def __init__(self, command: list[str], environment: dict[str, str] | None = None):
        started = time.perf_counter()
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **(environment or {})},
        )
        self.answer = self._read()
        self.startup_seconds = time.perf_counter() - started

    def _read(self) -> dict:
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"benchmark worker failed: {' '.join(self.process.args)}")
        return json.loads(line)

    def ask(self, steps: int) -> dict:
        """What it says of that many training steps, their seconds of wall time among it."""
        self.process.stdin.write(f"{steps}\n")
        self.process.stdin.flush()
        return self._read()

    def seconds(self, steps: int) -> float:
        """Wall time of that many training steps."""
        return self.ask(steps)["seconds"]

    def close(self) -> None:
        """Ends the process."""
        self.process.stdin.close()
        self.process.wait()
