"""Forecasts that are written down before anything is trained, and scored afterwards.

A registered forecast is a JSON file with the plan, the time (UTC), the code that made it and a
SHA-256 of all that. It is never overwritten, and one that was changed is not scored.
"""

import datetime
import statistics
from pathlib import Path

from specialm.common import code, files
from specialm.common.errors import UserError
from specialm.planning import evidence

KIND = "specialm forecast"
SAME = 0.1  # by how much tokens and parameters may differ from the plan's before a message says so


def check_new(path: Path) -> None:
    """Raises UserError if something is there: a forecast is registered once."""
    if path.exists():
        raise UserError(
            f"--register={path}: is there already; a registered forecast is not overwritten. Give "
            "another name."
        )


def write(path: Path, plan: dict) -> dict:
    """Registers a plan; what is written is returned.

    Args:
      plan: as `describe.to_json` has it.

    Raises:
      UserError: the file is there already.
    """
    check_new(path)
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    value = {
        "kind": KIND,
        "registered": now,
        "evidence": evidence.table()["digest"],
        **code.made_by(),
        "plan": plan,
    }
    value["digest"] = evidence.digest(value)
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_json(path, value)
    return value


def read(path: Path) -> dict:
    """A registered forecast.

    Raises:
      UserError: it is missing, no forecast, or was changed after it was written.
    """
    value = files.read_json(path)
    if not isinstance(value, dict) or value.get("kind") != KIND:
        raise UserError(f"--plan={path}: is no file that `specialm plan --register` wrote.")
    if value.get("digest") != evidence.digest(value):
        raise UserError(
            f"--plan={path}: was changed after {value.get('registered')}: its digest is not that "
            "of its content, so it is no registered forecast any more."
        )
    return value


def score(registered: dict, results: Path, domain: str = "") -> dict:
    """What came of a forecast.

    Args:
      registered: as `read` returns it.
      results: results.jsonl of a demo or a study that trained some of its methods.
      domain: its name there; "" for the plan's, or the only one.

    Returns:
      {registered, domain, methods: [{method, forecast, interval_80, interval_95, measured, seeds,
      error, inside_80, inside_95, notes}], recommended, best, regret}; measured is the mean
      over seeds, regret how much worse, relatively, the recommended method came out than the best
      that was measured of those that can be served (None if it was not trained).

    Raises:
      UserError: the results have no model of the domain that was forecast.
    """
    plan = registered["plan"]
    rows, facts = evidence.run_rows(results)
    rows = [r for r in rows if r["phase"] == "finetuned" and not r.get("variant")]
    domain = _domain(plan, rows, domain, results)
    found = []
    for forecast in plan["forecasts"]:
        of_method = [r for r in rows if (r["method"], r["domain"]) == (forecast["method"], domain)]
        if of_method and forecast["bits_per_byte"]:
            found.append(_scored(forecast, of_method, facts))
    if not found:
        raise UserError(
            f"--results={results}: has no fine-tuned model of {domain!r} by a method that the plan "
            f"forecasts ({', '.join(_forecast_methods(plan))})."
        )
    served = {f["method"] for f in plan["forecasts"] if f["served"]}
    measured = {each["method"]: each["measured"] for each in found if each["method"] in served}
    best = min(measured, key=lambda name: measured[name]) if measured else ""
    recommended = plan["recommended"]
    regret = measured[recommended] / measured[best] - 1 if recommended in measured else None
    return {
        "registered": registered["registered"],
        "domain": domain,
        "methods": found,
        "recommended": recommended,
        "best": best,
        "regret": regret,
    }


def _forecast_methods(plan: dict) -> list[str]:
    return [each["method"] for each in plan["forecasts"] if each["bits_per_byte"]]


def _domain(plan: dict, rows: list[dict], given: str, results: Path) -> str:
    names = sorted({row["domain"] for row in rows} - {"macro", "generic"})
    wanted = given or plan["domain"]
    if wanted in names:
        return wanted
    if not given and len(names) == 1:
        return names[0]
    raise UserError(
        f"--results={results}: has no domain {wanted!r} but {', '.join(names) or 'none'}; name "
        "the plan's with --domain."
    )


def _scored(forecast: dict, rows: list[dict], facts: dict) -> dict:
    measured = statistics.mean(row["bits_per_byte"] for row in rows)
    inside = {
        f"inside_{level}": forecast[f"interval_{level}"][0]
        <= measured
        <= forecast[f"interval_{level}"][1]
        for level in (80, 95)
    }
    return {
        "method": forecast["method"],
        "forecast": forecast["bits_per_byte"],
        "interval_80": forecast["interval_80"],
        "interval_95": forecast["interval_95"],
        "measured": measured,
        "seeds": len({row["seed"] for row in rows}),
        "error": forecast["bits_per_byte"] / measured - 1,
        **inside,
        "notes": _differences(forecast, rows, facts),
    }


def _differences(forecast: dict, rows: list[dict], facts: dict) -> list[str]:
    """What was trained otherwise than planned."""
    sizes = facts.get("models", {}).get(forecast["method"], {})
    pairs = (
        ("pretraining tokens", forecast["tokens"], rows[0]["train_tokens"]),
        ("parameters", forecast["params"], sizes.get("params", forecast["params"])),
    )
    return [
        f"{name}: {there:,.0f}, planned {planned:,.0f}"
        for name, planned, there in pairs
        if abs(there / planned - 1) > SAME
    ]
