"""Trains tiny models in one of several processes: python train_together.py WORKDIR STORE OUT RUN...

A RUN is FAMILY or FAMILY:fsdp=N. Process 0 prints each finished step's mean loss as JSON, so that a
test can kill all of them at a known place, and writes OUT/params.npz. Each process writes
OUT/windows-I.json, {run: [windows it read, for each step of this session]}, also when a signal
came: SIGTERM to process 0 when its first step is recorded, if STOP is set.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

import jax
import numpy as np
from train_family import BATCH, EXPERTS, make

from specialm import config
from specialm.common import processes, runtime, signals
from specialm.data.sampler import Sampler
from specialm.data.store import WindowStore
from specialm.models import transformer
from specialm.training import loop, metrics, sharding
from specialm.training.checkpoints import Checkpoints
from specialm.training.runs import abstract_params

STEPS = 8


def sizes_of(family: str, store: WindowStore):
    if family != "dense":
        return make(family, store)
    return transformer.Config(
        vocab_size=512, context=store.context, num_layers=2, d_model=16, num_heads=2, d_ff=32
    ), Sampler(len(store), BATCH, 0)


def main(workdir: str, store_path: str, out: str, *names: str) -> None:
    runtime.join_processes()
    signals.install(goes_on=True)
    read: dict[str, list] = {}
    try:
        saved = train_all(workdir, WindowStore(store_path), names, read)
    finally:
        Path(out, f"windows-{jax.process_index()}.json").write_text(json.dumps(read))
    if processes.is_first():
        np.savez(Path(out, "params.npz"), **saved)


def train_all(workdir: str, store: WindowStore, names: tuple[str, ...], read: dict) -> dict:
    """{name: array} of all parameters; adds to `read`."""
    saved: dict[str, np.ndarray] = {}
    train = config.default().train
    train.tokens, train.batch_size = STEPS * BATCH * store.context, BATCH
    train.warmup_steps, train.log_every = 4, 1
    train.tensorboard = False
    write, batch = metrics.MetricsWriter.write, WindowStore.batch
    for name in names:

        def announced(self, number, values, name=name):
            write(self, number, values)
            if processes.is_first():
                print(json.dumps({"run": name, "step": number, "loss": values["loss"]}), flush=True)
                if os.environ.pop("STOP", ""):
                    os.kill(os.getpid(), signal.SIGTERM)

        def recorded(self, indices, name=name):
            time.sleep(float(os.environ.get("STEP_SECONDS", "0")))
            read.setdefault(name, []).append([int(i) for i in indices])
            return batch(self, indices)

        metrics.MetricsWriter.write, WindowStore.batch = announced, recorded
        family, _, layout = name.partition(":fsdp=")
        train.checkpoint_every = 2 if name == "dense" else STEPS
        mesh = sharding.make_mesh(
            BATCH,
            layout={"fsdp": int(layout or 1), "expert": 0},
            experts=EXPERTS if family == "mixture" else 1,
        )
        sizes, sampler = sizes_of(family, store)
        path = Path(workdir) / name
        loop.pretrain(path, sizes, train, store, sampler, 0, mesh)
        found = Checkpoints(path / "checkpoints").restore(abstract_params(sizes, mesh))
        whole = jax.jit(lambda tree: tree, out_shardings=sharding.replicated(mesh))(found[1])
        saved |= {
            f"{name} {jax.tree_util.keystr(where)}": np.asarray(leaf)
            for where, leaf in jax.tree_util.tree_leaves_with_path(whole)
        }
    return saved


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except signals.Interrupted as stopped:
        print(signals.message(stopped.number, stopped.saved), file=sys.stderr)
        sys.exit(stopped.status)
