"""What a step exchanges between two devices, and where."""

import dataclasses
import types

import jax
import numpy as np
import optax
import pytest
from training.test_bank_step import BATCH, CONTEXT, make_mesh

from specialm.models import transformer
from specialm.models.families import bank
from specialm.training import exchange, program, step

MODEL = transformer.Config(
    vocab_size=11, context=CONTEXT, num_layers=3, d_model=8, num_heads=2, d_ff=12
)
BANK = bank.Config(MODEL, "projected", 4, 3, 2, (1, 2))


def lowered(config, microbatch, **layout):
    """The step's program before the compiler changes it."""
    mesh, tx = make_mesh(2, **layout), optax.sgd(1.0)
    shape = (BATCH, CONTEXT)
    batch = {name: jax.ShapeDtypeStruct(shape, "int32") for name in ("inputs", "targets")}
    batch["mask"] = jax.ShapeDtypeStruct(shape, "float32")
    if isinstance(config, bank.Config):
        batch["features"] = jax.ShapeDtypeStruct((4, config.num_features), "float32")
    train_step = program.make_train_step(config, tx, mesh, microbatch)
    return train_step.lower(step.abstract_state(config, tx), batch).as_text()


def counts(text):
    names = ("all_to_all", "all_gather", "reduce_scatter")
    return {name: text.count(f"stablehlo.{name}") for name in names}


@pytest.mark.parametrize("remat", ["none", "dots", "full"])
def test_each_layer_of_a_bank_is_sent_once_each_way(remat):
    """Once forward, its gradients once back; not again for the backward pass."""
    model = dataclasses.replace(MODEL, num_layers=12, remat=remat)  # enough for a loop on a CPU
    text = lowered(dataclasses.replace(BANK, model=model, layers=tuple(range(1, 12))), BATCH)
    assert counts(text)["all_to_all"] == 2
    assert text.index("stablehlo.while") < text.index("stablehlo.all_to_all")


def test_groups_in_turn_are_sent_all_layers_at_once():
    assert counts(lowered(BANK, 2))["all_to_all"] == 2


def test_gathered_weights_are_not_saved_whatever_is_recomputed():
    """The matrices of a layer are gathered for the forward and again for the backward pass."""
    found = {
        remat: counts(lowered(dataclasses.replace(MODEL, remat=remat), BATCH, fsdp=2))
        for remat in ("none", "dots", "full")
    }
    assert found["none"] == found["dots"] == found["full"]
    assert found["none"]["all_gather"] > found["none"]["reduce_scatter"]


@pytest.mark.parametrize(
    "kind,devices,asked",
    [
        ("cpu", 2, False),
        ("TPU v5 lite", 16, True),
        ("TPU v5 lite", 32, False),
        ("TPU v5", 64, True),
    ],
)
def test_the_compiler_is_asked_to_start_early_where_it_can(kind, devices, asked):
    """It refuses the whole program where it cannot."""
    chips = np.array([types.SimpleNamespace(device_kind=kind)] * devices)
    mesh = types.SimpleNamespace(devices=chips, size=devices)
    assert bool(exchange.compiler_options(mesh)) == asked
