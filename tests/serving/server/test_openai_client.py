"""The server as OpenAI's own client library sees it."""

import pytest

openai = pytest.importorskip("openai")
pytest.importorskip("uvicorn")
pytest.importorskip("starlette")

from serving_client import GPT2, model, running  # noqa: E402

from specialm.serving import generate  # noqa: E402
from specialm.serving.decoding.sampling import Sampling  # noqa: E402
from specialm.serving.server.limits import Limits  # noqa: E402

LIMITS = Limits(rows=2, tokens=100)
DRAWN = {"temperature": 0.9, "seed": 3, "max_tokens": 8}


@pytest.fixture(scope="module")
def served(vocabulary):
    return model("special", vocabulary, GPT2, LIMITS)


@pytest.fixture(scope="module")
def client(served):
    with running([served], LIMITS) as port:
        yield openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="-", max_retries=0)


@pytest.fixture(scope="module")
def wanted(served):
    sampling = Sampling(tokens=8, temperature=0.9, seed=3)
    ids = generate.encode(served.vocabulary, served.config, "The array", sampling)
    return generate.complete(served.worker.engine.anew(), [ids], sampling)[0]


def test_a_completion_whole_and_in_a_stream(client, wanted):
    given = {"model": "special", "prompt": "The array", **DRAWN}
    whole = client.completions.create(**given, logprobs=1)
    (choice,) = whole.choices
    assert (choice.text, choice.finish_reason) == (wanted.text, wanted.finish)
    assert choice.logprobs.token_logprobs == pytest.approx(wanted.logprobs, abs=1e-4)
    assert whole.usage.completion_tokens == len(wanted.tokens)
    parts = [part.choices[0].text for part in client.completions.create(**given, stream=True)]
    assert "".join(parts) == wanted.text


def test_models_and_errors_are_those_of_the_library(client):
    assert [each.id for each in client.models.list()] == ["special"]
    with pytest.raises(openai.NotFoundError, match="special"):
        client.completions.create(model="other", prompt="The", max_tokens=2)
    with pytest.raises(openai.BadRequestError, match="logit_bias"):
        client.completions.create(model="special", prompt="The", logit_bias={"5": 1})
    with pytest.raises(openai.BadRequestError, match="template"):
        client.chat.completions.create(
            model="special", messages=[{"role": "user", "content": "What is an array?"}]
        )
