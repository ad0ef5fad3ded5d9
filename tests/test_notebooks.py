"""The notebooks: paired, with outputs, the same head in each; and they run from top to bottom."""

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

jupytext = pytest.importorskip("jupytext")
nbformat = pytest.importorskip("nbformat")
pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "notebooks"
NAMES = sorted(path.stem for path in FOLDER.glob("*.ipynb"))
LINK = re.compile(r"\]\(([^)\s]+)\)")


@pytest.fixture(scope="module")
def build():
    spec = importlib.util.spec_from_file_location("build_notebooks", FOLDER / "build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def read(name):
    return nbformat.read(FOLDER / f"{name}.ipynb", 4)


def code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def texts(cell):
    """All text of a cell's outputs; pictures are none."""
    for output in cell.outputs:
        if output.output_type == "stream":
            yield output.text
        for kind, content in output.get("data", {}).items():
            if not kind.startswith("image/"):
                yield content


def test_every_notebook_has_both_files(build):
    assert NAMES and build.names() == NAMES
    assert all(f"{name}.ipynb" in (FOLDER / "README.md").read_text() for name in NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_both_files_say_the_same(name, build):
    written, paired = read(name), jupytext.read(FOLDER / f"{name}.py")
    nbformat.validate(written)
    assert [(c.cell_type, c.source) for c in written.cells] == [
        (c.cell_type, c.source) for c in paired.cells
    ]
    again = jupytext.reads(jupytext.writes(written, "py:percent"), "py:percent")
    assert [c.source for c in again.cells] == [c.source for c in written.cells]


@pytest.mark.parametrize("name", NAMES)
def test_it_begins_with_title_badge_and_install_cell(name, build):
    title, installs = read(name).cells[:2]
    first, second, *_ = title.source.split("\n")
    assert title.cell_type == "markdown" and first.startswith("# ")
    assert second == build.badge(name) and f"/blob/main/notebooks/{name}.ipynb)" in second
    assert installs.cell_type == "code" and installs.source == build.install()


@pytest.mark.parametrize("name", NAMES)
def test_it_was_run_from_top_to_bottom_without_an_error(name):
    cells = code(read(name))
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert {"error"}.isdisjoint(output.output_type for output in outputs)
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert not [o.text for o in outputs if o.output_type == "stream" and o.name == "stderr"]


@pytest.mark.parametrize("name", NAMES)
def test_its_outputs_name_no_place_of_the_machine_that_ran_it(name):
    for cell in code(read(name)):
        for text in texts(cell):
            assert not re.search(r"(?<![\w.<])/(?:home|root|tmp|work|usr|Users|content)/", text), (
                text
            )


@pytest.mark.parametrize("name", NAMES)
def test_its_links_lead_somewhere(name):
    for cell in read(name).cells:
        for target in LINK.findall(cell.source) if cell.cell_type == "markdown" else ():
            if ":" not in target:
                assert (FOLDER / target.partition("#")[0]).exists(), target


def test_the_install_cell_does_nothing_where_specialm_is(build, monkeypatch):
    monkeypatch.chdir(FOLDER)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("something was installed"))
    exec(build.install(), {})


def test_the_install_cell_fetches_and_installs_on_colab(build, monkeypatch, tmp_path):
    called = []

    def run(words, check):
        assert check
        called.append(words)
        if words[0] == "git":
            (tmp_path / words[-1] / "notebooks").mkdir(parents=True)
            (tmp_path / words[-1] / "notebooks" / "look.py").touch()

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    exec(build.install(), {})
    clone, pip = called
    assert clone[:2] == ["git", "clone"] and f"https://github.com/{build.repository()}" in clone
    assert pip[1:4] == ["-m", "pip", "install"] and pip[0] == sys.executable and pip[-1] == ".."
    assert Path.cwd() == tmp_path / "specialm-repository" / "notebooks"
    monkeypatch.chdir(tmp_path)
    exec(build.install(), {})  # as after a restart: nothing is fetched again
    assert [words[0] for words in called] == ["git", sys.executable, sys.executable]
    assert Path.cwd() == tmp_path / "specialm-repository" / "notebooks"


@pytest.fixture(scope="module")
def corpora():
    """The default corpora at the place where the notebooks look for them."""
    from specialm.common.errors import UserError
    from specialm.data.corpora import widen

    try:
        widen.fetch(ROOT / "data" / "corpora")
    except UserError as error:
        pytest.skip(f"the default corpora cannot be fetched: {error}")


@pytest.mark.slow
@pytest.mark.timeout(1800)  # on a busy machine
@pytest.mark.parametrize("name", NAMES)
def test_it_runs(name, build, corpora, tmp_path, monkeypatch):
    monkeypatch.setenv("SPECIALM_NOTEBOOKS_WORK", str(tmp_path))
    # The tests' own flags make programs slow.
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    notebook = build.source(name)
    build.execute(notebook)
    for now, then in zip(code(notebook), code(read(name)), strict=True):
        # Not what is printed on the way, which depends on which stages were there already.
        kinds = [[sorted(o["data"]) for o in cell.outputs if "data" in o] for cell in (now, then)]
        assert kinds[0] == kinds[1], now.source
    assert json.dumps(notebook.metadata)
