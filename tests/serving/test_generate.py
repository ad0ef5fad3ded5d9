import json

import jax
import numpy as np
import pytest
from decoding_reference import continued

from specialm.common.errors import UserError
from specialm.models import transformer
from specialm.serving import continuing, generate
from specialm.serving.decoding.sampling import Sampling


@pytest.fixture(scope="module")
def params(tiny_model):
    return jax.tree.map(lambda x: 5 * x, transformer.init(tiny_model, jax.random.key(3)))


@pytest.fixture(scope="module")
def engine(params, tiny_model, vocabulary):
    return generate.engine(params, tiny_model, vocabulary)


def made(engine, prompts, sampling):
    encoded = [generate.encode(engine.vocabulary, engine.config, p, sampling) for p in prompts]
    return generate.complete(engine, encoded, sampling)


def test_texts_are_those_of_the_full_forward_pass_even_beyond_the_window(
    engine, params, tiny_model, vocabulary
):
    prompts = ["Return a new array of given shape and type", "The"]
    assert len(vocabulary.encode(prompts[:1])[0]) > tiny_model.context
    for temperature in (0.0, 1.2):
        sampling = Sampling(tokens=20, temperature=temperature, slide=True, seed=4)
        for prompt, completion in zip(prompts, made(engine, prompts, sampling), strict=True):
            ids = vocabulary.encode([prompt])[0]
            wanted, logps = continued(
                params, tiny_model, ids, sampling, vocabulary.start, vocabulary.stops
            )
            assert [token.id for token in completion.tokens] == wanted
            np.testing.assert_allclose(completion.logprobs, logps, atol=1e-4)
            content = b"".join(vocabulary.token_bytes[token] for token in wanted)
            assert completion.text == content.decode(errors="replace")
            if "\ufffd" not in completion.text:  # SentencePiece counts what is no character anew
                assert prompt + completion.text == vocabulary.decode(ids + wanted)
            assert completion.prompt_tokens == len(ids)


def test_sampling_depends_on_the_seed_alone(engine):
    texts = [
        made(engine, ["The"], Sampling(tokens=12, temperature=1.5, top_k=50, seed=seed))[0].text
        for seed in (1, 1, 2)
    ]
    assert texts[0] == texts[1] != texts[2]


def test_a_stream_is_the_whole_text_and_may_be_left(engine):
    sampling = Sampling(tokens=10, temperature=1.0, seed=3)
    (whole,) = made(engine, ["The array"], sampling)
    ids = engine.vocabulary.encode(["The array"])[0]
    deltas = [delta for _, delta in generate.stream(engine, ids, sampling)]
    assert "".join(delta.text for delta in deltas) == whole.text
    assert len(deltas) > 1 and deltas[-1].finish == whole.finish
    left = generate.stream(engine, ids, sampling)
    next(left)
    left.close()
    assert engine.is_idle


@pytest.mark.parametrize(
    "prompt, message",
    [
        ("caf\udce9 and more", "prompt: is not UTF-8 from character 3 on"),
        ("a " * 60, r"prompt: has \d+ tokens, and the model reads at most 16"),
        ("a" * 10_000_000, "prompt: has 10,000,000 bytes, and the model reads at most 16 tokens"),
    ],
)
def test_prompts_that_cannot_be_continued(engine, prompt, message):
    with pytest.raises(UserError, match=message):
        made(engine, [prompt], Sampling())


def test_files_of_prompts(tmp_path):
    (tmp_path / "a.txt").write_text("one\ntwo é\n")
    (tmp_path / "a.jsonl").write_text('"a\\nb"\n"c"\n')
    (tmp_path / "bad.jsonl").write_text('"a"\n{"prompt": 1}\n')
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9\n")
    (tmp_path / "empty.txt").write_text("")
    assert continuing.prompts("", str(tmp_path / "a.txt")) == ["one", "two é"]
    assert continuing.prompts("", str(tmp_path / "a.jsonl")) == ["a\nb", "c"]
    assert continuing.prompts("x", "") == ["x"]
    for name, message in (
        ("bad.jsonl", "is not a string of JSON"),
        ("latin.txt", "is not UTF-8"),
        ("empty.txt", "is empty"),
        ("missing", "cannot be read"),
    ):
        with pytest.raises(UserError, match=message):
            continuing.prompts("", str(tmp_path / name))
    with pytest.raises(UserError, match="both given"):
        continuing.prompts("x", str(tmp_path / "a.txt"))


def test_the_command(bank, tmp_path, capsys):
    """One prompt as it comes, several, and --json with tokens and log-probabilities."""
    from specialm import cli

    def run(*words):
        assert cli.main(list(words)) == 0
        return capsys.readouterr()

    said = run(
        "specialize",
        f"--checkpoint={bank / 'bank'}",
        f"--source=jsonl:{bank / 'linalg.jsonl'}",
        f"--workdir={tmp_path / 'w'}",
        "--config.finetune.max_steps=0",
        "--json",
    ).out
    checkpoint = f"--checkpoint={json.loads(said)['checkpoint']}"
    tokens = "--config.generate.tokens=30"
    said = run("generate", checkpoint, "--prompt=The array", tokens)
    assert said.out.startswith("The array") and "context of 16 tokens" in said.err
    slides = "--config.generate.slide=True"
    plain = run("generate", checkpoint, "--prompt=The array", tokens, slides)
    assert len(plain.out) > len(said.out) and "context" not in plain.err
    found = json.loads(
        run("generate", checkpoint, "--prompt=The array", tokens, slides, "--json").out
    )
    assert found["text"] == plain.out[:-1] and len(found["logprobs"]) == len(found["tokens"])
    (tmp_path / "p.txt").write_text("The array\nReturn\n")
    several = run(
        "generate", checkpoint, f"--prompts={tmp_path / 'p.txt'}", tokens, slides, "--json"
    )
    rows = json.loads(several.out)["completions"]
    assert [row["tokens"] for row in rows][0] == found["tokens"]
    assert rows[0]["text"] == found["text"] and rows[1]["text"].startswith("Return")
    assert cli.main(["generate", checkpoint, "--prompt=The", "--chat"]) == 2
    assert "no chat template" in capsys.readouterr().err
