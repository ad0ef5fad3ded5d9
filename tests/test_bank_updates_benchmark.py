"""What cheaper updates of a bank cost: their settings, the table, and a grid in small."""

import json
import math

import conftest
import pytest

from benchmarks import bank_updates


def row(form: str, seed: int, bits: float) -> dict:
    return {"form": form, "seed": seed, "state_bytes": 2e6, "before": bits + 1, "after": bits}


def test_differences_are_seed_by_seed():
    rows = [row("float32", seed, bits) for seed, bits in enumerate((2.0, 3.0, 4.0))]
    rows += [row("int8", seed, bits) for seed, bits in enumerate((2.1, 3.2, 4.3))]
    lines = bank_updates.summary(rows)
    assert lines[2] == "| float32 | 2.0 MB | 4.0000 |  | 3.0000 |  | 3 |"
    half = 4.30265 * 0.1 / math.sqrt(3)  # Student's t of 2 degrees of freedom
    assert lines[3] == f"| int8 | 2.0 MB | 4.2000 | +0.2000 ± {half:.4f} | 3.2000 | " + (
        f"+0.2000 ± {half:.4f} | 3 |"
    )


def test_what_there_is_not_is_named(capsys):
    assert bank_updates.parsed(["--forms=int8; float32"]).forms == ["int8", "float32"]
    with pytest.raises(SystemExit):
        bank_updates.parsed(["--forms=int8; int4"])
    assert "--forms: 'int4': must be some of dense; float32" in capsys.readouterr().err


@pytest.mark.slow
def test_a_grid_in_small_goes_on(tmp_path, monkeypatch, capsys):
    """What every second step keeps takes memory, and models differ by the form."""
    conftest.write_docstrings(tmp_path)
    (tmp_path / "config.py").write_text(conftest.BANK_CONFIG.format(root=tmp_path))
    out = tmp_path / "rows.jsonl"
    given = [f"--out={out}", f"--workdir={tmp_path / 'runs'}", f"--config={tmp_path / 'config.py'}"]
    given += ["--seeds=0", "--set=train.tokens=640", "--set=data.specialist_tokens=400"]
    forms = ["float32", "every 2"]
    bank_updates.main([*given, "--forms=float32"])
    bank_updates.main([*given, f"--forms={';'.join(forms)}"])
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [line["form"] for line in rows] == forms
    plain, every = rows
    assert plain["state_bytes"] < every["state_bytes"]
    assert plain["before"] != every["before"] and plain["after"] != every["after"]
    monkeypatch.setattr(bank_updates, "row", None)
    capsys.readouterr()
    bank_updates.main([*given, f"--forms={';'.join(forms)}"])
    assert "| every 2 |" in capsys.readouterr().out
