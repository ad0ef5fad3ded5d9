"""What needs an extra says so, and never names a package index that has no specialm."""

import collections
import re
import sys
from pathlib import Path

import pytest

from specialm.common import extras
from specialm.common.errors import UserError
from specialm.data import published, tasks
from specialm.data.sources import open_source

ROOT = Path(__file__).parents[2]
HEAVY = ("seqio", "tensorflow", "tensorflow_text", "tensorflow_datasets")


@pytest.fixture
def light(monkeypatch):
    for module in HEAVY:
        monkeypatch.setitem(sys.modules, module, None)


@pytest.mark.parametrize(
    ("use", "what"),
    [
        (lambda: list(open_source("tfds:c4/en").documents(collections.Counter())), "tfds:c4/en"),
        (lambda: list(open_source("seqio:mine").documents(collections.Counter())), "seqio:mine"),
        (published.register, "a seqio Task"),
        (lambda: tasks.register("mine", [], "v.model"), "a seqio Task"),
    ],
)
def test_what_needs_the_extra_names_it(light, use, what):
    with pytest.raises(UserError, match=f"{what}.* needs the extra 'seqio'") as raised:
        use()
    assert extras.how("seqio") in str(raised.value)


def test_an_extra_is_installed_from_the_source_while_python_has_it(monkeypatch):
    monkeypatch.setattr(sys, "version_info", (3, 13))
    assert "pip install '.[seqio]'" in extras.how("seqio")
    monkeypatch.setattr(sys, "version_info", (3, 14))
    assert "Python 3.11 to 3.13" in extras.how("seqio")
    assert "pip install '.[tpu]'" in extras.how("tpu")


def test_a_module_that_is_there_is_returned_and_its_own_errors_are_seen(tmp_path, monkeypatch):
    assert extras.load("json", "seqio", "this") is sys.modules["json"]
    (tmp_path / "broken_module.py").write_text("raise ImportError('its own')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ImportError, match="its own"):
        extras.load("broken_module", "seqio", "this")


def test_no_message_installs_specialm_from_a_package_index():
    named = re.compile(r"pip install [^\n]*\bspecialm\b(?!'s)")
    for path in (ROOT / "specialm").rglob("*.py"):
        if path.name == "plots.py":  # Matplotlib is about to come with every installation
            continue
        found = named.search(path.read_text())
        assert not found, f"{path}: {found}"
