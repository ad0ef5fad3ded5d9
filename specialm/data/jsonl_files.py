"""JSONL files: a JSON object on each line."""

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from specialm.data.documents import MARK, NOT_UTF8, TOO_LARGE, Skipped
from specialm.data.packed_files import read_lines
from specialm.data.rows import Parse, RowFormat

BYTES_OF_MARK = MARK.encode()  # files joined by `cat` have one on later lines too


def _records(path: Path, columns: tuple[str, ...], limit: int) -> Iterator[tuple[int, Parse]]:
    for number, line in enumerate(read_lines(path, limit)):
        content = line if line is None else line.removeprefix(BYTES_OF_MARK).strip()
        if content is None or content:
            yield number, partial(_parse, content)


def _parse(line: bytes | None) -> Any:
    if line is None:
        raise Skipped(TOO_LARGE)
    try:
        return json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise Skipped(NOT_UTF8) from error
    except json.JSONDecodeError as error:
        raise Skipped("skipped: not JSON") from error


JSONL = RowFormat(
    (".jsonl", ".jsonl.gz", ".jsonl.zst", ".json", ".json.gz", ".json.zst"), "line", _records
)
