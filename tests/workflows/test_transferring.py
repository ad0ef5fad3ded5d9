"""`specialm transfer`: a task learnt, asked again with an adapted model's embeddings, resumed, and
what is said of wrong input."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from test_adapting import BERT, SMALL, adapt, call, decoder, pretrained, root  # noqa: F401

from specialm import cli
from specialm.data import labelled
from specialm.models import tensors, transformer
from specialm.specialize import adaptation, finetune, task_tuning
from specialm.training import runs, sharding
from specialm.training.checkpoints import Checkpoints
from specialm.workflows.transferring import RECORD

QUICK = (
    "--config.finetune.max_steps=60",
    "--config.finetune.eval_every=20",
    "--config.finetune.learning_rate=1e-2",
)


@pytest.fixture(scope="module")
def tasks(root):  # noqa: F811
    """Files of examples whose class is told by their last word, of pairs and of questions."""
    rng = np.random.default_rng(0)
    words = {"yes": ["array", "axis", "shape"], "no": ["the", "of", "is"]}

    def some(words, count=4):
        return " ".join(rng.choice(words, count))

    def write(name, rows):
        path = root / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path

    labels = ["yes", "no"] * 60
    classes = [{"text": some(words[label]), "label": label} for label in labels]
    spans = []
    for _ in range(100):
        context = f"{some(words['no'], rng.integers(9))} matrix {some(words['no'], 9)}"
        answer = {"text": "matrix", "answer_start": context.index("matrix")}
        spans.append({"context": context, "question": "what", "answers": [answer]})
    return {
        "classes": write("classes.jsonl", classes),
        "test": write("test.jsonl", classes[:30]),
        "spans": write("spans.jsonl", spans),
    }


def transfer(capsys, root, base, *more):  # noqa: F811
    return call(capsys, "transfer", f"--from={base}", *more, f"--workdir={root / 'out'}", *QUICK)


def loaded(found, config):
    """The tuned parameters of a task of two classes."""
    declared = task_tuning.declare(config, "classification", 2)
    with Checkpoints(Path(found["checkpoint"]) / "checkpoints", read_only=True) as saved:
        return saved.restore_finished(tensors.abstract(declared))[1]


def labels_in(figures):
    """The predictions of a test set."""
    lines = Path(figures["predictions"]).read_text().splitlines()
    return [json.loads(line)["prediction"] for line in lines]


def by_hand(tuned, folder, test):
    """The same of a causal model: the tuned body reads each text with another model's rows and
    vocabulary."""
    other = runs.load(folder, sharding.make_mesh())
    body = {**other.params, "position": tuned["position"], "layers": tuned["layers"]}
    body["heads"] = tuned["heads"]
    texts = [json.loads(line)["text"] for line in test.read_text().splitlines()]
    vocabulary = other.vocabulary
    rows = [[vocabulary.start, *each, vocabulary.eos] for each in vocabulary.encode(texts)]
    inputs = np.zeros((len(rows), max(map(len, rows))), np.int32)
    for number, row in enumerate(rows):
        inputs[number, : len(row)] = row
    states = np.asarray(transformer.hidden(body, inputs, other.config)["last"])
    last = states.reshape(*inputs.shape, -1)[range(len(rows)), [len(row) - 1 for row in rows]]
    head = tuned["task"]
    scores = last @ np.asarray(head["out"]) + np.asarray(head["bias"])
    return [("no", "yes")[number] for number in scores.argmax(1)]


def test_a_task_is_learnt_and_asked_with_other_embeddings(root, decoder, tasks, capsys):  # noqa: F811
    """The first run learns; the second one uses it again under the vocabulary of an adapted model.
    Rows of tokens stay as they were, what was learnt is the body's and the head's."""
    argv = (f"--task={tasks['classes']}", f"--test={tasks['test']}")
    found = transfer(capsys, root, decoder, *argv)
    test = found["tests"][str(tasks["test"])]
    assert found["labels"] == ["no", "yes"] and found["kind"] == "classification"
    assert found["examples"] + found["valid_examples"] == 120 and found["cut"] == 0
    assert test["accuracy"] > 0.9 > test["majority"] == 0.5 and test["examples"] == 30
    given = labels_in(test)
    right = [json.loads(line)["label"] for line in tasks["test"].read_text().splitlines()]
    assert np.mean(np.equal(given, right)) == pytest.approx(test["accuracy"])

    base = runs.load(decoder, sharding.make_mesh())
    params, config = task_tuning.last_head_alone(base.params, base.config)
    tuned = loaded(found, config)
    for path, _ in tensors.flatten(transformer.declare(config)):
        same = np.array_equal(tensors.get(tuned, path), tensors.get(params, path))
        assert same == (path in adaptation.row_tensors(config)), path
    record = json.loads((Path(found["checkpoint"]) / RECORD).read_text())
    assert [entry["phase"] for entry in record["ledger"]] == ["pretrained", "task"]
    layers = task_tuning._layers_flops(dataclasses.replace(config, context=found["length"]))
    assert found["flops"] - found["valid_flops"] == found["tokens"] * 3 * layers

    other = adapt(capsys, root, decoder, "--via=none", "--init=fvt", *SMALL)
    swapped = transfer(capsys, root, decoder, *argv, f"--adapted={other['checkpoint']}")
    assert swapped["reused"] and swapped["checkpoint"] == found["checkpoint"]
    assert swapped["tests"][str(tasks["test"])] == test
    of = swapped["swapped"][str(tasks["test"])]
    assert labels_in(of) == by_hand(tuned, other["checkpoint"], tasks["test"])
    assert np.mean(np.equal(labels_in(of), right)) == pytest.approx(of["accuracy"])
    assert (
        cli.main(["transfer", f"--from={decoder}", *argv, *QUICK, f"--workdir={root / 'out'}"]) == 0
    )
    said = capsys.readouterr().out
    assert "classification, 2 labels" in said and "the most frequent label 0.500" in said


def test_the_swap_reads_with_the_other_models_rows(root, decoder, tasks, capsys):  # noqa: F811
    """An adapted model whose rows are the old ones answers as the model itself does."""
    argv = (f"--task={tasks['classes']}", f"--test={tasks['test']}")
    same = root / "same"
    shutil.copytree(decoder, same, dirs_exist_ok=True)
    found = transfer(capsys, root, decoder, *argv, f"--adapted={same}")
    (own,), (other,) = found["tests"].values(), found["swapped"].values()
    assert own["accuracy"] == other["accuracy"] and own["macro_f1"] == other["macro_f1"]


@pytest.mark.slow
def test_questions_to_a_masked_model(root, tasks, capsys):  # noqa: F811
    base = pretrained(root, "asked", *BERT, "--config.data.context=24")
    argv = (f"--task={tasks['spans']}", f"--test={tasks['spans']}")
    found = transfer(capsys, root, base, *argv)
    (test,) = found["tests"].values()
    assert found["kind"] == "spans" and found["labels"] == [] and found["divided"] > 0
    assert test["f1"] > 0.8 and found["unseen"] == 0
    assert test["divided"] > 0 and test["examples"] == 100
    argv = ["transfer", f"--from={base}", *argv, *QUICK, f"--workdir={root / 'out'}"]
    assert cli.main(argv) == 0
    said = capsys.readouterr().out
    assert "exact match" in said and "did not fit into a window and is read in several" in said


class Killed(Exception):
    """Ends a training."""


@pytest.mark.slow
def test_a_killed_training_goes_on(root, decoder, tasks, capsys, monkeypatch):  # noqa: F811
    """From its last checkpoint, to the same figures."""
    more = ("--config.seed=3", "--config.finetune.checkpoint_every=20")
    argv = ["transfer", f"--from={decoder}", f"--task={tasks['classes']}", *QUICK, *more]
    whole = call(capsys, *argv, f"--workdir={root / 'whole'}")
    judge, calls = finetune.Kept.judge, []

    def failing(self, *given):
        calls.append(given)
        if len(calls) == 4:
            raise Killed
        judge(self, *given)

    with monkeypatch.context() as patch:
        patch.setattr(finetune.Kept, "judge", failing)
        with pytest.raises(Killed):
            cli.main([*argv, f"--workdir={root / 'killed'}"])
    resumed = call(capsys, *argv, f"--workdir={root / 'killed'}")
    assert resumed["steps"] == whole["steps"] and not resumed["reused"]
    assert resumed["valid_nll"] == pytest.approx(whole["valid_nll"], rel=1e-5)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--from=",), "--from is missing"),
        (("--task=",), "--task is missing: a file of labelled examples"),
        (("--task=nowhere",), "--task=nowhere: no such file"),
        (("--task=tfds:nothing",), "no such task; there are multi_nli"),
        (("--length=17",), "--length=17: must be between 0 and the 16 tokens"),
        (("--length=3",), "--length=3: must be at least 4"),
        (("--adapted={decoder}",), "needs --test=FILE in its language"),
        (("--adapted=nowhere", "--test={test}"), "--adapted=nowhere: no model.json there"),
        (("--adapted={other}", "--test={test}"), "its body is not that of --from="),
        (("--test={spans}",), "is for spans, --task for classification"),
        (("--test={unknown}",), "the label 'maybe' is none of those of --task: no, yes"),
        (("--config.finetune.lora_rank=4",), "finetune.lora_rank=4: transfer trains the whole"),
        (("--config=x.py",), "--config=x.py: transfer has the settings of the model in --from"),
    ],
)
def test_what_is_wrong_is_named(root, decoder, tasks, capsys, tmp_path, more, message):  # noqa: F811
    unknown = tmp_path / "unknown.jsonl"
    unknown.write_text('{"text": "one", "label": "maybe"}\n')
    places = {**tasks, "unknown": unknown, "decoder": decoder}
    if "--adapted={other}" in more:
        places["other"] = pretrained(root, "stranger", "--config.seed=5")
    given = [each.format(**places) for each in more]
    argv = [f"--from={decoder}", f"--task={tasks['classes']}", f"--workdir={tmp_path / 'work'}"]
    capsys.readouterr()
    status = cli.main(["transfer", *argv, *given])
    error = capsys.readouterr().err
    assert status == 2 and message in error, error


def test_examples_that_do_not_fit_are_counted(root, decoder, tasks, capsys):  # noqa: F811
    more = ("--length=8", f"--test={tasks['test']}", "--config.finetune.max_steps=1")
    argv = ["transfer", f"--from={decoder}", f"--task={tasks['classes']}", *more]
    assert cli.main([*argv, f"--workdir={root / 'out'}"]) == 0
    said = capsys.readouterr().out
    assert "--task: " in said and "did not fit into a window and lost their ends" in said
    assert labelled.read(str(tasks["test"]), "test").left_out == 0
