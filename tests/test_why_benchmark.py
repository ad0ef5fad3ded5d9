"""Why importance sampling helps: gains of one size at a time, their table, and a cell in small."""

import json

import conftest
import numpy as np
import pytest

from benchmarks import why, why_figure


def rows_of(bits: dict) -> list[dict]:
    """Rows of {(axis, value, method, seed): bits per byte of two domains}."""
    return [
        {"axis": axis, "value": value, "method": method, "seed": seed, "domain": domain}
        | {"expected_repetitions": 1.5, "before_bits_per_byte": b, "after_bits_per_byte": b / 2}
        for (axis, value, method, seed), domains in bits.items()
        for domain, b in domains.items()
    ]


def test_a_gain_is_of_macro_averages_seed_by_seed():
    bits = {
        ("width", 32, "slm", 0): {"a": 2.0, "b": 4.0},
        ("width", 32, "slm_is", 0): {"a": 1.0, "b": 4.4},
        ("width", 32, "slm", 1): {"a": 2.0, "b": 2.0},
        ("width", 32, "slm_is", 1): {"a": 2.0, "b": 1.8},
    }
    rows = rows_of(bits)
    found = why_figure.gains(rows, "after")["width"][32]
    np.testing.assert_allclose(found, [-10, -5])
    # Half of the interval: 12.706 * 3.5355 / sqrt(2).
    assert "| width | 32 | 1.5 | -7.5% ± 31.8 | -7.5% ± 31.8 |" in why_figure.table(rows)
    (panel,) = why_figure.chart(rows).panels
    assert panel.title == "width"


def test_the_base_is_on_every_axis(tmp_path, capsys):
    args = why.parsed([f"--out={tmp_path / 'rows.jsonl'}"])
    base = why.config_of(args, {})
    for values in why.AXES.values():
        same = [v for v in values.values() if why.config_of(args, v).to_dict() == base.to_dict()]
        assert len(same) == 1
    assert base.clustering.max_repetitions == why.CAP
    with pytest.raises(SystemExit):
        why.parsed(["--out=x", "--axes=nothing"])
    assert "'nothing': must be some of width of the model;" in capsys.readouterr().err


@pytest.mark.slow
def test_an_axis_in_small(tmp_path, monkeypatch):
    conftest.write_docstrings(tmp_path)
    (tmp_path / "config.py").write_text(conftest.BANK_CONFIG.format(root=tmp_path))
    axes = {"tokens": {640: {"train.tokens": 640}, 1280: {"train.tokens": 1280}}}
    monkeypatch.setattr(why, "AXES", axes)
    out = tmp_path / "rows.jsonl"
    words = [f"--out={out}", f"--workdir={tmp_path / 'runs'}", f"--config={tmp_path / 'config.py'}"]
    words += ["--seeds=1", "data.specialist_tokens=400"]
    why.main(words)
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    domains = {row["domain"] for row in rows}
    assert len(rows) == 2 * 2 * len(domains)
    assert {row["tokens"] for row in rows} == {640, 1280}
    assert all(row["expected_repetitions"] > 0 for row in rows)
    plain = {
        (r["value"], r["seed"], r["before_bits_per_byte"]) for r in rows if r["domain"] in domains
    }
    assert len(plain) == len(rows)
    why.main(words)
    assert [json.loads(line) for line in out.read_text().splitlines()] == rows
    assert why_figure.table(rows).count("±") == 4
