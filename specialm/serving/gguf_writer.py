"""A model of ours as a GGUF file, with its tokenizer; llama.cpp needs nothing else."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from specialm.common.errors import UserError
from specialm.data.vocabularies.tokenizer_json import TokenizerJson
from specialm.models.config import Config
from specialm.models.quantization import BLOCK
from specialm.serving.architectures.record import Architecture, Json
from specialm.serving.gguf_files import CONTROL, NORMAL, USER_DEFINED, package
from specialm.serving.pretokenizers import PRETOKENIZERS, name_of

UNUSED = 5  # a row of the embedding that no token has
# --dtype -> type of matrices
DTYPES = {"f32": "F32", "f16": "F16", "q8_0": "Q8_0", "q4_0": "Q4_0"}
BLOCKS = ("q8_0", "q4_0")  # of BLOCK numbers, which share a scale


def check(vocabulary: TokenizerJson, who: str) -> str:
    """The name under which llama.cpp cuts words as this tokenizer does.

    Raises:
      UserError: it has none, or changes the text before.
    """
    layout = vocabulary.layout
    name = name_of(layout)
    if layout["model"].get("type") != "BPE" or not name:
        raise UserError(
            f"{who}: GGUF holds byte-level BPE with words cut as {', '.join(PRETOKENIZERS)}, which "
            "this tokenizer is not; export with --format=hf, which holds any tokenizer.json."
        )
    if layout.get("normalizer") and layout["normalizer"].get("type") != "NFC":
        raise UserError(
            f"{who}: its tokenizer changes texts ({layout['normalizer'].get('type')}), which "
            "llama.cpp would not; export with --format=hf."
        )
    return name


def write(
    path: Path,
    architecture: Architecture,
    config: Config,
    longest: int,
    params: Any,
    vocabulary: TokenizerJson,
    dtype: str,
    about: Json,
) -> None:
    """Writes the file.

    Args:
      longest: tokens of the longest window that it is said to read.
      params: ours, NumPy arrays.
      dtype: of DTYPES, for matrices; vectors stay float32.
      about: name and licence.

    Raises:
      UserError: a tokenizer or sizes that GGUF does not hold.
    """
    gguf = package("writing GGUF")
    pre = check(vocabulary, f"--format=gguf {path.name}")
    if obstacles := architecture.gguf_obstacles(config):
        raise UserError(
            f"--format=gguf {path.name}: llama.cpp computes {architecture.in_gguf} with "
            f"{', '.join(obstacles)} alone; export with --format=hf."
        )
    writer = gguf.GGUFWriter(str(path), architecture.in_gguf)
    writer.add_name(about["name"])
    writer.add_license(about["licence"])
    most = "ALL" if dtype == "f32" else "MOSTLY"
    writer.add_file_type(gguf.LlamaFileType[f"{most}_{DTYPES[dtype]}"])
    for key, value in _fields(architecture, config, longest).items():
        _add(writer, f"{architecture.in_gguf}.{key}", value)
    _add_tokenizer(writer, vocabulary, config.vocab_size, pre)
    for name, tensor in _tensors(architecture, config, params):
        kind = _kind(gguf, tensor, dtype, name)
        writer.add_tensor(name, gguf.quants.quantize(tensor, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _fields(architecture: Architecture, config: Config, longest: int) -> Json:
    """The sizes, as GGUF names them."""
    given = architecture.write(config, longest)
    left_out = architecture.gguf_left_out(config)
    fields = {
        theirs: given[ours]
        for ours, theirs in architecture.gguf_keys.items()
        if ours not in left_out
    }
    fields["vocab_size"] = config.vocab_size
    if config.positions == "rope":
        fields["attention.value_length"] = config.size_of_head
        fields["rope.dimension_count"] = config.size_of_head
        if config.rope_factor != 1:
            fields |= {"rope.scaling.type": "linear", "rope.scaling.factor": config.rope_factor}
    return fields


def _add(writer: Any, key: str, value: Any) -> None:
    kinds = {int: writer.add_uint32, float: writer.add_float32, str: writer.add_string}
    kinds[type(value)](key, value)


def _add_tokenizer(writer: Any, vocabulary: TokenizerJson, rows: int, pre: str) -> None:
    layout = vocabulary.layout
    added = {token["content"]: token for token in layout.get("added_tokens") or ()}
    names, kinds = [], []
    for i in range(rows):
        name = vocabulary.names[i] if i < vocabulary.size else None
        token = added.get(name) if name is not None else None
        names.append(f"[UNUSED{i}]" if name is None else name)
        kinds.append(
            UNUSED
            if name is None
            else NORMAL
            if token is None
            else (CONTROL if token["special"] else USER_DEFINED)
        )
    merges = layout["model"]["merges"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(names)
    writer.add_token_types(kinds)
    writer.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in merges])
    bos, eos = vocabulary.id_of("bos_token"), vocabulary.id_of("eos_token")
    # llama.cpp puts bos in front where a tokenizer adds one, and that one is `start`.
    writer.add_bos_token_id(vocabulary.start if vocabulary.adds_start or bos is None else bos)
    writer.add_eos_token_id(vocabulary.eos if eos is None else eos)
    writer.add_add_bos_token(vocabulary.adds_start)
    if vocabulary.chat_template:
        writer.add_chat_template(vocabulary.chat_template)


def _tensors(
    architecture: Architecture, config: Config, params: Any
) -> Iterator[tuple[str, np.ndarray]]:
    """(name, float32 array) of each tensor, as GGUF has them."""
    names = gguf_names(architecture, config.num_layers)
    for view in architecture.views(params, config):
        tensor = view.read()
        turned = view.name.endswith(architecture.gguf_turned)
        tensor = tensor.T if turned else architecture.to_gguf(view.name, tensor, config)
        yield names[view.name], np.ascontiguousarray(tensor)


def gguf_names(architecture: Architecture, layers: int) -> dict[str, str]:
    """{name in the Hugging Face layout: name in GGUF}."""
    return {
        theirs.format(y=y): gguf.format(y=y)
        for theirs, gguf in architecture.gguf_names.items()
        for y in (range(layers) if "{y}" in theirs else (0,))
    }


def _kind(gguf: Any, tensor: np.ndarray, dtype: str, name: str) -> Any:
    """The type of a tensor: vectors and learned positions stay float32, rows that do not divide
    into blocks are float16.
    """
    kinds = gguf.GGMLQuantizationType
    if tensor.ndim < 2 or name.startswith("position_embd") or dtype == "f32":
        return kinds.F32
    if dtype in BLOCKS and tensor.shape[-1] % BLOCK:
        return kinds.F16
    return kinds[DTYPES[dtype]]
