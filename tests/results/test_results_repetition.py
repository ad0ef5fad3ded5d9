"""What results/README.md says of repetition, held against the committed rows."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from benchmarks import repetition_table

ROWS = [
    json.loads(line)
    for line in (Path(__file__).parents[2] / "results" / "repetition" / "rows.jsonl")
    .read_text()
    .splitlines()
]
GRID = [
    json.loads(line)
    for line in (Path(__file__).parents[2] / "results" / "repetition" / "grid.jsonl")
    .read_text()
    .splitlines()
]
DOMAINS = ("books", "ency", "med")
SMALL, LARGE = 4_000_000, 20_000_000


def of(tokens, method, seed=0, field="heldout_after"):
    """{domain: value}"""
    found = {
        row["domain"]: row[field]
        for row in ROWS
        if (row["tokens"], row["method"], row["seed"]) == (tokens, method, seed)
    }
    assert set(found) == set(DOMAINS)
    return found


def macro(*args, **options):
    return np.mean(list(of(*args, **options).values()))


def test_the_tables_of_the_grid_are_those_of_its_rows():
    readme = (Path(__file__).parents[2] / "results" / "README.md").read_text()
    for corpus, table in repetition_table.tables(GRID).items():
        assert f"**{corpus}**\n\n{table}\n" in readme


def test_what_the_grid_says_of_the_cap():
    def found(corpus, size, tokens, method):
        return repetition_table.found(GRID, repetition_table.Setting(corpus, size, tokens), method)

    with_cap, without = (found("default", "0.2M", SMALL, m) for m in ("cap8", "slm_is"))
    means = [part.change_S.mean() for part in (with_cap, without)]
    assert abs(means[0] - means[1]) < 0.006 and max(means) < -0.02
    assert without.better == without.pairs == 9 and with_cap.better == 8
    for corpus, method, better in (
        ("default", "slm_is", 0),
        ("default", "cap8", 3),
        ("wide", "slm_is", 3),
        ("wide", "cap8", 3),
    ):
        of_large = found(corpus, "1M", LARGE, method)
        assert (of_large.better, of_large.pairs) == (better, 3)
    assert found("default", "1M", LARGE, "slm_is").repetitions == pytest.approx(71.7, abs=0.05)


def test_a_change_is_of_pairs_and_has_an_interval_of_three_seeds():
    def row(method, domain, seed, score):
        return {
            "corpus": "default",
            "size": "1M",
            "tokens": 9,
            "method": method,
            "learning_rate": 1.0,
            "domain": domain,
            "seed": seed,
            "valid_after": score,
            "heldout_after": score,
            "expected_repetitions": 2.0,
            "max_repetitions": 3.0,
        }

    plain = [row("slm", d, seed, 2.0) for d in ("a", "b") for seed in range(3)]
    gains = {0: 0.01, 1: 0.02, 2: 0.03}
    capped = [row("cap8", d, s, 2.0 * (1 - gains[s])) for d in ("a", "b") for s in gains]
    setting = repetition_table.Setting("default", "1M", 9)
    found = repetition_table.found(plain + capped + [row("cap8", "a", 7, 1.0)], setting, "cap8")
    np.testing.assert_allclose(sorted(found.change_S), [-0.03, -0.02, -0.01])
    assert (found.better, found.pairs) == (6, 6)
    half = stats.t.ppf(0.975, 2) * 1 / np.sqrt(3)
    assert repetition_table.change(found) == f"-2.0 ± {half:.1f}%"
    assert repetition_table.found(plain, setting, "cap8") is None


@pytest.mark.parametrize(
    "tokens,method,seeds",
    [
        (SMALL, "slm", [2.425]),
        (SMALL, "slm_is", [2.357]),
        (SMALL, "cap1", [2.381]),
        (SMALL, "cap2", [2.359]),
        (SMALL, "cap4", [2.355]),
        (SMALL, "cap8", [2.358]),
        (SMALL, "k64", [2.360]),
        (SMALL, "power0.5", [2.357]),
        (SMALL, "smoothing0.5", [2.383]),
        (SMALL, "late0.5", [2.388]),
        (LARGE, "slm", [2.133, 2.128]),
        (LARGE, "slm_is", [2.214, 2.218]),
        (LARGE, "cap2", [2.088]),
        (LARGE, "cap4", [2.030, 2.035]),
        (LARGE, "cap8", [2.007, 2.016]),
        (LARGE, "k64", [2.132]),
        (LARGE, "power0.5", [2.095]),
        (LARGE, "smoothing0.5", [2.064]),
        (LARGE, "late0.5", [2.133, 2.123]),
    ],
)
def test_the_table(tokens, method, seeds):
    found = [macro(tokens, method, seed) for seed in range(len(seeds))]
    assert found == pytest.approx(seeds, abs=6e-4)


def test_as_published_it_is_worse_and_capped_better_than_plain_pretraining():
    for seed in (0, 1):
        plain = of(LARGE, "slm", seed)
        assert all(of(LARGE, "slm_is", seed)[d] > plain[d] for d in DOMAINS)
        for cap in ("cap4", "cap8"):
            assert all(of(LARGE, cap, seed)[d] < plain[d] for d in DOMAINS)
        losses = of(LARGE, "slm_is", seed, "train_loss").values()
        assert 2.05 < min(losses) < max(losses) < 2.65
        assert min(of(LARGE, "slm", seed, "train_loss").values()) > 3.25
    gains = [
        np.mean([1 - macro(LARGE, cap, seed) / macro(LARGE, "slm", seed) for seed in (0, 1)])
        for cap in ("cap4", "cap8")
    ]
    assert gains == pytest.approx([0.046, 0.056], abs=6e-4)
    published = [macro(LARGE, "slm_is", s) / macro(LARGE, "slm", s) - 1 for s in (0, 1)]
    assert np.mean(published) == pytest.approx(0.04, abs=1e-3)
    assert abs(macro(SMALL, "cap8") / macro(SMALL, "slm_is") - 1) < 1e-3
    assert abs(macro(SMALL, "cap4") / macro(SMALL, "slm_is") - 1) < 1e-3


def test_no_other_remedy_comes_near_the_cap():
    others = ("k64", "power0.5", "smoothing0.5", "late0.5")
    assert min(macro(LARGE, method) for method in others) > macro(LARGE, "cap4") + 0.03


def test_the_default_was_chosen_on_validation_text():
    methods = {row["method"] for row in ROWS if row["tokens"] == LARGE} - {"cap1"}
    scores = {method: macro(LARGE, method, field="valid_after") for method in methods}
    assert min(scores, key=scores.get) == "cap8"
    for method in ("slm", "slm_is", "cap4", "late0.5"):
        assert macro(LARGE, method, 1, "valid_after") > macro(LARGE, "cap8", 1, "valid_after")
    best = min(
        macro(SMALL, row["method"], field="valid_after") for row in ROWS if row["tokens"] == SMALL
    )
    assert macro(SMALL, "cap8", field="valid_after") < best * 1.003


def test_the_cap_is_met_and_rows_say_what_they_are():
    for row in ROWS:
        if row["method"].startswith("cap"):
            most = max(float(row["method"][3:]), row["tokens"] / 256 / 38_383)
            assert row["max_repetitions"] <= most * 1.001
        assert row["device"] == "NVIDIA H200" and row["learning_rate"] == 0.003
    assert of(LARGE, "cap2", field="expected_repetitions") == pytest.approx(
        of(LARGE, "slm", field="expected_repetitions"), rel=1e-5
    )


def test_the_choice_of_the_proxy():
    """Rank correlation of all methods; of the caps, the chosen one against the best method."""
    path = Path(__file__).parents[2] / "results" / "repetition" / "proxy.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for tokens, rank, cap, mean, most in (
        (SMALL, 0.53, "cap2", 0.006, 0.013),
        (LARGE, 0.70, "cap8", 0.0, 0.0),
    ):
        ranks, lost = [], []
        for domain in DOMAINS:
            of = {
                line["method"]: (line["proxy"], line["trained"])
                for line in lines
                if (line["tokens"], line["domain"]) == (tokens, domain)
            }
            assert "late0.5" not in of and len(of) >= 8
            ranks.append(stats.spearmanr(*zip(*of.values(), strict=True)).statistic)
            caps = [name for name in of if name.startswith("cap") or name == "slm_is"]
            assert min(caps, key=of.__getitem__) == cap
            lost.append(of[cap][1] / min(trained for _, trained in of.values()) - 1)
            assert of[cap][1] < of["slm"][1]
        assert np.mean(ranks) == pytest.approx(rank, abs=6e-3)
        assert [np.mean(lost), max(lost)] == pytest.approx([mean, most], abs=6e-4)
