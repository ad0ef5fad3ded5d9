"""`specialm list`, and `--checkpoint` by a folder or a name without its hash."""

import json
import math
import re
import shutil
import signal
from pathlib import Path

import pytest

from specialm import cli
from specialm.common import signals
from specialm.common.errors import UserError
from specialm.specialize import finetune
from specialm.training import loop, runs
from specialm.workflows import listing

FEW_STEPS = ("--config.finetune.max_steps=4", "--config.finetune.eval_every=2")


def specialize(bank, notes, *argv):
    return cli.main(
        ["specialize", f"--checkpoint={bank / 'bank'}", f"--source={notes}", *FEW_STEPS, *argv]
    )


@pytest.fixture
def json_of(capsys):
    """Runs `specialm ...`: its JSON."""

    def run(*argv):
        capsys.readouterr()
        assert cli.main([*map(str, argv), "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    return run


@pytest.fixture(scope="module")
def workplace(bank, tmp_path_factory):
    """A folder in which an expert was taken out, fine-tuned, and adapted with LoRA."""
    root = tmp_path_factory.mktemp("workplace")
    texts = [json.loads(line)["text"] for line in (bank / "linalg.jsonl").read_text().splitlines()]
    (root / "notes").mkdir()
    for i, text in enumerate(texts[:30]):
        (root / "notes" / f"{i}.txt").write_text(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        assert specialize(bank, "notes") == 0
        assert specialize(bank, "notes", "--config.finetune.lora_rank=2") == 0
        assert specialize(bank, "notes", "--config.domain=notes", "--config.seed=3") == 0
    return root


def test_what_each_model_is(workplace, monkeypatch, json_of, capsys):
    monkeypatch.chdir(workplace)
    models = json_of("list")["models"]
    shown = [(m["method"], m["domain"], m["phase"], m["seed"], m["finished"]) for m in models]
    assert shown == [
        ("slm_pn", "notes", "expert", 0, True),
        ("slm_pn", "notes", "LoRA", 0, True),
        ("slm_pn", "notes", "fine-tuned", 0, True),
        ("slm_pn", "notes", "fine-tuned", 3, True),
    ]
    names = [Path(m["path"]).name for m in models]
    assert re.fullmatch(r"slm_pn-lora2-soup-notes-seed0-[0-9a-f]{10}", names[1])
    assert re.fullmatch(r"slm_pn-soup-notes-seed0-[0-9a-f]{10}", names[2])
    assert json_of("list", "--workdir=runs/notes")["models"] == models
    assert cli.main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5 and lines[0].split()[:5] == "model method domain phase seed".split()
    for name in ("phase", "state"):  # aligned
        start = lines[0].index(name)
        assert all(line[start - 2 : start] == "  " and line[start] != " " for line in lines)


def test_the_score_is_the_one_that_specialize_printed(
    workplace, bank, monkeypatch, json_of, capsys
):
    monkeypatch.chdir(workplace)
    printed = json_of("specialize", f"--checkpoint={bank / 'bank'}", "--source=notes", *FEW_STEPS)
    by_path = {model["path"]: model["scores"] for model in json_of("list")["models"]}
    for path, wanted in (
        (printed["checkpoint"], printed["heldout"]["scores"]["notes"]),
        (next(iter(by_path)), printed["before"]["notes"]),  # the expert
    ):
        for figure in ("perplexity", "bits_per_byte"):
            assert by_path[path]["notes"][figure] == pytest.approx(wanted[figure], abs=1e-5)
    # As text: the domain's, or the macro average of a model of no domain.
    assert cli.main(["list"]) == 0
    row = next(
        line for line in capsys.readouterr().out.splitlines() if printed["checkpoint"] in line
    )
    score = printed["heldout"]["scores"]["notes"]
    assert f"{score['perplexity']:.2f}" in row and f"{score['bits_per_byte']:.3f}" in row


def test_a_model_of_no_domain_has_the_macro_average(bank, tmp_path):
    model = tmp_path / "pretrained" / "slm-seed0-0123456789"
    model.mkdir(parents=True)
    (model / "inputs.json").write_text('{"method": "slm"}')
    (model / "stage.json").write_text('{"name": "pretrained/slm-seed0", "result": {}}')
    scores = {"a": (20.0, 10, 40), "b": (60.0, 20, 90), "generic": (9.0, 9, 9)}
    (tmp_path / "scores" / "x-1").mkdir(parents=True)
    result = {
        name: dict(nll=nll, tokens=tokens, bytes=size, windows=1)
        for name, (nll, tokens, size) in scores.items()
    }
    inputs = {"base": listing.find(tmp_path)[0].key}
    for folder, extra in (("x-1", {}), ("y-2", {"windows": ["z"]})):  # of some windows alone
        (tmp_path / "scores" / folder).mkdir(exist_ok=True)
        one = {"a": result["a"] | {"nll": 1e9}} if extra else result
        (tmp_path / "scores" / folder / "inputs.json").write_text("{}")
        (tmp_path / "scores" / folder / "stage.json").write_text(
            json.dumps({"inputs": inputs | extra, "result": one})
        )
    (row,) = listing.table(listing.find(tmp_path)).splitlines()[1:]
    bits = (20 / 40 + 60 / 90) / 2 / math.log(2)
    assert f"  {math.exp((2.0 + 3.0) / 2):.2f} " in row and f"  {bits:.3f} " in row
    assert "  a,b  " in row


def test_interrupted_runs_are_told_from_finished_ones(
    workplace, bank, monkeypatch, json_of, capsys
):
    monkeypatch.chdir(workplace)
    evaluate, calls = finetune._evaluate, []

    def failing(*given):
        calls.append(1)
        if len(calls) == 3:
            raise signals.Interrupted(signal.SIGINT, "its step is saved")
        return evaluate(*given)

    arguments = ["--config.seed=7", "--config.finetune.max_steps=6", "--workdir=runs/stopped"]
    with monkeypatch.context() as patch:
        patch.setattr(finetune, "_evaluate", failing)
        assert specialize(bank, "notes", *arguments) == 130
    tuned = json_of("list", "--workdir=runs/stopped")["models"][-1]
    assert tuned.pop("modified") > 0
    path = Path(tuned.pop("path"))
    assert tuned == {
        "method": "slm_pn",
        "domain": "notes",
        "phase": "fine-tuned",
        "seed": 7,
        "finished": False,
        "step": 2,
        "steps": 6,
        "scores": {},
    }
    assert cli.main(["list", "--workdir=runs/stopped"]) == 0
    assert "unfinished, step 2 of at most 6" in capsys.readouterr().out
    for given in (path, str(path)[:-11]):
        assert cli.main(["generate", f"--checkpoint={given}"]) == 2
        assert "no model there is finished" in capsys.readouterr().err
    assert specialize(bank, "notes", *arguments) == 0
    assert json_of("list", "--workdir=runs/stopped")["models"][-1]["finished"] is True


def test_an_interrupted_pretraining(bank, tmp_path, monkeypatch, json_of):
    def stopped(*_):
        raise signals.Interrupted(signal.SIGINT, "its step is saved")

    monkeypatch.setattr(loop, "pretrain", stopped)
    argv = [f"--config={bank / 'config.py'}", f"--workdir={tmp_path}", "--config.method=slm"]
    assert cli.main(["train", *argv]) == 130
    (model,) = json_of("list", f"--workdir={tmp_path}")["models"]
    assert (model["method"], model["phase"], model["finished"]) == ("slm", "pretrained", False)
    assert (model["step"], model["steps"]) == (None, 20)


def test_a_folder_means_the_only_model_in_it(workplace, monkeypatch, tmp_path, json_of, capsys):
    shutil.copytree(workplace / "runs/notes", tmp_path / "runs/notes")
    monkeypatch.chdir(tmp_path)
    models = [Path(m["path"]) for m in json_of("list")["models"] if m["phase"] != "expert"]
    assert cli.main(["generate", "--checkpoint=runs/notes", "--prompt=The"]) == 2
    error = capsys.readouterr().err
    assert "--checkpoint=runs/notes: 3 models there; give one of" in error
    rows = {line.split()[0]: line.split()[1:5] for line in error.splitlines()[2:]}
    assert rows == {  # without the expert that they were made from
        str(models[0]): ["slm_pn", "notes", "LoRA", "0"],
        str(models[1]): ["slm_pn", "notes", "fine-tuned", "0"],
        str(models[2]): ["slm_pn", "notes", "fine-tuned", "3"],
    }
    for path in models[:2]:
        shutil.rmtree(path)
    assert json_of("generate", "--checkpoint=runs/notes")["checkpoint"] == str(models[2])
    assert json_of("generate", "--checkpoint=runs")["checkpoint"] == str(models[2])
    shutil.rmtree(models[2])  # now the expert is what came out last
    assert "/experts/" in json_of("generate", "--checkpoint=runs/notes")["checkpoint"]


def test_a_name_without_its_hash(workplace, monkeypatch):
    monkeypatch.chdir(workplace)
    lora = "runs/notes/finetuned/slm_pn-lora2-soup-notes-seed0"
    (wanted,) = Path("runs/notes/finetuned").glob("slm_pn-lora2-*")
    assert listing.resolve(lora) == wanted
    assert listing.resolve(str(wanted)) == wanted
    for unknown in ("runs/notes/finetuned/slm_pn", "nowhere/at/all", "runs/notes/windows"):
        with pytest.raises(UserError, match=f"--checkpoint={unknown}: no model.json there"):
            runs.read_record(listing.resolve(unknown))


def test_of_a_search_the_chosen_model_counts(bank, workplace, tmp_path, monkeypatch, json_of):
    """All experts are adapted and listed; the folder means the one that was kept."""
    shutil.copytree(workplace / "notes", tmp_path / "notes")
    monkeypatch.chdir(tmp_path)
    how = ("--config.expert.choice=finetune_all", "--config.finetune.lora_rank=2", *FEW_STEPS)
    made = json_of("specialize", f"--checkpoint={bank / 'bank'}", "--source=notes", *how)
    models = json_of("list")["models"]
    assert len(models) == 2 * 4 + 1
    (kept,) = (model for model in models if model["path"] == made["checkpoint"])
    assert (kept["phase"], kept["step"], kept["steps"]) == ("LoRA", 4, 4)
    assert "finetuned/slm_pn-lora2-finetune_all-notes-seed0-" in kept["path"]
    assert listing.resolve("runs/notes") == Path(made["checkpoint"])
    # Before fine-tuning: the expert that the kept one was made from.
    (expert,) = Path("runs/notes/experts").glob(f"*-expert{made['expert']}-*")
    scored = json_of("evaluate", f"--checkpoint={expert}", "--source=notes")
    assert scored["scores"]["notes"]["nll"] == made["before"]["notes"]["nll"]


def test_a_copy_without_its_stage(workplace, tmp_path):
    (made,) = (workplace / "runs/notes/finetuned").glob("slm_pn-lora2-*")
    shutil.copytree(made, tmp_path / "mine")
    for name in ("stage.json", "inputs.json", "started.json"):
        (tmp_path / "mine" / name).unlink()
    (model,) = listing.find(tmp_path)
    assert (model.phase, model.finished, model.domain) == ("LoRA", True, "notes")
    assert listing.resolve(str(tmp_path)) == tmp_path / "mine"


def test_no_folder_and_an_empty_one(tmp_path, capsys):
    assert cli.main(["list", f"--workdir={tmp_path / 'x'}"]) == 2
    assert "no such folder" in capsys.readouterr().err
    assert cli.main(["list", f"--workdir={tmp_path}"]) == 0
    assert "no models there" in capsys.readouterr().out
