"""Runs notebooks and writes them with their outputs: each NAME.py becomes NAME.ipynb beside it.

    python notebooks/build.py               all of them
    python notebooks/build.py 01 04         those whose names begin so
    python notebooks/build.py --pair        the .ipynb take over the .py's text, nothing is run

The .py is the source, in jupytext's percent format. Where the project is published (`url` in
setup.cfg, on GitHub) stands in the badge and the install cell of every notebook, which this fills
in.
"""

import argparse
import configparser
import os
import re
import resource
import sys
import time
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

FOLDER = Path(__file__).resolve().parent
SECONDS = 600  # that a cell may take
HEAD = {
    "jupytext": {"formats": "ipynb,py:percent"},
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
COLAB = "https://colab.research.google.com"
BADGE = (
    "[![Open in Colab]({colab}/assets/colab-badge.svg)]"
    "({colab}/github/{repository}/blob/main/notebooks/{name}.ipynb)"
)
INSTALL = """\
# On Colab this fetches the repository and installs it (2 minutes); elsewhere it does nothing.
import importlib.util
import os
import subprocess
import sys

if not os.path.exists("look.py"):
    if not os.path.exists("specialm-repository"):
        url = "https://github.com/{repository}"
        subprocess.run(["git", "clone", "--depth=1", url, "specialm-repository"], check=True)
    os.chdir("specialm-repository/notebooks")
if importlib.util.find_spec("specialm") is None:
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", ".."], check=True)
    importlib.invalidate_caches()"""


def names() -> list[str]:
    """The notebooks, in order."""
    return sorted(path.stem for path in FOLDER.glob("[0-9][0-9]_*.py"))


def repository() -> str:
    """OWNER/NAME on GitHub, from setup.cfg; the word OWNER as long as it says none."""
    config = configparser.ConfigParser()
    config.read(FOLDER.parent / "setup.cfg")
    url = config["metadata"].get("url", "")
    found = re.fullmatch(r"https://github\.com/([\w.-]+/[\w.-]+?)(\.git)?/?", url)
    return found[1] if found else "OWNER/specialm"


def badge(name: str) -> str:
    """The line of the first cell that opens the notebook in Colab."""
    return BADGE.format(colab=COLAB, repository=repository(), name=name)


def install() -> str:
    """The second cell."""
    return INSTALL.replace("{repository}", repository())


def source(name: str) -> NotebookNode:
    """The notebook as NAME.py has it, with badge and install cell as they should be."""
    notebook = jupytext.read(FOLDER / f"{name}.py")
    first, second = notebook.cells[:2]
    title, _, rest = first.source.split("\n", 2)
    first.source = "\n".join([title, badge(name), rest])
    second.source = install()
    notebook.metadata = nbformat.from_dict(HEAD)
    for number, cell in enumerate(notebook.cells):
        cell.id, cell.metadata = f"cell-{number:02}", nbformat.from_dict({})
    return notebook


def execute(notebook: NotebookNode, folder: Path = FOLDER) -> float:
    """Fills in the outputs; returns the seconds it took.

    Raises:
      nbclient.exceptions.CellExecutionError: a cell failed.
    """
    started = time.time()
    NotebookClient(
        notebook,
        timeout=SECONDS,
        record_timing=False,
        coalesce_streams=True,
        resources={"metadata": {"path": str(folder)}},
    ).execute()
    notebook.metadata = nbformat.from_dict(HEAD)
    return time.time() - started


def processor_seconds() -> float:
    """Of all kernels so far, and of the commands that they ran."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def take_outputs(notebook: NotebookNode, before: NotebookNode) -> None:
    """Keeps the outputs of cells whose text has not changed."""
    known = {cell.source: cell for cell in before.cells if cell.cell_type == "code"}
    for cell in notebook.cells:
        if cell.cell_type == "code" and cell.source in known:
            cell.outputs = known[cell.source].outputs
            cell.execution_count = known[cell.source].execution_count


def main(argv: list[str]) -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="how the names begin")
    parser.add_argument("--pair", action="store_true", help="text only, nothing is run")
    options = parser.parse_args(argv)
    chosen = [n for n in names() if not options.names or n.startswith(tuple(options.names))]
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    for name in chosen:
        notebook, target = source(name), FOLDER / f"{name}.ipynb"
        paired = FOLDER / f"{name}.py"
        if [c.source for c in jupytext.read(paired).cells] != [c.source for c in notebook.cells]:
            jupytext.write(notebook, paired, fmt="py:percent")
        if options.pair:
            if target.exists():
                take_outputs(notebook, nbformat.read(target, 4))
        else:
            before = processor_seconds()
            seconds = execute(notebook)
            spent = processor_seconds() - before
            print(f"{name}: {seconds:.0f} s, {spent:.0f} s of processor time", flush=True)
        nbformat.write(notebook, target)


if __name__ == "__main__":
    main(sys.argv[1:])
