"""`specialm report`: page, figures and tables of a demo or a study, from the rows of its folder."""

import json
import sys
from pathlib import Path

from specialm.common.errors import UserError

RECORDS = {"study": "study.json", "demo": "run.json"}


def report(workdir: Path) -> list[Path]:
    """Draws what is in `results.jsonl` and the record beside it, finished or not.

    Writes report.html, figures/NAME.pdf and .svg, tables/NAME.csv and .tex. Without the record
    (`run.json` of a demo, `study.json` of a study) the page has what the rows say alone; another
    page that is there then stays beside it under a number.

    Returns:
      The files, the page first.

    Raises:
      UserError: no rows are there, or they cannot be read.
    """
    from specialm.reports import demo_page, page, study_page

    rows = _rows(workdir / "results.jsonl", workdir)
    kind = "study" if any("specialist_tokens" in row for row in rows) else "demo"
    path = workdir / RECORDS[kind]
    record = _read(path) if path.is_file() else {}
    if kind == "study":
        found = study_page.report(rows, record)
    else:
        found = demo_page.report({**record, "results": rows})
    if not record:
        _keep(workdir / "report.html", page.html(found), path)
    page.write_page(found, workdir / "report.html")
    return [workdir / "report.html", *page.write_files(found, workdir)]


def _rows(path: Path, workdir: Path) -> list[dict]:
    if not path.is_file():
        raise UserError(
            f"--workdir={workdir}: no results.jsonl there; run `specialm demo` or `specialm study` "
            "with the same --workdir first."
        )
    lines = path.read_text(encoding="utf-8").splitlines()
    rows = [_parsed(line, f"{path}, line {i}") for i, line in enumerate(lines, 1) if line.strip()]
    for i, row in enumerate(rows, 1):
        missing = {"method", "domain"} - set(row)
        if missing:
            raise UserError(
                f"{path}, row {i}: no {' and no '.join(sorted(missing))}; it is not a row that "
                "`specialm demo` or `specialm study` wrote. Give --workdir one of their folders."
            )
    return rows


def _read(path: Path) -> dict:
    return _parsed(path.read_text(encoding="utf-8"), str(path))


def _parsed(text: str, place: str) -> dict:
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(f"{place}: not JSON ({error}); remove or mend it.") from error
    if not isinstance(value, dict):
        raise UserError(f"{place}: not a JSON object; remove or mend it.")
    return value


def _keep(path: Path, new: str, record: Path) -> None:
    """Renames a page that the new one, without the record, may know less than."""
    note = f"{record} is not there: the page has only what the rows say"
    if path.is_file() and path.read_text(encoding="utf-8") != new:
        number = 1 + sum(1 for _ in path.parent.glob("report.*.html"))
        kept = path.with_name(f"report.{number}.html")
        path.rename(kept)
        note += f"; the earlier page is {kept}"
    print(f"{note}.", file=sys.stderr)
