"""Checkpoints in llama.cpp's format, by the package `gguf`."""

import hashlib
import re
from pathlib import Path
from typing import Any

import numpy as np

from specialm.common import extras
from specialm.common.errors import UserError
from specialm.common.files import write_json
from specialm.data.vocabularies.tokenizer_json import CONFIG_FILE, FILE, TokenizerJson
from specialm.serving import architectures
from specialm.serving.architectures.record import Architecture, Json
from specialm.serving.foreign import Foreign
from specialm.serving.pretokenizers import PRETOKENIZERS, WHOLE_WORDS

EXTRA = "gguf"
NORMAL, CONTROL, USER_DEFINED = 1, 3, 4  # kinds of tokens
# Keys of an architecture whose value says that a part is there which we have not.
UNSUPPORTED = {
    "attention.sliding_window": 0,
    "attn_logit_softcapping": 0.0,
    "final_logit_softcapping": 0.0,
    "expert_count": 0,
    "logit_scale": 0.0,
}


def package(what: str) -> Any:
    """The package `gguf`."""
    return extras.load("gguf", EXTRA, what)


def open_file(path: Path, scratch: Path) -> Foreign:
    """The checkpoint in a GGUF file; quantised tensors are dequantised.

    Args:
      scratch: an empty folder, for the files of the tokenizer.

    Raises:
      UserError: with the file, for what is missing, damaged or not supported.
    """
    gguf = package("reading GGUF")
    if not path.is_file():
        raise UserError(f"--gguf={path}: no such file.")
    try:
        reader = gguf.GGUFReader(path)
        fields = {name: field.contents() for name, field in reader.fields.items()}
    except Exception as error:  # the package checks little, so NumPy raises many kinds
        raise UserError(
            f"{path}: is no GGUF file, damaged or cut short ({error}); download it again."
        ) from error
    architecture = architectures.get(
        fields.get("general.architecture"), str(path), architectures.IN_GGUF
    )
    places = {
        _hf_name(tensor.name, architecture): tensor
        for tensor in reader.tensors
        if not tensor.name.startswith("rope_freqs")
    }
    if len(places) < len(reader.tensors):
        raise UserError(f"{path}: rope_freqs (scaled rotary positions): specialm's parts have not.")
    config = _config(fields, architecture, places, str(path))

    def tensor(name: str) -> np.ndarray:
        found = places[name]
        values = gguf.quants.dequantize(found.data, found.tensor_type)
        values = values.reshape(tuple(int(n) for n in reversed(found.shape)))
        if name.endswith(architecture.gguf_turned):
            return values.T
        return architecture.from_gguf(name, values, sizes)

    shapes = {name: _shape(name, found, architecture) for name, found in places.items()}
    vocabulary = _vocabulary(fields, scratch, path)
    foreign = Foreign(
        str(path), architecture, config, shapes, tensor, vocabulary, _about(fields, path, reader)
    )
    sizes = foreign.sizes()
    return foreign


def _about(fields: Json, path: Path, reader: Any) -> Json:
    kinds: dict[str, int] = {}
    for found in reader.tensors:
        kinds[found.tensor_type.name] = kinds.get(found.tensor_type.name, 0) + 1
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return {
        "format": "gguf",
        "source": str(path.resolve()),
        "name": fields.get("general.name") or path.stem,
        "licence": fields.get("general.license") or "not stated",
        "sha256": digest,
        "stored_as": kinds,
    }


def _hf_name(name: str, architecture: Architecture) -> str:
    """The name in the Hugging Face layout; an unknown one as it is, which is then refused."""
    layer = re.fullmatch(r"blk\.(\d+)\.(.+)", name)
    general = f"blk.{{y}}.{layer[2]}" if layer else name
    for theirs, gguf in architecture.gguf_names.items():
        if gguf == general:
            return theirs.format(y=layer[1]) if layer else theirs
    return name


def _shape(name: str, found: Any, architecture: Architecture) -> tuple[int, ...]:
    """As the Hugging Face layout has it; GGUF lists axes from the innermost."""
    shape = tuple(int(n) for n in reversed(found.shape))
    return shape[::-1] if name.endswith(architecture.gguf_turned) else shape


def _config(fields: Json, architecture: Architecture, places: Json, where: str) -> Json:
    """The config.json that these fields amount to."""
    prefix, known = architecture.in_gguf, architecture.gguf_keys.values()
    for key, fine in UNSUPPORTED.items():
        value = fields.get(f"{prefix}.{key}", fine)
        if value != fine and key not in known:
            raise UserError(f"{where}: {key}={value!r}: specialm's parts do not have that.")
    config = {
        ours: _number(fields[f"{prefix}.{theirs}"])
        for ours, theirs in architecture.gguf_keys.items()
        if f"{prefix}.{theirs}" in fields
    }
    if fields.get(f"{prefix}.rope.scaling.type", "none") != "none":
        factor = fields.get(f"{prefix}.rope.scaling.factor", 1.0)
        config["rope_scaling"] = {
            "rope_type": fields[f"{prefix}.rope.scaling.type"],
            "factor": factor,
        }
    return {
        "model_type": architecture.model_type,
        **architecture.gguf_implies(config),
        **config,
        "tie_word_embeddings": "lm_head.weight" not in places,
    }


def _number(value: Any) -> Any:
    """A float32 as it was written: 1e-05, not 9.999999747378752e-06."""
    return float(str(np.float32(value))) if isinstance(value, float) else value


def _vocabulary(fields: Json, scratch: Path, where: Path) -> TokenizerJson:
    """The tokenizer in the layout of tokenizer.json."""
    kind, pre = fields.get("tokenizer.ggml.model"), fields.get("tokenizer.ggml.pre", "gpt-2")
    if kind != "gpt2":
        raise UserError(
            f"{where}: its tokenizer is {kind!r}, only byte-level BPE ('gpt2') is read from GGUF; "
            "import the model's Hugging Face folder with --hf."
        )
    if pre not in PRETOKENIZERS:
        raise UserError(
            f"{where}: it cuts words as {pre!r}, which is not in specialm's table "
            f"({', '.join(PRETOKENIZERS)}); import the model's Hugging Face folder with --hf."
        )
    for key in ("tokens", "merges"):
        if not fields.get(f"tokenizer.ggml.{key}"):
            raise UserError(f"{where}: has no tokenizer.ggml.{key}; the file is incomplete.")
    tokens = fields["tokenizer.ggml.tokens"]
    kinds = fields.get("tokenizer.ggml.token_type") or [NORMAL] * len(tokens)
    layout = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            _added(i, tokens[i], special=kinds[i] == CONTROL)
            for i in range(len(tokens))
            if kinds[i] in (CONTROL, USER_DEFINED)
        ],
        "normalizer": None,
        "pre_tokenizer": PRETOKENIZERS[pre],
        "post_processor": _adds_start(fields, tokens),
        "decoder": {
            "type": "ByteLevel",
            "add_prefix_space": True,
            "trim_offsets": True,
            "use_regex": True,
        },
        "model": {
            "type": "BPE",
            "ignore_merges": pre in WHOLE_WORDS,
            "vocab": {token: i for i, token in enumerate(tokens)},
            "merges": [merge.split(" ", 1) for merge in fields["tokenizer.ggml.merges"]],
        },
    }
    write_json(scratch / FILE, layout)
    write_json(scratch / CONFIG_FILE, _roles(fields, tokens))
    return TokenizerJson(scratch / FILE)


def _added(i: int, token: str, special: bool) -> Json:
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": i, "content": token, **flags, "special": special}


def _adds_start(fields: Json, tokens: list[str]) -> Json | None:
    if not fields.get("tokenizer.ggml.add_bos_token"):
        return None
    i = fields["tokenizer.ggml.bos_token_id"]
    start = {"SpecialToken": {"id": tokens[i], "type_id": 0}}
    first, second = ({"Sequence": {"id": name, "type_id": 0}} for name in "AB")
    return {
        "type": "TemplateProcessing",
        "single": [start, first],
        "pair": [start, first, start, second],
        "special_tokens": {tokens[i]: {"id": tokens[i], "ids": [i], "tokens": [tokens[i]]}},
    }


def _roles(fields: Json, tokens: list[str]) -> Json:
    roles = {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}
    found: Json = {"tokenizer_class": "PreTrainedTokenizerFast"}
    for ours, theirs in roles.items():
        i = fields.get(f"tokenizer.ggml.{theirs}_token_id")
        if isinstance(i, int) and 0 <= i < len(tokens):
            found[f"{ours}_token"] = tokens[i]
    if fields.get("tokenizer.chat_template"):
        found["chat_template"] = fields["tokenizer.chat_template"]
    return found
