"""What docs/performance.md says of one GPU, held against the committed rows."""

import json
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROWS = [json.loads(s) for s in (ROOT / "results/device/rows.jsonl").read_text().splitlines()]


def test_the_table_of_one_gpu():
    page = (ROOT / "docs" / "performance.md").read_text()
    by = {(row["set"], row["method"]): row for row in ROWS}
    for attention in ("fused", "cudnn"):
        slm, bank = (by[f"model.attention={attention}", name] for name in ("slm", "slm_pn"))
        start = f"| {slm['step_ms']:.1f} ms | {slm['mfu']:.0%} | {bank['step_ms']:.1f} ms"
        assert f"{start} | {bank['against_slm']:.2f} |" in page
        assert abs(bank["step_ms"] - slm["step_ms"] - 38) < 1.5  # "38 ms a step more"
        assert slm["params"] == by["model.attention=fused", "slm"]["params"]
        assert round(bank["params"] / 1e9, 2) == 1.42
    fused, cudnn = (by[f"model.attention={a}", "slm"]["step_ms"] for a in ("fused", "cudnn"))
    assert 0.3 < 1 - cudnn / fused < 0.35  # "a third off a step"
