import jax
import jax.numpy as jnp
import numpy as np
import pytest

from specialm.common.errors import UserError
from specialm.models import transformer
from specialm.serving.generate import generate


@pytest.fixture(scope="module")
def params(tiny_model):
    return jax.tree.map(lambda x: 5 * x, transformer.init(tiny_model, jax.random.key(3)))


def greedy(params, config, vocabulary, text, count):
    """Step by step with windows of exactly the right length."""
    tokens = vocabulary.encode([text])[0]
    for _ in range(count):
        seen = ([0] + tokens)[-config.context :]
        logits = transformer.logits(params, jnp.array([seen]), config)[0, -1]
        token = int(np.argmax(logits))
        if token == vocabulary.eos:
            break
        tokens.append(token)
    return vocabulary.decode(tokens)


def test_greedy_text_is_the_argmax_even_beyond_the_window(params, tiny_model, vocabulary):
    prompt = "Return a new array of given shape and type"
    assert len(vocabulary.encode([prompt])[0]) > tiny_model.context
    made = generate(params, tiny_model, vocabulary, prompt, 8, 0.0, 5, seed=0)
    assert made == greedy(params, tiny_model, vocabulary, prompt, 8)
    assert made.startswith(prompt) and len(made) > len(prompt)


def test_sampling_depends_on_the_seed_alone(params, tiny_model, vocabulary):
    texts = [
        generate(params, tiny_model, vocabulary, "The", 12, 1.5, 50, seed) for seed in (1, 1, 2)
    ]
    assert texts[0] == texts[1] != texts[2]


def test_errors(params, tiny_model, vocabulary):
    with pytest.raises(UserError, match="generate.top_k=0"):
        generate(params, tiny_model, vocabulary, "x", 1, 1.0, 0, 0)
    with pytest.raises(UserError, match="generate.temperature=-1"):
        generate(params, tiny_model, vocabulary, "x", 1, -1, 5, 0)
