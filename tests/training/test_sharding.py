import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.sharding import AxisType

from specialm.common.errors import UserError
from specialm.models import tensors, transformer
from specialm.models.families import mixture
from specialm.training import program, sharding

DENSE = transformer.Config(vocab_size=11, context=6, num_layers=1, d_model=8, num_heads=2, d_ff=12)


@given(
    st.integers(1, 64), st.integers(1, 4), st.integers(1, 4), st.integers(0, 4), st.integers(1, 8)
)
def test_axes_multiply_to_the_devices(devices, fsdp, model, expert, experts):
    layout = {"fsdp": fsdp, "model": model, "expert": expert}
    if devices % (fsdp * model * max(1, expert)):
        with pytest.raises(UserError, match=rf"mesh.fsdp={fsdp}.* does not divide the {devices} "):
            sharding.axis_sizes(devices, layout, experts)
        return
    sizes = dict(zip(sharding.AXES, sharding.axis_sizes(devices, layout, experts), strict=True))
    assert np.prod(list(sizes.values())) == devices
    assert (sizes["fsdp"], sizes["model"]) == (fsdp, model)
    if expert:
        assert sizes["expert"] == expert
    else:  # as many as divide the experts
        rest = devices // (fsdp * model)
        assert sizes["expert"] == max(
            n for n in range(1, experts + 1) if experts % n == 0 and rest % n == 0
        )


def test_a_mesh_takes_the_devices_that_divide_the_batch():
    assert sharding.make_mesh().shape == {"expert": 1, "data": 2, "fsdp": 1, "model": 1}
    assert sharding.make_mesh(8, layout={"fsdp": 2}).shape["fsdp"] == 2
    assert sharding.make_mesh(8, experts=4, layout={"expert": 0}).shape["expert"] == 2
    assert sharding.make_mesh(7).size == 1
    large = sharding.LARGE
    assert [sharding.make_mesh(8, params=n).size for n in (large - 1, large)] == [2, 1]
    assert sharding.make_mesh(8, layout={"fsdp": 2}, params=large).size == 2
    assert sharding.make_mesh(7, layout={"model": 2}).shape["model"] == 2
    with pytest.raises(UserError, match="mesh.fsdp=3.*does not divide the 2 devices"):
        sharding.make_mesh(9, layout={"fsdp": 3})


def abstract_mesh(**sizes):
    shape = tuple(sizes.get(axis, 1) for axis in sharding.AXES)
    return jax.sharding.AbstractMesh(shape, sharding.AXES, axis_types=(AxisType.Auto,) * 4)


@pytest.mark.parametrize(
    "sizes,named",
    [
        ({"fsdp": 3}, "model.d_model=8 is not a multiple of the 3 devices .* [(]fsdp of the mesh"),
        ({"model": 4}, "model.num_heads=2 is not a multiple of the 4 devices"),
    ],
)
def test_sizes_that_do_not_divide_are_named(sizes, named):
    declared = transformer.declare(DENSE)
    with pytest.raises(UserError, match=named):
        sharding.check(
            abstract_mesh(**sizes), tensors.abstract(declared), tensors.logical_axes(declared)
        )


@pytest.mark.parametrize(
    "config,sizes,batch,groups,named",
    [
        (DENSE, {"data": 4, "fsdp": 2}, 12, 1, "train.batch_size=12 is not a multiple of the 8"),
        (
            DENSE,
            {"data": 4},
            8,
            2,
            "train.groups=2 is not a multiple of the 4 devices .*[(]1 would do",
        ),
        (DENSE, {"data": 2, "fsdp": 4}, 8, 4, "[(]1 or 2, one for each 4 along mesh.fsdp, would"),
        (
            mixture.Config(DENSE, 4),
            {"data": 4},
            8,
            1,
            "an expert's 2 windows do not divide over the 4",
        ),
    ],
)
def test_batches_that_do_not_divide_are_named(config, sizes, batch, groups, named):
    with pytest.raises(UserError, match=named):
        program.check_batch(config, abstract_mesh(**sizes), batch, groups)
    program.check_batch(config, abstract_mesh(data=2), 8, 1)
    program.check_batch(DENSE, abstract_mesh(data=2, fsdp=4), 8, 2)


def test_one_process_reads_every_row():
    mesh = sharding.make_mesh()
    np.testing.assert_array_equal(sharding.rows(mesh, 8), np.arange(8))
