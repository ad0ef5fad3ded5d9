"""The domains of one bank behind a server: each is what its projection gives, made when asked for."""

import concurrent.futures
import json
import weakref

import jax
import numpy as np
import pytest

pytest.importorskip("uvicorn")
pytest.importorskip("starlette")

from serving_client import GPT2, Client, model, running  # noqa: E402

from specialm.common.errors import UserError  # noqa: E402
from specialm.models import families, tensors, transformer  # noqa: E402
from specialm.serving import generate  # noqa: E402
from specialm.serving.decoding.sampling import Sampling  # noqa: E402
from specialm.serving.server.banks import Bank  # noqa: E402
from specialm.serving.server.limits import Limits, Refused  # noqa: E402
from specialm.training import runs  # noqa: E402

LIMITS = Limits(rows=4, waiting=6, held=2, seconds=60)
K = 3
MIXES = {
    "med": np.array([1.0, 0, 0]),
    "law": np.array([0.25, 0.75, 0]),
    "books": np.array([0.2, 0.3, 0.5]),
}


@pytest.fixture(scope="module")
def bank_model(vocabulary, tmp_path_factory):
    """A projected network of three experts with random values, only layer 1 in the bank."""
    dense = transformer.Config(vocab_size=vocabulary.size, context=48, **GPT2)
    config = families.bank.Config(dense, families.PROJECTED, K, rank=3, code=2, layers=(1,))
    rng = np.random.default_rng(0)
    constants = families.constants(config, vocabulary.token_bytes)
    params = jax.tree.map(
        lambda leaf: leaf + 0.2 * rng.normal(size=leaf.shape).astype(np.float32),
        tensors.init(families.declare(config), jax.random.key(0), constants),
    )
    params["mixer"] = jax.tree.map(  # experts differ
        lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), params["mixer"]
    )
    path = tmp_path_factory.mktemp("bundle") / "bank"
    path.mkdir()
    (path / "model.json").write_text("{}")
    return runs.Model(path, config, params, vocabulary, {"method": "slm_pn", "seed": 0})


@pytest.fixture(scope="module")
def experts():
    return runs.Experts(np.eye(K, dtype=np.float32), np.full(K, 1 / K), "clusters")


@pytest.fixture
def bank(bank_model, experts):
    return Bank("bank", bank_model, experts, MIXES, LIMITS)


def alone(bank_model, experts, domain, prompt, seeds=(0,), **sampling):
    """What the domain's dense model continues a prompt with, for each seed."""
    mix_k = MIXES[domain].astype(np.float32)
    params = families.expert(bank_model.config, bank_model.params, experts.features_kxC, mix_k)
    dense, wanted = bank_model.config.model, [Sampling(seed=seed, **sampling) for seed in seeds]
    engine = generate.engine(params, dense, bank_model.vocabulary, 1)
    ids = generate.encode(bank_model.vocabulary, dense, prompt, wanted[0])
    return [generate.complete(engine, [ids], each)[0].text for each in wanted]


def test_every_domain_is_a_model(bank, bank_model, experts, bpe_vocabulary):
    """Also with fewer models in memory than domains, and beside a model of another vocabulary."""
    other = model("other", bpe_vocabulary, GPT2, LIMITS)
    wanted = {
        name: alone(bank_model, experts, name, "The array", range(3), tokens=12, temperature=1.0)
        for name in MIXES
    }
    assert len(set(map(tuple, wanted.values()))) == 3
    body = {"prompt": "The array", "max_tokens": 12, "temperature": 1, "seed": 0, "n": 3}
    with running([other], LIMITS, banks=[bank]) as port:
        client = Client(port)
        names = [each["id"] for each in json.loads(client.get("/v1/models")[1])["data"]]
        assert names == ["other", "bank/med", "bank/law", "bank/books"]
        status, about = client.get("/v1/models/bank/law")
        about = json.loads(about)
        assert status == 200 and (about["domain"], about["method"]) == ("law", "slm_pn")
        assert about["max_model_len"] == 48 and bank.in_memory() == []
        assert all(name in client.get("/")[1] for name in names)
        for name in [*MIXES, *MIXES, "books"]:
            status, answer = client.post("/v1/completions", {**body, "model": f"bank/{name}"})
            assert status == 200 and answer["model"] == f"bank/{name}"
            assert [choice["text"] for choice in answer["choices"]] == wanted[name]
            assert len(bank.in_memory()) <= 2
        # The text that is scored is scored by the domain's own model.
        bits = {
            name: client.post("/score", {"model": f"bank/{name}", "text": "The array"})[1]
            for name in MIXES
        }
        assert len({found["bits_per_byte"] for found in bits.values()}) == 3
        for path in ("/v1/completions", "/score"):
            for name in ("bank/none", "bank", "bank/", "none"):
                status, error = client.post(path, {**body, "text": "a", "model": name})
                there = f"no model {name!r}; there are other, bank/med, bank/law, bank/books."
                assert status == 404 and error["error"]["message"] == there
        assert client.get("/v1/models/bank/none")[0] == 404
        # Tokens of the other model's vocabulary: a sentence, and the server goes on.
        beyond = {"model": "bank/med", "prompt": [bank_model.vocabulary.size]}
        status, error = client.post("/v1/completions", beyond)
        assert status == 400 and "are these another model's?" in error["error"]["message"]
        text = client.get("/metrics")[1]
        assert 'specialm_unfinished{model="bank"} 0.0' in text
        assert 'specialm_drawn_tokens_total{model="bank/books"}' in text
        status, answer = client.post("/v1/completions", {**body, "model": "bank/med"})
        assert status == 200 and answer["choices"][0]["text"] == wanted["med"][0]


def test_many_clients_over_more_domains_than_are_held(bank, bank_model, experts):
    body = {"prompt": "Return", "max_tokens": 8, "temperature": 0}
    wanted = {name: alone(bank_model, experts, name, "Return", tokens=8) for name in MIXES}

    def ask(number):
        name = list(MIXES)[number % 3]
        while True:
            status, answer = Client(port).post("/v1/completions", {**body, "model": f"bank/{name}"})
            if status == 200:
                return [answer["choices"][0]["text"]] == wanted[name]
            assert status == 503 and "are at work; try again" in answer["error"]["message"]

    with running([], LIMITS, banks=[bank]) as port:
        with concurrent.futures.ThreadPoolExecutor(6) as pool:
            assert all(pool.map(ask, range(36)))
        assert len(bank.in_memory()) == 2


def test_what_domains_share_is_held_once(bank):
    """Everything but the MLP of the one layer that is in the bank."""
    med, law = (bank.get(name).worker.engine.params for name in ("med", "law"))
    same = jax.tree.map(lambda a, b: a is b, med, law)
    assert all(jax.tree.leaves({**same, "layers": same["layers"][0]}))
    layer = same["layers"][1]
    assert not any(jax.tree.leaves(layer.pop("mlp")))
    assert all(jax.tree.leaves(layer))


def test_the_least_recently_asked_for_goes_and_its_memory_with_it(bank):
    first = bank.get("med")
    law = weakref.ref(bank.get("law"))
    thread = law().worker._thread
    assert bank.held("med") is first  # asked for again
    bank.get("books")
    assert bank.held("law") is None and bank.held("med") is first
    thread.join(timeout=20)
    assert not thread.is_alive() and law() is None


def test_a_model_that_left_memory_still_answers_who_had_found_it(bank):
    import asyncio

    async def late():
        served = bank.get("med")
        bank.get("law")
        bank.get("books")  # med is retired
        served.worker._thread.join(timeout=20)
        assert not served.worker._thread.is_alive()
        (job,) = served.worker.submit([[5, 6]], [Sampling(tokens=3)], False)
        found = [delta async for delta in job.stream()]
        assert sum(len(delta.tokens) for delta in found) == 3 and found[-1].finish
        assert len(await served.score("a")) >= 2

    asyncio.run(late())


def test_when_all_are_at_work_others_wait(bank):
    for name in ("med", "law"):
        bank.get(name).worker._unfinished = 1
    with pytest.raises(Refused, match="all 2 models of bank that are held") as caught:
        bank.get("books")
    assert caught.value.status == 503 and caught.value.retry
    assert bank.get("med")


def test_a_bank_without_domains(bank_model, experts):
    with pytest.raises(UserError, match="there is no domain of it"):
        Bank("bank", bank_model, experts, {}, LIMITS)
