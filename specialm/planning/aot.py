"""Ahead-of-time compilation: the real training step for a TPU slice, on a machine that has none.

The compiler of the `tpu` extra (libtpu) is given a description of the slice; nothing is allocated
and nothing is run.
"""

import os
import time
from dataclasses import dataclass
from typing import cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from ml_collections import ConfigDict

from specialm import methods
from specialm.common import extras
from specialm.common.errors import UserError
from specialm.models import families, target
from specialm.training import loop, optimizer, program, quantized, sharding, step
from specialm.training.checkpoints import with_sharding


@dataclass(frozen=True)
class Program:
    """A training step compiled for a slice."""

    config: families.Config
    mesh: Mesh
    tokens: int  # of a step, over all devices
    groups: int  # of a step; 0 without a bank
    compiled: jax.stages.Compiled | None  # None: the compiler says that it does not fit
    jaxpr: jax.extend.core.ClosedJaxpr  # of the whole step, over all devices
    seconds: float  # that tracing and compiling took
    refused: str = ""  # what the compiler says then


def slice_devices(topology: str) -> list:
    """Descriptions of the devices of a slice, "v5e:16x16" for example.

    Raises:
      UserError: no libtpu, or a topology that it does not know.
    """
    # libtpu asks a cloud's metadata server what it runs on, and takes a lock for the chips.
    for name, value in (
        ("TPU_SKIP_MDS_QUERY", "1"),
        ("ALLOW_MULTIPLE_LIBTPU_LOAD", "1"),
        ("TPU_WORKER_HOSTNAMES", "localhost"),
        ("TPU_ACCELERATOR_TYPE", "v5litepod-8"),
    ):  # of what is not there: unused
        os.environ.setdefault(name, value)
    from jax.experimental import topologies

    try:
        description = topologies.get_topology_desc(topology_name=topology, platform="tpu")
    except Exception as error:  # the plugin raises many kinds
        text = str(error).split("\n")[0][:300]
        raise UserError(
            f"--topology={topology}: {text}. Write NAME:AxB as in v5e:16x16 or "
            f"v5p:4x4x4; for the compiler {extras.how('tpu')}."
        ) from error
    return list(description.devices)


def mesh_of(config: ConfigDict, devices: list) -> Mesh:
    """The mesh of `config.mesh` over described devices, neighbours along the last axes."""
    experts = config.model.num_experts if methods.get(config.method).is_mixture else 1
    sizes = sharding.axis_sizes(len(devices), config.mesh, experts)
    return Mesh(
        np.array(devices).reshape(sizes),
        sharding.AXES,
        axis_types=(AxisType.Auto,) * len(sharding.AXES),
    )


def compile_step(config: ConfigDict, devices: list) -> Program:
    """The training step of a config, compiled for a slice.

    The vocabulary has `data.vocabulary_size` pieces, every window is full.

    Args:
      devices: see `slice_devices`.

    Raises:
      UserError: sizes that do not divide over the slice.
    """
    started = time.perf_counter()
    methods.check(config, config.method)
    mesh = mesh_of(config, devices)
    model = methods.model_config(
        config, config.method, config.data.vocabulary_size, methods.centroid_size(config)
    )
    steps = loop.num_steps(config.train, config.data.context)
    groups = methods.num_groups(config, config.method)
    tx = optimizer.make(config.train, steps, families.declare(model), groups)
    batch = _abstract_batch(config, model, mesh)
    with target.compiling_for("tpu"):
        train_step = program.make_train_step(
            model,
            tx,
            mesh,
            config.train.microbatch,
            config.train.objective,
            quantized.of_training(config.train, steps, families.declare(model)),
        )
        train_step = cast(jax.stages.Wrapped, train_step)
        state = with_sharding(
            step.abstract_state(model, tx, config.train.param_dtype),
            step.state_sharding(model, tx, mesh),
        )
        traced, compiled, refused = train_step.trace(state, batch), None, ""
        try:
            compiled = traced.lower().compile()
        except jax.errors.JaxRuntimeError as error:
            refused = str(error)
            if "RESOURCE_EXHAUSTED" not in refused:
                raise
    return Program(
        model,
        mesh,
        config.train.batch_size * config.data.context,
        groups,
        compiled,
        traced.jaxpr,
        time.perf_counter() - started,
        refused,
    )


def _abstract_batch(config: ConfigDict, model: families.Config, mesh: Mesh) -> dict:
    windows, context = config.train.batch_size, config.data.context
    groups = methods.num_groups(config, config.method)
    program.check_batch(model, mesh, windows, groups or 1)
    split = NamedSharding(mesh, sharding.spec(("batch",)))
    shapes = {"inputs": jnp.int32, "targets": jnp.int32, "mask": jnp.float32}
    batch = {
        name: jax.ShapeDtypeStruct((windows, context), dtype, sharding=split)
        for name, dtype in shapes.items()
    }
    if isinstance(model, families.bank.Config):
        batch["features"] = jax.ShapeDtypeStruct(
            (groups, model.num_features), jnp.float32, sharding=NamedSharding(mesh, PartitionSpec())
        )
    return batch
