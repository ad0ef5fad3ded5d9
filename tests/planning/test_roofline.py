from types import SimpleNamespace

import jax
import numpy as np
import pytest
from jax.sharding import AxisType

from specialm.planning import aot, roofline
from specialm.planning.hlo import Exchange
from specialm.training import hardware

CHIP = hardware.Chip(flops=100.0, memory=1000, memory_rate=50.0, link_rate=40.0, torus_axes=2)


@pytest.mark.parametrize(
    "kind,group,torus,want",
    [
        ("all-gather", 1, (16, 16), 0.0),
        ("all-gather", 16, (16, 16), 80 / 20),  # along one of the two axes
        ("reduce-scatter", 256, (16, 16), 80 / 40),
        ("all-reduce", 32, (16, 16), 80 / 40),  # does not fit along one
        ("all-to-all", 16, (16, 16), 80 * 4 / 20),  # a quarter of the ring away on average
        ("all-to-all", 256, (16, 16), 80 * 8 / 40),
        ("all-to-all", 4, (2, 2), 80 / 40),  # never less than one link
    ],
)
def test_exchanges_by_hand(kind, group, torus, want):
    got = roofline.exchange_seconds(Exchange(kind, group, False), 80.0, CHIP, torus)
    assert got == pytest.approx(want)


def test_results_that_take_the_place_of_arguments_count_once():
    analysis = SimpleNamespace(
        argument_size_in_bytes=100,
        output_size_in_bytes=90,
        alias_size_in_bytes=80,
        temp_size_in_bytes=7,
        generated_code_size_in_bytes=3,
    )
    assert roofline.peak_memory(analysis) == 120


def test_chips_are_found_by_the_longest_name():
    assert hardware.chip("TPU v5 lite") is hardware.CHIPS["TPU v5 lite"]
    assert hardware.chip("TPU v5p chip") is hardware.CHIPS["TPU v5p"]
    assert hardware.chip("TPU v5") is hardware.CHIPS["TPU v5"]
    assert hardware.chip("NVIDIA H100 80GB HBM3").flops == 989e12
    assert hardware.chip("cpu") is None
    half = hardware.part_of(CHIP, 2)
    assert (half.flops, half.memory, half.memory_rate, half.link_rate) == (50, 500, 25, 20)


@pytest.mark.parametrize(
    "said,bytes_",
    [
        (
            "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO temporaries "
            "(98.05G) exceeds available HBM (95.74G).",
            int(98.05 * 2**30),
        ),
        (
            "RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm. Used 20.50G of 15.75G hbm.",
            int(20.5 * 2**30),
        ),
        ("RESOURCE_EXHAUSTED: something else", None),
    ],
)
def test_a_program_that_is_refused_does_not_fit(said, bytes_):
    """With all that does not need the compiled program."""
    mesh = jax.make_mesh((2,), ("d",), (AxisType.Auto,), devices=jax.devices()[:2])
    jaxpr = jax.make_jaxpr(lambda a: a @ a)(np.ones((4, 4), np.float32))
    report = roofline.report(aot.Program(None, mesh, 4096, 0, None, jaxpr, 1.5, said), CHIP, (2, 1))
    assert report == {
        "devices": 2,
        "mesh": {"d": 2},
        "flops": 64,
        "tokens_per_step": 4096,
        "memory_limit_bytes": 1000,
        "compile_seconds": 1.5,
        "fits": False,
        "peak_memory_bytes": bytes_,
        "refused": said,
    }
