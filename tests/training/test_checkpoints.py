import os

import jax.numpy as jnp
import numpy as np
import pytest

from specialm.common.errors import UserError
from specialm.training.checkpoints import Checkpoints

ABSTRACT = {"w": jnp.zeros((2, 3))}


def save(path, steps, keep=5):
    with Checkpoints(path, keep=keep) as checkpoints:
        for step in steps:
            checkpoints.save(
                step, {"w": jnp.full((2, 3), float(step))}, (jnp.array(step),), {"loss": step / 10}
            )


def damage(path, step):
    for file in (path / str(step)).rglob("*"):
        if file.is_file():
            os.truncate(file, 0)


def test_the_newest_step_comes_back_and_old_ones_go(tmp_path):
    save(tmp_path, [1, 2, 3], keep=2)
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.steps() == [2, 3]
    step, params, rest, record = checkpoints.restore(ABSTRACT, (jnp.array(0),))
    assert (step, int(rest[0]), record) == (3, 3, {"loss": 0.3})
    np.testing.assert_array_equal(params["w"], np.full((2, 3), 3.0))


def test_parameters_alone(tmp_path):
    save(tmp_path, [4])
    step, params, rest, _ = Checkpoints(tmp_path).restore(ABSTRACT)
    assert (step, rest) == (4, None) and float(params["w"][0, 0]) == 4


def test_a_damaged_step_is_passed_over_with_a_warning(tmp_path, caplog):
    save(tmp_path, [1, 2])
    damage(tmp_path, 2)
    step, params, _, _ = Checkpoints(tmp_path).restore(ABSTRACT)
    assert step == 1 and float(params["w"][0, 0]) == 1
    assert "step 2 cannot be read" in caplog.text


def test_an_empty_step_folder_is_passed_over(tmp_path):
    save(tmp_path, [1])
    (tmp_path / "9").mkdir()
    assert Checkpoints(tmp_path).restore(ABSTRACT)[0] == 1


def test_nothing_readable_is_an_error_not_a_fresh_start(tmp_path):
    assert Checkpoints(tmp_path / "new").restore(ABSTRACT) is None
    save(tmp_path / "run", [1, 2])
    damage(tmp_path / "run", 1)
    damage(tmp_path / "run", 2)
    with pytest.raises(UserError, match=r"none of the steps \[1, 2\] can be read"):
        Checkpoints(tmp_path / "run").restore(ABSTRACT)


def test_another_models_checkpoint_is_an_error(tmp_path):
    save(tmp_path, [1])
    with pytest.raises(UserError, match="can be read by this model"):
        Checkpoints(tmp_path).restore({"w": jnp.zeros((5, 3))})
    with pytest.raises(UserError, match="can be read by this model"):
        Checkpoints(tmp_path).restore({"other": jnp.zeros((2, 3))})
