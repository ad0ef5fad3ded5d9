"""Losses by position: the summary's means, and which cells there are."""

from benchmarks import recipe_positions


def row(method, domain, seed, bits):
    ranges = [(1, 1), (2, 2), (3, 4)]
    found = [
        {"first": first, "last": last, "bits_per_byte": value}
        for (first, last), value in zip(ranges, bits, strict=True)
    ]
    return {"method": method, "domain": domain, "seed": seed, "positions": found}


def test_means_over_domains_and_seeds():
    rows = [row("slm", "med", 0, [4, 3, 2]), row("slm", "ency", 1, [2, 2, 1])]
    rows += [row("ngram", "med", 0, [5, 4, 3])]
    assert recipe_positions.summary(rows) == [
        "| | 1 | 2 | 3-4 |",
        "|---|---|---|---|",
        "| n-grams | 5.000 | 4.000 | 3.000 |",
        "| `slm` | 3.000 | 2.500 | 1.500 |",
    ]


def test_n_grams_once_models_by_seed():
    options = recipe_positions.parsed(["--domains=med", "--seeds=3,4"])
    found = [(cell.method, cell.seed) for cell in recipe_positions.cells(options)]
    assert found == [("ngram", 3), ("slm", 3), ("slm_is", 3), ("slm", 4), ("slm_is", 4)]
