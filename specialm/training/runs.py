"""A trained model on disk: what it is, its vocabulary, its checkpoints; and reading it back.

    RUN/model.json         sizes, vocabulary hash, method, domain, seed, and the ledger: every phase
                           that led to these parameters, with tokens, FLOPs and seconds
    RUN/vocabulary.model   the SentencePiece model
    RUN/checkpoints/       orbax steps
    RUN/metrics.jsonl      and RUN/tensorboard/
"""

import dataclasses
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import jax

from specialm.data.vocabularies import Vocabulary
from specialm.errors import UserError
from specialm.files import write_json
from specialm.models import transformer
from specialm.training import sharding
from specialm.training.checkpoints import Checkpoints, with_sharding


@dataclass(frozen=True)
class Model:
    """A model read from a run folder."""

    path: Path
    config: transformer.Config
    params: transformer.Params
    vocabulary: Vocabulary
    record: dict  # model.json


def describe(path: Path, config: transformer.Config, vocabulary: Vocabulary, method: str,
             domain: str, seed: int, ledger: list[dict]) -> dict:
    """Writes `model.json` and the vocabulary into a run folder; returns the record."""
    path.mkdir(parents=True, exist_ok=True)
    record = {"model": dataclasses.asdict(config), "vocabulary_sha256": vocabulary.sha256,
              "method": method, "domain": domain, "seed": seed, "ledger": ledger}
    shutil.copyfile(vocabulary.path, path / "vocabulary.model")
    write_json(path / "model.json", record)
    return record


def abstract_params(config: transformer.Config, mesh: jax.sharding.Mesh):
    """Shapes of the parameters with the sharding that each is restored to."""
    layout = sharding.shardings(mesh, transformer.logical_axes(config))
    return with_sharding(transformer.abstract(config), layout)


def load(path: str | Path, mesh: jax.sharding.Mesh) -> Model:
    """The newest readable checkpoint of a run folder.

    Raises:
      UserError: not a run folder, or it has no finished checkpoint, or its vocabulary changed.
    """
    path = Path(path)
    if not (path / "model.json").is_file():
        raise UserError(f"--checkpoint={path}: no model.json there; give the folder of a run that "
                        "`specialm train` or `specialm specialize` wrote.")
    record = json.loads((path / "model.json").read_text())
    config = transformer.Config(**record["model"])
    vocabulary = Vocabulary(path / "vocabulary.model")
    if vocabulary.sha256 != record["vocabulary_sha256"]:
        raise UserError(f"--checkpoint={path}: vocabulary.model is not the one the model was "
                        "trained with; restore the file.")
    found = Checkpoints(path / "checkpoints").restore(abstract_params(config, mesh))
    if found is None:
        raise UserError(f"--checkpoint={path}: no checkpoint was finished there; run `specialm "
                        "train` with the same config to go on.")
    return Model(path, config, found[1], vocabulary, record)
