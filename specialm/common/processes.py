"""Several processes of one job: which of them writes, and how the others wait for it.

Process 0 makes the data and writes records and logs alone; models are trained by all. Waiting asks
the key-value store of the job's coordinator and takes no device, so it may take hours. All
processes make the same calls in the same order. With one process each of these is just a call.
"""

import json
import sys
from collections.abc import Callable
from typing import Any

from specialm.common.errors import UserError

ASK_MS = 10_000  # that one request waits; then it is asked again

_calls = 0  # so far; the same in all processes
_inside = False  # process 0 works by itself, the others know nothing of what it calls


def count() -> int:
    """Processes of this job. It does not import JAX: who has not joined a job is alone."""
    jax = sys.modules.get("jax")
    return jax.process_count() if jax and jax.distributed.is_initialized() else 1


def is_first() -> bool:
    """Whether this is process 0, the only one that prints and writes."""
    return count() == 1 or sys.modules["jax"].process_index() == 0


def run_on_first(what: str, work: Callable[[], Any]) -> Any:
    """What `work()` returns in process 0; the others wait for it.

    Args:
      what: for errors.
      work: returns something JSON-able, which is best small.

    Raises:
      UserError: that of process 0, in all of them.
      RuntimeError: process 0 failed otherwise.

    """
    global _inside
    if count() == 1 or _inside:
        return work()
    key = _next_key()
    if not is_first():
        return _await(key, what)
    _inside = True
    try:
        return _publish(key, what, work)
    finally:
        _inside = False


def run_on_all(what: str, work: Callable[[], Any]) -> list:
    """All processes run `work()`; each gets what it returned in each of them, when all are done.

    Raises:
      UserError, RuntimeError: it failed in one of them, see `run_on_first`.

    """
    if count() == 1:
        return [work()]
    if _inside:
        raise RuntimeError(f"{what}: process 0 works by itself here, but this takes all processes")
    key = _next_key()  # before `work`, which makes calls of its own and may not get to the last
    _publish(f"{key}/{sys.modules['jax'].process_index()}", what, work)
    return [_await(f"{key}/{number}", what) for number in range(count())]


def _next_key() -> str:
    global _calls
    _calls += 1
    return f"specialm/{_calls}"


def _publish(key: str, what: str, work: Callable[[], Any]) -> Any:
    """Runs `work` and puts what came of it, be it an error, where the others ask."""
    try:
        said = {"what": what, "result": work()}
        text = json.dumps(said)
    except BaseException as error:
        told = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        _client().key_value_set(
            key, json.dumps({"what": what, "failed": told, "user": isinstance(error, UserError)})
        )
        raise
    _client().key_value_set(key, text)
    return json.loads(text)["result"]


def _await(key: str, what: str) -> Any:
    import jax

    while True:
        try:
            said = json.loads(_client().blocking_key_value_get(key, ASK_MS))
            break
        except jax.errors.JaxRuntimeError as error:
            if "DEADLINE_EXCEEDED" not in str(error):  # the coordinator is gone
                raise
    if said["what"] != what:
        raise RuntimeError(
            f"the processes are not at the same place: {what} here, {said['what']} "
            "in another; start all of them with the same command and settings."
        )
    if "failed" not in said:
        return said["result"]
    if said["user"]:
        raise UserError(said["failed"])
    raise RuntimeError(f"{what}: another process failed: {said['failed']}")


def _client():
    from orbax.checkpoint import multihost

    return multihost.get_jax_distributed_client()
