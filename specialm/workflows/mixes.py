"""What `specialize --sources` wrote of domains: WORKDIR/domains.jsonl, a line for each.

    domain       its name
    base         what identifies the model that it was made from
    histogram    the mixing coefficients of its expert, where that model has experts: a server
                 computes the domain's model from them (`serve --bundle --domains`)

and the figures that its table has.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from specialm.common import shapes
from specialm.common.errors import UserError
from specialm.models import families
from specialm.training import runs
from specialm.workflows import bundles as bundles_lib
from specialm.workflows import stage_keys

FILE = "domains.jsonl"
ROW = {"domain": shapes.NAME, "base": shapes.TEXT, "histogram?": [shapes.AMOUNT]}


def lines(file: Path, key: str) -> dict[str, str]:
    """{domain: its line} of a file that is to be written again; {} if it is not there.

    Args:
      key: identifies the model whose domains they are.

    Raises:
      UserError: they are another model's, or the file is damaged.
    """
    found: dict[str, str] = {}
    for number, line in enumerate(file.read_text("utf-8").splitlines() if file.exists() else (), 1):
        row = _row(line)
        if isinstance(row, str):
            raise UserError(f"{file}, line {number}: {row}; remove the file to write it anew.")
        if row["base"] != key:
            raise UserError(f"{file}: has domains of another model; choose another --workdir.")
        found[row["domain"]] = line
    return found


def _row(line: str) -> dict | str:
    """A line of the file, or what is wrong with it."""
    try:
        row: dict = json.loads(line)
    except (ValueError, RecursionError) as error:
        return f"is not JSON ({error})"
    return shapes.problem(row, ROW) or row


def of_bundles(
    bundles: Sequence[str], given: Sequence[str], trusted: bool = False
) -> dict[Path, dict[str, np.ndarray]]:
    """{bundle: {domain: its mixing coefficients}}.

    Args:
      bundles: folders.
      given: see `read`; of several with the same domain the last holds.

    Raises:
      UserError: see `bundles.find` and `read`; a bundle without experts.
    """
    paths, experts = {}, {}
    for folder in bundles:
        path = bundles_lib.find(folder, trusted)
        if runs.read_record(path).get("kind", families.DENSE) == families.DENSE:
            raise UserError(f"--bundle={folder}: has one dense model; give it with --checkpoint.")
        key = stage_keys.checkpoint_key(path)
        paths[key], experts[key] = path, len(runs.load_experts(path).probability_k)
    found: dict[str, dict[str, np.ndarray]] = {key: {} for key in paths}
    for file in given:
        for key, of_bundle in read(file, experts).items():
            found[key] |= of_bundle
    return {path: found[key] for key, path in paths.items()}


def read(given: str, experts: dict[str, int]) -> dict[str, dict[str, np.ndarray]]:
    """{key of a bank: {domain: float64 [k], the mixing coefficients of its experts}}.

    Args:
      given: a `domains.jsonl`, or the work folder that it is in.
      experts: {key of a bank: how many it has}.

    Raises:
      UserError: with the line, for one that is no such row, or of a model that is not among
        `experts`.
    """
    file = Path(given).expanduser()
    file = file / FILE if file.is_dir() else file
    try:
        lines = file.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--domains={given}: cannot be read ({error}).") from error
    found: dict[str, dict[str, np.ndarray]] = {key: {} for key in experts}
    for number, line in enumerate(lines, 1):
        row = _row(line)
        wrong = row if isinstance(row, str) else _problem(row, experts)
        if isinstance(row, str) or wrong:
            raise UserError(f"--domains={given}, line {number}: {wrong}.")
        found[row["base"]][row["domain"]] = np.array(row["histogram"], np.float64)
    return found


def _problem(row: dict, experts: dict[str, int]) -> str:
    if row["base"] not in experts:
        return (
            f"{row['domain']} was made from another model than those of --bundle; specialise the "
            "bundle to it"
        )
    if len(row.get("histogram", ())) != experts[row["base"]]:
        return f"{row['domain']} has no coefficient for each of {experts[row['base']]} experts"
    return ""
