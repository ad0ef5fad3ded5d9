"""Changes of the recipe: what they set, the table, and a grid in small."""

import json
import math

import conftest
import pytest

from benchmarks import recipe_choices


def row(choice: str, seed: int, bits: float) -> dict:
    return {
        "method": "slm_is",
        "domain": "med",
        "choice": choice,
        "seed": seed,
        "tokens": 1000,
        "before": bits + 1,
        "after": bits,
    }


def test_changes_are_seed_by_seed():
    rows = [row("recipe", seed, bits) for seed, bits in enumerate((2.0, 3.0, 4.0))]
    rows += [row("uniform replay", seed, bits) for seed, bits in enumerate((1.98, 2.94, 3.88))]
    lines = recipe_choices.summary(rows)
    assert lines[2] == "| `slm_is` | recipe | 1,000 | 3.000 | 3.000 |  | 3 |"
    half = 4.30265 * 1.0 / math.sqrt(3)  # Student's t of 2 degrees of freedom; -1, -2 and -3%
    shown = f"-2.0 ± {half:.1f}%"
    assert lines[3] == f"| `slm_is` | uniform replay | 1,000 | 2.933 | 2.933 | {shown} | 3 |"


def test_a_change_is_of_the_domains_that_both_have():
    """And a macro average of all of them."""
    rows = [row("recipe", 0, 2.0), {**row("recipe", 0, 4.0), "domain": "books"}]
    rows += [row("uniform replay", 0, 2.2)]
    lines = recipe_choices.summary(rows)
    assert lines[2] == "| `slm_is` | recipe | 1,000 | 4.000 | 2.000 | 3.000 |  | 1 |"
    assert lines[3] == "| `slm_is` | uniform replay | 1,000 |  | 2.200 |  | +10.0% | 1 |"


def test_what_there_is_not_is_named(capsys):
    with pytest.raises(SystemExit):
        recipe_choices.parsed(["--choices=recipe; two heads"])
    assert "--choices: 'two heads': must be some of recipe; table" in capsys.readouterr().err


def test_every_choice_is_a_change_of_the_recipe():
    recipe = recipe_choices.config_of("recipe", "slm_is", ["med"], [])
    seen = {recipe.to_json()}
    for choice in recipe_choices.CHOICES:
        if choice != "recipe":
            changed = recipe_choices.config_of(choice, "slm_is", ["med"], []).to_json()
            assert changed not in seen
            seen.add(changed)


@pytest.mark.slow
def test_a_grid_in_small_goes_on(tmp_path, monkeypatch, capsys):
    """With specialist text in pretraining a model of the domain is another one from the start."""
    conftest.write_docstrings(tmp_path)
    (tmp_path / "config.py").write_text(conftest.BANK_CONFIG.format(root=tmp_path))
    monkeypatch.setattr(recipe_choices, "CONFIG", str(tmp_path / "config.py"))
    out = tmp_path / "rows.jsonl"
    given = [f"--out={out}", f"--workdir={tmp_path / 'runs'}", "--domains=linalg", "--method=slm"]
    given += ["--set=train.tokens=6400", "--set=data.specialist_tokens=400"]
    choices = ["recipe", "uniform replay, 3% specialist text"]
    recipe_choices.main([*given, "--choices=recipe"])
    recipe_choices.main([*given, f"--choices={';'.join(choices)}"])
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [line["choice"] for line in rows] == choices
    assert rows[0]["before"] != rows[1]["before"] and rows[0]["after"] != rows[1]["after"]
    monkeypatch.setattr(recipe_choices, "row", None)
    capsys.readouterr()
    recipe_choices.main([*given, f"--choices={';'.join(choices)}"])
    assert "| `slm` | uniform replay, 3% specialist text |" in capsys.readouterr().out
