"""JSONL files: a JSON object on each line."""

import collections
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from specialm.data.documents import NOT_UTF8
from specialm.data.rows import RowFormat
from specialm.data.text_files import read_lines


def _read(
    path: Path, columns: tuple[str, ...], counts: collections.Counter
) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(read_lines(path)):
        if not line.strip():
            continue
        try:
            yield number, json.loads(line.decode("utf-8"))
        except UnicodeDecodeError:
            counts[NOT_UTF8] += 1
        except json.JSONDecodeError:
            counts["skipped: not JSON"] += 1


JSONL = RowFormat((".jsonl", ".jsonl.gz", ".jsonl.zst", ".json", ".json.gz", ".json.zst"), _read)
