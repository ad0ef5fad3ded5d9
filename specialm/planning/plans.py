"""From the words of `specialm plan` to a plan: all is checked before any text is read."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from specialm.common.errors import UserError
from specialm.planning import describe, domain_text, evidence, recommendations, registered
from specialm.planning.candidates import BYTES_PER_PARAMETER, Asked

POSITIONS = ("rope", "learned")


def make(options: Mapping[str, Any]) -> tuple[dict, str]:
    """(JSON, text) of a plan, registered if that was asked for.

    Args:
      options: those of the command, as text; see `command_table.py`.

    Raises:
      UserError: one is missing or wrong, or the text is too little.
    """
    params, budget, tokens = _params(options), _size(options, "budget"), _generic_tokens(options)
    if options["domains"] < 1:
        raise UserError(f"--domains={options['domains']}: must be at least 1.")
    if options["specialist_tokens"] < 0:
        raise UserError(f"--specialist_tokens={options['specialist_tokens']}: must be at least 0.")
    if options["positions"] not in POSITIONS:
        raise UserError(f"--positions={options['positions']}: must be {' or '.join(POSITIONS)}.")
    if not options["source"]:
        raise UserError("--source is missing: a folder or a file of the domain's text.")
    target = Path(options["register"]) if options["register"] else None
    if target:
        registered.check_new(target)
    limit = round(options["specialist_tokens"] * evidence.BYTES_PER_TOKEN)
    text = domain_text.measure(options["source"], options["generic"], limit)
    curve = text.curve
    asked = Asked(
        params=params,
        domains=options["domains"],
        budget=budget,
        generic_tokens=tokens,
        specialist_bytes=text.train_bytes,
        own=curve.at("own", text.train_bytes),
        mixed=curve.at("mixed", text.train_bytes) if curve.mixed_y else 0.0,
        learned=options["positions"] == "learned",
    )
    rows = []
    if options["proxies"]:
        name = options["domain"] or text.name
        rows = evidence.proxies(Path(options["proxies"]), name, curve, tokens)
    plan = recommendations.plan(asked, rows)
    result, shown = describe.to_json(plan, text), describe.table(plan, text)
    if target:
        written = registered.write(target, result)
        result = {**result, "registered": str(target), "digest": written["digest"]}
        shown += f"\nRegistered: {target}, {written['registered']}, sha256 {written['digest']}"
    return result, shown


def score(options: Mapping[str, Any]) -> tuple[dict, str]:
    """(JSON, text) of what came of a registered forecast.

    Raises:
      UserError: a file is missing, the forecast was changed, or the results are of something else.
    """
    for name in ("plan", "results"):
        if not options[name]:
            raise UserError(f"--{name} is missing.")
    plan = registered.read(Path(options["plan"]))
    found = registered.score(plan, Path(options["results"]), options["domain"])
    return found, describe.scores(found)


def _params(options: Mapping[str, Any]) -> float:
    if bool(options["inference_params"]) == bool(options["bytes"]):
        raise UserError("give the size of the served model: --inference_params=N or --bytes=N.")
    if options["bytes"]:
        return _size(options, "bytes") / BYTES_PER_PARAMETER
    return _size(options, "inference_params")


def _generic_tokens(options: Mapping[str, Any]) -> float:
    if not options["generic_tokens"]:
        raise UserError("--generic_tokens is missing: how many tokens the generic text has.")
    return _size(options, "generic_tokens")


def _size(options: Mapping[str, Any], name: str) -> float:
    """A number above 0, as 5e12 or 62000."""
    text = options[name]
    try:
        value = float(text)
    except ValueError:
        raise UserError(f"--{name}={text}: must be a number, such as 5e12.") from None
    if not 0 < value < float("inf"):
        raise UserError(f"--{name}={text}: must be above 0.")
    return value
