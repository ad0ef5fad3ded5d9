"""From text to a specialised model whose embedder reads n-grams: trained, tuned, served, refused."""

import conftest
import jax
import numpy as np
import pytest

import specialm
from specialm import cli
from specialm.common.errors import UserError
from specialm.models import transformer
from specialm.training import runs, sharding

SETTINGS = {"model.embedder": "ngrams", "model.ngram_rows": 500, "domain": "linalg"}


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """The folder of a specialised model of importance sampling."""
    root = tmp_path_factory.mktemp("ngrams")
    conftest.write_docstrings(root)
    (root / "config.py").write_text(conftest.BANK_CONFIG.format(root=root))
    given = [f"--config.{name}={value}" for name, value in SETTINGS.items()]
    given += [f"--config={root / 'config.py'}", f"--workdir={root / 'run'}"]
    for command in ("train", "specialize"):
        assert cli.main([command, *given, "--config.method=slm_is"]) == 0
    (found,) = (root / "run" / "finetuned").glob("slm_is-*")
    return found


def test_the_tables_are_trained(tuned):
    model = runs.load(tuned, sharding.make_mesh())
    (first,) = (tuned.parents[1] / "pretrained").glob("slm_is-*")
    before = runs.load(first, sharding.make_mesh()).params["embed"]["ngrams"]
    assert before.shape == (1000, model.config.d_model)
    assert 0 < np.abs(model.params["embed"]["ngrams"] - before).max() < 1


def test_what_is_served_is_the_likeliest_of_the_full_forward_pass(tuned):
    """Token by token; a prompt of one token, whose n-grams begin before the text, too."""
    model = runs.load(tuned, sharding.make_mesh())
    served = specialm.load(tuned)
    for prompt in ("The array", "T"):
        text = served.generate(prompt, tokens=8, temperature=0.0)
        tokens = [model.vocabulary.start, *model.vocabulary.encode([prompt])[0]]
        count = len(tokens)
        for _ in range(8):
            scores_LxV = transformer.logits(
                model.params, np.array([tokens], np.int32), model.config
            )[0]
            tokens.append(int(np.argmax(scores_LxV[-1])))
            if tokens[-1] in model.vocabulary.stops:
                tokens.pop()
                break
        assert text == prompt + model.vocabulary.decode(tokens[count:])


def test_scores_are_those_of_the_full_forward_pass(tuned):
    model, text = runs.load(tuned, sharding.make_mesh()), "The matrix."
    tokens = [*model.vocabulary.encode([text])[0], model.vocabulary.eos]
    inputs = np.array([[model.vocabulary.start, *tokens[:-1]]], np.int32)
    scores_LxV = transformer.logits(model.params, inputs, model.config)[0]
    log_p_LxV = jax.nn.log_softmax(scores_LxV)
    wanted = -sum(float(log_p_LxV[i, token]) for i, token in enumerate(tokens))
    assert specialm.load(tuned).score([text]).nats[0] == pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize(
    "layout,message", [("gguf", "architecture: .*embedder"), ("onnx", "has no graph here")]
)
def test_what_no_other_runtime_has_is_said(tuned, tmp_path, layout, message):
    with pytest.raises(UserError, match=message):
        specialm.load(tuned).export(tmp_path / "exported", layout)
