"""What all notebooks share: how figures look, and how to run a command, say a number, show a table.

A notebook runs in the folder that this file is in.
"""

import contextlib
import html
import io
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import HTML, Markdown, display
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from specialm.common import runtime
from specialm.reports import charts
from specialm.reports.styles import GENERIC, INK, PAGE, QUIET, RULE, SPECIALIST, style  # noqa: F401

os.environ.setdefault("SPECIALM_PROGRESS", "0")  # bars would fill a notebook with lines
runtime.configure()  # before JAX is imported: each core is a device, as in the commands
CORPORA = Path("../data/corpora")  # where `specialm fetch` puts them at the repository's root
WORK = Path(os.environ.get("SPECIALM_NOTEBOOKS_WORK", "work"))  # what the notebooks write
SURPRISING = 12.0  # bits from which on a token has the full colour


def use_style() -> None:
    """The project's look for all figures that follow: light, colours that all can tell apart."""
    plt.rcParams.update(charts.STYLE)
    sizes = {"font.size": 9, "axes.labelsize": 9, "axes.titlesize": 10, "legend.fontsize": 8.5}
    plt.rcParams.update(
        sizes | {"figure.dpi": 110, "figure.facecolor": PAGE, "savefig.facecolor": PAGE}
    )


def panels(columns: int = 1, width: float = 8.0, height: float = 3.2, **options):
    """(figure, axes) of panels side by side; one pair of axes alone for one column."""
    return plt.subplots(1, columns, figsize=(width, height), layout="constrained", **options)


def legend_below(figure: Figure, axis: Axes) -> None:
    """The legend of `axis` under the whole figure, where it covers nothing."""
    handles, labels = axis.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(4, len(labels)))


def say(text: str) -> None:
    """Shows a sentence with numbers that were computed, as Markdown."""
    display(Markdown(text))


def table(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Shows a table: the first column on the left, the others on the right.

    Cells are text; `**text**` is bold.
    """

    def cell(value: object, tag: str, first: bool) -> str:
        text, align = str(value), "left" if first else "right"
        bold = text.startswith("**") and text.endswith("**")
        shown = f"<b>{html.escape(text[2:-2])}</b>" if bold else html.escape(text)
        return f'<{tag} style="text-align:{align};padding:2px 10px">{shown}</{tag}>'

    def line(values: Sequence[object], tag: str) -> str:
        return f"<tr>{''.join(cell(v, tag, not i) for i, v in enumerate(values))}</tr>"

    body = "".join(line(row, "td") for row in rows)
    display(HTML(f"<table><thead>{line(headings, 'th')}</thead><tbody>{body}</tbody></table>"))


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """What is done inside says nothing on its way, as which stages it reuses; errors are raised."""
    with contextlib.redirect_stderr(io.StringIO()):
        yield


def specialm(command: str, shown: bool = True) -> dict:
    """Runs a command of specialm and returns its result, what `--json` prints.

    Args:
      command: as on a command line, without the word `specialm`.
      shown: print the command.

    Raises:
      RuntimeError: the command failed; with what it said.
    """
    if shown:
        print(f"$ specialm {command}")
    done = subprocess.run(
        [sys.executable, "-m", "specialm", *shlex.split(command), "--json"],
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(f"specialm {command}\n{done.stderr}")
    return json.loads(done.stdout)


def token_bits(run: Path, text: str) -> list[tuple[bytes, float]]:
    """Each token of a text, and how much it surprises the model of a run folder, in bits.

    Windows do not overlap, as in evaluation: the first token of each has no context.
    """
    from specialm.models import decoder
    from specialm.serving.decoding.scoring import Scorer
    from specialm.training import runs, sharding

    model = runs.load(run, sharding.make_mesh())
    scorer = Scorer(
        decoder.laid_out(model.params, model.config), model.config, model.vocabulary.start
    )
    ids, size = model.vocabulary.encode([text])[0], model.config.context
    bits = [
        nats / np.log(2)
        for first in range(0, len(ids), size)
        for nats in scorer.nats(ids[first : first + size])
    ]
    contents = model.vocabulary.token_bytes
    return [(contents[i], float(b)) for i, b in zip(ids, bits, strict=True)]


def surprise(title: str, tokens: Sequence[tuple[bytes, float]]) -> None:
    """Shows a text whose tokens are the darker the more they surprised the model.

    Args:
      title: the heading.
      tokens: as `token_bits` gives them.
    """
    spans = []
    for content, bits in tokens:
        shade = min(max(bits, 0.0) / SURPRISING, 1.0)
        shown = html.escape(content.decode("utf-8", "replace"))
        colour = f"rgba(213,94,0,{0.65 * shade:.2f})"
        spans.append(f'<span title="{bits:.1f} bits" style="background:{colour}">{shown}</span>')
    size = sum(len(content) for content, _ in tokens)
    mean = sum(bits for _, bits in tokens) / size
    look = f"white-space:pre-wrap;line-height:1.6;color:{INK};background:{PAGE};padding:8px"
    look += f";border:1px solid {RULE};font-family:monospace;font-size:12px"
    heading = f"<b>{html.escape(title)}</b>: {mean:.2f} bits per byte, {len(tokens)} tokens"
    display(HTML(f'<div>{heading}</div><div style="{look}">{"".join(spans)}</div>'))
