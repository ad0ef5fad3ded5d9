"""What readers do with damaged text, and the memory they take: python -m benchmarks.readers

Prints JSON:

`mutated`    for each reader: mutated records read, what became of them (documents, skipped, files
             that are an error as a whole), and `foreign`, exceptions that are neither a counted
             skip nor an error that names the file. --records=N for each reader.
`memory`     for each reader: peak bytes of a process that reads inputs of two sizes, with what it
             imports, and their ratio. --megabytes=20,200
`bombs`      the same for 1 GB packed into about 1 MB: one line, many lines, one file of text.
"""

import argparse
import collections
import csv
import gzip
import io
import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path

import zstandard

from specialm.common.errors import UserError
from specialm.data.documents import Counts
from specialm.data.sources import open_source

RECORDS = 20  # of a mutated file
PACKINGS = {"": bytes, ".gz": gzip.compress, ".zst": zstandard.ZstdCompressor().compress}
KINDS = ("jsonl", "jsonl.gz", "jsonl.zst", "csv", "csv.gz", "parquet", "txt", "txt.gz", "txt.zst")
VALUES = (
    None, True, False, 0, -1, 1.5, 1e400, 10**30, "", " ", "\0", "\ufeff", "\ud800", "é" * 9,
    "x" * 999, [], [None], {}, {"a": {"b": [1]}}, float("nan"), "NaN",
)  # fmt: skip
# Bytes that parsers stumble over.
PIECES = (
    b"\0", b"\xff", b"\xef\xbb\xbf", b"\xfe\xff", b'"', b"\n", b"\r", b",", b"{", b"[" * 3000, b"}",
    b"9" * 5000, b"\\ud800", b"1e999", b"NaN", b"null", b"\xf0\x9f", b":", b"\x1a", b"PAR1",
)  # fmt: skip


def rows(draw: random.Random) -> list[dict]:
    """Rows whose fields hold what they should, or anything."""
    made = []
    for i in range(RECORDS):
        row = {"id": f"d{i}", "group": f"g{i % 3}", "text": f"the words of text {i} " * 5, "k": i}
        for name in row:
            if draw.random() < 0.15:
                row[name] = draw.choice(VALUES)
        if draw.random() < 0.1:
            del row[draw.choice(list(row))]
        made.append(row)
    return made


def written(kind: str, draw: random.Random) -> bytes:
    """A file of this kind."""
    name, _, packing = kind.partition(".")
    if name == "parquet":
        return _parquet(draw)
    if name == "jsonl":
        content = "".join(json.dumps(row) + "\n" for row in rows(draw)).encode()
    elif name == "csv":
        stream = io.StringIO(newline="")
        writer = csv.writer(stream)
        writer.writerows([["id", "group", "text", "k"], *(row.values() for row in rows(draw))])
        content = stream.getvalue().encode("utf-8", "surrogatepass")
    else:
        content = str(rows(draw)).encode("utf-8", "surrogatepass")
    content = mutated(content, draw)
    return PACKINGS["." + packing if packing else ""](content)


def _parquet(draw: random.Random) -> bytes:
    import pyarrow
    from pyarrow import parquet

    types = (
        pyarrow.string(), pyarrow.binary(), pyarrow.int64(), pyarrow.float32(), pyarrow.bool_(),
        pyarrow.timestamp("ns"), pyarrow.timestamp("us", "UTC"), pyarrow.date32(),
        pyarrow.duration("ns"), pyarrow.list_(pyarrow.string()), pyarrow.decimal128(9, 2),
        pyarrow.struct({"t": pyarrow.timestamp("ns")}),
        pyarrow.dictionary(pyarrow.int8(), pyarrow.string()),
    )  # fmt: skip
    columns = {}
    for name in ("id", "group", "text", "k"):
        of = draw.choice(types) if draw.random() < 0.5 else pyarrow.string()
        numbers = pyarrow.array([draw.randrange(10**6) for _ in range(RECORDS)], pyarrow.int64())
        try:
            columns[name] = numbers.cast(of)
        except pyarrow.ArrowException:
            columns[name] = pyarrow.nulls(RECORDS, of)
    stream = io.BytesIO()
    parquet.write_table(pyarrow.table(columns), stream, compression=draw.choice(["none", "snappy"]))
    return stream.getvalue()


def mutated(content: bytes, draw: random.Random) -> bytes:
    """The content with a few bytes changed, put in, taken out, or the end cut off."""
    changed = bytearray(content)
    for _ in range(draw.choice((0, 1, 1, 2, 4, 8))):
        place = draw.randrange(len(changed) + 1)
        match draw.randrange(5):
            case 0:
                changed[place : place + 1] = bytes([draw.randrange(256)])
            case 1:
                changed[place:place] = draw.choice(PIECES)
            case 2:
                del changed[place : place + draw.randrange(1, 40)]
            case 3:
                changed[place:place] = changed[: draw.randrange(60)]
            case _ if draw.random() < 0.3:
                del changed[place:]
    return bytes(changed)


def fuzz(kind: str, files: int, seed: int = 0) -> dict:
    """What becomes of `files` mutated files of RECORDS records each."""
    found: collections.Counter = collections.Counter()
    foreign: list[str] = []
    scheme = {"txt": "folder"}.get(kind.split(".")[0], kind.split(".")[0])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"x.{kind}"
        for number in range(files):
            draw = random.Random(f"{kind} {seed} {number}")
            content = written(kind, draw)
            outside = draw.random() < (0.9 if kind == "parquet" else 0.3)
            path.write_bytes(mutated(content, draw) if outside else content)
            found["records"] += RECORDS
            counts = Counts()
            chosen = draw.choice(("", "", "?k=1", "?k=null", "?group=g1")) * (scheme != "folder")
            try:
                for document in open_source(f"{scheme}:{path}{chosen}").documents(counts):
                    document.text.encode()
            except UserError:
                found["files that are an error"] += 1
            except Exception as error:
                foreign.append(f"{number}: {type(error).__name__}: {error}"[:200])
            for reason, count in counts.items():
                found[reason.partition(":")[0]] += count
    return {**found, "foreign": foreign}


MEASURE = """
import resource, sys
from specialm.data.documents import Counts
from specialm.data.sources import open_source
import pyarrow.parquet
spec, limit = sys.argv[1], int(sys.argv[2])
# The memory that Linux gives a process is counted from its parent's: start anew.
with open("/proc/self/clear_refs", "w") as stream:
    stream.write("5")
def peak():
    with open("/proc/self/status") as stream:
        return next(int(line.split()[1]) * 1024 for line in stream if line.startswith("VmHWM"))
counts, size = Counts(), 0
for document in open_source(spec, max_document_bytes=limit).documents(counts):
    size += len(document.text)
print(peak(), counts["documents"], size)
"""


def peak(spec: str, limit: int) -> int:
    """Peak bytes of a process that reads a source, with all that it imports."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, spec, str(limit)],
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stdout.split()[0])


def write_text(path: Path, size: int) -> None:
    """A file of about `size` bytes of text in documents of some kilobytes."""
    draw = random.Random(0)
    text = [" ".join(f"word{draw.randrange(9999)}" for _ in range(400)) for _ in range(50)]
    count = size // len(text[0])
    name, _, packing = path.name.partition(".")[2].partition(".")
    if name == "parquet":
        import pyarrow
        from pyarrow import parquet

        table = pyarrow.table({"text": [f"{i} {text[i % 50]}" for i in range(count)]})
        parquet.write_table(table, path, row_group_size=count)  # one group: the worst there is
        return
    lines = {
        "jsonl": lambda i: json.dumps({"text": f"{i} {text[i % 50]}"}) + "\n",
        "csv": lambda i: ("text\n" if i == 0 else "") + f'"{i} {text[i % 50]}"\n',
        "txt": lambda i: f"{i} {text[i % 50]}\n",
    }[name]
    with _packed(path) as stream:
        for i in range(count):
            stream.write(lines(i).encode())


def _packed(path: Path):
    if path.name.endswith(".gz"):
        return gzip.open(path, "wb", compresslevel=1)
    if path.name.endswith(".zst"):
        return zstandard.open(path, "wb")
    return path.open("wb")


def memory(kind: str, megabytes: tuple[int, int], limit: int) -> dict:
    """Peaks of two sizes, and their ratio."""
    scheme = {"txt": "folder"}.get(kind.split(".")[0], kind.split(".")[0])
    peaks = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"x.{kind}"
        for size in megabytes:
            write_text(path, size * 1_000_000)
            peaks.append(peak(f"{scheme}:{path}", limit))
    small, large = peaks
    return {"bytes": dict(zip(megabytes, peaks, strict=True)), "ratio": round(large / small, 2)}


def bomb(kind: str, content: str, megabytes: int, limit: int) -> dict:
    """The peak of a small packed file that is large unpacked: `content` is line | lines | text."""
    scheme = "folder" if content == "text" else "jsonl"
    block = b"a" * 1_000_000 if content != "lines" else b'{"text": "%s"}\n' % (b"a" * 9988) * 100
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"x.{'txt' if content == 'text' else 'jsonl'}.{kind}"
        with _packed(path) as stream:
            for _ in range(megabytes):
                stream.write(block)
        return {
            "packed bytes": path.stat().st_size,
            "unpacked bytes": megabytes * len(block),
            "peak bytes": peak(f"{scheme}:{path}", limit),
        }


def main() -> None:
    """Runs everything."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--records", type=int, default=2000)
    parser.add_argument("--megabytes", default="20,200")
    parser.add_argument("--limit", type=int, default=4_000_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    small, large = (int(size) for size in arguments.megabytes.split(","))
    files = -(-arguments.records // RECORDS)
    limit = arguments.limit
    result = {
        "mutated": {kind: fuzz(kind, files, arguments.seed) for kind in KINDS},
        "max_document_bytes": limit,
        "memory": {kind: memory(kind, (small, large), limit) for kind in KINDS},
        "bombs": {
            f"{content}.{kind}": bomb(kind, content, 1000, limit)
            for kind in ("gz", "zst")
            for content in ("line", "lines", "text")
        },
    }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
