"""The tables of the open checkpoint are those of the committed rows."""

import json
from pathlib import Path

import numpy as np

from benchmarks import open_model, open_model_figure
from specialm.reports.charts import in_files

ROOT = Path(__file__).parents[2]
RESULTS = (ROOT / "results" / "README.md").read_text()
ROWS = [json.loads(s) for s in (ROOT / "results/open_model/rows.jsonl").read_text().splitlines()]
DOMAINS = ["med", "ency", "books"]
README = {  # a line of README.md's table -> method
    "LZMA with all text in front": "lzma",
    "n-grams": "ngram",
    "the open checkpoint, untouched": "open",
    "fine-tuned, all parameters": "open_ft",
    "fine-tuned, LoRA": "open_lora",
    "importance-sampled for 200k tokens, then fine-tuned": "open_is",
    "one upcycled bank of 8 experts for all three, then fine-tuned": "open_pn",
}


def scores(method, tokens=None):
    """{domain: held-out bits per byte at the chosen rate}"""
    chosen = open_model.chosen_rates(ROWS)
    found = {}
    for row in ROWS:
        key = ("default", row["size"], row["tokens"], row["method"])
        if row["method"] == method and tokens in (None, row["tokens"]):
            if chosen.get(key, row["learning_rate"]) == row["learning_rate"]:
                found[row["domain"]] = row["heldout_after"]
    return np.array([found[domain] for domain in DOMAINS if domain in found])


def test_the_table():
    assert "\n".join(open_model.table(ROWS, DOMAINS)) in RESULTS


def test_the_table_of_the_front_page():
    page = (ROOT / "README.md").read_text()
    for name, method in README.items():
        cells = " | ".join(f"{score:.3f}" for score in scores(method))
        assert f"| {name} | {cells} |" in page


def test_what_is_said_of_it():
    untouched, tuned, drawn = (scores(name) for name in ("open", "open_ft", "open_is"))
    assert np.round(100 * (1 - tuned / untouched)).tolist() == [12, 19, 3]
    assert (drawn < tuned).all()
    assert np.round(100 * (1 - drawn / tuned), 1).tolist() == [0.7, 0.1, 0.4]
    assert (np.abs(scores("open_pn") / drawn - 1) < 0.0035).all()
    small, taught = scores("small_is", 200_000), scores("small_taught")
    assert 1.75 < small.min() < small.max() < 2.65
    gains = 1 - taught / small[[0, 2]]
    assert np.round(100 * gains).tolist() == [8, 10]


def test_the_figure_is_drawn_from_the_rows():
    for domain in DOMAINS:
        found = open_model_figure.scores(ROWS, domain)
        assert list(found) == [name for name in open_model_figure.NAMES if name in found]
        assert len(found) >= 8 and min(found, key=found.__getitem__) in open_model_figure.OURS
    assert in_files(open_model_figure.chart(ROWS), ["svg"])["svg"]


def test_the_table_of_a_step_on_a_cpu():
    page = (ROOT / "docs" / "performance.md").read_text()
    path = ROOT / "results" / "open_model" / "step.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert len({round(row["loss"], 2) for row in rows}) == 1
    for row in rows:
        start = f"| {row['side']} | {row['dtype']} | {row['seconds']:.2f} | "
        between = f"{row['range'][0]:.2f} to {row['range'][1]:.2f}"
        memory = f"{row['peak_bytes'] / 1e9:.1f}"
        assert f"{start}{between} | {row['ratio']:.2f} | {memory} |" in page
    ratios = {(row["side"], row["dtype"]): row["ratio"] for row in rows}
    assert all(0.94 < ratios[side, "float32"] < 0.98 for side, _ in ratios if side != "ours")
    assert all(0.4 < ratios[side, "bfloat16"] < 0.6 for side, _ in ratios if side != "ours")
