"""A tokenizer.json in the layout of Gemma's: BPE from SentencePiece, spaces marked, bytes where a
character is no token.
"""

import json

import numpy as np
import pytest

from specialm.common.errors import UserError
from specialm.data.vocabularies.tokenizer_json import TokenizerJson
from specialm.serving import gguf_writer
from specialm.serving.nasty import nasty_strings

MARK = "\u2581"
SPECIAL = ["<pad>", "<eos>", "<bos>", "<unk>"]
RUNS = ["\n\n", "\n\n\n", 2 * MARK, 4 * MARK, "<table>"]  # added, but not special: they are text


@pytest.fixture(scope="module")
def marked(real_documents, tmp_path_factory):
    from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Replace(" ", MARK)
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    every_byte = [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(
        vocab_size=700,
        special_tokens=SPECIAL + every_byte,
        show_progress=False,
        max_token_length=12,
    )
    tokenizer.train_from_iterator(real_documents, trainer)
    tokenizer.add_tokens([AddedToken(name, normalized=False, special=False) for name in RUNS])
    layout = json.loads(tokenizer.to_str())
    added = [token for token in layout["added_tokens"] if token["content"] not in every_byte]
    layout["added_tokens"] = added
    steps = [
        {"type": "Replace", "pattern": {"String": MARK}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
    ]
    layout["decoder"] = {"type": "Sequence", "decoders": steps}
    start = {"SpecialToken": {"id": "<bos>", "type_id": 0}}
    first, second = ({"Sequence": {"id": name, "type_id": 0}} for name in "AB")
    layout["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [start, first],
        "pair": [start, first, second],
        "special_tokens": {"<bos>": {"id": "<bos>", "ids": [2], "tokens": ["<bos>"]}},
    }
    folder = tmp_path_factory.mktemp("marked")
    (folder / "tokenizer.json").write_text(json.dumps(layout))
    roles = {"bos_token": "<bos>", "eos_token": "<eos>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(roles))
    return TokenizerJson(folder / "tokenizer.json")


def test_bytes_are_exact_and_only_the_mark_is_lost(marked, real_documents):
    assert (marked.start, marked.eos, marked.adds_start) == (2, 1, True)
    texts = [
        *nasty_strings(500),
        *real_documents[:20],
        f"a  b    c\n\n\nd {MARK}{MARK} <table> <bos> \u00e9 \u6f22 \U0001f642  ",
    ]
    changed = 0
    for text, ids in zip(texts, marked.encode(texts), strict=True):
        own = b"".join(marked.token_bytes[i] for i in ids)
        assert own == text.replace(MARK, " ").encode()
        assert marked.decode(ids) == text.replace(MARK, " ")
        assert marked.changes(text) == (MARK in text)
        changed += MARK in text
        if ids:
            windows = marked.window_bytes(text, ids, np.arange(1, len(ids) + 1))
            assert windows.sum() == len(text.encode())
    assert 0 < changed < len(texts) / 4


def test_it_leaves_as_tokenizer_json_but_not_as_gguf(marked):
    with pytest.raises(UserError, match="GGUF holds byte-level BPE.*export with --format=hf"):
        gguf_writer.check(marked, "--format=gguf")
