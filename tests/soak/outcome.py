"""What a work folder holds, without what may differ between two runs: times."""

import hashlib
import json
from pathlib import Path

import numpy as np

TIMES = ("seconds", "tokens_per_second", "mfu", "elapsed", "created", "peak_memory_bytes", "digest")
NOT_COMPARED = ("verified.json", "stage.lock", "inputs.json")


def of(workdir: Path) -> dict[str, str]:
    """{what: hash} of every finished stage: arrays of checkpoints, bytes of other files."""
    found: dict[str, str] = {}
    for stage in sorted(workdir.rglob("stage.json")):
        for path in sorted(stage.parent.rglob("*")):
            name = path.relative_to(workdir).as_posix()
            inside = path.relative_to(stage.parent).parts
            if path.is_file() and inside[0] not in ("checkpoints", "checkpoints.damaged"):
                if path.name not in NOT_COMPARED:
                    found[name] = _hash(_content(path))
        for step in sorted((stage.parent / "checkpoints").glob("[0-9]*")):
            found |= _arrays(step, step.relative_to(workdir).as_posix())
    for path in workdir.glob("*.jsonl"):
        found[path.name] = _hash(_content(path))
    return found


def _content(path: Path) -> bytes:
    if path.suffix == ".json":
        return json.dumps(_without_times(json.loads(path.read_text())), sort_keys=True).encode()
    if path.suffix == ".jsonl":
        lines = [_without_times(json.loads(line)) for line in path.read_text().splitlines()]
        return json.dumps(lines, sort_keys=True).encode()
    return path.read_bytes()


def _without_times(value):
    if isinstance(value, dict):
        return {
            key: _without_times(v)
            for key, v in value.items()
            if not any(time in key for time in TIMES)
        }
    return [_without_times(v) for v in value] if isinstance(value, list) else value


def _arrays(step: Path, name: str) -> dict[str, str]:
    import jax
    import orbax.checkpoint as ocp

    found = {}
    for part in ("params", "rest"):
        if not (step / part).is_dir():
            continue
        with ocp.Checkpointer(ocp.StandardCheckpointHandler()) as checkpointer:
            tree = checkpointer.restore(step / part)
        for where, leaf in jax.tree_util.tree_leaves_with_path(tree):
            array = np.asarray(leaf)
            key = f"{name}/{part}{jax.tree_util.keystr(where)}"
            found[key] = f"{array.dtype} {array.shape} {_hash(array.tobytes())}"
    return found


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
