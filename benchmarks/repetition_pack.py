"""Packs what the repetition grid trains on, for a machine without the text and the clusters.

    python -m benchmarks.repetition_pack --out=runs/pack [--corpora=default] [--sizes=1M]
    python -m benchmarks.repetition_lanes --pack=runs/pack --out=results/repetition/rows.jsonl

Of every corpus and size one file of windows, FOLDER/CORPUS-SIZE.npz, and FOLDER/plan.jsonl with a
line a model to pretrain: how its windows are drawn, and what there is to say of its repetitions.
"""

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.repetition import Runs, add_grid_options, chosen, config_of, facts
from benchmarks.repetition_grid import Block, Cell
from specialm import methods
from specialm.common import code
from specialm.common.stages import digest
from specialm.data.mixed import Late
from specialm.data.sampler import Sampler
from specialm.data.store import WindowStore
from specialm.workflows import demo, pipeline, repeats
from specialm.workflows.pipeline import Run


class Pack:
    """The windows of a corpus and a size: those of all sets, one after the other."""

    def __init__(self, run: Run):
        self.parts: dict[str, list[int]] = {}
        self.bytes: dict[str, int] = {}
        self._tokens: list[np.ndarray] = []
        self._sizes: list[np.ndarray] = []
        self.arrays: dict[str, np.ndarray] = {}
        self.start, self.vocabulary = run.generic.start, run.prepared.vocabulary.size
        self._add("generic", run.generic, np.arange(len(run.generic)))
        for domain in run.domains:
            part = pipeline.specialist(run, domain)
            self._add(f"{domain}/train", part.train_store, part.train_indices)
            self._add(f"{domain}/valid", part.valid_store, part.valid_indices)
            store = run.prepared.domains[domain]["valid"]
            self._add(f"{domain}/valid_all", store, store.subset(run.config.data.heldout_tokens))
            self._add(f"{domain}/heldout", *pipeline.heldout(run, domain))

    def _add(self, name: str, store: WindowStore, indices_N: np.ndarray) -> None:
        first = sum(map(len, self._sizes))
        self.parts[name] = [first, first + len(indices_N)]
        self.bytes[name] = int(store.bytes_N[indices_N].sum())
        self._tokens.append(store.read(indices_N).astype(np.uint16))
        self._sizes.append(store.sizes_N[indices_N].astype(np.uint16))

    def sampler(self, sampler: Sampler | Late) -> dict[str, Any]:
        """A sampler as `read_sampler` reads it."""
        if isinstance(sampler, Late):
            before, after = self.sampler(sampler.before), self.sampler(sampler.after)
            return {"before": before, "after": after, "first": sampler.first}
        name = f"clusters-{digest(sampler.cluster_N)}"
        self.arrays[name] = sampler.cluster_N.astype(np.int16)
        return {
            "windows": sampler.windows,
            "batch_size": sampler.batch_size,
            "seed": sampler.seed,
            "clusters": name,
            "probability": sampler.probability_K.tolist(),
            "epoch": sampler.epoch,
        }

    def save(self, path: Path) -> None:
        """Writes the file."""
        about = {
            "parts": self.parts,
            "bytes": self.bytes,
            "start": self.start,
            "vocabulary": self.vocabulary,
        }
        np.savez_compressed(
            path,
            tokens=np.concatenate(self._tokens),
            sizes=np.concatenate(self._sizes),
            about=np.array(json.dumps(about)),
            **self.arrays,  # type: ignore[arg-type]
        )


def read_sampler(given: dict[str, Any], arrays: Any) -> Sampler | Late:
    """What `Pack.sampler` wrote."""
    if "first" in given:
        before, after = (read_sampler(given[name], arrays) for name in ("before", "after"))
        assert isinstance(before, Sampler) and isinstance(after, Sampler)
        return Late(before, after, given["first"])
    return Sampler(
        given["windows"],
        given["batch_size"],
        given["seed"],
        arrays[given["clusters"]],
        np.array(given["probability"]),
        epoch=given["epoch"],
    )


def line(run: Run, cell: Cell, pack: Pack) -> dict[str, Any]:
    """What there is to know of a model before it is trained."""
    method = run.config.method
    aimed = cell.domain if methods.aims_at_domain(run.config, method) else ""
    source = repeats.source(run, method, aimed)
    sampler = methods.sampler(run.config, method, source, cell.seed)
    assert isinstance(sampler, Sampler | Late)
    return {
        **{name: getattr(cell, name) for name in ("corpus", "size", "tokens", "method", "seed")},
        "domain": aimed,
        "sampler": pack.sampler(sampler),
        "facts": facts(cell, run),
    }


def models(block: Block) -> list[Cell]:
    """A cell for each model to pretrain, whatever its rate."""
    rate = block.rates[0]
    return [
        Cell(block.corpus, block.size, block.tokens, method, rate, domain, seed)
        for method in block.methods
        for seed in block.seeds
        for domain in (block.domains[:1] if method == "slm" else block.domains)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workdir", default="runs/repetition")
    parser.add_argument("--out", type=Path, default=Path("runs/pack"))
    add_grid_options(parser)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    opened, packs, lines = Runs(options), dict[tuple[str, str], Pack](), []
    cells = [cell for block in chosen(options) for cell in models(block)]
    cells.sort(key=lambda cell: (cell.corpus, cell.size))
    demo.fetch(config_of(cells[0], options))
    for number, cell in enumerate(cells):
        run = opened.of(cell)
        key = cell.corpus, cell.size
        packs[key] = pack = packs.get(key) or Pack(run)
        lines.append(line(run, cell, pack) | code.made_by())
        name = " ".join(str(value) for value in dataclasses.astuple(cell))
        print(f"{number + 1} of {len(cells)}: {name}", flush=True)
    for (corpus, size), pack in packs.items():
        pack.save(options.out / f"{corpus}-{size}.npz")
    (options.out / "plan.jsonl").write_text("".join(json.dumps(each) + "\n" for each in lines))


if __name__ == "__main__":
    main()
