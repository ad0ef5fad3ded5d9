"""Values that a small mistake in an estimate would change: rates, hidden exchanges, per device."""

from types import SimpleNamespace

import jax
import numpy as np
import pytest
from jax.sharding import AxisType

from specialm import config as config_lib
from specialm.common.errors import UserError
from specialm.models import transformer
from specialm.planning import aot, compilation, hlo, memory, roofline
from specialm.training import hardware

CHIP = hardware.Chip(flops=1e3, memory=500, memory_rate=50.0, link_rate=40.0, torus_axes=1)
MODEL = transformer.Config(vocab_size=8, context=4, num_layers=1, d_model=2, num_heads=1, d_ff=4)


def stub(monkeypatch, hbm=1000.0, inside=0.0, outside=0.0, groups=0):
    """A program of two devices: 2 * 4^3 FLOPs in all, these bytes moved on each."""
    exchanged = {
        hlo.Exchange("all-gather", 2, True): inside,
        hlo.Exchange("all-reduce", 2, False): outside,
    }
    moved = SimpleNamespace(
        hbm_bytes=hbm, exchanged=exchanged, collective_bytes={"all-gather": inside}
    )
    monkeypatch.setattr(roofline.hlo, "moved", lambda text, devices: moved)
    analysis = SimpleNamespace(
        argument_size_in_bytes=300,
        output_size_in_bytes=10,
        alias_size_in_bytes=10,
        temp_size_in_bytes=150,
        generated_code_size_in_bytes=50,
    )
    compiled = SimpleNamespace(as_text=lambda: "", memory_analysis=lambda: analysis)
    mesh = jax.make_mesh((2,), ("d",), (AxisType.Auto,), devices=jax.devices()[:2])
    jaxpr = jax.make_jaxpr(lambda a: a @ a)(np.ones((4, 4), np.float32))
    return aot.Program(MODEL, mesh, 4096, groups, compiled, jaxpr, 1.5, "")


def test_a_step_bound_by_memory(monkeypatch):
    found = roofline.report(stub(monkeypatch), CHIP, (2,))
    assert found["flops"] == 64 and found["hbm_bytes"] == 1000
    assert found["seconds"] == {
        "compute": 0.064,
        "memory": 20.0,
        "exchange_in_loops": 0.0,
        "exchange_outside": 0.0,
    }
    assert found["step_seconds"] == 20.0
    flops = 4096 * transformer.flops_per_token(MODEL, True)
    assert found["mfu_ceiling"] == pytest.approx(flops / (2 * 1e3 * 20.0))
    assert found["step_seconds_band"] == {"all_overlapped": 20.0, "none_overlapped": 20.064}
    hours = 1e9 / 4096 * 20.0 * 2 / 3600
    assert found["device_hours_per_billion_tokens"] == pytest.approx(hours)
    assert found["peak_memory_bytes"] == 500 and found["fits"]


def test_exchanges_in_loops_are_hidden_and_those_outside_are_not(monkeypatch):
    found = roofline.report(stub(monkeypatch, 1000.0, 400.0, 120.0), CHIP, (2,))
    assert (found["seconds"]["exchange_in_loops"], found["seconds"]["exchange_outside"]) == (10, 3)
    assert found["step_seconds"] == 20 + 3
    band = found["step_seconds_band"]
    assert band == {"all_overlapped": 20, "none_overlapped": pytest.approx(20 + 10 + 3 + 0.064)}
    found = roofline.report(stub(monkeypatch, 1000.0, 2000.0, 120.0), CHIP, (2,))
    assert found["step_seconds"] == 50 + 3
    assert (
        found["step_seconds_band"]["all_overlapped"] == 50 + 3
    )  # one after the other on the links
    flops = 4096 * transformer.flops_per_token(MODEL, True)
    assert found["mfu_ceiling"] == pytest.approx(flops / (2 * 1e3 * 53.0))
    found = roofline.report(stub(monkeypatch, 0.5), CHIP, (2,))
    assert found["step_seconds"] == 0.064


def test_what_fits_is_a_matter_of_one_byte(monkeypatch):
    small = hardware.Chip(1e3, 499, 50.0, 40.0, 1)
    assert not roofline.report(stub(monkeypatch), small, (2,))["fits"]


@pytest.mark.parametrize(
    ("windows", "want"), [(7, 7), (8, 8), (15, 8), (16, 16), (1023, 1016), (1, 1)]
)
def test_the_largest_batch_is_a_multiple_of_eight_from_eight_on(windows, want):
    assert compilation._rounded(windows) == want


def needs(**changes):
    return needs_of("slm", **changes)


def needs_of(method, **changes):
    config = config_lib.default()
    config.method = method
    for name, value in changes.items():
        section, field = name.split("__")
        config[section][field] = value
    return {need.what: need.size for need in memory.of_pretraining(config, config.method)}


def test_memory_of_training_by_hand():
    """Of the defaults: 4 layers, width 64, 256 hidden units, 2,048 pieces, windows of 128."""
    found = needs()
    layer = 2 * 64 * (8 * 16 + 256)
    dense = 4 * layer + 2048 * 64
    state = "parameters, gradients and moments of the optimizer"
    assert found[state] == 16 * dense
    assert needs(train__moment_dtype="bfloat16")[state] == 14 * dense
    narrow = {f"train__{name}": "bfloat16" for name in ("param_dtype", "second_moment_dtype")}
    assert needs(**narrow)[state] == 12 * dense
    experts = "parameters, gradients and moments of all experts"
    bank = 16 * 4 * 2 * 64 * 256
    assert needs_of("slm_pn")[experts] == 16 * bank
    assert needs_of("slm_pn", **narrow)[experts] == 10 * bank
    kept = 4 * 3 * 8 * bank // 16  # float32, of three steps of eight groups
    assert needs_of("slm_pn", train__bank_every=3)[experts] == 16 * bank + kept
    assert needs_of("slm_mix", train__bank_every=3) == needs_of("slm_mix")
    assert found["the activations of one window"] == 128 * (2 * 4 * 64 + 2 * 256)
    assert found["LoRA's matrices and moments"] == 0
    assert needs(finetune__lora_rank=3)["LoRA's matrices and moments"] == 16 * 3 * 4 * 64


def test_what_is_too_large_is_said_with_both_sizes():
    config = config_lib.default()
    need = memory.Need("x", 2000, ("model.d_model",))
    memory.check(config, [need], 2000, "here")
    with pytest.raises(
        UserError, match="model.d_model=64: x take at least 2 kB, but here has 1.99"
    ):
        memory.check(config, [need], 1990, "here")
