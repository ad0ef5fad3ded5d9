"""How texts are cut into words before byte-level BPE: what tokenizer.json spells out, GGUF names.

A line of the table for each name (`tokenizer.ggml.pre`) that llama.cpp cuts in the same way.
"""

from typing import Any

Json = dict[str, Any]
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")


def _byte_level(regex: bool) -> Json:
    return {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": True,
        "use_regex": regex,
    }


def _split(regex: str) -> Json:
    split = {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": False}
    return _sequence(split, _byte_level(False))


def _sequence(*steps: Json) -> Json:
    return {"type": "Sequence", "pretokenizers": list(steps)}


DIGITS = {"type": "Digits", "individual_digits": True}
# Name in GGUF -> pre_tokenizer of tokenizer.json
PRETOKENIZERS: dict[str, Json] = {
    "smollm": _sequence(DIGITS, _byte_level(True)),
    "gpt-2": _byte_level(True),
    "llama-bpe": _split(LLAMA3),
    "qwen2": _split(QWEN2),
}
WHOLE_WORDS = ("llama-bpe",)  # a word that is a token needs no merges


def name_of(layout: Json) -> str:
    """The name of the cut of a tokenizer.json; "" if the table has none."""
    found = _plain(layout.get("pre_tokenizer"))
    whole = bool(layout["model"].get("ignore_merges"))
    for name, pretokenizer in PRETOKENIZERS.items():
        if found == _plain(pretokenizer) and whole == (name in WHOLE_WORDS):
            return name
    return ""


def _plain(value: Any) -> Any:
    """Without what changes no token."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items() if key != "trim_offsets"}
    return [_plain(item) for item in value] if isinstance(value, list) else value
