"""Importance sampling and a projected network on a model that reads and writes bytes."""

import conftest
import numpy as np
import pytest

import specialm
from specialm import cli
from specialm.common.errors import UserError
from specialm.models.parts import pieces
from specialm.specialize import distill
from specialm.training import runs, sharding

BYTES = {
    "data.longest_piece": 12,
    "model.embedder": "bytes",
    "model.byte_size": 8,
    "model.byte_heads": 2,
    "model.share": "mlp:all",
    "model.num_layers": 2,
    "domain": "linalg",
}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("tiny")
    conftest.write_docstrings(root)
    (root / "config.py").write_text(conftest.BANK_CONFIG.format(root=root))
    return root


def run(root, command, **settings):
    given = BYTES | {name.replace("__", "."): value for name, value in settings.items()}
    overrides = [f"--config.{name}={value}" for name, value in given.items()]
    return cli.main(
        [command, f"--config={root / 'config.py'}", f"--workdir={root / 'run'}", *overrides]
    )


@pytest.mark.parametrize(
    "method,head",
    [("slm_is", "bytes_in_turn"), pytest.param("slm_pn", "bytes", marks=pytest.mark.slow)],
)
def test_methods_train_and_specialise_the_model_of_bytes(root, method, head):
    for command in ("train", "specialize"):
        assert run(root, command, method=method, model__head=head) == 0
    (pretrained,) = (root / "run" / "pretrained").glob(f"{method}-*")
    (tuned,) = (root / "run" / "finetuned").glob(f"{method}-*")
    model = runs.load(tuned, sharding.make_mesh())
    first = runs.load(pretrained, sharding.make_mesh(), ("dense", "bank"))
    wanted = pieces.codes(model.vocabulary.pieces, model.config)
    np.testing.assert_array_equal(model.params["embed"]["codes"], wanted)
    shared = first.params.get("shared", first.params)
    np.testing.assert_array_equal(shared["embed"]["codes"], wanted)
    assert len(model.params["layers"]["mlp"]["up"]) == 1
    moved = np.abs(model.params["embed"]["bytes"] - shared["embed"]["bytes"]).max()
    assert 0 < moved < 1
    served = specialm.load(tuned)
    text = served.generate("The array", tokens=12, temperature=1.0)
    assert text.startswith("The array") and text.encode()
    scores = served.score(["The matrix is\x00 inverted. é"])
    assert np.isfinite(scores.nats).all() and scores.nats[0] > 0
    with pytest.raises(UserError, match="no other runtime has this architecture: .*embedder"):
        served.export(root / "exported", "gguf")
    with pytest.raises(UserError, match="predicts the bytes of a piece"):
        distill._check(model.config, model.config, None)


@pytest.mark.slow
def test_a_bank_of_tied_byte_vectors_gives_models_that_leave(root, monkeypatch):
    missing = {"checked": False, "why": "a test"}
    monkeypatch.setattr("specialm.serving.verify._missing", lambda *names: missing)
    settings = {"method": "slm_pn", "data__vocabulary_kind": "bpe", "model__embed_rank": 2}
    llama = {"norm": "rmsnorm", "positions": "rope", "mlp": "swiglu", "biases": False}
    settings |= {f"model__{name}": value for name, value in llama.items()}
    before = {*(root / "run" / "finetuned").glob("slm_pn-*")}
    for command in ("train", "specialize"):
        assert run(root, command, **settings) == 0
    (tuned,) = {*(root / "run" / "finetuned").glob("slm_pn-*")} - before
    served = specialm.load(tuned)
    assert np.any(served._model.params["embed"]["own"])
    served.export(root / "left", "hf")
    assert cli.main(["import", f"--hf={root / 'left'}", f"--workdir={root / 'again'}"]) == 0
    texts = ["The matrix is\x00 inverted. é", "def f(x):\n    return x"]
    (stage,) = (path.parent for path in (root / "again").rglob("model.json"))
    again = specialm.load(stage)
    assert again.config.embedder == "tokens"
    np.testing.assert_allclose(again.score(texts).nats, served.score(texts).nats, rtol=1e-4)


def test_pieces_that_are_too_long_are_said_with_the_setting(root, capsys):
    settings = {"model__head": "bytes", "data__longest_piece": 0, "model__byte_slots": 4}
    assert run(root, "train", method="slm", **settings) != 0
    assert "set data.longest_piece=4" in capsys.readouterr().err


@pytest.mark.slow
def test_patches_train_and_are_written_by_a_head_of_bytes(root):
    """Every patch fills all slots: only single bytes need the end mark."""
    given = {"data__vocabulary_kind": "patches", "data__longest_piece": 4, "model__byte_slots": 4}
    sizes = {"data__vocabulary_size": 400, "method": "slm", "model__head": "bytes_in_turn"}
    before = {*(root / "run" / "pretrained").glob("slm-seed*")}
    assert run(root, "train", domain="", **given, **sizes) == 0
    (pretrained,) = {*(root / "run" / "pretrained").glob("slm-seed*")} - before
    model = runs.load(pretrained, sharding.make_mesh())
    assert model.vocabulary.stride == 4 and model.vocabulary.size == 400
    codes = np.asarray(model.params["embed"]["codes"])
    assert (codes[259:] >= 0).all() and (codes[3:259, 1] == pieces.END).all()
    text = specialm.load(pretrained).generate("The array", tokens=8, temperature=1.0)
    assert text.startswith("The array")
