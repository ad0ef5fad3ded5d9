"""Many domains from one pretrained model: `specialm specialize --sources=FILE`.

Each domain is as `specialize --source` has it, in stages of one work folder, so the same command
goes on after an interruption. Each that is done has a line in WORKDIR/domains.jsonl (`mixes.py`).
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from specialm.common import files, processes
from specialm.common.errors import UserError
from specialm.data import sources
from specialm.workflows import from_checkpoint, mixes, own_text, specialising, stage_keys
from specialm.workflows.specialising import Specialised


@dataclass(frozen=True)
class Domain:
    """A domain and its text, see `data/sources.py`."""

    name: str
    source: str


@dataclass(frozen=True)
class Base:
    """A pretrained model: its run folder, and what identifies its content."""

    path: Path
    key: str

    @classmethod
    def of(cls, path: Path) -> "Base":
        """The one in a run folder."""
        return cls(path, stage_keys.checkpoint_key(path))


def read(file: str) -> list[Domain]:
    """The domains of a file, a line each: `NAME = SOURCE`; empty lines and `# ...` are passed over.

    Raises:
      UserError: with the line, for one that is none, a name twice, a text that is not there.
    """
    try:
        lines = Path(file).expanduser().read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--sources={file}: cannot be read ({error}).") from error
    found: dict[str, Domain] = {}
    for number, line in enumerate(lines, 1):
        name, equals, source = (part.strip() for part in line.partition("="))
        if not name or name.startswith("#"):
            continue
        try:
            if not equals or not source:
                raise UserError("must be NAME = SOURCE, as in med = folder:~/papers.")
            sources.check_name(name)
            if "." in name or name in found:
                raise UserError(f"{name}: {'is there twice' if name in found else 'has a dot'}.")
            sources.resolve_source(source)
        except UserError as error:
            raise UserError(f"--sources={file}, line {number}: {error}") from error
        found[name] = Domain(name, source)
    if not found:
        raise UserError(f"--sources={file}: names no domain; write NAME = SOURCE lines.")
    return list(found.values())


def specialise(
    base: Base,
    domains: Sequence[Domain],
    overrides: Sequence[str],
    workdir: Path,
    trusted: bool = False,
    plain: Base | None = None,
    check: Callable[[ConfigDict], Any] = lambda config: None,
) -> list[dict]:
    """Specialises `base` to each domain; returns a row for each, with "error" where that failed.

    Args:
      overrides: `--config.a.b=value`, of all domains.
      plain: a small model to specialise in the same way, beside it.
      check: raises UserError for settings that cannot work.

    Raises:
      UserError: `workdir` has the domains of another model.
    """
    rows: list[dict] = []
    earlier = mixes.lines(workdir / mixes.FILE, base.key)
    started = time.perf_counter()
    for number, domain in enumerate(domains):
        left = ""
        if rows:
            seconds = (time.perf_counter() - started) / number * (len(domains) - number)
            left = f", about {seconds / 60:.0f} min left"
        processes.tell(f"{domain.name}: domain {number + 1} of {len(domains)}{left}")

        def one(of: Base, domain: Domain = domain) -> tuple[Specialised, float]:
            return _one(of, domain, overrides, workdir, trusted, check)

        try:
            row = _row(base, domain, *one(base))
            if plain:
                row |= _beside(*one(plain))
        except UserError as error:
            processes.tell(f"{domain.name}: {error}")
            row = {"domain": domain.name, "source": domain.source, "error": str(error)}
        rows.append(row)
        done = {each["domain"]: files.to_json(each) for each in rows if "error" not in each}
        workdir.mkdir(parents=True, exist_ok=True)
        text = "".join(f"{line}\n" for line in {**earlier, **done}.values())
        files.write_text(workdir / mixes.FILE, text)
    return rows


def _one(
    base: Base,
    domain: Domain,
    overrides: Sequence[str],
    workdir: Path,
    trusted: bool,
    check: Callable[[ConfigDict], Any],
) -> tuple[Specialised, float]:
    """(a domain's model, seconds that its stages took)."""
    config = from_checkpoint.load(base.path, overrides, domain.source, trusted, name=domain.name)
    check(config)
    opened = from_checkpoint.open_run(config, workdir, [domain.name], base.path, trusted)
    run = own_text.paced(opened, domain.source, own_text.given(overrides))
    made = specialising.specialise(run, base.path, base.key)
    return made, sum({stage.path: stage.seconds for stage in run.stages.done}.values())


def _row(base: Base, domain: Domain, made: Specialised, seconds: float) -> dict:
    before, after = _bits_per_byte(made)
    expert = made.expert.result if made.expert else {}
    return {
        "domain": domain.name,
        "source": domain.source,
        "bytes": made.sets[domain.name]["bytes"],
        "before": before,
        "after": after,
        "seconds": round(seconds, 2),
        "checkpoint": str(made.stage.path),
        "base": base.key,
        **({"histogram": expert["histogram"]} if expert else {}),
    }


def _beside(made: Specialised, seconds: float) -> dict:
    before, after = _bits_per_byte(made)
    return {
        "plain_before": before,
        "plain_after": after,
        "plain_seconds": round(seconds, 2),
        "plain_checkpoint": str(made.stage.path),
    }


def _bits_per_byte(made: Specialised) -> tuple[float, float | None]:
    """Of the held-out text before fine-tuning and, if it was fine-tuned, after it."""
    (domain,) = made.sets
    bits = made.heldout["scores"][domain]["bits_per_byte"]
    return (bits, None) if made.before is None else (made.before[domain]["bits_per_byte"], bits)


def table(rows: Sequence[dict]) -> str:
    """The rows for people, with their means; what failed is below."""
    done = [row for row in rows if "error" not in row]
    columns = [
        name
        for name in ("before", "after", "plain_before", "plain_after")
        if any(row.get(name) is not None for row in done)
    ]
    width = max([8, *(len(row["domain"]) for row in rows)])
    heads = "".join(f" {name.replace('_', ' '):>12}" for name in columns)
    lines = [f"{'domain':{width}} {'bytes':>12}{heads} {'seconds':>9}"]
    every = [*done, _mean(done, columns)] if len(done) > 1 else done
    for row in every:
        size = f"{row['bytes']:,}" if "bytes" in row else ""
        bits = "".join(f" {_shown(row.get(name)):>12}" for name in columns)
        lines.append(f"{row['domain']:{width}} {size:>12}{bits} {row['seconds']:9,.1f}")
    lines.append("before, after fine-tuning: bits per byte of held-out text")
    return "\n".join([*lines, *(f"{r['domain']}: {r['error']}" for r in rows if "error" in r)])


def _shown(bits: float | None) -> str:
    return "" if bits is None else f"{bits:.3f}"


def _mean(rows: Sequence[dict], columns: Sequence[str]) -> dict:
    means = {
        name: float(np.mean([row[name] for row in rows]))
        for name in columns
        if all(row.get(name) is not None for row in rows)
    }
    return {"domain": "mean", "seconds": float(np.mean([row["seconds"] for row in rows])), **means}
