"""`specialm compile`. Compiling needs libtpu, which is kept out of the default environment: those
tests run with `make test-tpu`."""

import importlib.util
import json

import pytest

from specialm import cli
from specialm.planning import compilation

CONFIG = """
from specialm.config import default

def get_config():
    config = default()
    config.data.context, config.data.vocabulary_size = 128, 512
    config.model.num_layers, config.model.d_model, config.model.num_heads = 3, 128, 1
    config.model.d_ff, config.model.dtype, config.model.remat = 512, "bfloat16", "dots"
    config.model.num_experts, config.model.bank_layers = 4, (1, 2)
    config.clustering.encoder, config.clustering.dim = "tfidf_svd", 16
    config.train.batch_size, config.train.groups = 16, 4
    return config
"""
HAS_LIBTPU = importlib.util.find_spec("libtpu") is not None
needs_libtpu = pytest.mark.skipif(not HAS_LIBTPU, reason="no libtpu here; run make test-tpu")


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    path = tmp_path_factory.mktemp("compile") / "config.py"
    path.write_text(CONFIG)
    return path


@pytest.fixture
def compile_for(config, capsys):
    def run(*options):
        status = cli.main(["compile", f"--config={config}", *options])
        out, error = capsys.readouterr()
        return status, json.loads(out) if status == 0 and "--json" in options else out + error

    return run


@pytest.mark.parametrize(
    "options,named",
    [
        ((), "--topology=''"),
        (("--topology=v5e",), "--topology='v5e': write NAME:AxB"),
        (("--topology=v5e:2x0",), "--topology='v5e:2x0': write NAME:AxB"),
        (("--topology=v5e:2x2", "--windows_per_device=many"), "--windows_per_device=many"),
        (("--topology=v5e:2x2", "--windows_per_device=-1"), "--windows_per_device=-1"),
    ],
)
def test_bad_options_are_named(compile_for, options, named):
    status, said = compile_for(*options)
    assert status == 2 and named in said


@pytest.mark.parametrize(
    "options,want",
    [
        ((), (16, False)),
        (("--largest",), (16, True)),
        (("--largest=false",), (16, False)),
        (("--largest", "--windows_per_device", "8"), (8, True)),
    ],
)
def test_options_reach_the_compiler(compile_for, monkeypatch, options, want):
    monkeypatch.setattr(
        compilation,
        "compile_report",
        lambda config, topology, windows, largest: {"asked": [windows, largest]},
    )
    status, report = compile_for("--topology=v5e:2x2", *options, "--json")
    assert status == 0 and tuple(report["asked"]) == want


@pytest.mark.skipif(HAS_LIBTPU, reason="there is a libtpu")
def test_without_the_compiler_it_says_how_to_get_it(compile_for):
    status, said = compile_for("--topology=v5e:2x2")
    assert status == 2 and "pip install '.[tpu]'" in said


@needs_libtpu
@pytest.mark.timeout(280)
@pytest.mark.parametrize(
    "method,mesh",
    [("slm", {"fsdp": 2}), ("slm", {"model": 1}), ("slm_pn", {"fsdp": 2}), ("slm_mix", {})],
)
def test_a_step_is_compiled_and_counted(compile_for, method, mesh):
    """FLOPs, arguments and exchanges follow from the sizes."""
    layout = [f"--config.mesh.{axis}={size}" for axis, size in mesh.items()]
    status, report = compile_for(
        "--topology=v5e:2x2",
        "--windows_per_device=4",
        "--json",
        f"--config.method={method}",
        *layout,
    )
    assert status == 0
    windows, fsdp = 16, mesh.get("fsdp", 1)
    assert (report["devices"], report["tokens_per_step"]) == (4, windows * 128)
    assert report["batch_size"] == windows and report["fits"] is True
    layer, head = 2 * (4 * 128**2 + 2 * 128 * 512), 2 * 512 * 128
    attention = 4 * 128 * 128  # nine products where two would do for the forward pass
    flops = windows * 128 * (3 * (3 * layer + head) + 3 * 4.5 * attention) / 4
    assert report["flops"] == pytest.approx(flops, rel=0.03 if method == "slm_pn" else 1e-3)
    params = 3 * (4 * 128**2 + 2 * 128 * 512) + 512 * 128 + 128 * 128  # without biases, norms
    mlps = 2 * 2 * 128 * 512  # of the layers in the bank
    held = {
        "slm": 12 * params / fsdp,
        "slm_mix": 12 * params,
        "slm_pn": 12 * ((params - mlps) / fsdp + 4 * mlps / 4),
    }[method]
    assert held < report["peak_memory_bytes"] < 1.2 * held + 60e6
    sent = report["collective_bytes"]
    if method == "slm" and fsdp == 1:
        assert sent == {"all-reduce": pytest.approx(2 * 3 / 4 * 4 * params, rel=0.02)}
    if method == "slm" and fsdp == 2:
        assert sent["all-gather"] == pytest.approx(1 / 2 * 2 * (2 * params), rel=0.3)
    if method == "slm_pn":
        assert sent["all-to-all"] == pytest.approx(2 * 3 / 4 * 2 * mlps, rel=0.05)
    if method == "slm_mix":
        assert sum(sent.values()) < 1e4
    assert 0 < report["mfu_ceiling"] < 1
    low, high = report["step_seconds_band"].values()
    assert 0 < low <= report["step_seconds"] <= high
    hours = report["step_seconds"] * 4 / 3600 * 1e9 / report["tokens_per_step"]
    assert report["device_hours_per_billion_tokens"] == pytest.approx(hours)


@needs_libtpu
@pytest.mark.timeout(280)
@pytest.mark.parametrize("asked,groups", [(2, 2), (4, 4)])
def test_a_row_of_devices_has_one_group_where_these_are_enough(compile_for, asked, groups):
    """It exchanges each device's part of the weights, and gathers the rest along `fsdp`."""
    given = ("--config.method=slm_pn", "--config.mesh.fsdp=2", f"--config.train.groups={asked}")
    status, report = compile_for("--topology=v5e:2x2", "--windows_per_device=4", "--json", *given)
    assert status == 0 and report["groups"] == groups
    mlps, sent = 2 * 2 * 128 * 512, report["collective_bytes"]["all-to-all"]
    each = 2 * mlps / (4 // groups)  # bytes of what a device receives, with its own
    assert sent == pytest.approx(2 * (1 - 1 / groups) * each, rel=0.05)


def largest(monkeypatch, peak, limit, start=16, refused=10**9):
    """(what `largest_batch` finds, sizes compiled) where so many windows need peak(windows)."""
    tried = []

    def compiled(windows):
        tried.append(windows)
        made = {"batch_size": 4 * windows, "memory_limit_bytes": limit}
        if windows >= refused:
            return made | {"fits": False, "peak_memory_bytes": None}
        return made | {"fits": peak(windows) <= limit, "peak_memory_bytes": peak(windows)}

    monkeypatch.setattr(compilation, "_compiler", lambda config, topology: (compiled, 4))
    first = compiled(start)
    tried.clear()
    return compilation.largest_batch(None, "", first), tried


@pytest.mark.parametrize(
    "first,window,limit,want,most",
    [
        (100, 10, 1000, 88, 2),  # 90, to a multiple of 8: twice 16, then the answer
        (100, 10, 420, 32, 1),  # twice 16 is the answer
        (100, 10, 259, 8, 3),  # 16 do not fit, 8 do, 15 is 8
        (100, 10, 125, 2, 5),
        (100, 10, 99, 0, 4),  # not even one
        (100, 0.01, 1000, 1024, 2),  # no more than MOST_WINDOWS
    ],
)
def test_the_largest_batch_that_fits(monkeypatch, first, window, limit, want, most):
    found, tried = largest(monkeypatch, lambda windows: first + window * windows, limit)
    assert found["largest_windows_per_device"] == want
    assert len(tried) <= most
    assert found["peak_memory_bytes_by_windows"].keys() == {"16", *map(str, tried)}


def test_the_largest_batch_where_the_compiler_refuses(monkeypatch):
    """At the guess, 88, and a little below it."""
    found, tried = largest(monkeypatch, lambda windows: 100 + 10 * windows, 1000, refused=80)
    assert found["largest_windows_per_device"] == 72
    assert tried == [32, 88, 80, 72]


@needs_libtpu
def test_unknown_slices_are_named(compile_for):
    status, said = compile_for("--topology=v99:2x2")
    assert status == 2 and "--topology=v99:2x2" in said
