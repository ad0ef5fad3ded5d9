"""Several processes of one job: which of them writes, and how the others wait for it.

Only process 0 prepares the data and writes records and logs; all train the models. Waiting polls
the key-value store of the job's coordinator and needs no device, so it may take hours. All
processes make the same calls in the same order. In a job of one process each is just a call.
"""

import json
import sys
from collections.abc import Callable
from typing import Any

from specialm.common.errors import UserError

POLL_MS = 10_000  # that one request waits; then it is repeated

_calls = 0  # so far; the same in all processes
_on_first = False  # inside `run_on_first`: the other processes do not make the calls of this one


def count() -> int:
    """Return the number of processes of this job.

    It does not import JAX: a process that has not joined a job is a job of one.
    """
    jax = sys.modules.get("jax")
    return jax.process_count() if jax and jax.distributed.is_initialized() else 1


def index() -> int:
    """Return the number of this process, from 0."""
    return 0 if count() == 1 else sys.modules["jax"].process_index()


def is_first() -> bool:
    """Whether this is process 0, the only one that prints and writes."""
    return index() == 0


def tell(line: str) -> None:
    """Print a line to standard error; of several processes the first does."""
    if is_first():
        print(f"specialm: {line}", file=sys.stderr, flush=True)


def run_on_first(what: str, work: Callable[[], Any]) -> Any:
    """Return what `work()` returns in process 0; the others wait for it.

    Args:
      what: name of the work, for errors.
      work: its result must fit into JSON and should be small.

    Raises:
      UserError: process 0 raised it; all processes raise it.
      RuntimeError: process 0 failed otherwise.

    """
    global _on_first
    if count() == 1 or _on_first:
        return work()
    key = _next_key()
    if not is_first():
        return _await(key, what)
    _on_first = True
    try:
        return _publish(key, what, work)
    finally:
        _on_first = False


def run_on_all(what: str, work: Callable[[], Any]) -> list:
    """Run `work()` in all processes; return its results of all of them.

    Args:
      what: name of the work, for errors.
      work: its result must fit into JSON and should be small.

    Raises:
      UserError: one of them raised it; all processes raise it.
      RuntimeError: it failed otherwise in one of them.

    """
    if count() == 1:
        return [work()]
    if _on_first:
        raise RuntimeError(f"{what}: only process 0 is here, but this takes all processes")
    key = _next_key()  # before `work`, which may make calls of its own and may fail
    _publish(f"{key}/{sys.modules['jax'].process_index()}", what, work)
    return [_await(f"{key}/{number}", what) for number in range(count())]


def _next_key() -> str:
    global _calls
    _calls += 1
    return f"specialm/{_calls}"


def _publish(key: str, what: str, work: Callable[[], Any]) -> Any:
    """Run `work` and store its result or its error under `key`."""
    try:
        text = json.dumps({"what": what, "result": work()})
    except BaseException as error:
        is_user_error = isinstance(error, UserError)
        message = str(error) if is_user_error else f"{type(error).__name__}: {error}"
        failure = {"what": what, "failed": message, "user": is_user_error}
        _client().key_value_set(key, json.dumps(failure))
        raise
    _client().key_value_set(key, text)
    return json.loads(text)["result"]


def _await(key: str, what: str) -> Any:
    import jax

    while True:
        try:
            answer = json.loads(_client().blocking_key_value_get(key, POLL_MS))
            break
        except jax.errors.JaxRuntimeError as error:
            if "DEADLINE_EXCEEDED" not in str(error):  # the coordinator is gone
                raise
    if answer["what"] != what:
        raise RuntimeError(
            f"the processes are not at the same place: {what} here, {answer['what']} "
            "in another; start all of them with the same command and settings."
        )
    if "failed" not in answer:
        return answer["result"]
    if answer["user"]:
        raise UserError(answer["failed"])
    raise RuntimeError(f"{what}: another process failed: {answer['failed']}")


def _client():
    from orbax.checkpoint import multihost

    return multihost.get_jax_distributed_client()
