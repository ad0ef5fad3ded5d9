import os
import shutil

import jax.numpy as jnp
import numpy as np
import pytest

from specialm.common.errors import UserError
from specialm.common.stages import Stages
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
    with pytest.raises(UserError, match="cannot be read by this model"):
        Checkpoints(tmp_path).restore({"w": jnp.zeros((5, 3))})
    with pytest.raises(UserError, match="cannot be read by this model"):
        Checkpoints(tmp_path).restore({"other": jnp.zeros((2, 3))})


def bits(path):
    """A file with one bit changed, many times; whole again at the end."""
    content = path.read_bytes()
    for place in range(0, 8 * len(content), 31):
        changed = bytearray(content)
        changed[place // 8] ^= 1 << place % 8
        yield bytes(changed)
    path.write_bytes(content)


def test_no_flipped_bit_in_an_array_is_loaded(tmp_path):
    save(tmp_path, [1])
    (file,) = (tmp_path / "1" / "params" / "d").iterdir()
    for changed in bits(file):
        file.write_bytes(changed)
        with Checkpoints(tmp_path, read_only=True) as checkpoints:
            with pytest.raises(UserError, match=f"{file}: is damaged"):
                checkpoints.restore_finished(ABSTRACT)
    with Checkpoints(tmp_path, read_only=True) as checkpoints:
        assert float(checkpoints.restore_finished(ABSTRACT)[1]["w"][0, 0]) == 1


def test_a_damaged_step_is_moved_aside_and_the_same_number_is_saved_again(tmp_path, caplog):
    """Orbax ignores a step that is not newer than the newest folder."""
    path = tmp_path / "checkpoints"
    save(path, [1, 2])
    damage(path, 2)
    with Checkpoints(path) as checkpoints:
        assert checkpoints.restore(ABSTRACT)[0] == 1
        assert f"It lies in {tmp_path / 'checkpoints.damaged' / '2'} now" in caplog.text
        checkpoints.save(2, {"w": jnp.full((2, 3), 7.0)}, None, {})
        checkpoints.read_back(2, ABSTRACT)
    assert float(Checkpoints(path).restore(ABSTRACT)[1]["w"][0, 0]) == 7
    damage(path, 2)
    Checkpoints(path).restore(ABSTRACT)
    assert sorted(p.name for p in (tmp_path / "checkpoints.damaged").iterdir()) == ["2", "2.1"]


def test_a_save_that_does_nothing_is_an_error(tmp_path):
    save(tmp_path, [5])
    with Checkpoints(tmp_path) as checkpoints:
        with pytest.raises(
            UserError, match=r"step 3 was not saved, for there are newer ones: \[5\]"
        ):
            checkpoints.save(3, {"w": jnp.zeros((2, 3))}, None, {})


def test_a_copy_under_another_number_is_not_taken(tmp_path, caplog):
    save(tmp_path, [3])
    shutil.copytree(tmp_path / "3", tmp_path / "9999")
    assert Checkpoints(tmp_path).restore(ABSTRACT)[0] == 3
    assert "it is a copy of step 3" in caplog.text


def test_what_was_saved_is_read_back(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, {"w": jnp.arange(6.0).reshape(2, 3)}, None, {})
        checkpoints.read_back(1, ABSTRACT)
        checkpoints._sums[1] += 1  # as if something else had been written
        with pytest.raises(UserError, match="other parameters than those that were saved"):
            checkpoints.read_back(1, ABSTRACT)
        del checkpoints._sums[1]
        os.truncate(tmp_path / "1" / "record" / "metadata", 3)
        with pytest.raises(UserError, match="cannot be read back: .*metadata: is damaged"):
            checkpoints.read_back(1, ABSTRACT)


def test_a_finished_run_refuses_instead_of_taking_an_earlier_step(tmp_path):
    save(tmp_path, [1, 2])
    damage(tmp_path, 2)
    with Checkpoints(tmp_path, read_only=True) as checkpoints:
        with pytest.raises(UserError, match="no other is taken"):
            checkpoints.restore_finished(ABSTRACT)
    assert not (tmp_path.parent / f"{tmp_path.name}.damaged").exists()


def test_a_step_that_is_no_step_of_a_finished_run_is_left_out(tmp_path, capsys):
    def work(path):
        save(path / "checkpoints", [1, 2])
        return {}

    stage = Stages(tmp_path, quiet=True).run("run", {}, work)
    shutil.copytree(stage.path / "checkpoints" / "1", stage.path / "checkpoints" / "9999")
    with Checkpoints(stage.path / "checkpoints", read_only=True) as checkpoints:
        assert checkpoints.restore_finished(ABSTRACT)[0] == 2
    assert "steps [9999] are not of this run" in capsys.readouterr().err


def test_a_step_without_its_manifest_is_not_taken_but_one_of_an_earlier_version_is(
    tmp_path, capsys, caplog
):
    save(tmp_path, [1, 2])
    (tmp_path / "2" / "verified.json").unlink()
    assert Checkpoints(tmp_path).restore(ABSTRACT)[0] == 1
    assert "verified.json is missing" in caplog.text
    (tmp_path / "1" / "verified.json").unlink()
    (tmp_path / "1" / "record" / "metadata").write_text('{"loss": 0.1}')
    assert Checkpoints(tmp_path).restore(ABSTRACT)[3] == {"loss": 0.1}
    assert "an earlier version wrote it" in capsys.readouterr().err


def test_what_a_killed_save_left_is_cleared(tmp_path):
    left = tmp_path / "4.orbax-checkpoint-tmp-12"
    (left / "params").mkdir(parents=True)
    save(tmp_path, [4])
    assert not left.exists() and Checkpoints(tmp_path).steps() == [4]


def test_steps_that_should_have_gone_go_at_the_end_and_no_others(tmp_path):
    """A kill after the save of step 3, before orbax has removed step 1 for it."""
    save(tmp_path, [1, 2, 3], keep=5)
    (tmp_path / "0.tmp").mkdir()  # and one in a removal
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        assert checkpoints.restore(ABSTRACT)[0] == 3
        checkpoints.trim()
        assert sorted(path.name for path in tmp_path.iterdir()) == ["2", "3"]
        checkpoints.trim()
        assert checkpoints.steps() == [2, 3]
    with Checkpoints(tmp_path, keep=0) as checkpoints:
        checkpoints.trim()
        assert checkpoints.steps() == [2, 3]
