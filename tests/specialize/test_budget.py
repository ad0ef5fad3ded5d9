"""How long fine-tuning goes on."""

import math

import hypothesis.strategies as st
import pytest
from hypothesis import given

from specialm import config
from specialm.specialize import budget


def settings(**changes):
    made = config.default().finetune
    made.update(changes)
    return made


def test_the_protocol_of_the_demo_is_as_it_was():
    """50,000 tokens are about 410 windows of 128: 600 steps at most, evaluated every 20."""
    made = config.default().finetune
    assert budget.max_steps(made, 411) == 600
    assert budget.limit(made, 411) == "finetune.max_steps=600"
    assert budget.eval_every(made, 411) == 20


@pytest.mark.parametrize(
    ("windows", "steps", "limit"),
    [
        (1, 2, "finetune.max_epochs=30"),
        (1_000, 1_875, "finetune.max_epochs=30"),
        (10_666, 19_999, "finetune.max_epochs=30"),
        (10_667, 20_000, "finetune.max_steps=20000"),
        (1_000_000, 20_000, "finetune.max_steps=20000"),
    ],
)
def test_the_limit_is_the_smaller_one_and_named(windows, steps, limit):
    made = settings(max_steps=20_000, max_epochs=30.0, batch_size=16)
    assert (budget.max_steps(made, windows), budget.limit(made, windows)) == (steps, limit)


@given(st.integers(1, 10**7), st.integers(1, 512), st.integers(1, 500))
def test_at_most_eight_evaluations_an_epoch_unless_asked_for_fewer(windows, batch, every):
    found = budget.eval_every(settings(batch_size=batch, eval_every=every), windows)
    assert found >= every
    if found > every:  # then as near to eight as whole steps allow
        per_epoch = windows / batch / found
        assert per_epoch <= 8 < windows / batch / (found - 1)
    else:
        assert math.ceil(windows / batch / 8) <= every


def entry(**changes):
    of_run = {"steps": 600, "best_step": 600, "max_steps": 600, "epochs": 1.53}
    return of_run | {"limit": "finetune.max_steps=600"} | changes


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        (
            {},
            "still improving at the last of 600 steps (1.5 times over the text); to train longer "
            "raise --config.finetune.max_steps (now 600)",
        ),
        (
            {"best_step": 560},
            "best after 560 steps, not stopped early at the last of 600 steps (1.5 times over the "
            "text); to train longer raise --config.finetune.max_steps (now 600)",
        ),
        (
            {"best_step": 180, "steps": 280},
            "best after 180 of 280 steps (1.5 times over the text), ended by early stopping",
        ),
    ],
)
def test_how_it_ended(changes, wanted):
    assert budget.ending(entry(**changes)) == wanted


def test_an_entry_of_an_earlier_version():
    assert budget.ending({"steps": 60, "best_step": 40}) == "best after 40 of 60 steps"


def test_the_plan_names_limit_and_patience():
    tune = settings(max_steps=11_000, batch_size=16, eval_every=46, patience=5)
    assert budget.plan(tune, "finetune.max_epochs=30", 5_867) == (
        "5,867 windows, at most 11,000 steps (30.0 times over them: finetune.max_epochs=30), until "
        "5 evaluations, one every 46 steps, bring no improvement"
    )
