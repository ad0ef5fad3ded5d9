"""The presets of tiny models: their sizes, and what their vocabularies take."""

import pytest

from specialm import config as config_lib
from specialm.models import transformer
from specialm.planning.inspection import inspect_config
from specialm.serving import architectures


def inspected(name):
    return inspect_config(config_lib.load(f"configs/stlm/{name}.py"))


def ends(found):
    parts = found["inference_params_by_part"]
    assert sum(parts.values()) == found["inference_params"]
    return parts["embed"] + parts["heads"]


@pytest.mark.parametrize("size,saved", [(10, 0.85), (50, 0.85), (100, 0.85)])
def test_twins_are_as_large_as_they_say_and_bytes_take_a_fraction_of_a_vocabulary(size, saved):
    pooled, dense = inspected(f"{size}m"), inspected(f"{size}m_dense")
    for found in (pooled, dense):
        assert abs(found["inference_params"] / (size * 1e6) - 1) < 0.03
    assert ends(pooled) < (1 - saved) * ends(dense)


def test_local_twins_are_of_one_size():
    pooled, dense = inspected("local"), inspected("local_dense")
    assert abs(pooled["inference_params"] / dense["inference_params"] - 1) < 0.03
    assert ends(pooled) < 0.55 * ends(dense)


@pytest.mark.parametrize("size", [10, 50, 100])
def test_dense_twins_have_a_layout_of_other_runtimes(size):
    config = config_lib.load(f"configs/stlm/{size}m_dense.py")
    model = transformer.Config(
        vocab_size=config.data.vocabulary_size,
        context=config.data.context,
        **{n: v for n, v in config.model.items() if n in transformer.Config.__dataclass_fields__},
    )
    assert architectures.of(model).model_type == "llama"
