"""The command `specialm serve`: models from run folders, a server over them."""

import os
import socket
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from specialm.common import extras, runtime
from specialm.common.errors import UserError
from specialm.models import families
from specialm.serving.server.limits import Limits
from specialm.training import runs, sharding

LOOPBACK = ("127.0.0.1", "localhost", "[::1]", "::1")
BACKLOG = 1024  # connections that wait to be accepted
TOKEN = "SPECIALM_TOKEN"  # the environment variable


def token_of(file: str) -> str:
    """The bearer token: what the file holds, else the environment variable; "" for none.

    Raises:
      UserError: the file cannot be read, or holds no token.
    """
    if not file:
        return os.environ.get(TOKEN, "")
    try:
        token = Path(file).read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--token_file={file}: cannot be read ({error}).") from error
    if not token or not token.isascii() or not token.isprintable():
        raise UserError(f"--token_file={file}: must hold one line of ASCII, the token.")
    return token


def check_address(host: str, port: int, token: str) -> None:
    """Raises UserError for a port that there is not, and for an open door without a lock."""
    if not 0 <= port < 65536:
        raise UserError(f"--port={port}: must be between 0 and 65535; 0 takes a free one.")
    if host not in LOOPBACK and not token:
        raise UserError(
            f"--host={host}: others could reach the models there; set a bearer token in {TOKEN} or "
            "with --token_file."
        )


def serve(
    paths: list[Path],
    host: str,
    port: int,
    token: str,
    limits: Limits,
    mixes: Mapping[Path, Mapping[str, np.ndarray]],
    ready: Callable[[str], None] = lambda address: None,
) -> None:
    """Serves the models of run folders, and of the domains of bundles, until a signal comes.

    Args:
      mixes: {bundle: {domain: float64 [k], the mixing coefficients of its experts}}.
      ready: called with the address when requests are answered.

    Raises:
      UserError: a model cannot be loaded, or the address is taken.
    """
    uvicorn = extras.load("uvicorn", "serve", "specialm serve")
    extras.load("starlette", "serve", "specialm serve")
    from specialm.serving.server import banks as banks_lib
    from specialm.serving.server import models as models_lib
    from specialm.serving.server import served as served_lib
    from specialm.serving.server.app import Server

    runtime.keep_small_programs()
    listener = _listen(host, port)
    names = models_lib.names_of([str(path.resolve()) for path in (*paths, *mixes)])
    found, banks = [], []
    for name, path in zip(names, paths, strict=False):
        model = served_lib.served(name, runs.load(path, sharding.make_mesh()), limits)
        served_lib.warm_up(model.worker.engine)
        found.append(model)
    for name, (path, of_domains) in zip(names[len(paths) :], mixes.items(), strict=True):
        bank = runs.load(path, sharding.make_mesh(), (families.BANK, families.MIXTURE))
        experts = runs.load_experts(path)
        banks.append(banks_lib.Bank(name, bank, experts, of_domains, limits))
    hosts = LOOPBACK if host in LOOPBACK else ()
    app = Server(models_lib.Models(found, banks), limits, token, hosts).app
    shown = f"[{host}]" if ":" in host else host
    ready(f"http://{shown}:{listener.getsockname()[1]}/")
    config = uvicorn.Config(
        app, log_level="warning", access_log=False, lifespan="on", timeout_graceful_shutdown=5
    )
    uvicorn.Server(config).run(sockets=[listener])


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)  # who comes early waits
    except OSError as error:
        raise UserError(
            f"--host={host} --port={port}: cannot be listened on ({error.strerror}); another "
            "program may have the port: give another --port, or 0 for a free one."
        ) from error
    return listener


def announce(address: str) -> None:
    """Says where the server is."""
    print(f"{address} answers (the page; /v1/completions, /metrics). Ctrl-C ends it.", flush=True)
    sys.stdout.flush()
