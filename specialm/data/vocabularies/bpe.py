"""Byte-level BPE trained here: no byte is lost, and every runtime reads the result.

Digits stand alone, else words as GPT-2 cuts them: llama.cpp has this under the name "smollm".
"""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from specialm.common.errors import UserError
from specialm.common.files import write_bytes, write_json
from specialm.data.vocabularies.tokenizer_json import CONFIG_FILE, DOCUMENT_ENDS, TokenizerJson
from specialm.data.vocabularies.unigram import LONG_RUN

END = DOCUMENT_ENDS[0]  # id 0: stands before a document and ends it
LEAST = 257  # END and a token for each byte


def train(texts: Iterable[str], path: Path, size: int, longest: int = 0) -> TokenizerJson:
    """Train on `texts`; write `path` (tokenizer.json) and tokenizer_config.json beside it.

    Args:
      texts: any.
      path: of the vocabulary.
      size: tokens.
      longest: bytes of a token; 0 for any number.

    Raises:
      UserError: there is too little text for `size` tokens, or `size` is too small.

    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    if size < LEAST:
        raise UserError(f"data.vocabulary_size={size}: at least {LEAST} for byte-level BPE.")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
        max_token_length=longest or None,
    )
    tokenizer.train_from_iterator(_cut(texts), trainer)
    found = tokenizer.get_vocab_size()
    if found < size:
        raise UserError(f"data.vocabulary_size={size}: at most {found} for this text.")
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{END} $A", pair=f"{END} $A {END} $B", special_tokens=[(END, 0)]
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path.with_name(CONFIG_FILE), CONFIG)
    write_bytes(path, json.dumps(json.loads(tokenizer.to_str()), indent=1).encode())
    return TokenizerJson(path)


CONFIG = {
    "tokenizer_class": "PreTrainedTokenizerFast",
    "bos_token": END,
    "eos_token": END,
    "add_bos_token": True,
    "clean_up_tokenization_spaces": False,
}


def _cut(texts: Iterable[str]) -> Iterator[str]:
    """Yield the texts, runs without a space cut: pairs of a long one are counted again and again
    for every merge.
    """
    for text in texts:
        yield from LONG_RUN.sub("\\g<0>\0", text).split("\0")
