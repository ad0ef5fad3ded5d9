"""Damage to the files of finished stages: every reader gives what it gave, or says what is wrong.

All tries run in one child, which reads the whole work folder again and again.
"""

import hashlib
import json
import random
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

KINDS = {
    "checkpoints": lambda path: "checkpoints" in path.parts,
    "JSON": lambda path: path.suffix == ".json",
    "stores and sidecars": lambda path: True,
}


def kind(path: Path) -> str:
    """Of a file, in one of `KINDS`."""
    return next(name for name, matches in KINDS.items() if matches(path))


class Reader:
    """Reads all that a work folder holds as the commands do."""

    def __init__(self, config: Path, workdir: Path, method: str):
        from specialm import config as config_lib

        self.config = config_lib.load(str(config), [f"--config.method={method}"])
        self.workdir, self.method = workdir, method
        self.right = self.read()

    def read(self) -> dict[str, str]:
        """{part: hash} of everything."""
        return {part: self.part(part) for part in ("model", "rest")}

    def part(self, name: str) -> str:
        """A hash of the pretrained model, or of all else."""
        from specialm.common import manifest

        manifest._checked.clear()
        manifest._read.clear()
        digest = hashlib.sha256()
        getattr(self, f"_{name}")(digest)
        return digest.hexdigest()

    def _model(self, digest) -> None:
        import jax

        from specialm.training import metrics, runs, sharding

        (path,) = self.workdir.glob(f"pretrained/{self.method}-*")
        model = runs.load(path, sharding.make_mesh(), ("dense", "bank", "mixture"))
        _add(digest, *jax.tree.leaves(model.params), model.record, model.vocabulary.sha256)
        _add(digest, metrics.read(path / "metrics.jsonl"))
        if self.method != "slm_is":
            known = runs.load_experts(path)
            _add(digest, known.features_kxC, known.probability_k, known.clusters)

    def _rest(self, digest) -> None:
        from specialm.common.stages import Stages
        from specialm.workflows import pipeline, pretraining

        config, stages = self.config, Stages(self.workdir, quiet=True)
        run = pipeline.open_run(config, self.workdir, [config.domain], (self.method,), stages)
        stores = [run.generic, run.generic_heldout, *run.prepared.domains[config.domain].values()]
        for store in stores:
            _add(digest, store.read(np.arange(len(store))), store.documents, store.bytes_N)
            _add(digest, store.document_N, sorted(store.index["counts"].items()))
        clusters = run.clusters(self.method)
        _add(digest, clusters.centroids_KxD, clusters.generic_N, clusters.domains)
        stage = pretraining.pretrain(run, self.method, config.domain, config.seed, must_exist=True)
        _add(digest, stage.result)


def _add(digest, *values) -> None:
    for value in values:
        if isinstance(value, dict):
            _add(digest, *[[key, value[key]] for key in sorted(value)])
        elif isinstance(value, list | tuple):
            _add(digest, *value)
        elif isinstance(value, str | int | float | None):
            digest.update(repr(value).encode())
        else:
            digest.update(np.ascontiguousarray(value).tobytes())


def try_all(reader: Reader, tries: Iterator[tuple[str, Path, Callable]], until) -> Counter:
    """Counts of what came of each (name, file, content -> damaged content or None to remove it)."""
    from specialm.common.errors import UserError

    counts: Counter = Counter()
    for name, path, damage in tries:
        content = path.read_bytes()
        damaged = damage(content)
        try:
            path.unlink() if damaged is None else path.write_bytes(damaged)
            parts = ("model",) if kind(path) == "checkpoints" else ("model", "rest")
            same = all(reader.part(part) == reader.right[part] for part in parts)
            result = "harmless" if same else "SILENT"
        except UserError as error:
            named = str(path.parent) in str(error) or path.name in str(error)
            result = "named" if named else "not named"
        except Exception as error:
            result = f"FOREIGN {type(error).__name__}"
        finally:
            path.write_bytes(content)
        counts[f"{name}: {result}"] += 1
        if result.split()[0] in ("SILENT", "FOREIGN", "not"):
            counts[f"  {result}: {path.relative_to(reader.workdir)}"] += 1
        if until():
            break
    assert reader.read() == reader.right
    return counts


def flips(workdir: Path, draw: random.Random, many: dict[str, int]) -> Iterator:
    """Random bits of random files, `many` of each kind, the kinds by turns."""
    files = _files(workdir)
    for number in range(max(many.values())):
        for name in many:
            if number < many[name]:
                path = draw.choice(files[name])
                place, bit = draw.randrange(path.stat().st_size), 1 << draw.randrange(8)
                yield f"bits in {name}", path, lambda c, p=place, b=bit: _flip(c, p, b)


def _flip(content: bytes, place: int, bit: int) -> bytes:
    return content[:place] + bytes([content[place] ^ bit]) + content[place + 1 :]


def whole_files(workdir: Path, draw: random.Random, share: float = 1.0) -> Iterator:
    """Each file cut in half, emptied and removed; or a share of them."""
    ways = {"cut": lambda c: c[: len(c) // 2], "emptied": lambda c: b"", "removed": lambda c: None}
    for paths in _files(workdir).values():
        for path in paths:
            for way, damage in ways.items():
                if draw.random() < share:
                    yield f"files {way}", path, damage


def _files(workdir: Path) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {name: [] for name in KINDS}
    for path in sorted(workdir.rglob("*")):
        if path.is_file() and path.stat().st_size:
            found[kind(path.relative_to(workdir))].append(path)
    return found


def main(config: Path, workdir: Path, method: str, tries: Callable, out: Path, until) -> int:
    """The work of a child: writes the counts."""
    reader = Reader(config, workdir, method)
    out.write_text(json.dumps(try_all(reader, tries(workdir), until)))
    return 0
