"""Trains a tiny model in its own process: python train_tiny.py WORKDIR STEPS [save.npz].

Prints each finished step's mean loss as JSON, so that a test can kill it at a known place.
"""

import json
import os
import sys

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["SPECIALM_PROGRESS"] = "0"

import jax
import numpy as np

from specialm import config
from specialm.data.sampler import Sampler
from specialm.data.store import WindowStore
from specialm.models import transformer
from specialm.training import loop, metrics, sharding, step
from specialm.training.checkpoints import Checkpoints
from specialm.training.runs import abstract_params


def main(workdir: str, store_path: str, out: str) -> None:
    store = WindowStore(store_path)
    model = transformer.Config(
        vocab_size=512, context=store.context, num_layers=2, d_model=16, num_heads=2, d_ff=32
    )
    train = config.default().train
    train.tokens, train.batch_size = 40 * 8 * store.context, 8
    train.warmup_steps, train.log_every, train.checkpoint_every = 4, 1, 10
    train.tensorboard = False
    write = metrics.MetricsWriter.write

    def announced(self, number, values):
        write(self, number, values)
        print(json.dumps({"step": number, "loss": values["loss"]}), flush=True)

    metrics.MetricsWriter.write = announced
    from pathlib import Path

    mesh = sharding.make_mesh()
    path = Path(workdir)
    sampler = Sampler(len(store), train.batch_size, 0)
    loop.pretrain(path, model, train, store, sampler, 0, mesh)
    found = Checkpoints(path / "checkpoints").restore(abstract_params(model, mesh))
    leaves = jax.tree_util.tree_leaves_with_path(found[1])
    scored = step.make_score_step(model, mesh)(
        found[1], sharding.put_batch(mesh, store.batch(np.arange(8 * mesh.size)))
    )
    np.savez(
        out,
        devices=mesh.size,
        nll=np.asarray(scored)[:8],
        **{jax.tree_util.keystr(where): np.asarray(leaf) for where, leaf in leaves},
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
