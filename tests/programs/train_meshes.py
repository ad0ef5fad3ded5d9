"""Takes a few steps with every family on every mesh shape of eight simulated devices, in a process
of its own: python train_meshes.py SAVE.npz FAMILY=MESH,MESH...

Saves "FAMILY MESH losses" and "FAMILY MESH/parameter"; the mesh "1" is one device.
"""

import dataclasses
import functools
import os
import sys

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import numpy as np
import optax

from specialm.models import families, transformer
from specialm.models.families import bank, mixture
from specialm.training import bank_updates, program, sharding, step

CONTEXT, BATCH, STEPS = 8, 32, 3
ROWS = 2
OPTIMIZER = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-2))
DENSE = transformer.Config(
    vocab_size=24, context=CONTEXT, num_layers=2, d_model=16, num_heads=4, d_ff=32
)
FAMILIES: dict[str, families.Config] = {
    "dense": DENSE,
    "projected": bank.Config(DENSE, "projected", 4, 3, 2, (1,)),
    "hypernetwork": bank.Config(DENSE, "hypernetwork", 4, 3, 2, (0,), features=4, hidden=5),
    "soup": bank.Config(DENSE, "soup", 4, 3, 2, (0, 1), hidden=5),
    "mixture": mixture.Config(DENSE, 4),
}
# Every part that is not GPT-2's, with its four heads of keys and values divided along `model`.
LLAMA = dataclasses.replace(
    DENSE,
    num_heads=8,
    head_size=4,
    num_kv_heads=4,
    qk_norm=True,
    norm="rmsnorm",
    positions="rope",
    mlp="swiglu",
    biases=False,
    head="untied",
    exits=(1,),
)
GEMMA = dataclasses.replace(
    LLAMA,
    norm="rmsnorm_plus1",
    post_norms=True,
    mlp="geglu",
    embedder="scaled_tokens",
    sliding_window=3,
    global_every=2,
    exits=(),
)
FAMILIES |= {
    "llama": LLAMA,
    "llama_projected": bank.Config(LLAMA, "projected", 4, 3, 2, (1,)),
    "llama_soup": bank.Config(LLAMA, "soup", 4, 3, 2, (0, 1), hidden=5),
    "llama_mixture": mixture.Config(LLAMA, 4),
    "bert": dataclasses.replace(DENSE, causal=False),
    "ngrams": dataclasses.replace(LLAMA, embedder="ngrams", ngram_rows=999, exits=()),
    "gemma": GEMMA,
}
POOLED = {"embedder": "bytes", "head": "tied", "byte_size": 8, "byte_heads": 2, "embed_rank": 3}
FAMILIES |= {"pooled": dataclasses.replace(LLAMA, **POOLED)}
FAMILIES["pooled_projected"] = bank.Config(FAMILIES["pooled"], "projected", 4, 3, 2, (1,))
PIECES = [b"", *(bytes([97 + number] * (1 + number % 5)) for number in range(23))]
FAMILIES["ngrams_projected"] = bank.Config(FAMILIES["ngrams"], "projected", 4, 3, 2, (1,))
SHARED = dataclasses.replace(LLAMA, share=("block:all+low_rank",), share_rank=2)
FAMILIES |= {"shared": SHARED, "shared_projected": bank.Config(SHARED, "projected", 4, 3, 2, (0,))}
# All windows of a device at once; the bank's weights updated at the second of the three steps.
TOGETHER = ("projected", "soup", "mixture", "llama_projected", "shared_projected")
FAMILIES |= {f"together_{name}": FAMILIES[name] for name in TOGETHER}
FAMILIES |= {f"rare_{name}": FAMILIES[name] for name in ("projected", "soup")}
# As many groups as there are rows of devices along fsdp.
FAMILIES |= {
    f"row_{name}": FAMILIES[name]
    for name in ("projected", "together_projected", "llama_projected", "together_llama_projected")
}
FAMILIES["row_rare_projected"] = FAMILIES["projected"]
ONE = "1"  # the mesh of one device; others are devices along expert x data x fsdp x model


def batch_of(family: str) -> dict:
    rng = np.random.default_rng(0)
    inputs, targets = rng.integers(0, DENSE.vocab_size, (2, BATCH, CONTEXT))
    batch = {
        "inputs": inputs,
        "targets": targets,
        "mask": (rng.random((BATCH, CONTEXT)) < 0.8).astype(np.float32),
    }
    if not families.dense(FAMILIES[family]).causal:
        batch["present"] = np.ones((BATCH, CONTEXT), np.float32)
    if isinstance(FAMILIES[family], bank.Config):
        groups = 1 if family.endswith("soup") else ROWS if family.startswith("row") else 8
        batch["features"] = rng.dirichlet(np.ones(4), groups).astype(np.float32)
    return batch


@functools.cache
def optimizer_of(family: str, groups: int) -> optax.GradientTransformation | bank_updates.Optimizer:
    if "rare" not in family:
        return OPTIMIZER
    return bank_updates.Optimizer(2, groups, 1.0, optax.adamw(1e-2), optax.adamw(1e-2))


@functools.cache
def start(config, optimizer):
    """The initial state, on the host."""
    mesh = jax.make_mesh(
        (1, 1, 1, 1),
        sharding.AXES,
        devices=jax.devices()[:1],
        axis_types=(jax.sharding.AxisType.Auto,) * 4,
    )
    given = families.constants(config, PIECES)
    return jax.device_get(
        step.init_state(config, optimizer, mesh, jax.random.key(0), constants=given)
    )


def train(family: str, sizes: tuple[int, ...]) -> tuple[list[float], object]:
    """(losses, parameters) of a few steps on a mesh."""
    devices = int(np.prod(sizes))
    mesh = jax.make_mesh(
        sizes,
        sharding.AXES,
        axis_types=(jax.sharding.AxisType.Auto,) * 4,
        devices=jax.devices()[:devices],
    )
    config = FAMILIES[family]
    objective = "next_token" if families.dense(config).causal else "masked"
    batch = batch_of(family)
    optimizer = optimizer_of(family, len(batch.get("features", ())))
    microbatch = BATCH if "together" in family else 2
    train_step = program.make_train_step(config, optimizer, mesh, microbatch, objective)
    layout = step.state_sharding(config, optimizer, mesh)
    state = jax.device_put(start(config, optimizer), layout)
    losses = []
    for _ in range(STEPS):
        state, metrics = train_step(state, sharding.put_batch(mesh, batch))
        losses += [float(metrics["loss"]), float(metrics["grad_norm"])]
    return losses, jax.device_get(state.params)


def sizes_of(mesh: str) -> tuple[int, ...]:
    return (1, 1, 1, 1) if mesh == ONE else tuple(map(int, mesh.split("x")))


def main(out: str, *wanted: str) -> None:
    saved = {}
    for asked in wanted:
        family, _, meshes = asked.partition("=")
        for mesh in (ONE, *meshes.split(",")):
            name = f"{family} {mesh}"
            losses, params = train(family, sizes_of(mesh))
            saved[f"{name} losses"] = losses
            saved |= {
                f"{name}/{jax.tree_util.keystr(where)}": np.asarray(leaf)
                for where, leaf in jax.tree_util.tree_leaves_with_path(params)
            }
    np.savez(out, **saved)


if __name__ == "__main__":
    main(*sys.argv[1:])
