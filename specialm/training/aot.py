"""Ahead-of-time compilation: the real training step for a TPU slice, on a machine that has none.

The compiler of the `tpu` extra (libtpu) is given a description of the slice; nothing is allocated
and nothing is run.
"""

import os
import time
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from ml_collections import ConfigDict

from specialm import methods
from specialm.clustering.encoders import MINILM_DIM
from specialm.config import BANKS
from specialm.errors import UserError
from specialm.models import bank, families, target
from specialm.training import loop, optimizer, program, sharding, step
from specialm.training.checkpoints import with_sharding


@dataclass(frozen=True)
class Program:
    """A training step compiled for a slice."""

    config: families.Config
    mesh: Mesh
    tokens: int  # of a step, over all devices
    compiled: jax.stages.Compiled
    jaxpr: jax.extend.core.ClosedJaxpr  # of the whole step, over all devices
    seconds: float  # that tracing and compiling took


def slice_devices(topology: str) -> list:
    """Descriptions of the devices of a slice, "v5e:16x16" for example.

    Raises:
      UserError: no libtpu, or a topology that it does not know.
    """
    # libtpu asks a cloud's metadata server what it runs on, and takes a lock for the chips.
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
    from jax.experimental import topologies

    try:
        made = topologies.get_topology_desc(topology_name=topology, platform="tpu")
    except Exception as error:  # the plugin raises many kinds
        text = str(error).split("\n")[0][:300]
        raise UserError(f"--topology={topology}: {text}. Write NAME:AxB as in v5e:16x16 or "
                        "v5p:4x4x4; the compiler comes with pip install 'specialm[tpu]'."
                        ) from error
    return list(made.devices)


def make_mesh(devices: list, layout: ConfigDict) -> Mesh:
    """The mesh of `config.mesh` over described devices, neighbours along the last axes."""
    sizes = sharding.axis_sizes(len(devices), layout)
    return Mesh(np.array(devices).reshape(sizes), sharding.AXES,
                axis_types=(AxisType.Auto,) * len(sharding.AXES))


def compile_step(config: ConfigDict, topology: str) -> Program:
    """The training step of a config, compiled for a slice.

    The vocabulary has `data.vocabulary_size` pieces, every window is full.

    Raises:
      UserError: see `slice_devices`; sizes that do not divide over the slice.
    """
    started = time.perf_counter()
    methods.check(config, config.method)
    mesh = make_mesh(slice_devices(topology), config.mesh)
    centroid = MINILM_DIM if config.clustering.encoder == "minilm" else config.clustering.dim
    model = methods.model_config(config, config.method, config.data.vocabulary_size, centroid)
    tx = optimizer.make(config.train, loop.num_steps(config.train, config.data.context))
    batch = _abstract_batch(config, model, mesh)
    with target.compiling_for("tpu"):
        train_step = program.make_train_step(model, tx, mesh, config.train.microbatch)
        state = with_sharding(step.abstract_state(model, tx), step.state_sharding(model, tx, mesh))
        traced = train_step.trace(state, batch)
        compiled = traced.lower().compile()
    return Program(model, mesh, config.train.batch_size * config.data.context, compiled,
                   traced.jaxpr, time.perf_counter() - started)


def _abstract_batch(config: ConfigDict, model: families.Config, mesh: Mesh) -> dict:
    windows, context = config.train.batch_size, config.data.context
    divided = sharding.parts(mesh, "batch")
    if windows % divided:
        raise UserError(f"train.batch_size={windows} is not a multiple of the {divided} devices "
                        "that windows are divided over.")
    split = NamedSharding(mesh, sharding.spec(("batch",)))
    shapes = {"inputs": jnp.int32, "targets": jnp.int32, "mask": jnp.float32}
    batch = {name: jax.ShapeDtypeStruct((windows, context), dtype, sharding=split)
             for name, dtype in shapes.items()}
    if config.method in BANKS:
        groups = config.train.groups
        if groups > 1 and groups % divided:
            raise UserError(f"train.groups={groups} is not a multiple of the {divided} devices "
                            "that windows are divided over (1 would do).")
        assert isinstance(model, bank.Config)
        batch["features"] = jax.ShapeDtypeStruct((groups, model.num_features), jnp.float32,
                                                 sharding=NamedSharding(mesh, PartitionSpec()))
    return batch
