"""What `benchmarks.generate` times: one program in a process of its own.

    python -m benchmarks.generate_runtimes RUNTIME FILE

Reads {"batch", "tokens", "prompt", "mode"} from standard input, a line each, and answers with
{"first", "seconds", "first_cpu", "cpu", "memory"}: seconds to the first token of all texts and of
all of it, those of the CPU for the first token alone and for all of it, and the peak of the
process's memory in bytes.
"""

import json
import os
import sys
import time
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

CPUS = os.sched_getaffinity(0)  # before a library that is imported changes them
THREADS = len(CPUS)
Timed = Callable[[list[list[int]], int, str], tuple[float, float]]  # (prompts, tokens, mode)


def ours(path: Path) -> Timed:
    """specialm, a run folder."""
    from specialm.common import runtime

    runtime.configure()
    from specialm.models import families
    from specialm.serving.decoding.engine import Engine
    from specialm.serving.decoding.sampling import Sampling
    from specialm.training import runs, sharding

    model = runs.load(path, sharding.make_mesh())
    config = families.dense(model.config)
    engine = Engine(model.params, config, model.vocabulary, rows=16, seconds=0.2, stops=frozenset())
    del model

    def timed(prompts: list[list[int]], tokens: int, mode: str) -> tuple[float, float]:
        started = time.perf_counter()
        for prompt in prompts:
            engine.add(prompt, Sampling(tokens=tokens))
        engine.step()
        first = time.perf_counter() - started
        while not engine.is_idle:
            engine.step()
        return first, time.perf_counter() - started

    return timed


def transformers(path: Path) -> Timed:
    """transformers, a folder in its layout; mode "eager" or "static" (cache)."""
    import torch
    from transformers import AutoModelForCausalLM, StoppingCriteriaList

    torch.set_num_threads(THREADS)
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()
    model.generation_config.eos_token_id = None

    def timed(prompts: list[list[int]], tokens: int, mode: str) -> tuple[float, float]:
        times = []

        def note(ids, scores, **more):
            times.append(time.perf_counter())
            return torch.zeros(len(ids), dtype=torch.bool)

        started = time.perf_counter()
        with torch.inference_mode():
            model.generate(
                torch.tensor(prompts),
                attention_mask=torch.ones((len(prompts), len(prompts[0])), dtype=torch.long),
                max_new_tokens=tokens,
                do_sample=False,
                pad_token_id=0,
                stopping_criteria=StoppingCriteriaList([note]),
                **({"cache_implementation": "static"} if mode == "static" else {}),
            )
        return times[0] - started, time.perf_counter() - started

    return timed


def llama_cpp(path: Path) -> Timed:
    """llama.cpp, a GGUF file, by its own server's clocks; with as many slots as there are texts."""
    import xllamacpp

    servers: dict[int, Any] = {}

    def server(slots: int) -> str:
        if slots not in servers:
            servers.clear()
            params = xllamacpp.CommonParams()
            params.model.path = str(path)
            params.n_ctx, params.n_parallel, params.warmup = slots * 256, slots, True
            params.cpuparams.n_threads = params.cpuparams_batch.n_threads = THREADS
            params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
            servers[slots] = xllamacpp.Server(params)
            pin(CPUS)
        return servers[slots].listening_address

    def ask(address: str, prompt: list[int], tokens: int) -> dict:
        question = {"prompt": prompt, "n_predict": tokens, "temperature": 0, "ignore_eos": True}
        request = urllib.request.Request(
            f"{address}/completion",
            json.dumps({**question, "cache_prompt": False}).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=600) as answer:  # noqa: S310 (our own server)
            return json.loads(answer.read())["timings"]

    pool = ThreadPoolExecutor(16)

    def timed(prompts: list[list[int]], tokens: int, mode: str) -> tuple[float, float]:
        count, address = len(prompts), server(len(prompts))
        started = time.perf_counter()
        found = list(pool.map(ask, [address] * count, prompts, [tokens] * count))
        seconds = time.perf_counter() - started
        if count == 1:  # without the way there and back
            seconds = (found[0]["prompt_ms"] + found[0]["predicted_ms"]) / 1000
        return max(each["prompt_ms"] for each in found) / 1000, seconds

    return timed


RUNTIMES = {"specialm": ours, "transformers": transformers, "llama.cpp": llama_cpp}


def pin(cpus: set[int]) -> None:
    """Keeps every thread of this process on these CPUs."""
    for task in os.listdir("/proc/self/task"):
        os.sched_setaffinity(int(task), cpus)


def peak_memory() -> int:
    """Of this process, in bytes."""
    status = Path("/proc/self/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def main() -> None:
    """Answers until standard input ends."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print is no answer
    timed = RUNTIMES[sys.argv[1]](Path(sys.argv[2]))
    pin(CPUS)
    print(json.dumps({"ready": True}), file=answers)
    for line in sys.stdin:
        asked = json.loads(line)
        rng = np.random.default_rng(asked["seed"])
        shape = (asked["batch"], asked["prompt"])
        prompts = rng.integers(300, asked["vocabulary"], shape).tolist()
        cpu = []
        for tokens in (1, asked["tokens"]):
            started = time.process_time()
            first, seconds = timed(prompts, tokens, asked["mode"])
            cpu.append(time.process_time() - started)
        found = {"first": first, "seconds": seconds, "first_cpu": cpu[0], "cpu": cpu[1]}
        found["memory"] = peak_memory()
        print(json.dumps(found), file=answers)


if __name__ == "__main__":
    main()
