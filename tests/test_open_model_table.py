"""`benchmarks.open_model` on a tiny model: all rows on the same windows, resumed, rates chosen."""

import contextlib
import io
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import open_model
from specialm import cli

SMALL = {"d_ff": 8}
METHODS = ("ngram", "open", "open_ft", "small_is", "small_taught", "scratch_is")
TINY = {
    "data.specialist_tokens": 600,
    "data.heldout_tokens": 400,
    "finetune.max_steps": 4,
    "finetune.eval_every": 2,
    "finetune.batch_size": 8,
    "clustering.k": 4,
}


@pytest.fixture(scope="module")
def table(bank):
    """Runs the benchmark on the model of `bank`'s text: (its rows, what it printed)."""
    argv = [f"--config={bank / 'config.py'}", f"--workdir={bank / 'run'}"]
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        assert cli.main(["train", *argv, "--config.method=slm", "--json"]) == 0
    base = json.loads(printed.getvalue())["checkpoint"]
    out = bank / "rows.jsonl"

    def run(capsys, *words):
        given = [f"--set={name}={value}" for name, value in TINY.items()]
        given += [f"--init={base}", f"--small={json.dumps(SMALL)}", "--domains=linalg"]
        given += [f"--out={out}", f"--workdir={bank / 'table'}", *words]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", ["open_model", *given])
            small = {"budgets": (640,)}
            ways = {
                n: open_model.dataclasses.replace(open_model.WAYS[n], **small)
                if open_model.WAYS[n].method
                else open_model.WAYS[n]
                for n in METHODS
            }
            patch.setattr(open_model, "WAYS", ways)
            open_model.main()
        (last,) = [word for word in given if word.startswith("--out=")][-1:]
        lines = Path(last.removeprefix("--out=")).read_text().splitlines()
        return [json.loads(line) for line in lines], capsys.readouterr().out

    return run


@pytest.mark.slow
def test_rows_of_every_kind_and_no_row_twice(table, capsys):
    rows, _ = table(capsys, f"--methods={','.join(METHODS)}", "--seeds=0")
    assert [row["method"] for row in rows] == [
        *("ngram", "open", "open_ft", "open_ft"),
        *(name for name in METHODS[3:] for _ in range(2)),
    ]
    by = {row["method"]: row for row in rows}
    assert by["open"]["heldout_before"] == by["open"]["heldout_after"]
    assert by["open_ft"]["heldout_before"] == by["open"]["heldout_before"]
    assert by["open_ft"]["heldout_after"] != by["open"]["heldout_after"]
    assert by["small_taught"]["params"] == by["scratch_is"]["params"] < by["open"]["params"]
    assert by["ngram"]["train_flops"] == 0 < by["open_ft"]["train_flops"]
    assert by["scratch_is"]["train_flops"] < by["small_taught"]["train_flops"]  # with its teacher
    assert all(np.isfinite(row["heldout_after"]) and row["served_bytes"] > 0 for row in rows)

    assert all(row["dtype"] == "float32" and row["device"] for row in rows)
    assert by["small_taught"]["seconds"] > by["open_ft"]["seconds"]  # its teacher is one

    again, said = table(capsys, "--methods=open,open_ft", "--seeds=0,1")
    assert again[: len(rows)] == rows
    new = again[len(rows) :]
    tried = {row["learning_rate"]: row["valid_after"] for row in rows if row["method"] == "open_ft"}
    assert [(row["method"], row["seed"]) for row in new] == [("open", 1), ("open_ft", 1)]
    assert new[1]["learning_rate"] == min(tried, key=tried.__getitem__)
    assert "| `open_ft` | 0 |" in said


@pytest.mark.slow
def test_what_is_forgotten_is_not_missed(table, capsys, bank):
    """Rows are the same whether models are removed once they are scored; a teacher stays."""
    methods = ("open_ft", "small_is", "small_taught")
    words = (f"--methods={','.join(methods)}", "--seeds=0", "--budgets=640")
    whole, _ = table(capsys, *words)
    less, _ = table(capsys, *words, "--forget", f"--workdir={bank / 'less'}", f"--out={bank / 'l'}")
    scores = ("valid_before", "valid_after", "heldout_before", "heldout_after")
    wanted = [row for row in whole if row["method"] in methods and row["seed"] == 0]
    assert [[row[n] for n in scores] for row in less] == [
        [row[n] for n in scores] for row in wanted
    ]
    left = [path.name for path in (bank / "less" / "finetuned").iterdir()]
    assert left and not [name for name in left if "slm_is_d" in name]
