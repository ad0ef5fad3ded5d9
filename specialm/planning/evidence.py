"""What forecasts are made from: rows of committed studies, which the package has, and a user's own.

`evidence.json` beside this file is written by `python -m benchmarks.forecast_table` from the rows
under results/; it has their digests, the code that made it, what the studies' domains looked like
before anything was trained (`domain_text.py`), what methods cost, and the fitted laws (`law.py`).
"""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from specialm.common import files
from specialm.common.errors import UserError

PATH = Path(__file__).with_name("evidence.json")
BYTES_PER_TOKEN = 2.2  # of the studies' vocabularies, of 1,024 and 2,048 pieces


@dataclass(frozen=True)
class Row:
    """A model that was fine-tuned on a domain and scored on its held-out text.

    Attributes:
      study: rows of one have settings, clusters and text in common.
      params: of the served model.
      tokens: that were trained on before fine-tuning.
      repetitions: of a drawn window in pretraining, expected, averaged over the draws.
      specialist_bytes: of the training text of the domain.
      own, mixed: bits per byte of n-gram models on the domain, see `domain_text.py`.
      learned: whether positions are learned (else rotary).
    """

    study: str
    method: str
    domain: str
    seed: int
    params: int
    tokens: int
    repetitions: float
    specialist_bytes: int
    own: float
    mixed: float
    learned: bool
    bits_per_byte: float

    @property
    def compute(self) -> float:
        """FLOPs of pretraining by 6 N D (arXiv 2001.08361, section 2.1)."""
        return 6.0 * self.params * self.tokens


@dataclass(frozen=True)
class Curve:
    """Bits per byte of n-gram models of a domain by the size of its training text.

    Attributes:
      bytes_y: sizes, rising.
      own_y: of the model of the domain's text alone.
      mixed_y: of its mixture with that of the generic text; () if there was none.
    """

    bytes_y: tuple[int, ...]
    own_y: tuple[float, ...]
    mixed_y: tuple[float, ...] = ()

    def at(self, kind: str, num_bytes: float) -> float:
        """Bits per byte, `kind` own or mixed, interpolated over log bytes; beyond the ends, that
        of the end.
        """
        value_y = self.own_y if kind == "own" else self.mixed_y
        return float(np.interp(np.log(num_bytes), np.log(self.bytes_y), value_y))


@cache
def table() -> dict:
    """The package's evidence.

    Raises:
      UserError: the file was changed.
    """
    value = json.loads(PATH.read_text(encoding="utf-8"))
    if value.get("digest") != digest(value):
        raise UserError(f"{PATH}: is damaged: its digest differs; install specialm again.")
    return value


def digest(value: Mapping) -> str:
    """SHA-256 of a dictionary as JSON, without its field `digest`."""
    import hashlib

    plain = {name: each for name, each in value.items() if name != "digest"}
    text = json.dumps(json.loads(files.to_json(plain)), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def rows() -> list[Row]:
    """The rows of the committed studies."""
    return [Row(**row) for row in table()["rows"]]


def run_rows(path: Path) -> tuple[list[dict], dict]:
    """(result rows, facts) of a demo's or a study's results.jsonl; facts are run.json or study.json
    beside it.

    Raises:
      UserError: a file is missing or damaged.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file; it is the results.jsonl of a demo or a study.")
    try:
        found = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]
    except ValueError as error:
        raise UserError(f"{path}: is damaged: not JSON lines ({error}).") from error
    for name in ("run.json", "study.json"):
        if (path.parent / name).is_file():
            return found, files.read_json(path.parent / name)
    raise UserError(f"{path.parent}: has neither run.json nor study.json beside results.jsonl.")


def proxies(path: Path, domain: str, curve: Curve, generic_tokens: float) -> list[Row]:
    """A user's own small runs as rows: those fine-tuned on the domain.

    Args:
      path: results.jsonl of a demo or a study.
      domain: its name in those rows.
      curve: of the domain's text, as measured for the plan.
      generic_tokens: of the generic text, for repetitions where the rows say none.

    Raises:
      UserError: no row is of this domain, or the run's sizes are not known.
    """
    found, facts = run_rows(path)
    settings, models = facts.get("settings", {}), facts.get("models", {})
    known, costs = {row["method"] for row in table()["rows"]}, table()["costs"]
    shares = {"slm_is": costs["effective_fraction"]}  # of the text that is drawn
    made = []
    for row in found:
        sizes, read = models.get(row["method"]), row["train_tokens"]
        if row["phase"] != "finetuned" or row.get("variant") or row["domain"] != domain:
            continue
        if not sizes or not read or row["method"] not in known:
            continue
        tokens = row.get("specialist_tokens") or settings.get("data.specialist_tokens", 0)
        of_bytes = round(tokens * BYTES_PER_TOKEN) or curve.bytes_y[-1]
        made.append(
            Row(
                study=str(path),
                method=row["method"],
                domain=domain,
                seed=row["seed"],
                params=sizes["params"],
                tokens=read,
                repetitions=row.get("expected_repetitions")
                or read / generic_tokens / shares.get(row["method"], 1),
                specialist_bytes=of_bytes,
                own=curve.at("own", of_bytes),
                mixed=curve.at("mixed", of_bytes) if curve.mixed_y else 0.0,
                learned=settings.get("model.positions", "learned") == "learned",
                bits_per_byte=row["bits_per_byte"],
            )
        )
    if not made:
        names = sorted({row["domain"] for row in found} - {"macro", "generic"})
        raise UserError(
            f"--proxies={path}: no fine-tuned model of the domain {domain!r} (there are "
            f"{', '.join(names) or 'none'}); name it with --domain."
        )
    return made


def to_json(row: Row) -> dict:
    """A row as the table has it."""
    return dataclasses.asdict(row)
