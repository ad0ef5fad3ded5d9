"""The committed rows of results/scaling against what docs/scaling.md says of them."""

import re
from pathlib import Path

import pytest

from benchmarks import scaling

ROOT = Path(__file__).parents[2]
ROWS = scaling.read(ROOT / "results" / "scaling" / "slices.jsonl")
DOCS = (ROOT / "docs" / "scaling.md").read_text()
SLICES = {  # with the most that a bank may cost
    "v6e:4x4": 1.12,
    "v5e:16x16": 1.03,
    "v5p:4x4x4": 1.03,
    "v5p:8x8x8": 1.03,
    "v5e:4x4": 1.05,
    "tpu7x:4x4x4": 1.03,
}


def test_both_models_are_there_on_every_slice_and_batch():
    """The other families are on some of them: docs/scaling.md."""
    wanted = {(n, s, w) for n in ("slm", "slm_pn") for s in SLICES for w in scaling.WINDOWS}
    assert set(SLICES) == set(scaling.SLICES) and wanted <= set(ROWS)


def test_every_row_fits():
    for (_, _, windows), row in ROWS.items():
        assert row["fits"] and row["tokens_per_step"] == windows * 1024 * row["devices"]


@pytest.mark.parametrize("topology", SLICES)
def test_a_projected_network_costs_little_more_than_the_dense_model(topology):
    dense, bank = ROWS["slm", topology, 16], ROWS["slm_pn", topology, 16]
    ratio = bank["step_seconds"] / dense["step_seconds"]
    assert ratio <= SLICES[topology]
    assert re.search(rf"{ratio:.2f} \({re.escape(topology)}\)", DOCS)
    assert bank["flops"] <= 1.001 * dense["flops"]
    sent, dense_sent = (sum(row["collective_bytes"].values()) for row in (bank, dense))
    for_each_device = bank["groups"] == bank["devices"]  # else a row gathers its group's weights
    assert sent <= (0.83 if for_each_device else 1.08) * dense_sent


@pytest.mark.parametrize("topology", SLICES)
def test_its_exchange_is_in_the_loops(topology):
    dense, bank = (ROWS[name, topology, 16]["seconds"] for name in ("slm", "slm_pn"))
    assert bank["exchange_outside"] < 1.2 * dense["exchange_outside"]


def test_the_table_is_that_of_the_rows():
    assert scaling.table(ROWS) in DOCS
