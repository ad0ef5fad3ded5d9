"""Trains tiny models that hold many models, in a process of its own:
python train_family.py WORKDIR STORE SAVE.npz FAMILY...

Prints each finished step's mean loss as JSON, so that a test can kill it at a known place.
"""

import json
import os
import sys
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["SPECIALM_PROGRESS"] = "0"

import jax
import numpy as np

from specialm import config
from specialm.data.groups import GroupSampler, HistogramSampler, MixtureSampler
from specialm.data.store import WindowStore
from specialm.models import transformer
from specialm.models.families import bank, mixture
from specialm.training import loop, metrics, sharding
from specialm.training.checkpoints import Checkpoints
from specialm.training.runs import abstract_params

EXPERTS, BATCH, STEPS = 8, 16, 16


def make(family: str, store: WindowStore):
    """(sizes, sampler) of a family; windows in clusters at random."""
    dense = transformer.Config(
        vocab_size=512, context=store.context, num_layers=2, d_model=16, num_heads=2, d_ff=32
    )
    rng = np.random.default_rng(0)
    cluster_N = rng.integers(0, EXPERTS, len(store))
    probability_K = np.bincount(cluster_N, minlength=EXPERTS) / len(store)
    if family == "mixture":
        return mixture.Config(dense, EXPERTS), MixtureSampler(BATCH, 0, cluster_N, EXPERTS)
    layers = (0, 1) if family == "soup" else (1,)
    sizes = bank.Config(dense, family, EXPERTS, 6, 4, layers, hidden=7)
    if family == "soup":
        return sizes, HistogramSampler(BATCH, 0, cluster_N, probability_K, support=3)
    groups = 8
    return sizes, GroupSampler(
        len(store), BATCH, 0, cluster_N, probability_K, groups, np.eye(EXPERTS)
    )


def main(workdir: str, store_path: str, out: str, *families: str) -> None:
    store, saved = WindowStore(store_path), {}
    train = config.default().train
    train.tokens, train.batch_size = STEPS * BATCH * store.context, BATCH
    train.warmup_steps, train.log_every, train.checkpoint_every = 4, 1, 4
    train.tensorboard = False
    write = metrics.MetricsWriter.write
    for family in families:

        def announced(self, number, values, family=family):
            write(self, number, values)
            print(
                json.dumps({"family": family, "step": number, "loss": values["loss"]}), flush=True
            )

        metrics.MetricsWriter.write = announced
        sizes, sampler = make(family, store)
        mesh = sharding.make_mesh(
            experts=EXPERTS if family == "mixture" else 1, layout={"expert": 0}
        )
        path = Path(workdir) / family
        loop.pretrain(path, sizes, train, store, sampler, 0, mesh)
        found = Checkpoints(path / "checkpoints").restore(abstract_params(sizes, mesh))
        saved |= {
            f"{family} {jax.tree_util.keystr(where)}": np.asarray(leaf)
            for where, leaf in jax.tree_util.tree_leaves_with_path(found[1])
        }
    np.savez(out, devices=mesh.size, **saved)


if __name__ == "__main__":
    main(*sys.argv[1:])
