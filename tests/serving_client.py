"""A server with two small models on a free port of this machine, and a plain client of it."""

import dataclasses
import http.client
import json
import socket
import threading
import time
from contextlib import contextmanager

import jax
import numpy as np
import uvicorn

from specialm.models import transformer
from specialm.serving import generate
from specialm.serving.server.app import Server
from specialm.serving.server.limits import Limits
from specialm.serving.server.models import Models
from specialm.serving.server.served import Served
from specialm.serving.server.worker import Worker

GPT2 = {"num_layers": 2, "d_model": 16, "num_heads": 2, "d_ff": 32}
LLAMA = {
    **GPT2,
    "norm": "rmsnorm",
    "positions": "rope",
    "mlp": "swiglu",
    "num_kv_heads": 1,
    "biases": False,
}


def model(name, vocabulary, parts, limits, context=48):
    """A model with random parameters that repeat themselves less than initial ones."""
    config = transformer.Config(vocab_size=vocabulary.size, context=context, **parts)
    rng = np.random.default_rng(len(name))
    params = jax.tree.map(
        lambda leaf: leaf + 0.2 * rng.normal(size=leaf.shape).astype(np.float32),
        transformer.init(config, jax.random.key(0)),
    )
    engine = generate.engine(params, config, vocabulary, limits.rows)
    return Served(name, config, vocabulary, Worker(engine.anew, limits.waiting), 0, {})


@contextmanager
def running(models, limits=None, banks=(), **options):
    """The port of a server over these models, and the domains of these banks."""
    server = Server(Models(models, banks), limits or Limits(), **options)
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        server.app, log_level="warning", access_log=False, timeout_graceful_shutdown=2
    )
    program = uvicorn.Server(config)
    thread = threading.Thread(target=program.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    while not program.started:
        time.sleep(0.01)
    try:
        yield listener.getsockname()[1]
    finally:
        program.should_exit = True
        thread.join(timeout=20)
        assert not thread.is_alive()


@dataclasses.dataclass
class Client:
    """One connection for each request."""

    port: int
    token: str = ""

    def send(self, method, path, body=None, headers=None):
        """(connection, response)"""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        content = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        known = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        kind = {"Content-Type": "application/json"} if body is not None else {}
        connection.request(method, path, content, {**kind, **known, **(headers or {})})
        return connection, connection.getresponse()

    def get(self, path, **headers):
        connection, response = self.send("GET", path, headers=headers)
        content = response.read()
        connection.close()
        return response.status, content.decode()

    def post(self, path, body, **headers):
        """(status, JSON)"""
        connection, response = self.send("POST", path, body, headers)
        content = json.loads(response.read())
        connection.close()
        return response.status, content

    def stream(self, path, body, leave_after=None):
        """The events of a stream; leaves after so many."""
        connection, response = self.send("POST", path, {**body, "stream": True})
        found = []
        for line in response:
            if line.startswith(b"data: "):
                found.append(line[6:-1].decode())
                if leave_after is not None and len(found) > leave_after:
                    break
        connection.close()
        return found
