"""The README's commands for a text of one's own, as they stand, after a demo in small."""

import json
import re
import shlex
from pathlib import Path

import pytest

from specialm import cli

README = Path(__file__).parents[2] / "README.md"


def commands(section):
    """Those of specialm in the code of a section, up to where pretraining begins."""
    text = README.read_text().split(f"\n## {section}\n")[1].split("\nTo pretrain as well")[0]
    code = "".join(re.findall(r"^```sh\n(.*?)^```", text, re.M | re.S))
    return [shlex.split(line)[1:] for line in code.splitlines() if line.startswith("specialm ")]


@pytest.fixture
def after_a_demo(bank, tmp_path, monkeypatch):
    """A folder with a base model where the demo leaves its own, and one of texts, `specialm`."""
    monkeypatch.chdir(tmp_path)
    argv = ("--workdir=runs/demo", "--config.method=slm", "--config.finetune.learning_rate=0.1")
    assert cli.main(["train", f"--config={bank / 'config.py'}", *argv]) == 0
    Path("specialm").mkdir()
    for i, line in enumerate((bank / "linalg.jsonl").read_text().splitlines()[:40]):
        Path("specialm", f"{i}.py").write_text(json.loads(line)["text"][:300])


def test_a_text_of_ones_own(after_a_demo, capsys):
    lines = commands("Use it on your own text")
    assert [line[0] for line in lines] == ["list", "specialize", "evaluate", "generate"]
    printed = []
    for line in lines:
        assert cli.main(line) == 0, capsys.readouterr().err
        printed.append(capsys.readouterr().out)
    models, specialized, evaluated, text = printed
    assert re.search(
        r"^runs/demo/pretrained/slm-seed0-\w{10} .* pretrained .* finished$", models, re.M
    )
    assert f"specialm: {len(list(Path('specialm').iterdir()))} documents" in specialized
    after = re.search(r"^specialm after +(.*)$", specialized, re.M).group(1)
    assert re.search(r"^specialm +(.*)$", evaluated, re.M).group(1) == after
    assert text.startswith("def ")
