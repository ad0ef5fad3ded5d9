import jax
import numpy as np
import pytest

from specialm.common.errors import UserError
from specialm.evaluation import perplexity
from specialm.models import transformer
from specialm.training import scoring, sharding, step


@pytest.fixture(scope="module")
def params(tiny_model):
    # Large initial values, so that the tokens' likelihoods differ.
    return jax.tree.map(lambda x: 8 * x, transformer.init(tiny_model, jax.random.key(1)))


def reference(params, config, store, indices):
    """Float64 NumPy from the model's logits: nats, tokens and bytes of the windows."""
    total, tokens = 0.0, 0
    targets_BxL = store.read(indices)
    inputs_BxL = np.pad(targets_BxL, ((0, 0), (1, 0)))[:, :-1]
    logits_BxLxV = np.asarray(transformer.logits(params, inputs_BxL, config), np.float64)
    for index, targets, logits in zip(indices, targets_BxL, logits_BxLxV, strict=True):
        size = int(store.sizes_N[index])
        logits, peak = logits[:size], logits[:size].max(-1)
        log_sum = peak + np.log(np.exp(logits - peak[:, None]).sum(-1))
        total += float((log_sum - logits[np.arange(size), targets[:size]]).sum())
        tokens += size
    return total, tokens, int(store.bytes_N[indices].sum())


def score(config, params, store, indices, batch_size):
    mesh = sharding.make_mesh()
    return scoring.score(
        step.make_score_step(config, mesh), params, store, indices, batch_size, mesh
    )


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_perplexity_against_numpy(params, tiny_model, store, batch_size):
    """Short windows, a part-filled last batch: exact to 1e-6 all the same."""
    indices = np.concatenate([np.argsort(store.sizes_N)[:10], np.arange(13)])
    assert store.sizes_N[indices].min() < store.context
    nll, tokens, size = reference(params, tiny_model, store, indices)
    scored = score(tiny_model, params, store, indices, batch_size)
    assert (scored.tokens, scored.bytes, scored.windows) == (tokens, size, 23)
    assert scored.nll_per_token == pytest.approx(nll / tokens, rel=1e-6)
    # What is 1e-6 of the loss, 17 nats here, is 17e-6 of its exponential.
    assert scored.perplexity == pytest.approx(np.exp(nll / tokens), rel=1e-6 * nll / tokens)
    assert scored.bits_per_byte == pytest.approx(nll / np.log(2) / size, rel=1e-6)


def test_no_windows_is_an_error(params, tiny_model, store):
    with pytest.raises(UserError, match="no windows to score"):
        score(tiny_model, params, store, np.array([], int), 8)


def test_macro_is_the_exponential_of_the_mean_nll():
    scores = {"a": scoring.Score(200.0, 100, 400, 1), "b": scoring.Score(300.0, 100, 250, 1)}
    rows = perplexity.rows("slm", "pretrained", 3, 1000, scores)
    assert [row["domain"] for row in rows] == ["a", "b", "macro"]
    assert rows[2]["perplexity"] == pytest.approx(np.exp(2.5))  # not the mean of e^2 and e^3
    assert rows[2]["bits_per_byte"] == pytest.approx((0.5 + 1.2) / np.log(2) / 2)
    assert rows[0] == {
        "method": "slm",
        "domain": "a",
        "phase": "pretrained",
        "seed": 3,
        "train_tokens": 1000,
        "nll_per_token": 2.0,
        "perplexity": pytest.approx(np.exp(2)),
        "bits_per_byte": pytest.approx(0.5 / np.log(2)),
    }


def test_macro_of_mixed_rows_is_refused():
    rows = [
        perplexity.row("slm", "a", "pretrained", seed, 1, scoring.Score(1.0, 1, 4, 1))
        for seed in (0, 1)
    ]
    with pytest.raises(ValueError, match="2 kinds"):
        perplexity.macro(rows)
