"""Settings of text, vocabulary and windows."""

from specialm.common.setting import Setting, table

TOKENS = 10**15  # the most tokens, bytes or characters that anything is given


DATA = (
    Setting(
        "data.generic",
        "corpora:generic",
        "source of the generic text: corpora:NAME | folder:PATH | jsonl:PATH, parquet:PATH or "
        "csv:PATH (file or folder) | hf:PATH[:SPLIT] | tfds:NAME[:SPLIT] | seqio:TASK[:SPLIT]; "
        "?FIELD=VALUE selects rows",
        some=True,
    ),
    Setting(
        "data.domains",
        {name: f"corpora:{name}" for name in ("med", "books", "ency")},
        "sources of the domains, by name",
        some=True,
    ),
    Setting(
        "data.generic_fraction",
        1.0,
        "of the generic documents, chosen by hash: to try things faster",
        above=0,
        most=1,
    ),
    Setting(
        "data.corpora_root",
        "data/corpora",
        "where the default corpora are downloaded to",
        some=True,
    ),
    Setting("data.field", "text", "of rows and examples: the one that holds the text", some=True),
    Setting(
        "data.max_document_bytes",
        64_000_000,
        "of one document and of one line: larger rows are skipped, files cut, with a message",
        least=1,
    ),
    Setting(
        "data.part_chars",
        0,
        "domains: cuts documents into parts of about this many characters, each held out by "
        "itself; 0 leaves them whole",
        least=0,
    ),
    Setting("data.seqio_modules", (), "modules imported first, which register your seqio Tasks"),
    Setting("data.context", 128, "tokens a window, at most", least=1),
    Setting(
        "data.vocabulary",
        "",
        "a given one: a SentencePiece model, a tokenizer.json or a folder with it; empty trains "
        "one on the generic text",
    ),
    Setting(
        "data.vocabulary_kind",
        "unigram",
        "of one that is trained: SentencePiece's unigram model, or byte-level BPE, which "
        "transformers and llama.cpp read; or plain bytes, with vocabulary_size=259; or patches of "
        "longest_piece bytes each, or of so many at most, cut by entropy (docs/tiny.md)",
        choices=table(
            "specialm.data.vocabularies:KINDS", "unigram", "bpe", "bytes", "patches", "entropy"
        ),
    ),
    Setting(
        "data.longest_piece",
        0,
        "bytes of a piece, at most: longer ones are not used, so that model.byte_slots hold every "
        "piece; 0 for any",
        least=0,
    ),
    Setting("data.vocabulary_size", 2048, "pieces of the vocabulary", least=1),
    Setting(
        "data.vocabulary_sample_bytes",
        8_000_000,
        "generic text that the vocabulary is trained on",
        least=1,
        most=TOKENS,
    ),
    Setting("data.generic_heldout_fraction", 0.01, "of the generic documents", above=0, below=1),
    Setting(
        "data.specialist_heldout_fraction",
        0.25,
        "of a domain's documents (whole groups)",
        above=0,
        below=1,
    ),
    Setting(
        "data.specialist_valid_fraction",
        0.15,
        "of the documents that are not held out",
        above=0,
        below=1,
    ),
    Setting(
        "data.specialist_tokens",
        50_000,
        "size of the specialist training set; 0 for all",
        least=0,
        most=TOKENS,
    ),
    Setting(
        "data.valid_tokens", 20_000, "for early stopping, at most; 0 for all", least=0, most=TOKENS
    ),
    Setting(
        "data.heldout_tokens", 150_000, "for evaluation, at most; 0 for all", least=0, most=TOKENS
    ),
    Setting(
        "data.shard_tokens",
        16_000_000,
        "a window store is written in shards of about this size",
        least=1,
        most=TOKENS,
    ),
)
