"""A report as one HTML page without any outside reference, and its figures and tables as files.

write_page(report, path)       the page
write_files(report, folder)    figures/NAME.pdf, .svg and tables/NAME.csv, .tex
"""

from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from specialm.common.files import write_bytes, write_text
from specialm.reports import charts, tables
from specialm.reports.inline import inline
from specialm.reports.parts import Report
from specialm.reports.styles import Palette
from specialm.reports.words import printable

FIGURES, TABLES = ("pdf", "svg"), ("csv", "tex")


def write_page(report: Report, path: Path) -> None:
    """Writes the page."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, html(report))


def write_files(report: Report, folder: Path) -> list[Path]:
    """Writes every figure and table, for a paper.

    Files of the same kinds that an earlier report left in the two folders and this one does not
    write are deleted.
    """
    contents: dict[Path, bytes] = {}
    for name, chart in report.charts().items():
        for ending, content in charts.in_files(chart, FIGURES).items():
            contents[folder / "figures" / f"{name}.{ending}"] = content
    for name, table in report.tables().items():
        texts = {"csv": tables.to_csv(table), "tex": tables.to_latex(table, name)}
        for ending in TABLES:
            contents[folder / "tables" / f"{name}.{ending}"] = texts[ending].encode()
    for path, content in contents.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, content)
    for kind, endings in (("figures", FIGURES), ("tables", TABLES)):
        for ending in endings:
            for path in set((folder / kind).glob(f"*.{ending}")) - set(contents):
                path.unlink()
    return list(contents)


def html(report: Report) -> str:
    """The page as text."""
    palette = Palette(report.names)
    context = {
        "report": report,
        "colours": palette.sheet(),
        "style": _resource("report.css"),
        "pictures": {
            name: _picture(name, chart, palette) for name, chart in report.charts().items()
        },
        "keys": {
            name: inline(charts.method_key(name, report.names), palette, f"key-{i}-", "")
            for i, name in enumerate(report.names)
        },
        "kind_of": lambda value: type(value).__name__,
        "split": tables.split,
    }
    return _environment().get_template("report.html.j2").render(context)


def _picture(name: str, chart: charts.Chart, palette: Palette) -> dict[str, Any]:
    """{panels: SVG, legend: [(SVG, label)]} of a chart."""
    panels, legend = charts.on_page(chart)
    headings = [f"{chart.title}: {p.title}" if p.title else chart.title for p in chart.panels]
    return {
        "panels": [
            inline(panel, palette, f"{name}-{i}-", heading.replace("\n", " "))
            for i, (panel, heading) in enumerate(zip(panels, headings, strict=True))
        ],
        "legend": [
            (inline(svg, palette, f"{name}-key-{i}-", ""), label)
            for i, (svg, label) in enumerate(legend)
        ],
    }


@cache
def _environment() -> Any:
    import jinja2

    return jinja2.Environment(
        loader=jinja2.PackageLoader("specialm.reports"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
        finalize=_printed,
    )


def _printed(value: Any) -> Any:
    """Control characters of any text become spaces; marked-up text is kept as it is."""
    return printable(value) if isinstance(value, str) and not hasattr(value, "__html__") else value


def _resource(name: str) -> str:
    return (files("specialm.reports") / name).read_text(encoding="utf-8")
