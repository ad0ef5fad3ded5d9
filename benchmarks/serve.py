"""A server under load: is every answer right, does it stay up, how much does batching bring?

    python -m benchmarks.serve --checkpoint=RUN --out=results/generate/server.jsonl

Starts `specialm serve` in a process of its own. Clients at the same time send completions of random
lengths, seeds and choices, whole and as streams; some leave early, some send what is no request.
Each answer is compared with generation alone, here. An answer that differs is right only where the
first token that differs was a tie: the two are equally likely to what float32 sums in another order
may change, which is counted. Then requests are sent one at a time, for the throughput.
"""

import argparse
import collections
import concurrent.futures
import dataclasses
import http.client
import json
import os
import random
import socket
import subprocess
import sys
import time
from pathlib import Path

from specialm.common import code

CPUS = os.sched_getaffinity(0)  # before JAX is imported, which changes them
WORDS = "the array patient return of a value court says is not for and in with shape type".split()
WRONG = (
    (b"{", 400),
    (b"[]", 400),
    (b'{"prompt": 1}', 400),
    (b'{"max_tokens": "many"}', 400),
    (b'{"temperature": -3}', 400),
    (b'{"prompt": [123456789]}', 400),
    (b'{"model": "none"}', 404),
    (b'{"prompt": "' + b"a b " * 4000 + b'"}', 400),
    (b'{"prompt": "' + b"x" * 2_000_000 + b'"}', 413),
)
TIE = 1e-3  # natural logarithm: log-probabilities differ by up to 1e-4 of rounding


@dataclasses.dataclass
class Planned:
    """One request: what is sent, and what the client does."""

    body: dict | None  # None: `content` is no request
    content: bytes
    status: int
    leaves_after: int | None = None  # events


def plan(count: int, seed: int) -> list[Planned]:
    """So many requests, always the same ones."""
    rng, found = random.Random(seed), []
    for number in range(count):
        if rng.random() < 0.1:
            content, status = rng.choice(WRONG)
            found.append(Planned(None, content, status))
            continue
        body = {
            "prompt": " ".join(rng.choices(WORDS, k=rng.randrange(0, 40))),
            "max_tokens": rng.randrange(0, 60),
            "temperature": rng.choice([0, 0, 0.7, 1.2]),
            "seed": number,
            "logprobs": 0,
            "stream": rng.random() < 0.5,
            **rng.choice([{}, {}, {"top_k": 20}, {"top_p": 0.9}, {"repetition_penalty": 1.3}]),
            **rng.choice([{}, {"stop": ["\n", "the "]}]),
        }
        leaves = rng.randrange(3) if body["stream"] and rng.random() < 0.2 else None
        found.append(Planned(body, json.dumps(body).encode(), 200, leaves))
    return found


def send(port: int, planned: Planned) -> dict:
    """What a client gets: status, tokens' log-probabilities and bytes, text; and seconds."""
    started = time.perf_counter()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
    try:
        kind = {"Content-Type": "application/json"}
        try:
            connection.request("POST", "/v1/completions", planned.content, kind)
        except (BrokenPipeError, ConnectionResetError):  # refused before all of it was sent
            pass
        response = connection.getresponse()
        if response.status != 200:
            response.read()
            return {"status": response.status}
        if not planned.body["stream"]:
            choices = [json.loads(response.read())["choices"][0]]
        else:
            choices = []
            for line in response:
                if line.startswith(b"data: {"):
                    choices.append(json.loads(line[6:])["choices"][0])
                    if planned.leaves_after is not None and len(choices) > planned.leaves_after:
                        break
        return {
            "status": 200,
            "seconds": time.perf_counter() - started,
            "text": "".join(choice["text"] for choice in choices),
            "tokens": [bytes(b) for choice in choices for b in choice["logprobs"]["bytes"]],
            "logps": [p for choice in choices for p in choice["logprobs"]["token_logprobs"]],
            "finish": choices[-1]["finish_reason"] if choices else None,
        }
    finally:
        connection.close()


class Alone:
    """What generation alone gives."""

    def __init__(self, engine):
        self._engine = engine

    @classmethod
    def of_run(cls, run: Path) -> "Alone":
        """With the model of a run folder."""
        from specialm.models import families
        from specialm.serving import generate
        from specialm.training import runs, sharding

        model = runs.load(run, sharding.make_mesh())
        config = families.dense(model.config)
        return cls(generate.engine(model.params, config, model.vocabulary, rows=1, seconds=0.2))

    def of(self, body: dict):
        """A `Completion`."""
        from specialm.serving import generate
        from specialm.serving.decoding import sampling

        names = {"max_tokens": "tokens", "logprobs": "top_logprobs"}
        wanted = sampling.of(
            **{names.get(k, k): v for k, v in body.items() if k not in ("prompt", "stream")}
        )
        engine = self._engine
        ids = generate.encode(engine.vocabulary, engine.config, body["prompt"], wanted)
        return generate.complete(engine, [ids], wanted)[0]


def verdict(planned: Planned, answer: dict, alone: Alone) -> str:
    """ "right", "tie", "left early" or "wrong"."""
    if answer["status"] != planned.status:
        return "wrong"
    if planned.body is None:
        return "refused"
    wanted = alone.of(planned.body)
    tokens = [token.content for token in wanted.tokens]
    left = answer["finish"] is None
    if left and planned.leaves_after is None:
        return "wrong"
    same = tokens[: len(answer["tokens"])] == answer["tokens"]
    if same and left:
        return "left early" if wanted.text.startswith(answer["text"]) else "wrong"
    if same and (answer["text"], answer["finish"]) == (wanted.text, wanted.finish):
        near = max(
            (abs(a - b) for a, b in zip(answer["logps"], wanted.logprobs, strict=True)), default=0
        )
        return "right" if near < TIE else "wrong"
    return "tie" if is_tie(planned.body, answer, wanted) else "wrong"


def is_tie(body: dict, answer: dict, wanted) -> bool:
    """Whether greedy tokens differ first where two are equally likely. Of drawn ones, whether the
    drawn number lies at the border of two tokens: it is not known here, so they are wrong.
    """
    pairs = zip(answer["tokens"], answer["logps"], wanted.tokens, strict=False)
    for content, logp, token in pairs:
        if content != token.content:
            return body["temperature"] == 0 and abs(logp - token.logp) < TIE
    return False


def start(run: Path, rows: int) -> tuple[subprocess.Popen, int]:
    """A server, and its port."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    words = ["serve", f"--checkpoint={run}", f"--port={port}", f"--rows={rows}", "--waiting=200"]
    process = subprocess.Popen(
        [sys.executable, "-m", "specialm", *words],
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: os.sched_setaffinity(0, CPUS),
    )
    if not process.stdout.readline():
        raise RuntimeError(f"the server has ended with {process.wait()}")
    return process, port


def memory(process: subprocess.Popen) -> int:
    """Of a process now, in bytes."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) * 1024


def rate(port: int, clients: int, count: int) -> float:
    """Tokens per second of requests of one length."""
    body = {"prompt": "The", "max_tokens": 48, "temperature": 1, "logprobs": 0}
    plans = [{**body, "seed": n, "stream": False} for n in range(count)]
    wanted = [Planned(each, json.dumps(each).encode(), 200) for each in plans]
    started = time.perf_counter()
    with concurrent.futures.ThreadPoolExecutor(clients) as pool:
        answers = list(pool.map(lambda each: send(port, each), wanted))
    return sum(len(each["tokens"]) for each in answers) / (time.perf_counter() - started)


def main() -> None:
    """Prints and writes one row."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--requests", type=int, default=5000)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--rows", type=int, default=16)
    options = parser.parse_args()
    plans = plan(options.requests, seed=0)
    process, port = start(options.checkpoint, options.rows)
    try:
        with concurrent.futures.ThreadPoolExecutor(options.clients) as pool:
            list(pool.map(lambda each: send(port, each), plans[: options.clients * 4]))  # compiles
            before, started = memory(process), time.perf_counter()
            answers = list(pool.map(lambda each: send(port, each), plans))
        seconds, after = time.perf_counter() - started, memory(process)
        pairs = []
        for _ in range(3):  # in turn, as others may use the machine
            pairs.append((rate(port, options.clients, 200), rate(port, 1, 40)))
        alive = process.poll() is None
    finally:
        process.terminate()
        process.wait(timeout=60)
    alone = Alone.of_run(options.checkpoint)
    found: collections.Counter = collections.Counter()
    for each, answer in zip(plans, answers, strict=True):
        said = verdict(each, answer, alone)
        found[said] += 1
        if said == "wrong":
            print(
                f"wrong: {each} {answer} {alone.of(each.body) if each.body else ''}",
                file=sys.stderr,
            )
    ratios = sorted(many / one for many, one in pairs)
    row = {
        "model": options.checkpoint.parent.name,
        "requests": options.requests,
        "clients": options.clients,
        "rows": options.rows,
        "answers": dict(found),
        "crashed": not alive,
        "seconds": round(seconds, 1),
        "memory_before_bytes": before,
        "memory_after_bytes": after,
        "tokens_per_second": [[round(many, 1), round(one, 1)] for many, one in pairs],
        "times_one_at_a_time": round(ratios[1], 2),
        "threads": len(CPUS),
    }
    print(json.dumps(row))
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        with options.out.open("a") as sink:
            sink.write(json.dumps(row | code.made_by()) + "\n")


if __name__ == "__main__":
    main()
