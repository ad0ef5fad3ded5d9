"""A trained model on disk: what it is, its vocabulary, its checkpoints; and reading it back.

RUN/model.json         sizes, vocabulary hash, method, domain, seed, and the ledger: every phase
                       that led to these parameters, with tokens, FLOPs and seconds; the
                       settings, and where the generic windows lie (`origin.py`); of LoRA what
                       was trained (`adapters.py`)
RUN/started.json       before that: method, domain, seed, phase and steps of the run
RUN/vocabulary.model   the SentencePiece model, or RUN/tokenizer.json and
                       RUN/tokenizer_config.json
RUN/checkpoints/       orbax steps
RUN/metrics.jsonl      and RUN/tensorboard/
RUN/experts.npz        of a bank or a mixture: what it knows of its clusters
RUN/clusters/          the same: its encoder and centroids (`clustering/saved_clusters.py`)
"""

import dataclasses
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding

from specialm.common import manifest, processes
from specialm.common.errors import UserError
from specialm.common.files import write_json, write_with
from specialm.data import vocabularies
from specialm.data.vocabularies import Vocabulary
from specialm.models import families, tensors
from specialm.training import model_record, sharding
from specialm.training.checkpoints import Checkpoints, with_sharding

FORMAT = 2  # of the tree of parameters
STARTED = "started.json"


@dataclass(frozen=True)
class Model:
    """A model read from a run folder."""

    path: Path
    config: families.Config
    params: Any
    vocabulary: Vocabulary
    record: dict  # model.json


@dataclass(frozen=True)
class Experts:
    """What a bank or a mixture knows of its k clusters."""

    features_kxC: np.ndarray  # float32, what a bank knows of each cluster
    probability_k: np.ndarray  # float64, of each cluster in the generic corpus
    clusters: str  # fingerprint of the clusters it was trained with


def save_experts(path: Path, experts: Experts) -> None:
    """Writes `experts.npz` into a run folder; of several processes the first does."""
    if not processes.is_first():
        return
    write_with(
        path / "experts.npz",
        lambda stream: np.savez(
            stream,
            features=experts.features_kxC,
            probability=experts.probability_k,
            clusters=experts.clusters,
        ),
    )


def load_experts(path: Path) -> Experts:
    """Reads `experts.npz` of a run folder.

    Raises:
      UserError: it is damaged.
    """
    with manifest.arrays(path / "experts.npz") as saved:
        return Experts(saved["features"], saved["probability"], str(saved["clusters"]))


def begin(path: Path, method: str, domain: str, seed: int, phase: str, steps: int) -> None:
    """Writes what a run is going to be, so that one that was interrupted can be told from others.

    Args:
      steps: at most.
    """
    if processes.is_first():
        about = {"method": method, "domain": domain, "seed": seed, "phase": phase, "steps": steps}
        write_json(path / STARTED, about)


def describe(
    path: Path,
    config: families.Config,
    vocabulary: Vocabulary,
    method: str,
    domain: str,
    seed: int,
    ledger: list[dict],
    origin: dict | None = None,
) -> dict:
    """Writes `model.json` and the vocabulary into a run folder (of several processes the first
    does); returns the record.

    Args:
      origin: what else goes into it, see `training/origin.py`.
    """
    record = {
        "kind": families.kind(config),
        "format": FORMAT,
        "model": dataclasses.asdict(config),
        "vocabulary_sha256": vocabulary.sha256,
        "method": method,
        "domain": domain,
        "seed": seed,
        "ledger": ledger,
        **(origin or {}),
    }
    if processes.is_first():
        path.mkdir(parents=True, exist_ok=True)
        for name, file in vocabulary.files.items():
            shutil.copyfile(file, path / name)
        write_json(path / "model.json", record)
    return record


def abstract_params(config: families.Config, mesh: jax.sharding.Mesh):
    """Shapes of the parameters with the sharding that each is restored to: what does not divide
    over these devices (it was trained on others) is whole on each.
    """

    def layout(tensor: tensors.Tensor):
        odd = any(
            size % sharding.parts(mesh, axis)
            for size, axis in zip(tensor.shape, tensor.axes, strict=True)
        )
        return sharding.replicated(mesh) if odd else NamedSharding(mesh, sharding.spec(tensor.axes))

    declared = families.declare(config)
    return with_sharding(tensors.abstract(declared), tensors.map_tensors(layout, declared))


def layout(config: families.Config, mesh: jax.sharding.Mesh):
    """The sharding of each parameter (see `abstract_params`)."""
    return jax.tree.map(lambda leaf: leaf.sharding, abstract_params(config, mesh))


def save(path: Path, params: Any) -> None:
    """Writes parameters that no step has trained yet as the checkpoint of a run folder."""
    with Checkpoints(path / "checkpoints") as checkpoints:
        checkpoints.keep_only(set())  # what a killed attempt left
        checkpoints.save(0, params, None, {})
        checkpoints.read_back(0, params)


def check_there(path: Path, option: str = "checkpoint") -> None:
    """Raises UserError, with the option that gave the path, if it is no run folder."""
    if not (path / "model.json").is_file():
        raise UserError(
            f"--{option}={path}: no model.json there; give the folder of a run that "
            "`specialm train` or `specialm specialize` wrote."
        )


def read_record(path: Path) -> dict:
    """`model.json` of a run folder.

    Raises:
      UserError: it is not there, damaged, or not what a run folder has (the file and the key).
    """
    path = Path(path)
    check_there(path)
    manifest.check(path / "model.json")
    try:
        record = json.loads((path / "model.json").read_bytes().decode("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise model_record.damaged(path / "model.json", f"is not JSON ({error})") from error
    model_record.check_record(path / "model.json", record)
    return record


def load(path: str | Path, mesh: jax.sharding.Mesh, kinds: tuple[str, ...] = ("dense",)) -> Model:
    """The model of a run folder, of the step that it ended with.

    Args:
      kinds: of those accepted, "dense", "bank", "mixture".

    Raises:
      UserError: not a run folder, of another kind, without a finished checkpoint, damaged, or
        with a vocabulary that has changed.
    """
    path = Path(path)
    record = read_record(path)
    kind = record.get("kind", "dense")
    if kind not in kinds:
        what = (
            f"a {kind} of {record['model'].get('num_experts', 'several')} experts"
            if kind != "dense"
            else "one dense model, with no experts to choose from"
        )
        hint = " Take one out with `specialm specialize`." if kind != "dense" else ""
        raise UserError(f"--checkpoint={path}: {record['method']} is {what}.{hint}")
    if record.get("format") != FORMAT:
        raise UserError(
            f"--checkpoint={path}: model.json has format={record.get('format', 1)}, this version "
            f"reads {FORMAT} (the tree of parameters has changed); train the model again."
        )
    config = model_record.model_config(path / "model.json", record)
    vocabulary = vocabularies.of_run(path)
    if vocabulary.sha256 != record["vocabulary_sha256"]:
        raise UserError(
            f"--checkpoint={path}: {vocabulary.path.name} is not the one the model was "
            "trained with; restore the file."
        )
    with Checkpoints(path / "checkpoints", read_only=True) as checkpoints:
        found = checkpoints.restore_finished(abstract_params(config, mesh))
    if found is None:
        raise UserError(
            f"--checkpoint={path}: no checkpoint was finished there; run `specialm "
            "train` with the same config to go on."
        )
    return Model(path, config, found[1], vocabulary, record)
