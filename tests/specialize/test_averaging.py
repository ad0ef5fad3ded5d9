"""The moving average of what is fine-tuned, by itself; test_finetune has it in training."""

import jax.numpy as jnp
import numpy as np
import pytest

from specialm.specialize import averaging


def expected(start, after: dict, decay: float, steps: int) -> np.ndarray:
    """In NumPy float64: every fifth step is taken in."""
    mean, keep = np.float64(start), np.float64(decay) ** 5
    for number in range(5, steps + 1, 5):
        mean = keep * mean + (1 - keep) * np.float64(after[number])
    return mean


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_it_is_that_of_numpy(dtype):
    """Of bfloat16 in float32: the changes would be lost in rounding."""
    rng, average = np.random.default_rng(0), averaging.Average(0.99)
    start = jnp.asarray(rng.normal(size=(3, 4)), dtype)
    after = {number: jnp.asarray(rng.normal(size=(3, 4)), dtype) for number in range(1, 23)}
    average.start({"w": start})
    for number, value in after.items():
        average.see(number, {"w": value})
    found = average.of({"w": after[22]})["w"]
    wanted = expected(start, after, 0.99, 22)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, wanted, rtol=2e-6, atol=1e-6)


def test_without_one_it_is_what_is_trained():
    average, trained = averaging.Average(0.0), {"w": jnp.ones(3)}
    average.start(trained)
    average.see(5, trained)
    assert average.of(trained) is trained and average.saved == average.like(trained) == ()
