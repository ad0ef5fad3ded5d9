"""Training at the published size on one accelerator: speed, MFU, memory, the bank's price.

    python -m benchmarks.device --out=results/device/rows.jsonl [--windows=16,32,56] [--profile=DIR]

SLM and PN-32 of configs/paper (122M parameters served, context 1,024, bfloat16) take turns on the
same random tokens, at each number of windows a step that fits the device's memory; what does not
fit is a row that says so. Figures are medians of rounds, `against_slm` the median of the rounds'
ratios of seconds a step. MFU is FLOPs a token (`flops_per_token`: all matrix products, attention in
full, no recomputation) * tokens per second / the device's peak of its data sheet. With
--profile a trace of three steps of each is written for TensorBoard or xprof, and what took longest
is printed. --set=model.attention=cudnn and the like change both. A minute a number of windows on an
H100. `--small` is the same with a model for a CPU's minute, to see whether it works.
"""

import argparse
import collections
import gzip
import json
import statistics
import time
from pathlib import Path

from specialm.common import runtime

runtime.configure()

import jax  # noqa: E402

from benchmarks.families import random_batch  # noqa: E402
from specialm import config as config_lib  # noqa: E402
from specialm import methods  # noqa: E402
from specialm.common import code  # noqa: E402
from specialm.common.files import write_text  # noqa: E402
from specialm.models import families  # noqa: E402
from specialm.training import hardware, optimizer, program, sharding, step  # noqa: E402

CONFIGS = {"slm": "configs/paper/slm.py", "slm_pn": "configs/paper/slm_pn.py"}
SMALL = {
    "data.context": 64,
    "data.vocabulary_size": 512,
    "model.num_layers": 2,
    "model.d_model": 32,
    "model.d_ff": 64,
    "model.num_heads": 2,
    "model.num_experts": 4,
    "model.bank_layers": (0, 1),
    "model.dtype": "float32",
}
GROUPS = 8


class Side:
    """A method's model in training on random tokens."""

    def __init__(self, method: str, windows: int, overrides: dict, changes: list[str]):
        config = config_lib.load(CONFIGS[method], []).unlock()
        for change in changes:
            config_lib.override(config, change)
        config.update_from_flattened_dict(overrides)
        size = methods.centroid_size(config)
        model = methods.model_config(config, method, config.data.vocabulary_size, size)
        self.config = model
        groups = min(GROUPS, windows)
        mesh = sharding.make_mesh(windows, groups)
        tx = optimizer.make(config.train, 1000, families.declare(model))
        self._batch = sharding.put_batch(mesh, random_batch(model, windows, groups))
        self._state = step.init_state(model, tx, mesh, key=jax.random.key(0))
        self._step = program.make_train_step(model, tx, mesh)
        started = time.perf_counter()
        self.seconds(1)
        self.compile_seconds = time.perf_counter() - started

    def seconds(self, steps: int) -> float:
        """Wall time of a step, the mean of so many."""
        started = time.perf_counter()
        for _ in range(steps):
            self._state, metrics = self._step(self._state, self._batch)
        metrics["loss"].block_until_ready()
        return (time.perf_counter() - started) / steps


def rows(windows: int, args: argparse.Namespace) -> list[dict]:
    """Both sides at a number of windows a step."""
    overrides, device = SMALL if args.small else {}, jax.devices()[0]
    common = {
        "device": device.device_kind,
        "jax": jax.__version__,
        "windows": windows,
        "set": " ".join(args.set),
    }
    try:
        sides = {name: Side(name, windows, overrides, args.set) for name in args.methods}
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return [{**common, "method": "both", "fits": False} | code.made_by([])]
    steps = max(2, round(args.seconds / next(iter(sides.values())).seconds(2)))
    rounds = [
        {method: side.seconds(steps) for method, side in sides.items()} for _ in range(args.rounds)
    ]
    if args.profile:
        for method, side in sides.items():
            folder = Path(args.profile) / f"{method}-{windows}"
            with jax.profiler.trace(str(folder)):
                side.seconds(3)
            print(f"{method}, ms a step:\n" + "\n".join(longest(folder, 3)), flush=True)
    memory = (device.memory_stats() or {}).get("peak_bytes_in_use", 0)
    found = []
    for method, side in sides.items():
        seconds = statistics.median(each[method] for each in rounds)
        dense = families.dense(side.config)
        rate = windows * dense.context / seconds
        flops = families.flops_per_token(side.config, True, windows * dense.context // GROUPS)
        found.append(
            {
                **common,
                "method": method,
                "fits": True,
                "params": families.num_params(side.config),
                "step_ms": round(1e3 * seconds, 2),
                "tokens_per_second": round(rate),
                "mfu": round(rate * flops / hardware.peak_flops(device), 4),
                **against(rounds, method),
                "compile_seconds": round(side.compile_seconds, 1),
                "peak_memory_of_both": memory,
                **code.made_by([]),
            }
        )
    return found


def against(rounds: list[dict[str, float]], method: str) -> dict:
    """Seconds a step against those of SLM in the same round, if that was timed too."""
    if "slm" not in rounds[0]:
        return {}
    ratios = [each[method] / each["slm"] for each in rounds]
    return {
        "against_slm": round(statistics.median(ratios), 4),
        "against_slm_range": [round(min(ratios), 4), round(max(ratios), 4)],
    }


def longest(folder: Path, steps: int, count: int = 40) -> list[str]:
    """What took longest on the device in a trace: ms a step, how often, the name."""
    (path,) = folder.rglob("*.trace.json.gz")
    events = json.loads(gzip.decompress(path.read_bytes()))["traceEvents"]
    names = {e["pid"]: e["args"]["name"] for e in events if e.get("name") == "process_name"}
    spent: dict[str, list[float]] = collections.defaultdict(list)
    for event in events:
        where = names.get(event.get("pid"), "")
        if ("/device:" in where or "CPU" in where) and "hlo_op" in event.get("args", {}):
            spent[event["args"]["hlo_op"]].append(event["dur"] / 1e3 / steps)
    order = sorted(spent.items(), key=lambda item: -sum(item[1]))[:count]
    lines = [f"{sum(ms):8.3f} {len(ms) / steps:6.0f}  {name}" for name, ms in order]
    return [f"{sum(map(sum, spent.values())):8.3f}         all", *lines]


def main(argv: list[str] | None = None) -> None:
    """Times all numbers of windows and writes the rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", required=True)
    parser.add_argument("--windows", default="16,32,56")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=2.0, help="of a round of a side")
    parser.add_argument("--profile", default="", help="a folder for traces")
    parser.add_argument("--set", action="append", default=[], help="FIELD=VALUE of the configs")
    parser.add_argument("--methods", type=lambda text: text.split(","), default=list(CONFIGS))
    parser.add_argument("--small", action="store_true", help="a model for a CPU")
    args = parser.parse_args(argv)
    lines = []
    for windows in map(int, args.windows.split(",")):
        lines += rows(windows, args)
        print(json.dumps(lines[-len(args.methods) :]), flush=True)
        Path(args.out).parent.mkdir(parents=True, exist_ok=True)
        write_text(Path(args.out), "".join(json.dumps(each) + "\n" for each in lines))


if __name__ == "__main__":
    main()
