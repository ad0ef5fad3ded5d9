"""The benchmarks find what they time."""

import importlib

import pytest

from benchmarks import finetune


@pytest.mark.parametrize("place", finetune.PARTS)
def test_every_timed_function_exists(place):
    module, _, path = place.partition(":")
    owner = importlib.import_module(module)
    for name in path.split("."):
        owner = getattr(owner, name)
    assert callable(owner)
