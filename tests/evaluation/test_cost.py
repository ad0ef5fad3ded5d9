import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

from specialm.evaluation import cost
from specialm.evaluation.cost import Cost
from specialm.models import transformer
from specialm.training import sharding, step

# Matrix products dominate; one microbatch, one vocabulary chunk and written-out layers leave no
# loop.
CONFIG = transformer.Config(
    vocab_size=512,
    context=256,
    num_layers=1,
    d_model=256,
    num_heads=4,
    d_ff=1024,
    attention="fused",
)
PAPER_SLM = transformer.Config(
    vocab_size=32_000,
    context=1024,
    num_layers=7,
    d_model=1024,
    num_heads=8,
    d_ff=4096,
    attention="fused",
)


def tokens(batch, config):
    return jax.ShapeDtypeStruct((batch, config.context), jnp.int32)


def xla_flops(function, *abstract_args):
    """XLA's count of the FLOPs of a function compiled for the default backend; nothing is run.

    Element-wise operations are in it, the body of a loop counts once.
    """
    jitted = function if hasattr(function, "lower") else jax.jit(function)
    return jitted.lower(*abstract_args).compile().cost_analysis()["flops"]


@pytest.mark.parametrize(
    ("config", "batch"), [(CONFIG, 2), (dataclasses.replace(PAPER_SLM, num_layers=2), 1)]
)
def test_forward_flops_are_those_of_xla(config, batch):
    counted = xla_flops(
        lambda params, inputs: transformer.logits(params, inputs, config),
        transformer.abstract(config),
        tokens(batch, config),
    )
    stated = batch * config.context * transformer.flops_per_token(config, train=False)
    assert stated <= counted <= 1.05 * stated


def test_the_training_steps_flops_are_those_of_xla():
    batch = {
        "inputs": tokens(2, CONFIG),
        "targets": tokens(2, CONFIG),
        "mask": jax.ShapeDtypeStruct((2, CONFIG.context), jnp.float32),
    }
    mesh, adam = sharding.make_mesh(1), optax.adam(1e-3)
    counted = xla_flops(
        step.make_train_step(CONFIG, adam, mesh), step.abstract_state(CONFIG, adam), batch
    )
    stated = 2 * CONFIG.context * transformer.flops_per_token(CONFIG, train=True)
    assert stated <= counted <= 1.05 * stated


def test_xla_counts_a_multiply_add_as_two_and_the_body_of_a_loop_once():
    a, b = (jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((8, 64), (64, 64)))
    assert xla_flops(jnp.dot, a, b) == 2 * 8 * 64 * 64

    def power(b):
        return jax.lax.scan(lambda x, _: (x @ b, None), b, None, length=10)[0]

    assert xla_flops(power, b) == pytest.approx(2 * 64**3, rel=0.01)


def entry(phase, amount, **more):
    return {
        "phase": phase,
        "steps": 1,
        "flops": amount,
        "tokens": 10 * amount,
        "seconds": 2.0 * amount,
        **more,
    }


def worth(amount):
    return Cost(amount, 10 * amount, 2.0 * amount)


@pytest.mark.parametrize(
    ("ledger", "generic", "special"),
    [
        ([], 0, 0),
        ([entry("pretrained", 7)], 7, 0),
        ([entry("pretrained", 7, domain=""), entry("finetuned", 2)], 7, 2),
        ([entry("pretrained", 7, domain="law"), entry("finetuned", 2)], 0, 9),  # SLM-is
        ([entry("finetuned", 2)], 0, 2),  # SLM-nopt
        ([entry("pretrained", 7), entry("selected", 1), entry("finetuned", 2)], 7, 3),
        (
            [
                entry("pretrained", 7),
                entry("pretrained", 50),
                entry("finetuned", 20),  # SLM-d: teacher
                entry("distilled", 4),
            ],
            57,
            24,
        ),
    ],
)
def test_a_ledger_is_split_into_generic_and_specialisation_cost(ledger, generic, special):
    assert cost.split(ledger) == (worth(generic), worth(special))
    assert cost.generic(iter(ledger)) + cost.special(iter(ledger)) == worth(generic + special)


def test_device_seconds_are_seconds_times_devices():
    ledger = [entry("pretrained", 5, devices=8), entry("finetuned", 5)]
    assert [c.device_seconds for c in cost.split(ledger)] == [80.0, 10.0]


def test_total():
    assert cost.total(worth(7), worth(2), 5) == worth(17)
    assert cost.total(worth(7), worth(2), 0) == worth(7)


def test_gpu_hours():
    assert cost.gpu_hours(312e12 * 3600, flops_per_second=312e12) == pytest.approx(1)
    assert cost.gpu_hours(312e12 * 3600) == pytest.approx(2.5)


def test_the_papers_hours_are_the_utilisation_that_is_stated():
    # docs/methods.md, Cost: hours for 1B tokens; Sizes: 37k rows of embeddings and positions.
    llm = dataclasses.replace(PAPER_SLM, d_model=2816, d_ff=11264, num_heads=22)
    for config, hours, utilisation in ((PAPER_SLM, 2.2, 0.34), (llm, 7.7, 0.56)):
        config = dataclasses.replace(config, vocab_size=37_000 - config.context)
        flops = 1e9 * transformer.flops_per_token(config, train=True)
        assert cost.gpu_hours(flops, cost.A100_FLOPS) / hours == pytest.approx(
            utilisation, abs=0.01
        )


amounts = st.integers(0, 40)


@given(amounts, amounts, amounts, amounts)
def test_crossover_is_where_every_later_total_is_lower(generic_a, special_a, generic_b, special_b):
    a = (worth(generic_a), worth(special_a))
    b = (worth(generic_b), worth(special_b))
    cheaper = [cost.total(*b, n).tokens < cost.total(*a, n).tokens for n in range(1, 100)]
    found = cost.crossover(a, b, "tokens")
    if found is None:
        assert not cheaper[-1]
    else:
        assert all(cheaper[found - 1 :]) and (found == 1 or not cheaper[found - 2])


def test_crossover_of_the_papers_upper_limits():
    # GPU hours at 1M tokens (docs/methods.md, Cost): is 130 a domain, pn 650 once and .02 a domain.
    hours = {
        "is": (Cost(0), Cost(130)),
        "pn": (Cost(650), Cost(0.02)),
        "slm": (Cost(530), Cost(0.02)),
        "d": (Cost(1850), Cost(0.7)),
    }
    assert cost.crossover(hours["is"], hours["pn"]) == 6  # 5 domains: 650 against 650.1
    assert cost.crossover(hours["pn"], hours["slm"]) == 1
    assert cost.crossover(hours["slm"], hours["d"]) is None


def test_costs_of_large_runs_are_exact():
    huge = 10**25 + 1  # beyond float64's integers
    assert (Cost(huge) + Cost(huge)).flops == 2 * huge
    assert np.isclose(cost.gpu_hours(huge, 1e15), 1e10 / 3600)
