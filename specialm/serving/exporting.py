"""From a run folder to files that other programs run: `specialm export`.

Nothing is overwritten, and nothing is left where an export failed: the files are written beside the
target and moved there when they are complete and verified.
"""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from specialm.common.errors import UserError
from specialm.common.files import write_json, write_text
from specialm.data.vocabularies.tokenizer_json import TokenizerJson
from specialm.models import families, transformer
from specialm.models.config import Config
from specialm.serving import architectures, gguf_writer, huggingface_writer, model_card, verify
from specialm.serving.architectures.record import Architecture, Json
from specialm.training.runs import Model


@dataclass(frozen=True)
class Exported:
    """What is written, before it is written."""

    architecture: Architecture
    config: Config
    params: Any  # NumPy arrays
    vocabulary: TokenizerJson
    longest: int  # tokens of a window
    about: Json  # name, licence


def _write_hf(folder: Path, what: Exported, dtype: str) -> None:
    huggingface_writer.write(
        folder, what.architecture, what.config, what.longest, what.params, what.vocabulary, dtype
    )


def _write_gguf(folder: Path, what: Exported, dtype: str) -> None:
    gguf_writer.write(
        folder / gguf_file(dtype),
        what.architecture,
        what.config,
        what.longest,
        what.params,
        what.vocabulary,
        dtype,
        what.about,
    )


def gguf_file(dtype: str) -> str:
    """The name of the file."""
    return f"model-{dtype}.gguf"


@dataclass(frozen=True)
class Format:
    """A format that models are exported to."""

    write: Any  # (folder, Exported, dtype)
    dtypes: Mapping[str, str]
    verify: Any  # (folder, dtype) -> report of `verify`
    use: str  # in the model card


FORMATS = {
    "hf": Format(_write_hf, huggingface_writer.DTYPES, verify.with_transformers, model_card.HF),
    "gguf": Format(_write_gguf, gguf_writer.DTYPES, verify.with_llama_cpp, model_card.GGUF),
}


def check_options(target: str, kind: str, dtype: str) -> None:
    """Raises UserError for options that no model could be exported with."""
    if kind not in FORMATS:
        raise UserError(f"--format={kind}: must be one of {', '.join(FORMATS)}.")
    if dtype not in FORMATS[kind].dtypes:
        raise UserError(
            f"--dtype={dtype}: --format={kind} holds {', '.join(FORMATS[kind].dtypes)}."
        )
    if not target:
        raise UserError("--to is missing: the folder that is written.")
    path = Path(target)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise UserError(f"--to={target}: is there already; nothing is overwritten, name another.")


def export(
    model: Model, target: Path, kind: str, dtype: str = "f32", scores: list[dict] | None = None
) -> Json:
    """Writes a model into the folder `target`; returns what was written and how it was verified.

    Args:
      model: dense.
      kind: of FORMATS.
      dtype: of the numbers, one of the format's.
      scores: rows for the model card.

    Raises:
      UserError: see `check_options`; an architecture or a vocabulary that the format does not hold;
        the runtime computes other ids or logits from the files.
    """
    check_options(str(target), kind, dtype)
    what = _what(model)
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        FORMATS[kind].write(partial, what, dtype)
        report = FORMATS[kind].verify(partial, dtype)
        card = model_card.write(model, what.about, FORMATS[kind].use, dtype, report, scores or [])
        write_text(partial / "README.md", card)
        write_json(partial / "verification.json", report)
        target.mkdir(parents=True, exist_ok=True)
        for path in sorted(partial.iterdir()):
            path.rename(target / path.name)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    files = {path.name: path.stat().st_size for path in sorted(target.iterdir())}
    return {"exported": str(target), "format": kind, "dtype": dtype, "files": files} | {
        "verification": report
    }


def summary(result: Json) -> str:
    """What was written, for people."""
    sizes = ", ".join(f"{name} {size:,} bytes" for name, size in result["files"].items())
    return f"{result['exported']}: {sizes}\n{model_card.verified(result['verification'])}"


def _what(model: Model) -> Exported:
    # Of another layout every layer has its own weights: what layers share is written out.
    params, config = transformer.unshared(model.params, families.dense(model.config))
    architecture = architectures.of(config)
    if not isinstance(model.vocabulary, TokenizerJson):
        raise UserError(
            f"--checkpoint={model.path}: its vocabulary is a SentencePiece unigram model, which "
            "llama.cpp and transformers do not read without losing rare characters; train with "
            "data.vocabulary_kind=bpe."
        )
    imported = model.record.get("imported", {})
    longest = imported.get("context", config.context)
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float32), params)
    return Exported(
        architecture,
        config,
        params,
        model.vocabulary,
        longest if config.positions == "rope" else config.context,
        {
            "name": imported.get("name") or model.path.name,
            "licence": imported.get("licence", "not stated"),
        },
    )
