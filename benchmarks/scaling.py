"""Every family at the published size on TPU slices, compiled ahead of time: the table of
docs/scaling.md.

    python -m benchmarks.scaling [--out=results/scaling/slices.jsonl] [--table] [--largest]
        [--set=train.bank_every=4 ...] [--families=slm,slm_pn] [--slices=v5e:16x16] [--windows=16,8]

Needs libtpu (pip install -e '.[tpu]'), no TPU. One line of JSON for each family, slice and number
of windows for each device; what is in the file already is not compiled again, so that a run that
was interrupted goes on. A compilation takes one to five minutes on two cores, all of them four
hours. `--largest` then looks for the largest batches, `--table` prints the table of what is there.
--set changes the settings of all configs; rows and table are then those of these changes. A step is
the one that moves most: with train.bank_every that which updates the bank.
"""

import argparse
import itertools
import json
import os
from collections.abc import Iterable
from pathlib import Path

from benchmarks import cells
from benchmarks.cells import listed

FAMILIES = ("slm", "llm", "slm_mix", "slm_pn", "slm_hn", "soup")
SLICES = {  # with the devices along fsdp
    "v5e:16x16": 16,
    "v5p:4x4x4": 4,
    "v6e:4x4": 4,
    "v5e:4x4": 4,
    "v5p:8x8x8": 8,
    "tpu7x:4x4x4": 4,
}
WINDOWS = (16, 8)  # of 1,024 tokens, for each device


def _key(row: dict) -> tuple:
    return row["config"], row["topology"], row["batch_size"] // row["devices"]


def read(path: Path, changes: Iterable[str] = ()) -> dict[tuple, dict]:
    """{(config, topology, windows): row} of the rows with these changes; a later row takes the
    place of an earlier one.
    """
    rows = cells.read(path)
    return {_key(row): row for row in rows if row.get("set", "") == " ".join(changes)}


def table(rows: dict[tuple, dict]) -> str:
    """Markdown: a line for each family, slice and number of windows; ratios are to `slm` there."""
    from specialm.planning import roofline

    heads = (
        "slice",
        "model",
        "windows",
        "mesh",
        "groups",
        "peak memory",
        "HBM",
        "sent",
        "in loops, outside",
        "step (band)",
        "ratio",
        "MFU, at most",
        "device hours per 1B",
        "compiled in",
        "largest batch",
    )
    lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    for topology, windows in itertools.product(SLICES, WINDOWS):
        dense = rows.get(("slm", topology, windows))
        for name in FAMILIES:
            row = rows.get((name, topology, windows))
            if row is None:
                continue
            mesh = ", ".join(f"{axis} {size}" for axis, size in row["mesh"].items() if size > 1)
            sent = sum(row["collective_bytes"].values())
            largest = row.get("largest_windows_per_device")
            largest = "" if largest is None else f"{largest} x {row['devices']}"
            ratio = f"{row['step_seconds'] / dense['step_seconds']:.3f}" if dense else ""
            seconds = row["seconds"]
            inside, outside = (1e3 * seconds[f"exchange_{at}"] for at in ("in_loops", "outside"))
            low, high = (1e3 * end for end in roofline.band(seconds).values())
            shown = (
                topology,
                name,
                windows,
                mesh,
                row.get("groups") or "",
                f"{row['peak_memory_bytes'] / 1e9:.2f} GB",
                f"{row['hbm_bytes'] / 1e9:.1f} GB",
                f"{sent / 1e9:.2f} GB",
                f"{inside:.1f}, {outside:.1f} ms",
                f"{1e3 * row['step_seconds']:.1f} ms ({low:.1f}-{high:.1f})",
                ratio,
                f"{row['mfu_ceiling']:.2f}",
                f"{row['device_hours_per_billion_tokens']:.2f}",
                f"{row['compile_seconds']:.0f} s",
                largest,
            )
            lines.append(f"| {' | '.join(map(str, shown))} |")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> None:
    """Compiles what is missing: first every family, then the largest batches if asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("results/scaling/slices.jsonl"))
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--set", action="append", default=[], help="FIELD=VALUE of the configs")
    parser.add_argument("--families", type=listed(str), default=list(FAMILIES))
    parser.add_argument("--slices", type=listed(str), default=list(SLICES))
    parser.add_argument("--windows", type=listed(int), default=list(WINDOWS))
    parser.add_argument("--largest", action="store_true", help="of the first of --windows")
    arguments = parser.parse_args(argv)
    changes = arguments.set
    if arguments.table:
        print(table(read(arguments.out, changes)))
        return
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    from specialm import config as config_lib
    from specialm.common import code
    from specialm.planning.compilation import compile_report, largest_batch

    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    wanted = list(itertools.product(arguments.windows, arguments.families, arguments.slices))
    asked = [(False, *each) for each in wanted]
    if arguments.largest:
        asked += [(True, *each) for each in wanted if each[0] == arguments.windows[0]]
    for largest, windows, name, topology in asked:
        done = read(arguments.out, changes).get((name, topology, windows))
        if done and (not largest or "largest_windows_per_device" in done):
            continue
        given = [f"mesh.fsdp={SLICES[topology]}", *changes]
        overrides = [f"--config.{change}" for change in given]
        config = config_lib.load(f"configs/paper/{name}.py", overrides)
        if done:
            row = done | largest_batch(config, topology, done)
        else:
            row = {"config": name, **compile_report(config, topology, windows)}
            row |= {"set": " ".join(changes)} if changes else {}
        with arguments.out.open("a") as stream:
            stream.write(json.dumps(row | code.made_by()) + "\n")
        print(
            f"{name} {topology}, {windows} windows: {row['step_seconds']:.4f} s, "
            f"{row['peak_memory_bytes'] / 1e9:.2f} GB, compiled in "
            f"{row['compile_seconds']:.0f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
