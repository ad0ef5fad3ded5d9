"""Traffic read from compiled programs, against counts by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec

from specialm.planning import hlo

KB = 1024


def text_of(*lines, before=()):
    """A program whose entry is these lines, behind other computations."""
    return "\n".join(
        [
            "HloModule m, is_scheduled=true",
            "",
            *before,
            "ENTRY %main (p: f32[]) -> f32[] {",
            *(f"  {line}" for line in lines),
            "}",
        ]
    )


def test_sizes_are_padded_to_tiles_and_name_their_memory():
    assert hlo.buffers("f32[256]{0}") == [(KB, 0)]
    assert hlo.buffers("bf16[7,8,100]{2,1,0:T(8,128)(2,1)}") == [(7 * 8 * 128 * 2, 0)]
    assert hlo.buffers("f32[100,8]{0,1:T(8,128)S(1)}") == [(8 * 128 * 4, 1)]  # the first is fastest
    assert hlo.buffers("(f32[3]{0}, pred[4]{0:S(2)}, f32[])") == [(12, 0), (4, 2), (4, 0)]


def test_operations_read_and_write_but_not_on_the_chip():
    moved = hlo.moved(
        text_of(
            "%a = f32[256]{0} parameter(0)",
            "%b = f32[256]{0:S(1)} parameter(1)",
            "%c = f32[256]{0} add(%a, %b)",  # 2 KB: b is on the chip
            "%d = f32[256]{0} bitcast(%c)",
            "%e = f32[64]{0} dynamic-slice(%d, %i), dynamic_slice_sizes={64}",  # reads what it writes
            "%i = s32[] constant(0)",
            "%s = (f32[256]{0}, f32[256]{0:S(1)}, u32[]{:S(2)}) copy-start(%c)",  # 1 KB into the chip
            "%f = f32[256]{0:S(1)} copy-done(%s)",
            'ROOT %r = f32[256]{0} custom-call(%f), custom_call_target="tpu_custom_call"',
        ),
        1,
    )
    assert moved.hbm_bytes == 2 * KB + 512 + KB + KB
    assert not moved.exchanged


FUSED = """
%inside (x: f32[8,256], i: s32[], u: f32[1,256]) -> f32[8,256] {
  %x = f32[8,256]{1,0} parameter(0)
  %i = s32[] parameter(1)
  %u = f32[1,256]{1,0} parameter(2)
  %z = s32[] constant(0)
  %one = f32[1,256]{1,0} dynamic-slice(%x, %i, %z), dynamic_slice_sizes={1,256}
  %sum = f32[1,256]{1,0} add(%one, %u)
  ROOT %new = f32[8,256]{1,0} dynamic-update-slice(%x, %sum, %i, %z)
}
%body (t: (s32[], f32[8,256], f32[1,256])) -> (s32[], f32[8,256], f32[1,256]) {
  %t = (s32[], f32[8,256]{1,0}, f32[1,256]{1,0}) parameter(0)
  %n = s32[] get-tuple-element(%t), index=0
  %stack = f32[8,256]{1,0} get-tuple-element(%t), index=1
  %row = f32[1,256]{1,0} get-tuple-element(%t), index=2
  %f = f32[8,256]{1,0} fusion(%stack, %n, %row), kind=kLoop, calls=%inside
  %ag = f32[4,256]{1,0} all-gather(%row), replica_groups=[2,4]<=[8], dimensions={0}
  ROOT %next = (s32[], f32[8,256]{1,0}, f32[1,256]{1,0}) tuple(%n, %f, %row)
}
%test (t: (s32[], f32[8,256], f32[1,256])) -> pred[] {
  %t.1 = (s32[], f32[8,256]{1,0}, f32[1,256]{1,0}) parameter(0)
  %n.1 = s32[] get-tuple-element(%t.1), index=0
  %end = s32[] constant(8)
  ROOT %lt = pred[] compare(%n.1, %end), direction=LT
}"""


def test_a_loop_counts_as_often_as_it_runs_and_slices_as_slices():
    entry = (
        "%zero = s32[] constant(2)",
        "%p = f32[8,256]{1,0} parameter(0)",
        "%q = f32[1,256]{1,0} parameter(1)",
        "%t = (s32[], f32[8,256]{1,0}, f32[1,256]{1,0}) tuple(%zero, %p, %q)",
        "%w = (s32[], f32[8,256]{1,0}, f32[1,256]{1,0}) while(%t), condition=%test, body=%body",
    )
    moved = hlo.moved(text_of(*entry, before=FUSED.splitlines()), 8)
    # 6 turns: a slice of 1 KB read and one written, the row and the index read; the gather reads
    # 1 KB and writes 4.
    assert moved.hbm_bytes == 6 * (2 * KB + KB + 4 + 5 * KB)
    assert moved.exchanged == {hlo.Exchange("all-gather", 4, True): 6 * 4 * KB * 3 / 4}
    unknown = FUSED.replace("direction=LT", "direction=NE")
    with pytest.raises(ValueError, match="w: no trip count"):
        hlo.moved(text_of(*entry, before=unknown.splitlines()), 8)
    known = entry[-1] + ', backend_config={"known_trip_count":{"n":"3"}}'
    moved = hlo.moved(text_of(*entry[:-1], known, before=unknown.splitlines()), 8)
    assert moved.collective_bytes == {"all-gather": 3 * 3 * KB}


CARRIED = """
%start (x: f32[256]) -> (f32[1024], u32[]) {
  %x = f32[256]{0} parameter(0)
  %g = f32[1024]{0} all-gather(%x), replica_groups={{0,1,2,3}}, dimensions={0}
  %flag = u32[]{:S(2)} constant(0)
  ROOT %s = (f32[1024]{0}, u32[]{:S(2)}) tuple(%g, %flag)
}
%done (y: f32[1024], f: u32[]) -> f32[1024] {
  %y = f32[1024]{0} parameter(0)
  %f = u32[]{:S(2)} parameter(1)
  %x.1 = f32[256]{0} constant({...})
  ROOT %g.1 = f32[1024]{0} all-gather(%x.1), replica_groups={{0,1,2,3}}, dimensions={0}
}"""


def test_an_exchange_in_several_fusions_counts_once():
    moved = hlo.moved(
        text_of(
            "%a = f32[256]{0} parameter(0)",
            "%go = (f32[1024]{0}, u32[]{:S(2)}) fusion(%a), kind=kCustom, calls=%start",
            "%y = f32[1024]{0} get-tuple-element(%go), index=0",
            "%flag = u32[]{:S(2)} get-tuple-element(%go), index=1",
            "ROOT %end = f32[1024]{0} fusion(%y, %flag), kind=kCustom, calls=%done",
            before=CARRIED.splitlines(),
        ),
        4,
    )
    assert moved.collective_bytes == {"all-gather": 4 * KB * 3 / 4}


@pytest.mark.parametrize("started", [True, False])
def test_an_all_to_all_in_a_loop_runs_beside_arithmetic_if_it_is_started(started):
    sent, flags = "bf16[4,2,128]{2,1,0}", "u32[]{:S(2)}"
    if started:
        both = f"(({sent}), {sent}, {flags}, {flags})"
        lines = (
            f"%go = {both} all-to-all-start(%x), replica_groups={{{{0,1,2,3}}}}, dimensions={{0}}",
            f"%y = {sent} all-to-all-done(%go)",
        )
    else:
        lines = (f"%y = {sent} all-to-all(%x), replica_groups={{{{0,1,2,3}}}}, dimensions={{0}}",)
    inner = "\n".join(f"  {line}" for line in (f"%x = {sent} parameter(0)", *lines))
    body = f"%body (x: bf16[4,2,128]) -> bf16[4,2,128] {{\n{inner.replace('%y', 'ROOT %y')}\n}}"
    loop = f"%w = {sent} while(%a), condition=%c, body=%body"
    moved = hlo.moved(
        text_of(
            f"%a = {sent} parameter(0)",
            f'ROOT {loop}, backend_config={{"known_trip_count":{{"n":"5"}}}}',
            before=body.splitlines(),
        ),
        4,
    )
    want = 5 * 2 * KB * 3 / 4
    assert moved.exchanged == {hlo.Exchange("all-to-all", 4, started, not started): want}


SPARSECORE = """
%gathered (x: f32[256], t: token[]) -> f32[1024] {
  %t = token[] parameter(1)
  %x = f32[256]{0} parameter(0)
  ROOT %g = f32[1024]{0} all-gather(%x), replica_groups={{0,1,2,3}}, dimensions={0}
}, execution_thread="sparsecore"
"""


@pytest.mark.parametrize("call", ["call-start", "another-start"])
def test_an_exchange_on_another_core_is_counted_or_an_error(call):
    """As of tpu7x, whose exchanges were not counted."""
    both = "((f32[256]{0}, token[]), f32[1024]{0})"
    text = text_of(
        "%a = f32[256]{0} parameter(0)",
        "%token = token[] after-all()",
        f'%go = {both} {call}(%a, %token), async_execution_thread="sparsecore", to_apply=%gathered',
        "ROOT %end = f32[1024]{0} call-done(%go)",
        before=SPARSECORE.strip().splitlines(),
    )
    if call == "call-start":
        assert hlo.moved(text, 4).collective_bytes == {"all-gather": 4 * KB * 3 / 4}
    else:
        with pytest.raises(ValueError, match="gathered: its all-gather is called in a way"):
            hlo.moved(text, 4)


def test_every_kind_of_exchange_of_a_real_program():
    """Two devices, compiled here: bytes as rings send them."""
    mesh = jax.make_mesh((2,), ("d",), (AxisType.Auto,), devices=jax.devices()[:2])

    def step(x_4x64, _):
        whole = jax.lax.all_gather(x_4x64, "d", tiled=True)  # 8 x 64
        part = jax.lax.psum_scatter(jnp.sin(whole), "d", tiled=True)
        swapped = jax.lax.all_to_all(jnp.cos(part), "d", 0, 1, tiled=True)  # 2 x 128
        return jax.lax.psum(jnp.tanh(swapped), "d").reshape(4, 64), None

    def loop(x):
        last = jax.lax.scan(step, x, length=5)[0]
        return jax.lax.ppermute(last, "d", [(0, 1), (1, 0)])

    spec = PartitionSpec("d")
    program = (
        jax.jit(jax.shard_map(loop, mesh=mesh, in_specs=spec, out_specs=spec, check_vma=False))
        .lower(np.ones((8, 64), np.float32))
        .compile()
    )
    moved = hlo.moved(program.as_text(), 2)
    part = 4 * 64 * 4  # bytes
    assert moved.exchanged == {
        hlo.Exchange("all-gather", 2, True): 5 * 2 * part / 2,
        hlo.Exchange("reduce-scatter", 2, True): 5 * 2 * part / 2,
        # It is not started early, so nothing runs beside it although it is in a loop.
        hlo.Exchange("all-to-all", 2, False, alone=True): 5 * part / 2,
        hlo.Exchange("all-reduce", 2, True): 5 * 2 * part / 2,
        hlo.Exchange("collective-permute", 2, False): part,
    }


@pytest.mark.parametrize(
    ("fusion", "computation"),
    [("all-reduce-scatter.3", "fused"), ("fusion.255", "all-reduce-scatter.clone.1")],
)
def test_a_sum_of_which_a_slice_is_kept_is_a_reduce_scatter(fusion, computation):
    """As libtpu writes it for v5e, and for v5p, where only the computation says what it is."""
    fused = f"""
%{computation} (input.5: f32[16,256]) -> f32[16,66] {{
  %input.5 = f32[16,256]{{1,0}} parameter(0)
  %zero = f32[] constant(0)
  %pad.74 = f32[16,264]{{1,0}} pad(%input.5, %zero), padding=0_0x0_8
  %all-reduce.19 = f32[16,264]{{1,0}} all-reduce(%pad.74), replica_groups={{{{0,1,2,3}},{{4,5,6,7}}}}
  %start = u32[] constant(0)
  ROOT %mine = f32[16,66]{{1,0}} dynamic-slice(%all-reduce.19, %start), dynamic_slice_sizes={{16,66}}
}}"""
    entry = (
        "%p = f32[16,256]{1,0} parameter(0)",
        f"%{fusion} = f32[16,66]{{1,0}} fusion(%p), kind=kCustom, calls=%{computation}",
    )
    moved = hlo.moved(text_of(*entry, before=fused.splitlines()), 8)
    assert moved.collective_bytes == {"reduce-scatter": 16 * 264 * 4 * 3 / 4}
