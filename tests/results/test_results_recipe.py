"""The demo by the recipe: its table, and what is said of it, follow from the committed rows."""

import numpy as np
import pytest

from benchmarks import recipe_table
from benchmarks.recipe_table import ROWS, bits, gain
from specialm.evaluation.perplexity import MACRO

ROWS_OF_DEMO = recipe_table.read(ROWS)
README = (ROWS.parents[1] / "README.md").read_text()


def others(name: str, domain: str = MACRO) -> float:
    (value,) = bits(ROWS_OF_DEMO, name, "finetuned", domain)
    return value


def tuned(method: str, domain: str = MACRO) -> np.ndarray:
    return bits(ROWS_OF_DEMO, method, "finetuned", domain)


def test_the_table_is_that_of_the_rows():
    assert "\n".join(recipe_table.table(ROWS_OF_DEMO)) in README


def test_importance_sampling_is_better_in_every_seed_and_domain():
    assert len(tuned("slm_is")) == 3
    for domain in ("books", "ency", "med"):
        assert (tuned("slm_is", domain) < tuned("slm", domain)).all(), domain
    assert (gain(ROWS_OF_DEMO, "slm_is") < 0).all()


def test_it_is_below_lzma_in_every_seed():
    assert (tuned("slm_is") < others("lzma")).all()


def test_the_rows_are_of_one_table_of_ngrams():
    """Served bytes: 16.8M parameters of a table, 0.17M of all else, and the vocabulary."""
    for row in ROWS_OF_DEMO:
        if row["method"] in ("slm", "slm_is"):
            assert row["served_bytes"] == pytest.approx(4 * (2 * 131_072 * 64 + 0.17e6), rel=0.01)
