"""A checkpoint of another program, in whatever format: what import needs of it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from specialm.common.errors import UserError
from specialm.data.vocabularies.tokenizer_json import TokenizerJson
from specialm.models import check, transformer
from specialm.models.config import Config
from specialm.serving.architectures.record import Architecture, Json, View

EMBEDDINGS = ("embed_tokens.weight", "wte.weight")  # ends of the names of the embedding


@dataclass(frozen=True)
class Foreign:
    """An open checkpoint, not read yet.

    Attributes:
      where: its file or folder, for errors.
      config: as config.json has it, whatever the format.
      shapes: name in the Hugging Face layout -> shape.
      tensor: name -> float array, of any dtype.
      about: where it comes from: name, licence, sha256, what kind of model.
    """

    where: str
    architecture: Architecture
    config: Json
    shapes: dict[str, tuple[int, ...]]
    tensor: Callable[[str], np.ndarray]
    vocabulary: TokenizerJson
    about: dict[str, Any] = field(default_factory=dict)

    def sizes(self) -> Config:
        """Our sizes of the model, with all that our parts have not refused by name."""
        rows = [
            shape[0]
            for name, shape in self.shapes.items()
            if name.endswith(EMBEDDINGS) and len(shape) == 2
        ]
        if not rows:
            raise UserError(f"{self.where}: has no embedding of tokens; the file is incomplete.")
        try:
            config = self.architecture.read(self.config, rows[0])
            check.check(config)
        except (TypeError, ValueError, AttributeError, LookupError, ArithmeticError) as error:
            raise UserError(
                f"{self.where}: its sizes hold a value that is none ({error}); download it again."
            ) from error
        if self.vocabulary.size > config.vocab_size:
            raise UserError(
                f"{self.where}: the tokenizer has {self.vocabulary.size:,} tokens, the model's "
                f"embedding {config.vocab_size:,} rows: it is the tokenizer of another model."
            )
        return config

    def load(self, config: Config) -> Any:
        """Our parameters, float32 NumPy arrays.

        Raises:
          UserError: tensors are missing, of another shape, not finite, or unknown.
        """
        params = blank(config)
        views = list(self.architecture.views(params, config))
        check_names(self, views)
        for view in views:
            theirs = self.tensor(view.name).astype(np.float32)
            if not np.isfinite(theirs).all():
                raise UserError(f"{self.where}: {view.name} holds numbers that are not finite.")
            view.write(theirs)
        return params


def blank(config: Config) -> Any:
    """Arrays in the shapes of the parameters."""
    import jax

    return jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), transformer.abstract(config))


def check_names(found: Foreign, views: list[View]) -> None:
    """Raises UserError unless the checkpoint holds exactly these tensors, in these shapes.

    The output matrix of a tied model may be there a second time.
    """
    wanted = {view.name: view.shape for view in views}
    ignored = found.architecture.ignored
    extra = [
        name
        for name in found.shapes
        if name not in wanted and not name.endswith(ignored) and name != "lm_head.weight"
    ]
    missing = [name for name in wanted if name not in found.shapes]
    for what, names, hint in (
        ("are missing", missing, "the file is incomplete, or is of another model"),
        ("have no place in specialm's parts", extra, "the model cannot be imported whole"),
    ):
        if names:
            shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
            raise UserError(f"{found.where}: {len(names)} tensors {what} ({shown}): {hint}.")
    for name, shape in wanted.items():
        if found.shapes[name] != shape:
            raise UserError(
                f"{found.where}: {name} has the shape {list(found.shapes[name])}, by its sizes it "
                f"must be {list(shape)}."
            )
