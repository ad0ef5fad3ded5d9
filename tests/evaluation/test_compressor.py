"""A compressor as a language model."""

import random

from specialm.evaluation.compressor import added_bytes, compressed_bytes


def test_text_that_was_seen_costs_little_and_noise_all_its_bytes():
    noise = random.Random(0).randbytes(20_000)
    other = random.Random(1).randbytes(20_000)
    alone, added = added_bytes(noise, noise)
    assert alone == compressed_bytes(noise)
    assert added < 400  # a match has 273 bytes at most
    assert abs(added_bytes(noise, other)[1] - 20_000) < 100


def test_text_before_it_helps():
    text = "".join(f"the {n} lines of this text are alike in many a way\n" for n in range(400))
    half = len(text) // 2
    before, after = text[:half].encode(), text[half:].encode()
    assert added_bytes(before, after)[1] < compressed_bytes(after)
