"""A small text in several files, and the comparison of two preparations of it."""

import gzip
import json

from ml_collections import ConfigDict

from specialm import config as config_lib

PART_BYTES = 30_000  # of the text's 400 kB


def write_text(root, documents):
    """Files of unequal size, one of them packed, with lines that are no documents; 60 documents
    more as a domain."""
    folder = root / "generic"
    folder.mkdir()
    ends = (40, 45, 130, 131, 260)
    for number, (start, end) in enumerate(zip((0, *ends), ends, strict=False)):
        lines = [json.dumps({"id": f"d{i}", "text": documents[i]}) for i in range(start, end)]
        lines += ["{broken", json.dumps({"text": " "})]
        content = "".join(line + "\n" for line in lines).encode()
        packed = number == 2
        (folder / f"{number}.jsonl{'.gz' if packed else ''}").write_bytes(
            gzip.compress(content) if packed else content
        )
    domain = "".join(json.dumps({"text": text}) + "\n" for text in documents[260:320])
    (root / "mine.jsonl").write_text(domain)
    return root


def make_config(root, vocabulary):
    """Settings for it: shards of a few documents, so that most lie across the files' ends."""
    config = config_lib.default()
    config.data.generic = f"jsonl:{root / 'generic'}"
    config.data.domains = ConfigDict({"mine": f"jsonl:{root / 'mine.jsonl'}"})
    config.data.vocabulary = str(vocabulary.path)
    config.data.context, config.data.shard_tokens = 16, 7000
    config.data.generic_heldout_fraction, config.data.generic_fraction = 0.2, 0.9
    config.clustering.encoder, config.clustering.dim, config.clustering.k = "tfidf_svd", 8, 4
    return config


def content(workdir) -> dict:
    """{path: bytes} of every file below a work folder; of a stage's record what it made."""
    found = {}
    for path in sorted(workdir.rglob("*")):
        if path.name == "stage.json":
            record = json.loads(path.read_text())
            found[path.relative_to(workdir).as_posix()] = {
                key: record[key] for key in ("name", "inputs", "result")
            }
        elif path.is_file():
            found[path.relative_to(workdir).as_posix()] = path.read_bytes()
    return found
