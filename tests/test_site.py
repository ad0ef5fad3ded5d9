"""The documentation site: its links, and that it has every page. `make site` builds all of it."""

import importlib.util
import re
from pathlib import Path

import pytest

pytest.importorskip("mkdocs")

ROOT = Path(__file__).parents[1]
SOURCE = "[`sampler.py`](../specialm/data/sampler.py)"


@pytest.fixture
def hooks():
    spec = importlib.util.spec_from_file_location("site_hooks", ROOT / "docs/site/hooks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def turned(hooks, markdown, uri="methods.md"):
    page = type("Page", (), {"file": type("File", (), {"src_uri": uri})})
    return hooks.on_page_markdown(markdown, page, None, None)


@pytest.mark.parametrize(
    ("uri", "link", "wanted"),
    [
        ("methods.md", "[a](../results/README.md#of)", "[a](results.md#of)"),
        ("methods.md", "[a](design.md)", "[a](design.md)"),
        ("methods.md", "[a](../README.md)", "[a](index.md)"),
        ("methods.md", "[a](#repetition)", "[a](#repetition)"),
        ("methods.md", "[a](https://arxiv.org)", "[a](https://arxiv.org)"),
        ("results.md", "[a](../docs/methods.md#b)", "[a](methods.md#b)"),
        ("results.md", "![a](repetition/figure.png)", "![a](results/repetition/figure.png)"),
        ("methods.md", "[a](no_such.md)", "[a](no_such.md)"),  # which MkDocs complains of
        (
            "methods.md",
            "`[a]`\n```sh\n" + SOURCE + "\n```\n",
            "`[a]`\n```sh\n" + SOURCE + "\n```\n",
        ),
    ],
)
def test_links_between_pages(hooks, uri, link, wanted):
    assert turned(hooks, link, uri) == wanted


def test_links_to_source_files(hooks, monkeypatch):
    monkeypatch.setattr(hooks, "repository", lambda: "")
    assert turned(hooks, f"see {SOURCE}.") == "see `sampler.py`."
    monkeypatch.setattr(hooks, "repository", lambda: "https://example.org/specialm")
    at = "https://example.org/specialm"
    assert turned(hooks, SOURCE) == f"[`sampler.py`]({at}/blob/main/specialm/data/sampler.py)"
    assert turned(hooks, "[a](../notebooks)") == f"[a]({at}/tree/main/notebooks)"


def test_every_page_has_its_place(hooks):
    named = re.findall(r": ([\w/]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.M)
    assert len(named) == len(set(named))
    made = {*hooks.ELSEWHERE.values(), "reference/commands.md", "reference/index.md"}
    pages = {path.name for path in (ROOT / "docs").glob("*.md")}
    assert set(named) == pages | made


def test_pictures_of_pages_in_and_outside_of_docs(hooks):
    found = hooks.pictures()
    assert "results/bank/families.png" in found  # of docs/performance.md
    assert "results/repetition/figure.png" in found  # of results/README.md


def test_dead_links_fail_the_build():
    """With --quiet MkDocs counts no warnings, and strict means nothing."""
    (line,) = re.findall(r"^\t.*mkdocs build(.*?)(?:#.*)?$", (ROOT / "Makefile").read_text(), re.M)
    assert line.split() == ["--strict"]
    config = (ROOT / "mkdocs.yml").read_text()
    for kind in ("omitted_files", "absolute_links", "unrecognized_links", "anchors"):
        assert f"  {kind}: warn\n" in config


def test_the_reference_has_every_module_and_command(hooks, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    from specialm.command_table import COMMANDS

    made = hooks.reference()
    listed = set(re.findall(r"^::: ([\w.]+)$", "\n".join(made.values()), re.M))
    assert {"specialm.api", "specialm.data.feeds", "specialm.clustering.weights"} <= listed
    assert re.findall(r"^## (\w+)$", made["commands"], re.M) == list(COMMANDS)
    assert all(
        f"]({room}.md)" in made["index"] for room in made if room not in ("index", "commands")
    )
