"""A compressor as a language model: what a text costs after the text that a model is trained on."""

import lzma

# LZMA2 with a dictionary that holds all of the default corpora.
FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": 64 << 20}]


def compressed_bytes(text: bytes) -> int:
    """Return the size of `text` compressed."""
    return len(lzma.compress(text, lzma.FORMAT_RAW, filters=FILTERS))


def bits_per_byte(before: bytes, text: bytes) -> float:
    """Return the bits that `text` adds, for each of its bytes, to `before` compressed."""
    return 8 * (compressed_bytes(before + text) - compressed_bytes(before)) / len(text)
