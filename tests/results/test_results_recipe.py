"""The demo by the recipe: its table, and what is said of it, follow from the committed rows."""

import re

import numpy as np
import pytest

from benchmarks import cells, recipe_choices, recipe_positions, recipe_table
from benchmarks.recipe_table import ROWS, bits
from specialm.evaluation.perplexity import MACRO

FOLDER = ROWS.parent
README = (FOLDER.parent / "README.md").read_text()
# The demo by today's recipe; with a table that learns at the full rate; with uniform replay too; by
# an earlier one with three seeds; with 8 draws of a window. Last, `slm` on three times the tokens.
FILES = (
    "results",
    "seven",
    "wide",
    "wide_is",
    "fast_table",
    "uniform",
    "four_million",
    "cap8",
    "long",
)
DOMAINS = ("books", "ency", "med")


def tuned(name: str, method: str, domain: str = MACRO) -> np.ndarray:
    """Bits per byte after fine-tuning, seed by seed."""
    return bits(recipe_table.read(FOLDER / f"{name}.jsonl"), method, "finetuned", domain)


def methods_of(name: str) -> set[str]:
    return {row["method"] for row in recipe_table.read(FOLDER / f"{name}.jsonl")}


@pytest.mark.parametrize("name", FILES)
def test_the_table_is_that_of_the_rows(name):
    assert "\n".join(recipe_table.table(recipe_table.read(FOLDER / f"{name}.jsonl"))) in README


@pytest.mark.parametrize(
    "name", [name for name in FILES if "lzma" in methods_of(name) and name != "long"]
)
def test_every_model_is_below_lzma_in_every_seed(name):
    for method in ("slm", "slm_is"):
        assert (tuned(name, method) < tuned(name, "lzma")).all()


def test_the_front_page_has_the_same_table():
    front = (FOLDER.parents[1] / "README.md").read_text()
    assert "\n".join(recipe_table.table(recipe_table.read(ROWS))) in front


def test_choices_are_in_the_readme():
    rows = cells.read(FOLDER / "choices.jsonl")
    assert "\n".join(recipe_choices.summary(rows)) in README


def test_replay_by_importance_is_better_than_uniform_in_every_domain():
    """One model for all domains; held-out text of the first seed."""
    for domain in DOMAINS:
        assert tuned("fast_table", "slm", domain)[0] < tuned("uniform", "slm", domain)[0]


def test_importance_sampling_is_below_the_ngrams_in_every_domain():
    for domain in DOMAINS:
        assert (tuned("results", "slm_is", domain) < tuned("results", "ngram", domain)[0]).all()


def test_seven_domains():
    """In how many of them importance sampling is better, and each model below the n-grams."""
    rows = recipe_table.read(FOLDER / "seven.jsonl")
    domains = sorted({row["domain"] for row in rows} - {MACRO})
    slm_DxS, slm_is_DxS, ngram_Dx1 = (
        np.array([bits(rows, name, "finetuned", domain) for domain in domains])
        for name in ("slm", "slm_is", "ngram")
    )
    for pair, count in (((slm_is_DxS, ngram_Dx1), 7), ((slm_DxS, ngram_Dx1), 6)):
        assert ((pair[0] < pair[1]).sum(0) == count).all()
    assert ((slm_is_DxS < slm_DxS).sum(0) == 6).all()
    first, second = 100 * (slm_is_DxS / slm_DxS - 1)[domains.index("math")]
    assert f"it is {first:.1f}% and {second:.1f}% worse" in README


def test_seven_times_the_text():
    """Against the first seed on the default corpus, per cent."""
    wide, default = (recipe_table.read(FOLDER / f"{name}.jsonl") for name in ("wide", "seven"))

    def less(method: str, domain: str = MACRO) -> float:
        ours, base = (bits(rows, method, "finetuned", domain)[0] for rows in (wide, default))
        return 100 * (1 - ours / base)

    slm, ngram = less("slm"), less("ngram")
    assert f"`slm` needs {slm:.1f}% fewer bits, n-grams of all text {ngram:.1f}% fewer" in README
    assert f"{slm:.1f}% fewer bits, and n-grams have {ngram:.1f}% fewer | one seed, six" in README
    worse = [-less("slm", "med"), -less("ngram", "med")]
    assert re.search(rf"both are worse, by\s+{worse[0]:.1f}% and {worse[1]:.1f}%", README)
    domains = {row["domain"] for row in wide} - {MACRO}
    assert sum(less("slm", domain) > 0 for domain in domains) == 6


def test_importance_sampling_on_seven_times_the_text():
    rows = recipe_table.read(FOLDER / "wide_is.jsonl")

    def less(domain: str, base: str = "slm") -> float:
        ours, other = (bits(rows, name, "finetuned", domain)[0] for name in ("slm_is", base))
        return 100 * (1 - ours / other)

    both, below = less(MACRO), less(MACRO, "ngram")
    assert f"takes {both:.1f}% off, to {below:.1f}% below n-grams | one seed" in README
    books, med = less("books"), less("med")
    text = rf"takes {both:.1f}% off \(1\.5% on the default corpus\), {books:.1f}% and\s+{med:.1f}%"
    assert re.search(text, README)
    front = (FOLDER.parents[1] / "README.md").read_text()
    assert f"importance sampling takes {both:.1f}% off (two domains, one seed)" in front


def test_costs_are_in_the_readme():
    rows = recipe_table.read(ROWS)
    assert "\n".join(recipe_table.costs(rows)) in README
    one, three = (
        recipe_table.cost(rows, "slm_is", count) / recipe_table.cost(rows, "slm", count)
        for count in (1, 3)
    )
    assert one == pytest.approx(1, abs=0.02) and f"for three {three:.1f} times as much" in README


def test_the_models_use_their_context_and_n_grams_do_not():
    rows = cells.read(FOLDER / "positions.jsonl")
    assert "\n".join(recipe_positions.summary(rows)) in README
    falls = {}
    for method in ("ngram", "slm_is"):
        nats = [r["positions"] for r in rows if r["method"] == method]
        of = np.mean([[place["nll_per_token"] for place in own] for own in nats], axis=0)
        falls[method] = of[3] - of[-1]
    assert falls["ngram"] < 0 and f"by {falls['slm_is']:.2f} nats per token from" in README


def test_more_tokens_of_the_same_text_do_not_help():
    assert (tuned("long", "slm")[0] > tuned("fast_table", "slm")).all()


def test_importance_sampling_is_better_in_every_seed_and_domain_unless_it_repeats_too_much():
    assert len(tuned("four_million", "slm_is")) == 3
    for domain in DOMAINS:
        for name in ("results", "uniform", "four_million"):
            assert (tuned(name, "slm_is", domain) < tuned(name, "slm", domain)).all()
        assert (tuned("cap8", "slm_is", domain) > tuned("cap8", "slm", domain)).all()


def test_the_model_is_its_table_of_ngrams():
    """Served bytes: 16.8M parameters of a table, 0.24M of all else, and the vocabulary."""
    for row in recipe_table.read(ROWS):
        if row["method"] in ("slm", "slm_is"):
            assert row["served_bytes"] == pytest.approx(4 * (2 * 131_072 * 64 + 0.24e6), rel=0.01)


def test_what_a_table_costs_a_step():
    shown = [row["against_none"] for row in recipe_table.read(FOLDER / "step.jsonl")]
    assert [f"{value:.2f}" for value in shown[1:]] == ["1.30", "1.40", "1.39"]
    assert "1.30 times as long with 33,000 rows in all, 1.40 with 262,000, 1.39 with" in README
