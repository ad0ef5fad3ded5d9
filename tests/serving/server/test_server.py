"""The server as its clients see it, over a socket."""

import dataclasses
import http.client
import json
import threading
import time

import jax
import numpy as np
import pytest

pytest.importorskip("uvicorn")
pytest.importorskip("starlette")

from serving_client import GPT2, LLAMA, Client, model, running  # noqa: E402

from specialm.models import decoder  # noqa: E402
from specialm.serving import generate  # noqa: E402
from specialm.serving.decoding.sampling import Sampling  # noqa: E402
from specialm.serving.server.limits import Limits  # noqa: E402

DECODE = jax.jit(decoder.decode, static_argnums=5)
LIMITS = Limits(body_bytes=50_000, prompts=4, tokens=400, rows=4, waiting=6, scored_bytes=3000)
DRAWN = {"temperature": 1.1, "top_p": 0.9, "seed": 5, "max_tokens": 20}


@pytest.fixture(scope="module")
def models(vocabulary, bpe_vocabulary):
    return [
        model("generic", vocabulary, GPT2, LIMITS),
        model("specialised", bpe_vocabulary, LLAMA, LIMITS),
    ]


@pytest.fixture(scope="module")
def client(models):
    with running(models, LIMITS) as port:
        yield Client(port)


def alone(served, prompt, **sampling):
    wanted = Sampling(**sampling)
    ids = generate.encode(served.vocabulary, served.config, prompt, wanted)
    return generate.complete(served.worker.engine.anew(), [ids], wanted)[0]


def values(text, name):
    """{labels: value} of a metric."""
    lines = [line for line in text.splitlines() if line.startswith(f"specialm_{name}")]
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines}


def test_a_completion_is_what_generation_gives(client, models):
    for served in models:
        status, body = client.post(
            "/v1/completions", {"model": served.name, "prompt": "The array", **DRAWN, "logprobs": 2}
        )
        wanted = alone(
            served, "The array", tokens=20, temperature=1.1, top_p=0.9, seed=5, top_logprobs=2
        )
        (choice,) = body["choices"]
        assert status == 200 and body["object"] == "text_completion"
        assert (choice["text"], choice["finish_reason"]) == (wanted.text, wanted.finish)
        logprobs = choice["logprobs"]
        np.testing.assert_allclose(logprobs["token_logprobs"], wanted.logprobs, atol=1e-4)
        assert [bytes(each) for each in logprobs["bytes"]] == [t.content for t in wanted.tokens]
        assert all(len(each) <= 2 for each in logprobs["top_logprobs"])
        assert body["usage"] == {
            "prompt_tokens": wanted.prompt_tokens,
            "completion_tokens": len(wanted.tokens),
            "total_tokens": wanted.prompt_tokens + len(wanted.tokens),
        }


def test_several_prompts_and_several_continuations(client, models):
    body = {"prompt": ["The", "Return"], "n": 2, "echo": True, **DRAWN}
    _, answer = client.post("/v1/completions", body)
    assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2, 3]
    for choice, (prompt, seed) in zip(
        answer["choices"], [("The", 5), ("The", 6), ("Return", 5), ("Return", 6)], strict=True
    ):
        wanted = alone(models[0], prompt, tokens=20, temperature=1.1, top_p=0.9, seed=seed)
        assert choice["text"] == prompt + wanted.text
    ids = models[0].vocabulary.encode(["The", "Return"])
    assert answer["usage"]["prompt_tokens"] == sum(map(len, ids))
    _, by_ids = client.post("/v1/completions", {**body, "prompt": ids})
    assert [c["text"] for c in by_ids["choices"]] == [c["text"] for c in answer["choices"]]


def test_a_stream_is_the_whole_answer_in_parts(client, models):
    body = {"prompt": "The array", **DRAWN, "logprobs": 0, "stop": ["e\n", "xq"]}
    _, whole = client.post("/v1/completions", body)
    events = client.stream("/v1/completions", {**body, "stream_options": {"include_usage": True}})
    assert events[-1] == "[DONE]"
    parts = [json.loads(event) for event in events[:-1]]
    assert "".join(p["choices"][0]["text"] for p in parts[:-1]) == whole["choices"][0]["text"]
    assert parts[-1]["usage"] == whole["usage"] and parts[-1]["choices"] == []
    assert [p["choices"][0]["finish_reason"] for p in parts[:-1] if p["choices"]][-1] == (
        whole["choices"][0]["finish_reason"]
    )
    logps = [x for p in parts[:-1] for x in p["choices"][0]["logprobs"]["token_logprobs"]]
    np.testing.assert_allclose(logps, whole["choices"][0]["logprobs"]["token_logprobs"], atol=1e-4)


def test_the_list_of_models(client):
    status, text = client.get("/v1/models")
    assert status == 200
    assert [each["id"] for each in json.loads(text)["data"]] == ["generic", "specialised"]
    assert json.loads(client.get("/v1/models/specialised")[1])["max_model_len"] == 48
    assert client.get("/v1/models/other")[0] == 404


def test_scores_are_those_of_the_full_forward_pass(client, models):
    text = "Return a new array of given shape — é." * 4
    for served in models:
        status, found = client.post("/score", {"model": served.name, "text": text})
        assert status == 200 and found["bytes"] == len(text.encode())
        tokens = [*served.vocabulary.encode([text])[0], served.vocabulary.eos]
        context, bits = served.config.context, []
        for first in range(0, len(tokens), context):
            window = np.array(tokens[first : first + context])
            inputs = np.zeros((1, context), np.int32)
            inputs[0, : len(window)] = [served.vocabulary.start, *window[:-1]]
            caches = decoder.init_caches(served.config, 1, context)
            states, _ = DECODE(
                served.worker.engine.params, inputs, caches, 0, np.zeros(1, int), served.config
            )
            logits = np.asarray(
                decoder.scores(served.worker.engine.params, states[0], served.config), np.float64
            )
            log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
            bits += (-log_p[range(len(window)), window] / np.log(2)).tolist()
        np.testing.assert_allclose([t["bits"] for t in found["tokens"]], bits, rtol=1e-3)
        assert found["bits_per_byte"] == pytest.approx(sum(bits) / found["bytes"], rel=1e-3)
        content = b"".join(bytes(token["bytes"]) for token in found["tokens"])
        assert content.decode() == text


WRONG = {
    b"{": (400, "is not JSON"),
    b"\xff{}": (400, "not UTF-8 from byte 0"),
    b"[1]": (400, "must be an object"),
    b'{"prompt": 5}': (400, "prompt: must be a text"),
    b'{"prompt": [[1, "a"]]}': (400, "prompt: must be a text"),
    b'{"prompt": [99999]}': (400, "the token 99999 is not in the vocabulary of generic"),
    b'{"prompt": "\\ud800 half"}': (400, "prompt: is not UTF-8 from character 0"),
    b'{"model": "other"}': (404, "no model 'other'; there are generic, specialised"),
    b'{"model": 1}': (400, "model: must be text"),
    b'{"max_tokens": 401}': (400, "max_tokens: must be a whole number between 0 and 400"),
    b'{"max_tokens": -1}': (400, "max_tokens: must be"),
    b'{"temperature": -1}': (400, "temperature=-1.0: must be between 0 and 100"),
    b'{"temperature": NaN}': (400, "temperature=nan"),
    b'{"temperature": "hot"}': (400, "temperature: must be a number"),
    b'{"top_p": 0}': (400, "top_p=0.0: must be above 0"),
    b'{"stop": ["a", 1]}': (400, "stop: must be a text or a list"),
    b'{"stop": ["\\ud800"]}': (400, "is not UTF-8"),
    b'{"stop": [""]}': (400, "stop="),
    b'{"n": 5}': (400, "n: must be a whole number between 1 and 4"),
    b'{"prompt": ["a", "b", "c"], "n": 2}': (400, "3 with n=2 is more than 4"),
    b'{"stream": 1}': (400, "stream: must be true or false"),
    b'{"logprobs": 21}': (400, "logprobs: must be a whole number between 0 and 20"),
    b'{"logit_bias": {"5": 1}}': (400, "logit_bias: is not offered"),
    b'{"echo": true, "logprobs": 1}': (400, "POST the text to /score"),
    b'{"seed": 1.5}': (400, "seed: must be a whole number"),
    b'{"prompt": "' + b"a b " * 40 + b'"}': (400, "prompt: has"),
    b'{"prompt": "' + b"a" * 60_000 + b'"}': (413, "more than 50,000 bytes"),
    b"[" * 40_000: (400, "is not JSON"),
}


def test_wrong_bodies_get_sentences_and_the_server_goes_on(client):
    for body, (status, message) in WRONG.items():
        found, answer = client.post("/v1/completions", body)
        assert (found, message in answer["error"]["message"]) == (status, True), (body[:60], answer)
    status, answer = client.post("/v1/chat/completions", {"messages": [{"role": "user"}]})
    assert status == 400 and "content" in answer["error"]["message"]
    status, answer = client.post(
        "/v1/chat/completions", {"messages": [{"role": "user", "content": "x"}]}
    )
    assert status == 400 and "no chat template" in answer["error"]["message"]
    assert client.post("/score", {"text": ""})[0] == client.post("/score", {"text": "a" * 3001})[0]
    headers = {"Content-Type": "text/plain"}
    connection, response = client.send("POST", "/v1/completions", b"{}", headers)
    assert response.status == 415
    connection.close()
    assert client.get("/v1/completions")[0] == 405 and client.get("/nothing")[0] == 404
    assert client.post("/v1/completions", {"prompt": "The", "max_tokens": 2})[0] == 200


def test_a_page_from_elsewhere_cannot_use_it_by_another_name(models):
    with running([model("m", models[0].vocabulary, GPT2, LIMITS)], hosts=("127.0.0.1",)) as port:
        client = Client(port)
        assert client.get("/health", Host="evil.example")[0] == 421
        assert client.get("/health", Host=f"127.0.0.1:{port}")[0] == 200


def test_the_token(models):
    served = model("m", models[0].vocabulary, GPT2, LIMITS)
    with running([served], LIMITS, token="secret") as port:
        body = {"prompt": "The", "max_tokens": 1}
        for token, status in (
            ("", 401),
            ("wrong", 401),
            ("secre", 401),
            ("secrét", 401),
            ("secret", 200),
        ):
            headers = {"Authorization": f"Bearer {token}".encode()} if token else {}
            assert Client(port).post("/v1/completions", body, **headers)[0] == status
        assert Client(port).get("/metrics")[0] == 401
        assert Client(port).get("/health")[0] == 200
        assert "Token of this server" in Client(port).get("/")[1]


def wait_for(condition, seconds=60):
    deadline = time.time() + seconds
    while not condition():
        assert time.time() < deadline
        time.sleep(0.01)


def test_a_client_that_leaves_frees_its_row(models):
    limits = dataclasses.replace(LIMITS, rows=1, waiting=2, tokens=100_000)
    served = model("m", models[0].vocabulary, GPT2, limits)
    with running([served], limits) as port:
        client = Client(port)
        # Drawn, a text may end by itself before anybody looks.
        long = {"prompt": "The", "max_tokens": 100_000, "slide": True, "temperature": 0}
        client.stream("/v1/completions", long, leave_after=1)
        wait_for(lambda: served.worker.unfinished == 0)
        connection = http.client.HTTPConnection("127.0.0.1", port)
        connection.request(
            "POST", "/v1/completions", json.dumps(long), {"Content-Type": "application/json"}
        )
        wait_for(lambda: served.worker.unfinished == 1)
        connection.close()
        assert client.post("/v1/completions", {"prompt": "The", "max_tokens": 3})[0] == 200
        wait_for(lambda: served.worker.unfinished == 0)
        assert served.worker.running == 0
        name = 'specialm_cancelled_total{model="m"}'
        wait_for(lambda: values(client.get("/metrics")[1], "cancelled_total").get(name) == 2)


def test_too_many_and_too_slow_requests_are_refused(models):
    limits = dataclasses.replace(LIMITS, rows=1, waiting=1, seconds=0.4)
    served = model("m", models[0].vocabulary, GPT2, limits)
    step = served.worker.engine.step

    def slow():
        time.sleep(0.15)
        return step()

    served.worker.engine.step = slow
    with running([served], limits) as port:
        client, found = Client(port), []
        body = {"prompt": "The", "max_tokens": 400, "slide": True, "temperature": 1, "seed": 1}

        def ask():
            found.append(client.post("/v1/completions", body))

        threads = [threading.Thread(target=ask) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        statuses = sorted(status for status, _ in found)
        assert statuses == [503, 504, 504]
        messages = " ".join(answer["error"]["message"] for _, answer in found)
        assert "try again" in messages and "more than 0.4 s" in messages
        while served.worker.unfinished:
            time.sleep(0.02)
        last = json.loads(client.stream("/v1/completions", body)[-1])
        assert last["error"]["code"] == 504


def test_a_step_that_fails_ends_its_texts_and_nothing_else(models, capfd):
    served = model("m", models[0].vocabulary, GPT2, LIMITS)

    def broken():
        raise RuntimeError("out of memory")

    served.worker.engine.step = broken
    with running([served], LIMITS) as port:
        body = {"prompt": "The", "max_tokens": 3, "temperature": 0}
        status, answer = Client(port).post("/v1/completions", body)
        assert status == 500 and "the model failed (RuntimeError)" in answer["error"]["message"]
        status, answer = Client(port).post("/v1/completions", body)
        assert status == 200
        assert answer["choices"][0]["text"] == alone(served, "The", tokens=3).text
    assert "out of memory" in capfd.readouterr().err


def test_metrics_count_what_happened(models):
    served = model("m", models[0].vocabulary, GPT2, LIMITS)
    with running([served], LIMITS) as port:
        client = Client(port)
        answers = [
            client.post("/v1/completions", {"prompt": "The", "max_tokens": n, "temperature": 1})[1]
            for n in (3, 5)
        ]
        client.post("/v1/completions", b"{")
        status, text = client.get("/metrics")
        assert status == 200
        drawn = sum(answer["usage"]["completion_tokens"] for answer in answers)
        read = sum(answer["usage"]["prompt_tokens"] for answer in answers)
        assert values(text, "drawn_tokens_total") == {
            'specialm_drawn_tokens_total{model="m"}': drawn
        }
        assert values(text, "prompt_tokens_total") == {
            'specialm_prompt_tokens_total{model="m"}': read
        }
        requests = values(text, "requests_total")
        route = 'specialm_requests_total{route="/v1/completions",status='
        assert (requests[route + '"200"}'], requests[route + '"400"}']) == (2, 1)
        assert values(text, "running") == {'specialm_running{model="m"}': 0}


def test_the_page_refers_to_nothing_outside(client):
    status, page = client.get("/")
    assert status == 200 and "Models side by side" in page
    assert "generic</option>" in page and "specialised</option>" in page
    assert "http://" not in page and "https://" not in page and "//cdn" not in page
