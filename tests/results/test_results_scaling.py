"""The committed rows of results/scaling against what docs/scaling.md says of them."""

from pathlib import Path

import pytest

from benchmarks import scaling

ROOT = Path(__file__).parents[2]
ROWS = scaling.read(ROOT / "results" / "scaling" / "slices.jsonl")


def test_every_family_is_there_and_fits():
    assert set(ROWS) == {(name, slice_) for name in scaling.FAMILIES for slice_ in scaling.SLICES}
    for row in ROWS.values():
        assert row["fits"] and row["largest_windows_per_device"] >= scaling.WINDOWS
        assert row["tokens_per_step"] == scaling.WINDOWS * 1024 * row["devices"]


@pytest.mark.parametrize("topology", scaling.SLICES)
def test_a_projected_network_costs_little_more_than_the_dense_model(topology):
    dense, bank = ROWS["slm", topology], ROWS["slm_pn", topology]
    assert bank["step_seconds"] <= 1.10 * dense["step_seconds"]
    assert bank["flops"] <= 1.001 * dense["flops"]
    sent, dense_sent = (sum(row["collective_bytes"].values()) for row in (bank, dense))
    assert sent <= 0.82 * dense_sent


def test_the_table_is_that_of_the_rows():
    assert scaling.table(ROWS) in (ROOT / "docs" / "scaling.md").read_text()
