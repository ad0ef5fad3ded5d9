import json
import subprocess
import sys

import pytest

from specialm import cli


def run(*argv):
    return subprocess.run(
        [sys.executable, "-m", "specialm.cli", *argv], capture_output=True, text=True, timeout=120
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
    assert cli.main([command, "--help"]) == 0
    assert capsys.readouterr().out.startswith(f"usage: specialm {command} ")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["trian"], "Did you mean 'train'"),
        (["train", "--nonsense=1"], "unknown option '--nonsense=1'"),
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
