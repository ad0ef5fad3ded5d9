"""What banks cost: rows as they come, settings by --set, and going on."""

import json

import pytest
from matplotlib.figure import Figure

from benchmarks import families, families_figure, scaling
from specialm.common.errors import UserError
from specialm.planning import compilation

TINY = {"vocab_size": 32, "context": 8, "num_layers": 1, "d_model": 8, "num_heads": 2, "d_ff": 16}


@pytest.mark.slow
def test_rows_come_one_by_one_and_are_not_measured_again(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(families, "SIZES", {"tiny": TINY})
    monkeypatch.setattr(families, "TOKENS", {"every": (64, 128)})
    monkeypatch.setattr(families, "ROUND_SECONDS", 0.001)
    monkeypatch.setattr(families, "EVERY", {"1": {"bank_every": 1}, "2": {"bank_every": 2}})
    monkeypatch.setattr(families, "FORMS", {"every": families.EVERY})
    out = tmp_path / "rows.jsonl"
    asked = ["--every", "--sizes=tiny", "--experts=4", "--groups=4", "--repeats=1"]
    asked += [f"--out={out}", "--set=train.moment_dtype=bfloat16"]
    families.main(asked)
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["tokens_per_step"] for row in rows] == [64, 128]
    assert all(row["set"] == "train.moment_dtype=bfloat16" and row["commit"] for row in rows)
    # The kept gradients of 2 steps of 4 groups, a bank of 4 sets of weights: twice its size.
    sizes = [rows[0]["every"][every]["moment_bytes"] for every in ("1", "2")]
    assert sizes[1] - sizes[0] > 2 * 4 * 2 * 8 * 16 * 4 - 1
    out.write_text(json.dumps(rows[0]) + "\n")
    measured = []
    real = families.measure_forms
    monkeypatch.setattr(
        families, "measure_forms", lambda *given: measured.append(given[5]) or real(*given)
    )
    with pytest.raises(UserError, match="train.bank_every=0: must be at least 1"):
        families.main([*asked, "--set=train.bank_every=0"])
    measured.clear()
    capsys.readouterr()
    families.main(asked)
    assert measured == [128]
    printed = json.loads(capsys.readouterr().out)["every"]
    assert printed[0] == rows[0] and len(out.read_text().splitlines()) == 2


def test_a_mixture_of_more_experts_than_windows_is_left_out(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(families, "SIZES", {"tiny": TINY})
    monkeypatch.setattr(families, "FAMILIES", ("soup", "mixture"))
    monkeypatch.setattr(families, "ROUND_SECONDS", 0.001)
    asked = ["--sizes=tiny", "--experts=8", "--groups=4", "--repeats=1", "--table"]
    families.main([*asked, "--tokens=32,64", f"--out={tmp_path / 'rows.jsonl'}"])
    heads, _, four, eight = capsys.readouterr().out.splitlines()
    assert heads.endswith("| soup | mixture |")
    assert four.endswith(") |  |") and eight.count("-") == 2
    assert eight.startswith("| tiny | 8 | 64 | ")


def test_the_figure_has_a_panel_for_each_number_of_experts():
    """The mixture's line begins where a step has a window for each expert."""
    found = {"wall_ratio": 1.1, "wall_range": [1.0, 1.3]}
    rows = [
        {"experts": experts, "tokens_per_step": tokens, "families": {name: found for name in names}}
        for experts, tokens, names in (
            (8, 64, families.FAMILIES),
            (64, 64, families.FAMILIES[:3]),
            (64, 512, families.FAMILIES),
        )
    ]
    drawn = families_figure.chart(rows)
    assert [panel.title for panel in drawn.panels] == ["8 experts", "64 experts"]
    axis = Figure().subplots()
    drawn.panels[1].draw(axis)
    lines = {line.get_label(): line.get_xdata() for line in axis.lines[:4]}
    assert [len(lines[name]) for name in families.FAMILIES] == [2, 2, 2, 1]


def test_slices_take_settings_and_go_on(tmp_path, monkeypatch, capsys):
    asked, out = [], tmp_path / "slices.jsonl"

    def report(config, topology, windows):
        asked.append((config.train.bank_every, config.mesh.fsdp, windows))
        made = {"topology": topology, "mesh": {"data": 16, "fsdp": 16}, "devices": 256}
        seconds = {"compute": 1.0, "memory": 1.0, "exchange_in_loops": 0.0}
        made |= {"collective_bytes": {}, "peak_memory_bytes": 1e9, "hbm_bytes": 1e9}
        made |= {"step_seconds": 1.0, "mfu_ceiling": 0.5, "compile_seconds": 1.0}
        made |= {"device_hours_per_billion_tokens": 1.0, "batch_size": 256 * windows}
        return made | {"seconds": {**seconds, "exchange_outside": 0.0}}

    monkeypatch.setattr(compilation, "compile_report", report)
    monkeypatch.setattr(compilation, "largest_batch", lambda *_: {"largest_windows_per_device": 8})
    only = [f"--out={out}", "--families=slm_pn", "--slices=v5e:16x16"]
    scaling.main([*only, "--windows=8"])
    scaling.main([*only, "--windows=8,16", "--largest"])
    scaling.main([*only, "--windows=8", "--set=train.bank_every=4"])
    scaling.main([*only, "--windows=8", "--set=train.bank_every=4"])
    assert asked == [(1, 16, 8), (1, 16, 16), (4, 16, 8)]
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row.get("set") for row in rows] == [None, None, None, "train.bank_every=4"]
    assert [row.get("largest_windows_per_device") for row in rows] == [None, None, 8, None]
    capsys.readouterr()
    scaling.main([*only, "--table"])
    assert capsys.readouterr().out.count("slm_pn") == 2
