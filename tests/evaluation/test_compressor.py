"""A compressor as a language model."""

import random

import pytest

from specialm.evaluation.compressor import added_bytes, compressed_bytes


def test_text_that_was_seen_costs_little_and_noise_all_its_bytes():
    noise = random.Random(0).randbytes(20_000)
    other = random.Random(1).randbytes(20_000)
    alone, added = added_bytes(noise, noise)
    # Alone noise is stored as it is; in one piece with what can be compressed it costs 1.3% more.
    assert 0 <= alone - compressed_bytes(noise) < 300
    assert added < 400  # a match has 273 bytes at most
    assert abs(added_bytes(noise, other)[1] - 20_000) < 100


def test_text_before_it_helps():
    text = "".join(f"the {n} lines of this text are alike in many a way\n" for n in range(400))
    half = len(text) // 2
    before, after = text[:half].encode(), text[half:].encode()
    assert added_bytes(before, after)[1] < compressed_bytes(after)


@pytest.mark.parametrize("sizes", [(0, 500), (1, 0), (3_000, 20_000), (300_000, 9)])
def test_the_size_is_the_difference_of_two(sizes):
    """But for the few bytes at the end of a stream and what a match across the border saves."""
    words, draw = [f"w{n}" for n in range(3_000)], random.Random(0)
    before, text = (" ".join(draw.choices(words, k=size)).encode() for size in sizes)
    alone, added = added_bytes(before, text)
    assert abs(alone - compressed_bytes(before)) <= 16
    assert alone + added == compressed_bytes(before + text)
