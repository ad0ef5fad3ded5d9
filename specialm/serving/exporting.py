"""From a run folder to files that other programs run: `specialm export`.

Nothing is overwritten, and nothing is left where an export failed: the files are written beside the
target and moved there when they are complete and verified.
"""

import dataclasses
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from specialm.common.errors import UserError
from specialm.common.files import check_new_folder, write_json, write_text
from specialm.data.vocabularies.tokenizer_json import TokenizerJson
from specialm.models import families, transformer
from specialm.models.as_table import as_table
from specialm.models.config import Config
from specialm.serving import (
    architectures,
    gguf_writer,
    huggingface_writer,
    model_card,
    onnx_writer,
    peft_files,
    verify,
)
from specialm.serving.architectures.record import Architecture, Json
from specialm.training import adapters, runs, sharding
from specialm.training.runs import Model


@dataclass(frozen=True)
class Exported:
    """What is written, before it is written."""

    architecture: Architecture  # None where the format holds any
    config: Config
    params: Any  # NumPy arrays
    vocabulary: Any  # a TokenizerJson, or any `Vocabulary` where the format holds any
    longest: int  # tokens of a window
    about: Json  # name, licence
    model: Model
    base: str = ""  # of an adapter: what its config names as its base


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


def _write_peft(folder: Path, what: Exported, dtype: str) -> None:
    made = peft_files.modules(
        what.architecture, what.config, what.params, *adapters.read(what.model)
    )
    peft_files.write(folder, what.architecture, made, what.base, dtype)


def _verify_peft(folder: Path, dtype: str, what: Exported) -> Json:
    """Runs the adapter in peft, on the base that it names or on ours."""
    with tempfile.TemporaryDirectory() as scratch:
        base = Path(what.base)
        if not base.is_dir():
            ours = adapters.base(what.model)
            if ours is None:
                return {"checked": False, "why": "the run that it was tuned from is not there"}
            base = Path(scratch)
            _write_hf(base, _what(runs.load(ours, sharding.make_mesh())), "f32")
        return verify.with_peft(folder, base, what.params, what.config, what.vocabulary)


def _base_name(what: Exported, given: str) -> str:
    """What the adapter's config names as its base: the option --base, or the imported folder."""
    if given:
        return given
    adapters.read(what.model)  # raises without any
    imported = what.model.record.get("imported", {})
    phases = [entry["phase"] for entry in what.model.record["ledger"]]
    if imported.get("format") == "hf" and len(phases) == 2:  # imported, tuned
        return imported["source"]
    place = adapters.base(what.model) or "BASE"
    raise UserError(
        f"--format=peft: an adapter names its base; export that with `specialm export "
        f"--checkpoint={place} --to=DIR --format=hf` and give --base=DIR (or the name of a model "
        "hub that holds it)."
    )


def _write_onnx(folder: Path, what: Exported, dtype: str) -> None:
    onnx_writer.write(folder, what.config, what.params)
    for name, file in what.vocabulary.files.items():
        shutil.copyfile(file, folder / name)


def gguf_file(dtype: str) -> str:
    """The name of the file."""
    return f"model-{dtype}.gguf"


@dataclass(frozen=True)
class Format:
    """A format that models are exported to."""

    write: Any  # (folder, Exported, dtype)
    dtypes: Mapping[str, str]
    verify: Any  # (folder, dtype, Exported) -> report of `verify`
    use: str  # in the model card
    library: str = "transformers"
    holds_any: bool = False  # architecture and vocabulary


FORMATS = {
    "hf": Format(
        _write_hf,
        huggingface_writer.DTYPES,
        lambda folder, *_: verify.with_transformers(folder),
        model_card.HF,
    ),
    "gguf": Format(
        _write_gguf,
        gguf_writer.DTYPES,
        lambda folder, dtype, _: verify.with_llama_cpp(folder, dtype),
        model_card.GGUF,
    ),
    "onnx": Format(
        _write_onnx,
        {"f32": "float32"},
        lambda folder, _, what: verify.with_onnxruntime(
            folder / onnx_writer.FILE, what.params, what.config, what.vocabulary
        ),
        model_card.ONNX,
        "onnx",
        holds_any=True,
    ),
    "peft": Format(_write_peft, huggingface_writer.DTYPES, _verify_peft, model_card.PEFT, "peft"),
}


def check_options(target: str, kind: str, dtype: str) -> None:
    """Raises UserError for options that no model could be exported with."""
    if kind not in FORMATS:
        raise UserError(f"--format={kind}: must be one of {', '.join(FORMATS)}.")
    if dtype not in FORMATS[kind].dtypes:
        raise UserError(
            f"--dtype={dtype}: --format={kind} holds {', '.join(FORMATS[kind].dtypes)}."
        )
    check_new_folder("to", target)


def export(
    model: Model,
    target: Path,
    kind: str,
    dtype: str = "f32",
    scores: list[dict] | None = None,
    base: str = "",
) -> Json:
    """Writes a model into the folder `target`; returns what was written and how it was verified.

    Args:
      model: dense.
      kind: of FORMATS.
      dtype: of the numbers, one of the format's.
      scores: rows for the model card.
      base: of "peft": folder or name of the base model, where it is not an imported folder.

    Raises:
      UserError: see `check_options`; an architecture or a vocabulary that the format does not hold;
        the runtime computes other ids or logits from the files.
    """
    check_options(str(target), kind, dtype)
    what = _what(model, FORMATS[kind].holds_any)
    if kind == "peft":
        what = dataclasses.replace(what, base=_base_name(what, base))
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        FORMATS[kind].write(partial, what, dtype)
        report = FORMATS[kind].verify(partial, dtype, what)
        about = {**what.about, "library": FORMATS[kind].library, "base": what.base}
        card = model_card.write(model, about, FORMATS[kind].use, dtype, report, scores or [])
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


def _what(model: Model, holds_any: bool = False) -> Exported:
    # Another layout has weights for every layer and a row for every piece: they are written out.
    params, config = transformer.unshared(model.params, families.dense(model.config))
    params, config = as_table(params, config)
    has_graph = config.embedder in onnx_writer.EMBEDDERS and transformer.has_matrix(config)
    if holds_any and not has_graph:
        raise UserError(
            f"--checkpoint={model.path}: model.embedder={config.embedder!r} with "
            f"model.head={config.head!r} has no graph here; train with model.embedder='tokens' and "
            "model.head='tied' to export."
        )
    architecture: Any = None if holds_any else architectures.of(config)
    if not holds_any and not isinstance(model.vocabulary, TokenizerJson):
        raise UserError(
            f"--checkpoint={model.path}: its vocabulary is a SentencePiece unigram model, which "
            "llama.cpp and transformers do not read without losing rare characters; train with "
            "data.vocabulary_kind=bpe. --format=onnx leaves texts to another program."
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
        model,
    )
