"""Sizes and costs of the published configs, from shapes alone."""

import json
import resource

import jax
import pytest

from specialm import cli
from specialm import config as config_lib
from specialm.common.errors import UserError
from specialm.planning.inspection import inspect_config

# docs/methods.md, Sizes and training recipe, in millions: config, experts, pretraining, inference.
PUBLISHED = [
    ("slm", 0, 126, 126),
    ("llm", 0, 771, 771),
    ("slm_pn", 16, 756, 126),
    ("slm_pn", 32, 1_422, 126),
    ("slm_pn", 64, 2_770, 126),
    ("slm_mix", 4, 504, 126),
    ("slm_mix", 16, 2_016, 126),
    ("slm_mix", 64, 8_064, 126),
    ("slm_mix", 256, 32_256, 126),
]
LAYERS, D, F, V, L = 7, 1024, 4096, 32_000, 1024
MLP = 2 * D * F + F + D
DENSE = (V + L) * D + LAYERS * (4 * D * D + 4 * D + 4 * D + MLP) + 2 * D
FORWARD = LAYERS * (8 * D * D + 4 * D * F + 4 * L * D) + 2 * D * V


def inspect(name, *overrides):
    return inspect_config(config_lib.load(f"configs/paper/{name}.py", list(overrides)))


@pytest.mark.parametrize(("name", "experts", "pretrained", "served"), PUBLISHED)
def test_published_parameter_counts(name, experts, pretrained, served):
    found = inspect(name, *([f"--config.model.num_experts={experts}"] if experts else []))
    assert abs(found["pretrain_params"] / (pretrained * 1e6) - 1) < 0.04
    assert abs(found["inference_params"] / (served * 1e6) - 1) < 0.04


def test_nothing_is_allocated():
    """375 GB of state are counted without an array, and in little memory."""
    held = len(jax.live_arrays())
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = inspect("slm_mix", "--config.model.num_experts=256")
    assert found["state_bytes"] > 370e9
    assert len(jax.live_arrays()) == held
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kB


def test_the_projected_network_in_detail():
    """k = h = m = 16: five layers in a bank, E [k, m], M [5, m, h]."""
    found = inspect("slm_pn", "--config.model.num_experts=16")
    assert found["inference_params"] == DENSE
    assert found["pretrain_params"] == DENSE + 5 * 15 * MLP + 16 * 16 + 5 * 16 * 16
    assert found["inference_flops_per_token"] == FORWARD
    # 16 groups of 9 windows; a projection costs 2 h operations a weight, training three times.
    projecting = 3 * 2 * 16 * 5 * MLP / (9 * L)
    assert found["train_flops_per_token"] == round(3 * FORWARD + projecting)
    # Parameters and two moments in float32, three counters.
    assert found["state_bytes"] == 12 * found["pretrain_params"] + 4 * 3
    assert found["tokens"] >= 111_000_000_000 > found["tokens"] - 144 * L
    assert found["steps"] == found["tokens"] // (144 * L)
    # Of three steps the gradients of 16 groups' weights, their coefficients, two more counters.
    waiting = 3 * 16 * 5 * (MLP + 16)
    rare = inspect("slm_pn", "--config.model.num_experts=16", "--config.train.bank_every=3")
    for name in ("state_bytes", "training_bytes"):
        assert rare[name] == found[name] + 4 * waiting + 4 * 2


def test_the_other_families():
    found = inspect("slm_mix")
    assert found["pretrain_params"] == 16 * DENSE and found["inference_params"] == DENSE
    assert found["train_flops_per_token"] == 3 * FORWARD  # nothing is projected
    assert found["state_bytes"] == 12 * 16 * DENSE + 4 + 16 * 2 * 4  # each expert's own counters
    for name, features in (("slm_hn", 384), ("soup", 32)):
        found = inspect(name, "--config.train.groups=16")
        mixer = features * 64 + 64 + 5 * (64 * 32 + 32)
        assert found["pretrain_params"] == DENSE + 5 * 31 * MLP + mixer
        assert found["inference_params"] == DENSE
        projecting = 3 * 2 * 32 * 5 * MLP / (9 * L)
        assert found["train_flops_per_token"] == round(3 * FORWARD + projecting)


def test_one_expert_of_a_mixture_alone():
    """A dense model on a sixteenth of the tokens, in as many steps."""
    joint, alone = inspect("slm_mix"), inspect("slm_mix", "--config.model.only_expert=3")
    assert alone["pretrain_params"] == alone["inference_params"] == DENSE
    assert alone["state_bytes"] == 12 * DENSE + 4 * 3
    assert alone["steps"] == joint["steps"]
    assert alone["tokens"] * 16 == joint["tokens"]


def test_the_command_prints_it(capsys):
    assert (
        cli.main(
            [
                "inspect",
                "--config=configs/paper/slm_pn.py",
                "--json",
                "--config.model.num_experts=64",
            ]
        )
        == 0
    )
    printed = json.loads(capsys.readouterr().out)
    assert printed == inspect("slm_pn", "--config.model.num_experts=64")
    assert {
        "pretrain_params",
        "inference_params",
        "train_flops_per_token",
        "inference_flops_per_token",
        "state_bytes",
    } <= set(printed)


@pytest.mark.parametrize(
    ("name", "override", "message"),
    [
        ("slm_mix", "--config.model.only_expert=16", "model.only_expert=16"),
        ("slm_pn", "--config.model.bank_layers=(7,)", "model.bank_layers"),
        ("slm_pn", "--config.model.num_experts=0", "model.num_experts=0"),
    ],
)
def test_sizes_that_make_no_model(name, override, message):
    with pytest.raises(UserError, match=message):
        inspect(name, override)
