"""What the table of architectures holds."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from specialm.common.errors import UserError
from specialm.models.config import Config

Json = dict[str, Any]


@dataclass(frozen=True)
class View:
    """A tensor of another layout: its name and shape there, and the same numbers in ours.

    `ours` is a NumPy view into our parameters whose axes are split ones of `shape`: writing
    `ours[...] = theirs.reshape(ours.shape)` imports, reading it back exports.
    """

    name: str
    shape: tuple[int, ...]
    ours: np.ndarray

    def write(self, theirs: np.ndarray) -> None:
        """Copies their numbers into our parameters."""
        self.ours[...] = theirs.reshape(self.ours.shape)

    def read(self) -> np.ndarray:
        """float32 [*shape]: their tensor."""
        return np.ascontiguousarray(self.ours).reshape(self.shape)


def _unchanged(name: str, tensor: np.ndarray, config: Config) -> np.ndarray:
    return tensor


def _nothing(given: Json) -> Json:
    return {}


def _none(config: Config) -> tuple[str, ...]:
    return ()


# Fields of our Config that few architectures have, with what they are in all others.
FEW: Json = {
    "embedder": "tokens",
    "post_norms": False,
    "qk_norm": False,
    "query_scalar": 0,
    "sliding_window": 0,
}


@dataclass(frozen=True)
class Architecture:
    """One architecture of open checkpoints."""

    model_type: str  # in config.json
    model_class: str  # of transformers
    # config.json -> our sizes; raises UserError for what our parts have not
    read: Callable[[Json, int], Config]  # (config.json, vocabulary size of the embedding)
    write: Callable[[Config, int], Json]  # (ours, longest window) -> config.json
    needs: Json  # fields of our Config and the values that it can be exported with
    views: Callable[[Any, Config], Iterator[View]]  # of our parameters, NumPy arrays
    gguf_keys: Mapping[str, str]  # key of config.json -> key of GGUF, without its prefix
    gguf_names: Mapping[str, str]  # a name of config's layout -> that of GGUF; {y} is the layer
    # A tensor as GGUF has it, and back: (name, tensor, config) -> tensor.
    to_gguf: Callable[[str, np.ndarray, Config], np.ndarray] = _unchanged
    from_gguf: Callable[[str, np.ndarray, Config], np.ndarray] = _unchanged
    gguf_turned: tuple[str, ...] = ()  # ends of names of linear maps that GGUF has turned
    ignored: tuple[str, ...] = ()  # ends of names of tensors that are no parameters
    prefix: str = ""  # of names, which some files leave out
    gguf_type: str = ""  # general.architecture in GGUF, if it is not model_type
    # What GGUF leaves out because llama.cpp knows it: (config.json as read so far) -> more of it
    gguf_implies: Callable[[Json], Json] = _nothing
    # Keys of config.json that GGUF leaves out of a model
    gguf_left_out: Callable[[Config], tuple[str, ...]] = _none
    # The settings with which GGUF would hold the model, if it does not
    gguf_obstacles: Callable[[Config], tuple[str, ...]] = _none
    free: tuple[str, ...] = ()  # of FEW, the fields that may have any value

    @property
    def in_gguf(self) -> str:
        """general.architecture in GGUF, and what its keys begin with."""
        return self.gguf_type or self.model_type

    def obstacles(self, config: Config) -> list[str]:
        """The settings that stand in the way of an export, with the values that would do."""
        own_heads, usual_size = config.kv_heads, config.d_model // config.num_heads
        plain = dataclasses.replace(
            config,
            num_kv_heads=0 if own_heads == config.num_heads else own_heads,
            head_size=0 if config.size_of_head == usual_size else config.size_of_head,
        )
        found = [
            f"model.{name}={wanted!r}"
            for name, wanted in {**FEW, **self.needs}.items()
            if getattr(plain, name) != wanted and name not in self.free
        ]
        tables = {"embedder": ("tokens",), "head": ("tied", "untied")}
        found += [
            f"model.{name}={' or '.join(map(repr, choices))}"
            for name, choices in tables.items()
            if getattr(plain, name) not in choices and name not in self.needs
        ]
        return [*dict.fromkeys(found), *(["model.exits=()"] if config.exits else [])]


def refuse(checks: Mapping[str, bool], who: str) -> None:
    """Raises UserError that names what of a config.json our parts have not.

    Args:
      checks: {what, as the file has it: whether it is in the way}.
    """
    found = [what for what, there in checks.items() if there]
    if found:
        raise UserError(f"{who}: {', '.join(found)}: specialm's parts do not have that.")


def sizes(given: Json, names: Mapping[str, str], who: str) -> Json:
    """{our field: size} of a config.json.

    Args:
      names: our field -> its key there.

    Raises:
      UserError: one is missing or no positive whole number.
    """
    found = {}
    for field, key in names.items():
        value = given.get(key)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise UserError(f"{who}: {key}={value!r}: must be a positive whole number.")
        found[field] = value
    return found
