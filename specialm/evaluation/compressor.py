"""A compressor as a language model: what a text costs after the text that a model is trained on."""

import lzma
from concurrent.futures import ThreadPoolExecutor

# LZMA2 with a dictionary that holds all of the default corpora.
FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": 64 << 20}]


def compressed_bytes(text: bytes) -> int:
    """Return the size of `text` compressed."""
    return len(lzma.compress(text, lzma.FORMAT_RAW, filters=FILTERS))


def added_bytes(before: bytes, text: bytes) -> tuple[int, int]:
    """Return (size of `before` compressed, what `text` after it adds), computed side by side."""
    with ThreadPoolExecutor(2) as pool:
        alone, both = pool.map(compressed_bytes, (before, before + text))
    return alone, both - alone
