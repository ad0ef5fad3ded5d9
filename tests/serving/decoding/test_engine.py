"""Texts of an engine against the full forward pass, token for token."""

import dataclasses

import jax
import numpy as np
import pytest
from decoding_reference import continued

from specialm.common.errors import UserError
from specialm.models import transformer
from specialm.serving.decoding.engine import Engine
from specialm.serving.decoding.sampling import Sampling

GPT2 = transformer.Config(vocab_size=61, context=24, num_layers=2, d_model=16, num_heads=4, d_ff=24)
LLAMA = dataclasses.replace(
    GPT2, norm="rmsnorm", positions="rope", mlp="swiglu", num_kv_heads=2, biases=False
)
CONFIGS = {
    "learned positions": GPT2,
    "rotary positions, groups": LLAMA,
    "normed queries, untied": dataclasses.replace(
        LLAMA, qk_norm=True, head_size=6, head="untied", rope_factor=2.0
    ),
    "one head of keys, exits": dataclasses.replace(GPT2, num_kv_heads=1, exits=(1,)),
    "one layer, one head": dataclasses.replace(GPT2, num_layers=1, num_heads=1),
}
ALONE = ("learned positions", "one layer, one head")  # also in programs of one row
GREEDY = Sampling(tokens=12)
DRAWN = Sampling(tokens=9, temperature=1.3, seed=5)
FILTERED = Sampling(tokens=11, temperature=0.9, top_k=12, top_p=0.8, min_p=0.05, seed=6)
PENALISED = Sampling(tokens=10, temperature=0.7, repetition_penalty=1.8, seed=7)
START = 3


class Letters:
    """A vocabulary of single bytes."""

    start, stops = START, frozenset({0})
    token_bytes = tuple(bytes([64 + i]) for i in range(61))


def make_params(config, seed=0):
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda leaf: leaf + 0.25 * rng.normal(size=leaf.shape).astype(np.float32),
        transformer.init(config, jax.random.key(seed)),
    )


def prompt(length, seed=0):
    return np.random.default_rng([seed, length]).integers(1, 61, length).tolist()


def run(engine, limit=500):
    """Steps until nothing is left: {sequence: (text, tokens, finish)}."""
    found = {}
    for _ in range(limit):
        if engine.is_idle:
            return found
        for sequence, delta in engine.step():
            text, tokens, _ = found.get(sequence, ("", [], ""))
            found[sequence] = (text + delta.text, tokens + delta.tokens, delta.finish)
    raise AssertionError("the engine does not end")


def check(params, config, sequence, given, made):
    text, tokens, finish = made
    wanted, logps = continued(params, config, given, sequence.sampling, START, Letters.stops)
    assert [token.id for token in tokens] == wanted
    np.testing.assert_allclose([token.logp for token in tokens], logps, atol=2e-5)
    assert text == "".join(chr(64 + token) for token in wanted)
    ended_early = len(wanted) < sequence.sampling.tokens
    assert finish == ("stop" if ended_early and len(given) + len(wanted) < 24 else "length")


@pytest.mark.parametrize("name", CONFIGS)
def test_every_architecture_alone_and_together_is_the_full_forward_pass(name):
    config = CONFIGS[name]
    params = make_params(config)
    engine = Engine(params, config, Letters(), rows=4)
    wanted = [
        (prompt(n), sampling)
        for n, sampling in ((17, FILTERED), (1, PENALISED), (5, GREEDY), (20, DRAWN), (0, GREEDY))
    ]
    sequences = [engine.add(*each) for each in wanted]
    made = run(engine)
    if name in ALONE:
        sequences.append(engine.add(*wanted[0]))
        wanted.append(wanted[0])
        made |= run(engine)
    for sequence, (given, _) in zip(sequences, wanted, strict=True):
        check(params, config, sequence, given, made[sequence])


def test_texts_that_come_and_go_are_what_they_are_alone():
    """Thirty requests of all kinds at random times in four rows, some of them cancelled."""
    config = CONFIGS["rotary positions, groups"]
    params, rng = make_params(config), np.random.default_rng(1)
    engine = Engine(params, config, Letters(), rows=4)
    kinds = [GREEDY, DRAWN, FILTERED, PENALISED]
    requests, found = {}, {}
    for n in range(30):
        sampling = dataclasses.replace(
            kinds[n % 4], tokens=int(rng.integers(0, 30)), slide=bool(rng.integers(2)), seed=n
        )
        given = prompt(int(rng.integers(0, 24)), n)
        requests[engine.add(given, sampling)] = given
        if n % 7 == 3:
            list(requests)[-1].cancelled = True
        for _ in range(int(rng.integers(0, 4))):
            for sequence, delta in engine.step():
                found.setdefault(sequence, []).append(delta)
    while not engine.is_idle:
        for sequence, delta in engine.step():
            found.setdefault(sequence, []).append(delta)
    assert set(found) == set(requests)
    for sequence, deltas in found.items():
        tokens = [token.id for delta in deltas for token in delta.tokens]
        given = requests[sequence]
        wanted, _ = continued(params, config, given, sequence.sampling, START, Letters.stops)
        cut = sequence.finish == "cancelled"
        assert tokens == (wanted[: len(tokens)] if cut else wanted)
        assert [delta.finish for delta in deltas if delta.finish] == [sequence.finish]
    assert any(s.finish == "cancelled" for s in found)


def test_a_text_that_is_cancelled_under_way_gives_its_row_to_the_next():
    config = CONFIGS["learned positions"]
    engine = Engine(make_params(config), config, Letters(), rows=1, stops=frozenset())
    first, second = (engine.add(prompt(3), Sampling(tokens=20)) for _ in range(2))
    engine.step()
    assert engine.active == [first] and not first.finish
    first.cancelled = True
    events = engine.step()
    assert [(s, d.finish) for s, d in events if d.finish] == [(first, "cancelled")]
    assert engine.active == [second]


def test_a_text_beyond_the_context_slides_or_ends():
    config = CONFIGS["learned positions"]
    params = make_params(config)
    engine = Engine(params, config, Letters(), rows=1, stops=frozenset())
    with pytest.raises(UserError, match=r"prompt: has 24 tokens.*at most 24.*slide=True"):
        engine.add(prompt(24), GREEDY)
    slides = [Sampling(tokens=40, slide=True, temperature=t, seed=2) for t in (0, 1)]
    for given, sampling in ((prompt(70), slides[0]), (prompt(4), slides[1])):
        sequence = engine.add(given, sampling)
        made = [token.id for token in run(engine)[sequence][1]]
        assert made == continued(params, config, given, sampling, START)[0]
        assert len(made) == 40
    ends = engine.add(prompt(20), GREEDY)
    _, tokens, finish = run(engine)[ends]
    assert (len(tokens), finish, ends.is_context_full) == (4, "length", True)


def test_the_likeliest_tokens_and_their_log_probabilities():
    config = CONFIGS["learned positions"]
    params = make_params(config)
    engine = Engine(params, config, Letters(), rows=1)
    sequence = engine.add([5, 6], Sampling(tokens=4, top_logprobs=3, temperature=1.0))
    plain = engine.add([5, 6], Sampling(tokens=4, temperature=1.0))
    made = run(engine)
    for token in made[sequence][1]:
        assert len(token.top) == 3
        logps = [logp for _, logp in token.top]
        assert logps == sorted(logps, reverse=True) and logps[0] >= token.logp - 1e-6
        assert dict(token.top).get(token.id, token.logp) == pytest.approx(token.logp, abs=1e-6)
    assert [t.id for t in made[plain][1]] == [t.id for t in made[sequence][1]]
    assert all(token.top == () for token in made[plain][1])


def test_stop_strings_over_token_borders_cut_the_text():
    config = CONFIGS["learned positions"]
    params = make_params(config)
    engine = Engine(params, config, Letters(), rows=1)
    whole = engine.add([5, 6], GREEDY)
    text = run(engine)[whole][0]
    stop = text[3:6]
    assert text.find(stop) == 3
    cut = engine.add([5, 6], dataclasses.replace(GREEDY, stop=("never", stop)))
    made, tokens, finish = run(engine)[cut]
    assert (made, len(tokens), finish) == (text[:3], 6, "stop")


def test_what_needs_no_token_and_what_cannot_be_continued():
    engine = Engine(make_params(GPT2), GPT2, Letters(), rows=1)
    sequence = engine.add([1], Sampling(tokens=0))
    assert run(engine)[sequence] == ("", [], "length")
    other, sequence = engine.add([1], GREEDY), engine.add([1], Sampling(tokens=0))
    made = run(engine)
    assert made[sequence] == ("", [], "length") and len(made[other][1]) == 12
    with pytest.raises(UserError, match="model.causal=False"):
        Engine(make_params(GPT2), dataclasses.replace(GPT2, causal=False), Letters())


def test_the_cache_grows_with_what_is_needed_and_shrinks_again():
    config = dataclasses.replace(GPT2, context=300, num_layers=1)
    engine = Engine(make_params(config), config, Letters(), rows=16)
    run_alone = engine.add(prompt(3), Sampling(tokens=2))
    run(engine)
    small = engine.cache_bytes
    assert run_alone.finish
    for n in range(6):
        engine.add(prompt(200), Sampling(tokens=3, seed=n))
    run(engine)
    assert engine.cache_bytes > 4 * small
    engine.add(prompt(3), Sampling(tokens=2))
    run(engine)
    assert engine.cache_bytes == small
