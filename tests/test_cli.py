import importlib
import json
import shlex
import subprocess
import sys

import pytest

from specialm import cli
from specialm.settings import SECTIONS, SETTINGS


def run(*argv):
    return subprocess.run(
        [sys.executable, "-m", "specialm", *argv], capture_output=True, text=True, timeout=120
    )


def test_help_imports_nothing_heavy():
    """Neither JAX nor TensorFlow nor NumPy is imported to print the help."""
    code = (
        "import sys; from specialm import cli; status = cli.main(['--help']); "
        "heavy = {'jax', 'tensorflow', 'numpy', 'seqio', 'sklearn'} & set(sys.modules); "
        "sys.exit(status or (7 if heavy else 0))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done
    for command in cli.COMMANDS:
        assert f"\n  {command} " in done.stdout


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_help_of_each_command(command, capsys):
    """It has an example that can be called, its own options and the settings that it reads."""
    assert cli.main([command, "--help"]) == 0
    text, entry = capsys.readouterr().out, cli.COMMANDS[command]
    assert text.startswith(f"usage: specialm {command}") and entry.example in text
    assert all(f"--{option.name}" in text for option in entry.options)
    program, name, *words = shlex.split(entry.example)
    options, config_path, overrides = cli.parse(name, words)
    assert (program, name) == ("specialm", command)
    assert config_path or entry.config != "required"
    assert all(f"{word.split('=')[0]}" for word in overrides)
    assert set(entry.settings) <= {*SECTIONS, *SETTINGS}
    assert bool(entry.settings) == (entry.config != "none")
    assert all(word in text for word in entry.settings)
    module, _, function = entry.function.partition(".")
    assert callable(getattr(importlib.import_module(f"specialm.commands.{module}"), function))


def test_words_of_a_command():
    options, path, overrides = cli.parse(
        "specialize",
        ["--config.domain", "med", "--checkpoint", "a b", "--config=c.py:x=1", "--json"]
        + ["--config.train.learning_rate=-1", "--workdir=w", "--config.domain=books"],
    )
    assert (path, options["checkpoint"], options["workdir"]) == ("c.py:x=1", "a b", "w")
    assert overrides == [
        "--config.domain=med",
        "--config.train.learning_rate=-1",
        "--config.domain=books",
    ]
    assert options["json"] is True and options["teacher"] == ""
    assert cli.parse("compile", ["--largest=false", "--windows_per_device=0"])[0] == {
        "topology": "",
        "windows_per_device": 0,
        "largest": False,
        "workdir": "",
        "json": False,
    }


@pytest.mark.parametrize(
    "words", ["--help", "train --help", "settings", "inspect --config=configs/local/slm.py"]
)
def test_a_closed_pipe_is_no_error(words):
    """What reads the output goes away before anything is written."""
    code = (
        "import os, runpy, sys; read, write = os.pipe(); os.dup2(write, 1); os.close(write); "
        "os.close(read); runpy.run_module('specialm', run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *words.split()], stderr=subprocess.PIPE, text=True
    )
    assert done.returncode == 141 and done.stderr == ""


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["trian"], "Did you mean 'train'"),
        (["train", "--nonsense=1"], "unknown option '--nonsense=1'"),
        (["train", "--wrokdir=1"], "Did you mean '--workdir'?"),
        (["train", "word"], "unknown option 'word'"),
        (["compile", "--windows_per_device=x"], "--windows_per_device=x: must be a whole number"),
        (["fetch", "--config.seed=1"], "fetch: reads no config; leave out --config.seed"),
        (["report", "--config=c.py"], "report: reads no config; leave out --config"),
        (["train", "--workdir"], "--workdir needs a value"),
        (["train"], "--config is missing"),
        (["train", "--config=nowhere.py"], "nowhere.py: no such file"),
    ],
)
def test_wrong_calls_exit_2_with_one_line(argv, message, capsys):
    assert cli.main(argv) == 2
    captured = capsys.readouterr()
    assert message in captured.err and captured.out == ""
    assert "Traceback" not in captured.err


def test_inspect_as_a_user_would():
    done = run("inspect", "--config=configs/paper/slm.py", "--json", "--config.model.num_layers=14")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    # Doubling the layers adds 7 (12 D^2 + 13 D) parameters to the published model's.
    assert result["pretrain_params"] == 121_992_192 + 7 * (12 * 1024**2 + 13 * 1024)


@pytest.mark.parametrize(("name", "published"), [("slm", 126e6), ("llm", 771e6)])
def test_published_sizes(name, published):
    done = run("inspect", f"--config=configs/paper/{name}.py", "--json")
    result = json.loads(done.stdout)
    assert abs(result["inference_params"] / published - 1) < 0.04
    assert result["state_bytes"] == 12 * result["pretrain_params"] + 4 * 3
