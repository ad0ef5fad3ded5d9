"""Training for few bits: what is trained is what is stored, the gradient passes the rounding."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from test_loop import params_of, train

from specialm import config as config_lib
from specialm import methods
from specialm.common.errors import UserError
from specialm.data.sampler import Sampler
from specialm.models import transformer
from specialm.specialize import finetune, tuning_step, validated
from specialm.specialize.finetune import Specialist
from specialm.training import objectives, program, quantized, sharding, step
from specialm.training.quantized import Rounding
from specialm.workflows import quantizing

BYTES = {"embedder": "bytes", "byte_size": 8, "byte_heads": 2, "byte_slots": 12}
PARTS = {
    "dense": {},
    "llama, shared": dict(
        norm="rmsnorm",
        positions="rope",
        mlp="swiglu",
        biases=False,
        head="untied",
        num_layers=3,
        share=("mlp:all+low_rank", "attention_output:inner"),
        share_rank=2,
    ),
    "bytes": {**BYTES, "head": "bytes"},
    "bytes in turn, a loop": {
        **BYTES,
        "head": "bytes_in_turn",
        "num_layers": 2,
        "share": ("block:cycle-1",),
    },
}


def made(tiny_model, vocabulary, parts):
    """(config, parameters none of which is at its initial value)."""
    config = dataclasses.replace(tiny_model, **parts)
    params = transformer.init(config, jax.random.key(1), vocabulary.pieces)
    codes = params["embed"].get("codes")
    rng = np.random.default_rng(0)
    params = jax.tree.map(
        lambda leaf: leaf + 0.02 * rng.normal(size=leaf.shape).astype(np.float32), params
    )
    if codes is not None:
        params["embed"]["codes"] = codes
    return config, params


def as_stored(params, config, bits):
    """Through the bytes that `specialm quantize` writes."""
    host = jax.device_get(params)
    return quantizing.unpack(quantizing.pack(host, config, bits), host, config)


def same(one, other):
    jax.tree.map(np.testing.assert_array_equal, one, other)


@pytest.mark.parametrize("parts,bits", zip(PARTS, [8, 4, 3, 2], strict=True))
def test_what_is_trained_is_what_is_stored(parts, bits, tiny_model, vocabulary):
    config, params = made(tiny_model, vocabulary, PARTS[parts])
    rounding = Rounding(transformer.declare(config), bits)
    rounded = jax.device_get(jax.jit(rounding.stored)(params))
    same(rounded, as_stored(params, config, bits))
    same(rounded, jax.device_get(jax.jit(rounding.stored)(rounded)))
    moved = jax.tree.map(lambda a, b: bool((np.asarray(a) != b).any()), params, rounded)
    assert moved["embed"]["bytes" if "bytes" in parts else "tokens"]
    assert not moved["layers"]["norm1"]["scale"]


def one_step(config, params, batch, rounding, number=0):
    """The parameters after a step of plain descent, and its loss."""
    mesh, tx = sharding.make_mesh(4), optax.sgd(1.0)
    state = step.init_state(config, tx, mesh, params=params)
    state = state.replace(step=jnp.int32(number))
    train_step = program.make_train_step(config, tx, mesh, 1, rounding=rounding)
    state, metrics = train_step(state, sharding.put_batch(mesh, batch))
    return jax.device_get(state.params), float(metrics["loss"])


@pytest.mark.parametrize("parts", ["llama, shared", pytest.param("bytes", marks=pytest.mark.slow)])
def test_the_gradient_at_the_rounded_weights_moves_the_others(parts, tiny_model, vocabulary, store):
    """Straight through, by hand: w - dL/dv at v = rounded(w)."""
    config, params = made(tiny_model, vocabulary, PARTS[parts])
    batch = store.batch(np.arange(4))
    rounding = Rounding(transformer.declare(config), 4)
    stored = as_stored(params, config, 4)
    text = (batch["inputs"], batch["targets"], batch["mask"])
    grad = jax.jit(
        jax.value_and_grad(lambda params: transformer.loss(params, *text, config), allow_int=True)
    )
    loss, grads = grad(stored)
    after, found = one_step(config, params, batch, rounding)
    assert found == pytest.approx(float(loss), rel=1e-6)
    assert abs(found - float(grad(params)[0])) > 1e-4
    for (path, new), old, slope in zip(
        jax.tree_util.tree_leaves_with_path(after),
        jax.tree.leaves(params),
        jax.tree.leaves(grads),
        strict=True,
    ):
        if "codes" not in jax.tree_util.keystr(path):
            np.testing.assert_allclose(new, old - slope, atol=3e-6)


def test_before_its_step_nothing_is_rounded(tiny_model, vocabulary, store):
    config, params = made(tiny_model, vocabulary, {})
    batch, declared = store.batch(np.arange(4)), transformer.declare(config)
    plain, loss = one_step(config, params, batch, None, 2)
    early, same_loss = one_step(config, params, batch, Rounding(declared, 4, 3), 2)
    late, other_loss = one_step(config, params, batch, Rounding(declared, 4, 3), 3)
    assert loss == same_loss != other_loss
    same(plain, early)
    assert (late["embed"]["tokens"] != plain["embed"]["tokens"]).any()


def test_settings_say_from_which_step(tiny_model, tiny_train):
    declared = transformer.declare(tiny_model)
    assert quantized.of_training(tiny_train, 10, declared) is None
    tiny_train.quantize_bits, tiny_train.quantize_from = 4, 0.25
    found = quantized.of_training(tiny_train, 10, declared)
    assert (found.bits, found.first) == (4, 2)


def test_a_finished_run_holds_what_is_stored(
    tiny_model, tiny_train, store, vocabulary, tmp_path, monkeypatch
):
    """Killed and resumed after the rounding has begun, too: to the bit. The loss that `specialm
    quantize` would show is the one that was trained."""
    tiny_train.quantize_bits, tiny_train.quantize_from = 4, 0.5
    tiny_train.tokens, tiny_train.checkpoint_every = 8 * 8 * 16, 3
    entry = train(tmp_path / "whole", tiny_model, tiny_train, store)
    params = jax.device_get(params_of(tmp_path / "whole", tiny_model, vocabulary, entry))
    same(params, as_stored(params, tiny_model, 4))
    batch = store.batch(np.arange(8))
    text = (batch["inputs"], batch["targets"], batch["mask"])
    rounding = Rounding(transformer.declare(tiny_model), 4)
    trained = transformer.loss(rounding.stored(params), *text, tiny_model)
    stored = transformer.loss(as_stored(params, tiny_model, 4), *text, tiny_model)
    assert float(stored) == pytest.approx(float(trained), rel=1e-6)

    read, calls = type(store).batch, []

    def failing(self, indices):
        calls.append(1)
        if len(calls) == 8:
            raise OSError("killed")
        return read(self, indices)

    monkeypatch.setattr(type(store), "batch", failing)
    with pytest.raises(OSError, match="killed"):
        train(tmp_path / "cut", tiny_model, tiny_train, store)
    entry = train(tmp_path / "cut", tiny_model, tiny_train, store)
    same(params, jax.device_get(params_of(tmp_path / "cut", tiny_model, vocabulary, entry)))


@pytest.mark.slow
def test_the_training_that_ends_by_validation_takes_the_same_steps(
    tiny_model, tiny_train, store, vocabulary, tmp_path
):
    tiny_train.quantize_bits, tiny_train.quantize_from = 4, 0.5
    tiny_train.tokens, tiny_train.valid_every = 6 * 8 * 16, 3
    entry = train(tmp_path / "plain", tiny_model, tiny_train, store)
    plain = jax.device_get(params_of(tmp_path / "plain", tiny_model, vocabulary, entry))
    sampler, mesh = Sampler(len(store), 8, 0), sharding.make_mesh(8)
    entry = validated.pretrain(
        tmp_path / "valid",
        tiny_model,
        tiny_train,
        store,
        sampler,
        (store, np.arange(16)),
        0,
        mesh,
        "t",
    )
    assert entry["best_step"] == 6
    found = jax.device_get(params_of(tmp_path / "valid", tiny_model, vocabulary, entry))
    same(found, as_stored(found, tiny_model, 4))
    # Sums over microbatches in another order: a few weights are rounded to the code beside.
    for one, other in zip(jax.tree.leaves(plain), jax.tree.leaves(found), strict=True):
        assert (np.abs(one - other) > 1e-5).mean() < 0.01


@pytest.mark.slow
def test_fine_tuning_keeps_what_is_stored(tiny_model, store, vocabulary, tmp_path):
    config, params = made(tiny_model, vocabulary, {})
    settings = config_lib.default()
    settings.train.tensorboard = False
    settings.finetune.update(quantize_bits=3, max_steps=4, eval_every=2, batch_size=8)
    part = Specialist("t", store, np.arange(24), store, np.arange(24, 40))
    trained = finetune.parameter_map(config, params, settings.finetune, 0)
    mesh, objective = sharding.make_mesh(8), objectives.next_token(config)
    tx = optax.sgd(0.5)
    train_step = tuning_step.make_train_step(trained, objective, tx, mesh, 1)
    state = tuning_step.init_state(trained, tx, mesh)
    batch = store.batch(np.arange(8))
    state, metrics = train_step(state, sharding.put_batch(mesh, batch))
    text = (batch["inputs"], batch["targets"], batch["mask"])
    loss, grads = jax.value_and_grad(transformer.loss)(as_stored(params, config, 3), *text, config)
    assert float(metrics["loss"]) == pytest.approx(float(loss), rel=1e-6)
    wanted = jax.tree.map(lambda w, g: w - 0.5 * g, params, grads)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-6), state.params, wanted)
    entry = finetune.finetune(
        tmp_path / "run", config, params, part, settings.train, settings.finetune, 0, mesh
    )
    found = jax.device_get(params_of(tmp_path / "run", config, vocabulary, entry))
    same(found, as_stored(found, config, 3))


@pytest.mark.parametrize(
    "settings,words",
    [
        ({"train.quantize_bits": 5}, "train.quantize_bits=5: must be one of 0, 8, 4, 3, 2"),
        ({"finetune.quantize_bits": 1}, "finetune.quantize_bits=1: must be one of 0, 8"),
        (
            {"train.quantize_bits": 4, "train.param_dtype": "bfloat16"},
            "quantize_bits=4: what is rounded .* train.param_dtype='bfloat16'",
        ),
        (
            {"finetune.quantize_bits": 4, "finetune.lora_rank": 2},
            "quantize_bits=4: adapters .finetune.lora_rank=2. leave",
        ),
    ],
)
def test_what_cannot_be_trained_is_refused(settings, words):
    config = config_lib.default()
    for name, value in settings.items():
        section, field = name.split(".")
        config[section][field] = value
    with pytest.raises(UserError, match=words):
        config_lib.check(config)


def test_banks_and_mixtures_are_told_what_to_set():
    config = config_lib.default()
    config.train.quantize_bits = 4
    for method in ("slm_pn", "slm_mix"):
        with pytest.raises(UserError, match="train.quantize_bits=4.*finetune.quantize_bits"):
            methods.check(config, method)
    methods.check(config, "slm_is")
