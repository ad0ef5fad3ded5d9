"""A compressor as a language model."""

import random

from specialm.evaluation import compressor


def test_text_that_was_seen_costs_little_and_noise_eight_bits_a_byte():
    noise = random.Random(0).randbytes(20_000)
    other = random.Random(1).randbytes(20_000)
    assert compressor.bits_per_byte(noise, noise) < 0.2  # matches have 273 bytes at most
    assert 7.9 < compressor.bits_per_byte(noise, other) < 8.1


def test_text_before_it_helps():
    text = "".join(f"the {n} lines of this text are alike in many a way\n" for n in range(400))
    half = len(text) // 2
    before, after = text[:half].encode(), text[half:].encode()
    assert compressor.bits_per_byte(before, after) < compressor.bits_per_byte(b"", after)
