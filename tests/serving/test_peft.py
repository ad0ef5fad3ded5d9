"""Adapters in PEFT's layout, and what peft (extra `runtimes`) computes with them."""

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest
from test_open_models import CONFIGS, NOT_CHECKED, made, random_params

from specialm import cli
from specialm.common.errors import UserError
from specialm.models import lora, tensors, transformer
from specialm.serving import architectures, exporting, peft_files
from specialm.training import adapters as adapters_lib
from specialm.training import runs, sharding
from specialm.training.checkpoints import Checkpoints

WHOLE = lora.Config(3, 6.0)
CASES = {
    "llama, whole matrices": ("llama untied, wide heads", "", False),
    "gemma3, ranks": ("gemma3", "q=5,v=3,mlp.*=4,up=1", False),
    "gpt2, pieces of one matrix": ("gpt2", "q=2,v=4,attention.out=3,down=2", False),
    "llama, magnitudes": ("llama", "q=5,v=3,out=3,gate=2", True),
    "gpt2, magnitudes": ("gpt2", "q=2,v=4,up=3", True),
}


def settings(config, ranks, dora):
    found = lora.ranks(config, ranks, 1) if ranks else ()
    return dataclasses.replace(WHOLE, ranks=found, dora=dora)


def tuned(root, config, chosen, vocabulary, seed=1):
    """(run folder, its base) as fine-tuning writes them, with adapters that change much."""
    base = made(root / "base", config, vocabulary)
    rng = np.random.default_rng(seed)
    adapters = tensors.map_tensors(
        lambda tensor: rng.normal(0, 0.3, tensor.shape).astype(np.float32),
        lora.declare(config, chosen),
    )
    for factors in adapters.values():
        if "m" in factors:
            factors["m"] = np.abs(factors["m"]) + 0.5
    merged = lora.merge(base.params, adapters, config, chosen)
    path = root / "tuned"
    with Checkpoints(path / "checkpoints") as checkpoints:
        checkpoints.save(0, merged, adapters, {})
    origin = adapters_lib.describe(chosen, root / "base", path)
    ledger = [*base.record["ledger"], {"phase": "finetuned", "tokens": 9, "flops": 1, "seconds": 1}]
    runs.describe(path, config, vocabulary, "slm", "", 0, ledger, origin)
    return runs.load(path, sharding.make_mesh()), base, adapters


@pytest.mark.parametrize("case", CASES)
def test_an_adapter_on_its_base_is_the_merged_model(case, bpe_vocabulary, tmp_path):
    """W + lora_B lora_A (alpha is r) of every matrix there is that of the merged export."""
    name, ranks, dora = CASES[case]
    config = CONFIGS[name]
    chosen = settings(config, ranks, dora)
    model, base, adapters = tuned(tmp_path, config, chosen, bpe_vocabulary)
    architecture = architectures.of(config)
    found, given = adapters_lib.read(model)
    assert found == chosen
    jax.tree.map(np.testing.assert_array_equal, given, adapters)
    before, after = (
        {view.name: view.read() for view in architecture.views(numpy_of(each), config)}
        for each in (base, model)
    )
    modules = peft_files.modules(architecture, config, numpy_of(model), chosen, adapters)
    for theirs, weight in after.items():
        if theirs not in modules:
            np.testing.assert_array_equal(weight, before[theirs])
            continue
        module = modules[theirs]
        is_turned = theirs.endswith(architecture.gguf_turned)
        base_OxI = before[theirs].T if is_turned else before[theirs]
        changed = base_OxI + module.b @ module.a
        if dora:
            changed *= (module.magnitude / np.linalg.norm(changed, axis=1))[:, None]
        np.testing.assert_allclose(changed.T if is_turned else changed, weight, atol=2e-5)
    assert any(not np.array_equal(before[each], after[each]) for each in modules)


def numpy_of(model):
    return jax.tree.map(np.asarray, model.params)


@pytest.mark.parametrize("case", CASES)
def test_peft_computes_the_same(case, bpe_vocabulary, tmp_path):
    for module in ("torch", "transformers", "peft"):
        pytest.importorskip(module)
    name, ranks, dora = CASES[case]
    config = CONFIGS[name]
    model, base, _ = tuned(tmp_path, config, settings(config, ranks, dora), bpe_vocabulary)
    report = exporting.export(model, tmp_path / "out", "peft", base="someone/base")
    figures = report["verification"]["figures"]
    print(case, figures)
    assert figures["largest_difference_of_logits"] < 1e-4
    written = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert written["base_model_name_or_path"] == "someone/base"
    assert written["use_dora"] == dora
    card = (tmp_path / "out" / "README.md").read_text()
    assert "base_model: someone/base\nlibrary_name: peft" in card
    if case.startswith("gemma3"):
        assert (written["r"], written["rank_pattern"]) == (
            4,
            {"self_attn.q_proj": 5, "self_attn.v_proj": 3, "mlp.up_proj": 1},
        )
        exporting.export(base, tmp_path / "base-hf", "hf")
        exporting.export(model, tmp_path / "again", "peft", base=str(tmp_path / "base-hf"))
        other = made(tmp_path / "other", config, bpe_vocabulary)
        wrong = dataclasses.replace(other, params=random_params(config, 9))
        exporting.export(wrong, tmp_path / "wrong-hf", "hf")
        with pytest.raises(UserError, match="computes something else in the program"):
            exporting.export(model, tmp_path / "not", "peft", base=str(tmp_path / "wrong-hf"))
        assert not (tmp_path / "not").exists()


def test_what_has_no_adapters_or_no_base_is_refused(bpe_vocabulary, tmp_path, monkeypatch, capsys):
    config = CONFIGS["llama"]
    model, base, _ = tuned(tmp_path, config, WHOLE, bpe_vocabulary)
    with pytest.raises(
        UserError, match=r"base: has no adapters; fine-tune with finetune.lora_rank"
    ):
        exporting.export(base, tmp_path / "x", "peft")
    arguments = ["export", f"--checkpoint={model.path}", "--format=peft", f"--to={tmp_path / 'x'}"]
    assert cli.main(arguments) == 2
    told = capsys.readouterr().err
    assert "an adapter names its base; export that with" in told and f"{tmp_path / 'base'}" in told
    assert not (tmp_path / "x").exists()
    for wrong in ({"matrices": ["z"]}, {"ranks": {"z": 2}}, {"ranks": {"q": "two"}}):
        record = {**model.record, "adapters": {**model.record["adapters"], **wrong}}
        with pytest.raises(UserError, match="model.json: adapters: make none .*restore the file"):
            adapters_lib.read(dataclasses.replace(model, record=record))
    shutil.rmtree(tmp_path / "base")
    monkeypatch.setattr("specialm.serving.verify._missing", lambda *names: NOT_CHECKED)
    assert cli.main([*arguments, "--base=hub/name"]) == 0
    assert "Not verified: the run that it was tuned from is not there" in capsys.readouterr().out


def test_from_an_imported_folder_to_an_adapter(bpe_vocabulary, notes, tmp_path, capsys):
    """import, specialize with ranks and magnitudes, export: as a user does, without --base."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("specialm.serving.verify._missing", lambda *names: NOT_CHECKED)
        base = made(tmp_path / "run", CONFIGS["llama"], bpe_vocabulary)
        exporting.export(base, tmp_path / "hf", "hf")
    work = tmp_path / "work"

    def command(*arguments):
        assert cli.main([*arguments, "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    imported = command("import", f"--hf={tmp_path / 'hf'}", f"--workdir={work}")["checkpoint"]
    tuned = command(
        "specialize",
        f"--checkpoint={imported}",
        f"--source={notes}",
        f"--workdir={work}",
        "--config.finetune.lora_rank=2",
        "--config.finetune.lora_targets=q=3,v,mlp.*=1",
        "--config.finetune.dora=True",
        "--config.finetune.max_steps=4",
        "--config.finetune.eval_every=2",
        "--config.finetune.batch_size=4",
    )["checkpoint"]
    assert "-dora2-" in tuned
    out = command("export", f"--checkpoint={tuned}", f"--to={tmp_path / 'out'}", "--format=peft")
    written = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert written["base_model_name_or_path"] == str(tmp_path / "hf")
    assert written["target_modules"] == [
        "mlp.down_proj", "mlp.gate_proj", "mlp.up_proj", "self_attn.q_proj", "self_attn.v_proj",
    ]  # fmt: skip
    if out["verification"]["checked"]:
        assert out["verification"]["figures"]["largest_difference_of_logits"] < 1e-4


def test_ranks_are_read_and_named():
    config = CONFIGS["llama"]
    assert list(lora.pieces(config)) == ["q", "k", "v", "out", "gate", "up", "down"]
    assert list(lora.pieces(CONFIGS["gpt2"])) == ["q", "k", "v", "out", "up", "down"]
    for text, rank, wanted in (
        ("q=16,v=16,mlp.*=4", 8, {"q": 16, "v": 16, "gate": 4, "up": 4, "down": 4}),
        ("attention.*, k=0", 8, {"q": 8, "v": 8, "out": 8}),
        ("*=2,down=3", 1, {"q": 2, "k": 2, "v": 2, "out": 2, "gate": 2, "up": 2, "down": 3}),
    ):
        assert dict(lora.ranks(config, text, rank)) == wanted
    for text, message in (
        ("q=", "'q=' is not NAME=RANK"),
        ("q=two", "'q=two' is not NAME=RANK"),
        ("q=1,,", "'' is not NAME=RANK"),
        ("z=3", "'z' is none of the model's linear maps: attention.q, attention.k"),
        ("gate.*=3", "'gate.*' is none of"),
        ("q=0", "leaves nothing to train"),
    ):
        with pytest.raises(UserError, match=message.replace("*", r"\*")):
            lora.ranks(config, text, 8)


def test_the_gradient_of_a_magnitude_and_the_start_are_those_of_the_paper():
    """arXiv 2402.09353, equations 5 and 11: the norm is a constant for the gradient of V."""
    config = CONFIGS["llama"]
    chosen = lora.Config(2, 4.0, ranks=(("k", 2), ("down", 3)), dora=True)
    params = random_params(config)
    params["layers"]["mlp"]["down"][:, :, 3] = 0  # an output that nothing reaches
    start = lora.init(params, config, chosen, jax.random.key(0))
    merged = lora.merge(params, start, config, chosen)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), merged, params)
    down = np.asarray(params["layers"]["mlp"]["down"])
    np.testing.assert_allclose(start["down"]["m"], np.linalg.norm(down, axis=1), rtol=1e-6)
    rng = np.random.default_rng(2)
    given = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), start)
    slope = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), params)
    _, back = jax.vjp(lambda adapters: lora.merge(params, adapters, config, chosen), given)
    (grads,) = back(slope)
    a, b, m = (np.asarray(given["down"][key], np.float64)[1] for key in "abm")
    changed = down[1] + 4.0 / 3 * a @ b
    norm, wanted = np.linalg.norm(changed, axis=0), slope["layers"]["mlp"]["down"][1]
    np.testing.assert_allclose(
        grads["down"]["m"][1], (wanted * changed / norm).sum(0), rtol=2e-4, atol=1e-5
    )
    of_v = wanted * m / norm
    np.testing.assert_allclose(grads["down"]["b"][1], 4.0 / 3 * a.T @ of_v, rtol=2e-4, atol=1e-4)
    np.testing.assert_allclose(grads["down"]["a"][1], 4.0 / 3 * of_v @ b.T, rtol=2e-4, atol=1e-4)


def test_only_the_piece_is_changed():
    config = CONFIGS["llama"]
    chosen = lora.Config(2, 4.0, ranks=(("v", 2), ("gate", 1)))
    params = random_params(config)
    rng = np.random.default_rng(3)
    given = tensors.map_tensors(
        lambda tensor: rng.normal(size=tensor.shape).astype(np.float32),
        lora.declare(config, chosen),
    )
    merged = lora.merge(params, given, config, chosen)
    qkv, up = (
        np.asarray(merged["layers"][part][name]) - params["layers"][part][name]
        for part, name in (("attention", "qkv"), ("mlp", "up"))
    )
    assert not qkv[:, :, :-1].any() and not up[:, :, 1].any()
    for layer in range(config.num_layers):
        a, b = given["v"]["a"][layer], given["v"]["b"][layer].reshape(2, -1)
        made_there = qkv[layer, :, -1].reshape(len(a), -1)
        np.testing.assert_allclose(made_there, 2 * a @ b, rtol=1e-4, atol=1e-5)
    assert transformer.num_params(config) > tensors.count(lora.declare(config, chosen))
