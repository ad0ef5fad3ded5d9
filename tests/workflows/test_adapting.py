"""`specialm adapt`: run folders with a new vocabulary, and what is said of wrong input."""

import json
import shutil

import conftest
import jax
import numpy as np
import pytest

from specialm import cli
from specialm.evaluation import cost
from specialm.models import tensors, transformer
from specialm.specialize import adaptation
from specialm.training import runs, sharding
from specialm.workflows import adapting, listing, open_models

BERT = (
    "--config.model.causal=False",
    "--config.train.objective=masked",
    "--config.model.positions=rope",
    "--config.model.head=untied",
)
SMALL = ("--config.data.vocabulary_size=380",)


def call(capsys, *argv):
    capsys.readouterr()
    status = cli.main([*argv, "--json"])
    captured = capsys.readouterr()
    assert status == 0, captured.err
    return json.loads(captured.out)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("adapting")
    conftest.write_docstrings(root, linalg=120)
    (root / "config.py").write_text(conftest.BANK_CONFIG.format(root=root))
    return root


def pretrained(root, name, *more):
    argv = ["train", f"--config={root / 'config.py'}", f"--workdir={root / name}"]
    argv += ["--config.method=slm", "--config.model.num_layers=3", *more]
    assert cli.main(argv) == 0
    (made,) = (root / name / "pretrained").glob("slm-*")
    return made


@pytest.fixture(scope="module")
def decoder(root):
    """With a head behind its first layer, learned positions and tied embeddings."""
    more = ("--config.model.exits=(1,)", "--config.data.vocabulary_kind=bpe")
    return pretrained(root, "decoder", *more)


def adapt(capsys, root, base, *more):
    argv = ["adapt", f"--from={base}", f"--source={root / 'linalg.jsonl'}", *more]
    return call(capsys, *argv, f"--workdir={root / 'out'}")


def check_body(base, found):
    """All but the rows of tokens is as it was, bit for bit."""
    before, after = (runs.load(path, sharding.make_mesh()) for path in (base, found["checkpoint"]))
    assert after.config.vocab_size == after.vocabulary.size == found["vocabulary_size"]
    rows = adaptation.row_tensors(after.config)
    for path, _ in tensors.flatten(transformer.declare(after.config)):
        if path not in rows:
            was, now = (tensors.get(model.params, path) for model in (before, after))
            np.testing.assert_array_equal(was, now)
    return before, after


def test_a_decoder_learns_rows_through_its_first_layers(root, decoder, capsys):
    """And is then a run folder like any other: it is exported and continues a text."""
    found = adapt(capsys, root, decoder, "--via=mini_joint", "--tokens=3000", *SMALL)
    before, after = check_body(decoder, found)
    assert (found["via"], found["init"], found["layer"]) == ("mini_joint", "focus", 1)
    assert found["steps"] == round(3000 / (8 * 16)) and found["best_step"] > 0
    rows = cost.special(after.record["ledger"])
    assert 0 < rows.flops == found["flops"] and rows.tokens == found["tokens"]
    head = 2 * after.config.d_model * before.config.vocab_size
    assert found["one_off_flops"] == 3 * head * 20 * 8 * 16
    assert found["after"]["bytes"] == found["before"]["bytes"]
    assert found["after"]["bits_per_byte"] < found["before"]["bits_per_byte"]
    saved = 1 - found["after"]["tokens"] / found["before"]["tokens"]
    assert found["tokens_saved"] == pytest.approx(saved)
    assert [entry["phase"] for entry in after.record["ledger"]] == ["pretrained", "adapted"]
    (listed,) = (m for m in listing.find(root / "out") if m.phase == "adapted")
    assert listed.finished and listed.domain == "linalg" and listed.scores
    again = adapt(capsys, root, decoder, "--via=mini_joint", "--tokens=3000", *SMALL)
    assert again["reused"] and again["checkpoint"] == found["checkpoint"]

    checkpoint = f"--checkpoint={found['checkpoint']}"
    assert call(capsys, "generate", checkpoint, "--prompt=The matrix")["text"]
    hf = root / "exported"
    assert call(capsys, "export", checkpoint, f"--to={hf}")
    assert json.loads((hf / "config.json").read_text())["vocab_size"] == 380


@pytest.mark.slow
def test_an_adapted_model_is_specialised(root, decoder, capsys):
    """Under another name of the same text, too, which is scored anew."""
    found = adapt(capsys, root, decoder, "--via=none", "--init=fvt", "--vocabulary=extend")
    argv = [f"--checkpoint={found['checkpoint']}", f"--workdir={root / 'out'}", "--name=more"]
    argv += [f"--source={root / 'linalg.jsonl'}", "--config.finetune.max_steps=2"]
    tuned = call(capsys, "specialize", *argv)
    assert tuned["before"]["more"]["bits_per_byte"] == pytest.approx(
        found["after"]["bits_per_byte"], rel=1e-4
    )


def test_the_old_vocabulary_is_fitted(root, decoder, capsys):
    """Without training: tokens that both have keep their rows."""
    found = adapt(capsys, root, decoder, "--via=none", "--init=fvt", "--vocabulary=extend")
    before, after = check_body(decoder, found)
    assert found["tokens_saved"] > 0 and found["steps"] == 0 == found["flops"]
    old, new = before.vocabulary.token_bytes, after.vocabulary.token_bytes
    same = [i for i in range(400) if old[i] == new[i]]
    assert 257 <= len(same) < 400
    rows = [np.asarray(model.params["embed"]["tokens"])[same] for model in (before, after)]
    np.testing.assert_allclose(*rows, rtol=1e-6)


@pytest.mark.slow
def test_the_old_models_likelihoods_are_matched(root, decoder, capsys):
    """Beside those of the text; the old model's reading is in the cost."""
    plain, half = (
        adapt(capsys, root, decoder, "--tokens=3000", *SMALL, f"--distill={weight}")
        for weight in ("0", "0.5")
    )
    assert plain["checkpoint"] != half["checkpoint"] and plain["flops"] < half["flops"]
    assert half["best_step"] > 0
    assert half["after"]["bits_per_byte"] < half["before"]["bits_per_byte"]
    check_body(decoder, half)


class Stop(Exception):
    """Ends a command."""


@pytest.mark.slow
def test_a_masked_model_gets_layers_on_its_first_ones(root, capsys, monkeypatch):
    """MiniPost, an untied head, rotary positions; the source text is the run's own or a given one."""
    base = pretrained(root, "bert", *BERT)
    more = ("--via=mini_post", "--new_layers=1", "--init=subword_mean", *SMALL)
    argv = (*more, "--tokens=2000", "--mini_tokens=1500", f"--generic={root / 'generic.jsonl'}")
    found = adapt(capsys, root, base, *argv)
    before, after = check_body(base, found)
    assert found["layer"] == 1 and not found["causal"]
    ledger = after.record["ledger"]
    assert [entry["phase"] for entry in ledger] == ["pretrained", "mini", "adapted"]
    assert found["one_off_flops"] == ledger[1]["flops"] > 0
    assert cost.generic(ledger).flops == ledger[0]["flops"] + ledger[1]["flops"]
    (mini,) = (root / "out" / "adapting").glob("mini-*")
    shallow = runs.load(mini, sharding.make_mesh())
    assert shallow.config.num_layers == 2 and shallow.vocabulary.sha256 == before.vocabulary.sha256
    for path in adaptation.row_tensors(before.config):
        rows = [tensors.get(model.params, path) for model in (before, shallow)]
        np.testing.assert_array_equal(*rows)
    first = jax.tree.map(lambda leaf: leaf[0], [before.params["layers"], shallow.params["layers"]])
    jax.tree.map(np.testing.assert_array_equal, *first)
    learnt = runs.load(
        next((root / "out" / "adapting").glob("rows-mini_post-*")), sharding.make_mesh()
    )
    for path in adaptation.row_tensors(after.config):
        rows = [tensors.get(model.params, path) for model in (learnt, after)]
        np.testing.assert_array_equal(*rows)

    some = adapt(capsys, root, base, *argv, "--config.evaluate.hidden_every=4")
    assert some["reused"] and some["after"]["tokens"] == found["after"]["tokens"]
    for name in ("before", "after"):
        assert some[name]["nll"] != pytest.approx(found[name]["nll"], rel=1e-6)

    def stop(*given):
        raise Stop

    monkeypatch.setattr(adapting, "_learnt", stop)  # after the shallow model, which is there
    other = ["adapt", f"--from={base}", f"--source={root / 'generic.jsonl'}", "--name=more"]
    with pytest.raises(Stop):
        cli.main([*other, *argv, f"--workdir={root / 'out'}"])
    assert list((root / "out" / "adapting").glob("mini-*")) == [mini]


def copy_of(base, path):
    """A run folder whose neighbours, the windows of generic text, are not there."""
    shutil.copytree(base, path)
    return path


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("--from=",), "--from is missing"),
        (("--via=mini",), "--via=mini: must be one of full, mini_joint, mini_post, none"),
        (("--init=best",), "--init=best: must be one of random, overlap, subword_mean, fvt"),
        (("--vocabulary=old",), "--vocabulary=old: must be one of new, extend"),
        (("--tokens=-1",), "--tokens=-1: must be at least 0"),
        (("--distill=2",), "--distill=2: must be between 0 and 1"),
        (("--distill=much",), "--distill=much: must be a number"),
        (("--distill=0.5", "--via=none"), "--distill=0.5: --via=none trains nothing"),
        (
            ("--via=mini_joint", "--layer=2"),
            "--layer=2: --via=mini_joint needs a head behind this layer",
        ),
        (("--via=mini_joint", "--layer=4"), "--layer=4: must be between 1 and 3"),
        (("--layer=1",), "--layer=1: is for --via=mini_joint and mini_post"),
        (("--via=mini_post", "--layer=3"), "--layer=3: --via=mini_post keeps some"),
        (("--via=mini_post", "--new_layers=0"), "--new_layers=0: must be at least 1"),
        (("--config=x.py",), "--config=x.py: adapt has the settings of the model in --from"),
        (("--via=mini_post",), "--via=mini_post: needs text that the model was pretrained on"),
        (("--init=wechsel",), "--init=wechsel: needs text that the model was pretrained on"),
        (
            ("--config.data.vocabulary_size=90000",),
            "the vocabulary of linalg: data.vocabulary_size=90000: at most",
        ),
        (("--source=nowhere",), "nowhere"),
    ],
)
def test_what_is_wrong_is_named(root, decoder, tmp_path, capsys, argv, message):
    base = copy_of(decoder, tmp_path / "alone" / "decoder")
    given = [f"--from={base}", f"--source={root / 'linalg.jsonl'}", *argv]
    status = cli.main(["adapt", *given, f"--workdir={tmp_path / 'work'}"])
    error = capsys.readouterr().err
    assert status == 2 and message in error, error


def test_wechsel_asks_for_a_dictionary(root, decoder, tmp_path, capsys):
    given = [f"--from={decoder}", f"--source={root / 'linalg.jsonl'}", "--init=wechsel"]
    given += [f"--generic={root / 'generic.jsonl'}", f"--workdir={tmp_path}", *SMALL]
    assert cli.main(["adapt", *given]) == 2
    assert "needs --dictionary=FILE" in capsys.readouterr().err
    (tmp_path / "pairs").write_text("the\tthe\nof\tof\narray\tarray\n")
    found = call(capsys, "adapt", *given, "--via=none", f"--dictionary={tmp_path / 'pairs'}")
    assert found["init"] == "wechsel" and found["after"]["nll"] > 0


def test_an_imported_model_has_more_rows_than_tokens(root, bpe_vocabulary, tmp_path, capsys):
    """As many open checkpoints have; the rest are of no token, and are left."""
    sizes = transformer.Config(
        vocab_size=520, context=16, num_layers=2, d_model=8, num_heads=2, d_ff=16, positions="rope"
    )
    base = tmp_path / "pretrained" / "open"
    params = jax.jit(transformer.init, static_argnums=0)(sizes, jax.random.key(0))
    runs.save(base, jax.device_get(params))
    about = {"name": "Theirs", "format": "hf", "source": "somewhere", "licence": "mit"}
    about |= {"sha256": "0" * 64, "architecture": "llama", "context": 16}
    settings = open_models.settings(sizes, 520)
    entry = {"phase": "imported", "tokens": 0, "flops": 0, "seconds": 0.0, "model": "Theirs"}
    origin = {"settings": settings, "imported": about}
    runs.describe(base, sizes, bpe_vocabulary, "imported", "", 0, [entry], origin)
    found = adapt(capsys, root, base, "--via=none", "--init=overlap", *SMALL)
    before, after = check_body(base, found)
    assert after.config.vocab_size == 380 and after.record["imported"] == about
    assert [entry["phase"] for entry in after.record["ledger"]] == ["imported", "adapted"]
    extended = adapt(capsys, root, base, "--via=none", "--init=fvt", "--vocabulary=extend")
    assert extended["vocabulary_size"] == 512 and extended["tokens_saved"] > 0


def test_a_folder_without_a_model_is_named_with_its_option(capsys):
    assert cli.main(["adapt", "--from=/nowhere", "--source=folder:docs"]) == 2
    assert "--from=/nowhere: no model.json there" in capsys.readouterr().err
