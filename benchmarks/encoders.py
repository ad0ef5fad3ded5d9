"""Speed of the sentence encoders: windows per second of MiniLM, MB per second of tfidf_svd.

    python -m benchmarks.encoders [--texts FOLDER_OR_FILE.jsonl] [--repeats 3]

Prints one JSON object. Without --texts it reads the docstrings of the installed packages.
"""

import argparse
import ast
import json
import sysconfig
import time
from pathlib import Path

import jax
import numpy as np

from specialm.clustering.encoders import Encoder, MiniLM, TfidfSvd, find_minilm, sample_texts

LENGTHS = (64, 96, 128, 256)
TOKENS_TIMED = 16_384
WINDOW_CHARACTERS = 400  # about 96 word pieces


def read_windows(
    source: str | None, characters: int = WINDOW_CHARACTERS, limit_bytes: int = 10_000_000
) -> list[str]:
    """Real text in pieces of at most `characters`, up to `limit_bytes` in all.

    Args:
      source: a .jsonl file or a folder of them (field "text"), or None for the docstrings of the
        packages installed here.
    """
    windows, size = [], 0
    for document in _docstrings() if source is None else _jsonl(Path(source)):
        for start in range(0, len(document), characters):
            windows.append(document[start : start + characters])
            size += len(windows[-1].encode())
        if size >= limit_bytes:
            break
    return windows


def _jsonl(path: Path):
    for file in sorted(path.glob("*.jsonl")) if path.is_dir() else [path]:
        with file.open(encoding="utf-8") as lines:
            yield from (json.loads(line)["text"] for line in lines)


def _docstrings():
    for file in sorted(Path(sysconfig.get_path("purelib")).rglob("*.py")):
        try:
            tree = ast.parse(file.read_text(encoding="utf-8"))
        except (SyntaxError, ValueError, RecursionError):  # templates and tests of such errors
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                text = ast.get_docstring(node)
                if text and len(text) >= 200:
                    yield text


def median_seconds(work, repeats: int) -> float:
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return float(np.median(times))


def windows_per_second(encoder: Encoder, windows: list[str], repeats: int) -> float:
    """Tokeniser included, compilation not."""
    encoder.encode(windows, progress=False)
    return len(windows) / median_seconds(lambda: encoder.encode(windows, progress=False), repeats)


def time_minilm(folder: Path, windows: list[str], dtype: str, repeats: int) -> dict:
    """Windows per second at exact lengths (pieces of text that are longer and are cut), and of the
    windows as they are.
    """
    text, speed = "\n".join(windows), {}
    for length in LENGTHS:
        encoder = MiniLM(folder, length, dtype)
        size = 12 * length  # characters, more than enough
        pieces = [text[i * size : (i + 1) * size] for i in range(TOKENS_TIMED // length)]
        full = [
            piece
            for piece, ids in zip(pieces, encoder.token_ids(pieces), strict=True)
            if len(ids) == length
        ]
        speed[f"{length}_tokens"] = windows_per_second(encoder, full, repeats)
    speed["mixed"] = windows_per_second(MiniLM(folder, 256, dtype), windows[:400], repeats)
    return speed


def time_tfidf_svd(windows: list[str], repeats: int) -> dict:
    size = sum(len(window.encode()) for window in windows) / 1e6
    started = time.perf_counter()
    encoder = TfidfSvd.fit(sample_texts(lambda i, j: windows[i:j], len(windows)), dim=128)
    fit = time.perf_counter() - started
    encode = median_seconds(lambda: encoder.encode(windows, progress=False), repeats)
    return {
        "megabytes": size,
        "windows": len(windows),
        "fit_seconds": fit,
        "encode_seconds": encode,
        "megabytes_per_second": size / encode,
        "windows_per_second": len(windows) / encode,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--texts", help="a .jsonl file or a folder of them, field text")
    parser.add_argument("--encoder-path", help="the folder with MiniLM's weights")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    folder, windows = find_minilm(args.encoder_path), read_windows(args.texts)
    print(
        json.dumps(
            {
                "device": jax.devices()[0].device_kind,
                "devices": jax.device_count(),
                "minilm_dtype": args.dtype,
                "minilm_windows_per_second": time_minilm(folder, windows, args.dtype, args.repeats),
                "tfidf_svd": time_tfidf_svd(windows, args.repeats),
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    main()
