"""Every command in the code of README and docs/: it can be given as it stands, and the quick ones
are run. Those that are not run are in a table that says why."""

import configparser
import copy
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from specialm import cli, command_table, settings
from specialm import config as config_lib
from specialm.common.errors import UserError

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    [
        *ROOT.glob("docs/*.md"),
        *(ROOT / name for name in ("README.md", "CONTRIBUTING.md")),
        *(ROOT / folder / "README.md" for folder in ("results", "notebooks")),
    ]
)
CODE = re.compile(r"^```(?:sh|bash)\n(.*?)^```", re.M | re.S)
PLACEHOLDER = "..."  # in a command: what the reader fills in

# Commands of specialm that are not run here, and why. A file of tests has them in small.
WHY_NOT = {
    "fetch": "downloads 195 MB",
    "prepare": "minutes; tests/workflows/test_pipeline.py",
    "weights": "minutes; tests/workflows/test_weight_report.py",
    "train": "minutes to weeks; tests/workflows/test_pipeline.py",
    "specialize": "minutes; those on one's own text as they stand in tests/workflows/test_readme.py",
    "evaluate": "needs a model; tests/workflows/test_readme.py",
    "generate": "needs a model; tests/workflows/test_readme.py",
    "list": "needs models; tests/workflows/test_readme.py",
    "baselines": "minutes; tests/evaluation/test_kneser_ney.py",
    "tasks": "needs a model and files of questions; tests/evaluation/test_zero_shot.py",
    "serve": "does not end; tests/serving/server",
    "bundle": "needs a model; tests/workflows/test_bundles.py",
    "import": "downloads a model; tests/serving/test_open_models.py",
    "init": "needs a model; tests/workflows/test_resizing.py",
    "quantize": "needs a model; tests/workflows/test_quantizing.py",
    "export": "needs a model; tests/serving/test_open_models.py",
    "compile": "needs the compiler of TPUs, 0.7 GB; tests/planning/test_compilation.py",
    "demo": "minutes; tests/workflows/test_pipeline.py",
    "study": "hours; tests/workflows/test_study.py",
    "adapt": "needs a model; tests/workflows/test_adapting.py",
    "transfer": "needs a model; tests/workflows/test_transferring.py",
    "plan": "half a minute; tests/planning/test_plan_command.py",
    "score_plan": "needs a trained model; tests/planning/test_plan_command.py",
    "report": "needs a study; tests/workflows/test_report.py",
}
# Other programs: they must be there, or the line is of a reader's own shell.
OTHERS = {
    ".": "enters an environment",
    "export": "sets variables for the next lines",
    "pip": "installs; its extras are looked up",
    "make": "installs or runs for minutes; its targets are looked up",
    "python": "minutes; its module is looked up",
    "launch/": "starts machines; its overrides are looked up, tests/launch",
    "tensorboard": "another program, which does not end",
    "wandb": "another program, needs an account",
    "jupyter": "another program, which does not end",
    ".venv/bin/pre-commit": "changes this checkout",
}
QUICK = {("inspect",), ("settings",), ("launch/", "--help"), ("make", "help")}


def commands(page):
    """[words] of each command of a page; variables in front, comments and & left out."""
    for block in CODE.findall(page.read_text(encoding="utf-8")):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
                words = words[1:]
            if words and words[-1] == "&":
                words = words[:-1]
            if words:
                yield words


FOUND = {(str(page.relative_to(ROOT)), *words): words for page in PAGES for words in commands(page)}
OURS = {key: words for key, words in FOUND.items() if words[0] == "specialm"}
LAUNCHED = {key: words for key, words in FOUND.items() if words[0].startswith("launch/")}


def name(key):
    return " ".join(key)[:110]


def test_there_are_commands_of_every_kind():
    assert len(FOUND) > 120 and len(OURS) > 80 and len(LAUNCHED) > 4


@pytest.fixture(scope="module")
def read():
    """(config file or "") -> its config, each read once."""
    known = {}

    def config_of(path):
        path = path or "configs/local/slm.py"
        if path not in known:
            known[path] = config_lib.load(path)
        return copy.deepcopy(known[path]).unlock()

    return config_of


@pytest.mark.parametrize("key", OURS, ids=name)
def test_a_command_can_be_given_as_it_stands(key, read, monkeypatch):
    monkeypatch.chdir(ROOT)
    _, command, *words = OURS[key]
    assert command in command_table.COMMANDS, f"no command {command!r}"
    _, config_path, overrides = cli.parse(command, [w for w in words if w != PLACEHOLDER])
    check_settings(read(config_path), overrides)


@pytest.mark.parametrize("key", LAUNCHED, ids=name)
def test_a_launcher_is_there_and_its_overrides_are_settings(key, read):
    script, *words = LAUNCHED[key]
    assert (ROOT / script).is_file()
    path = next((w.partition("=")[2] for w in words if w.startswith("--config=")), "")
    check_settings(read(path), [word for word in words if word.startswith("--config.")])


def check_settings(config, overrides):
    """Every override names a setting and has a value that it may have."""
    for override in overrides:
        setting = override.removeprefix("--config.").partition("=")[0]
        if not setting.startswith("data.domains."):
            assert setting in settings.SETTINGS, setting
        config_lib.override(config, override.removeprefix("--config."), "--config.")
    for setting in settings.SETTINGS.values():
        value = config_lib.find(config, setting.name)
        if setting.name not in ("method", "methods"):  # a module of the reader's may register it
            setting.check(value, config)


@pytest.mark.parametrize("key", [k for k, w in FOUND.items() if w[0] != "specialm"], ids=name)
def test_other_programs_are_known(key):
    words = FOUND[key]
    program = "launch/" if words[0].startswith("launch/") else words[0]
    assert program in OTHERS, f"{program}: say in OTHERS why it is not run"
    if program == "make":
        targets = re.findall(r"^([a-z-]+):(?!=)", (ROOT / "Makefile").read_text(), re.M)
        assert words[1] in targets
    if program == "python" and words[1] == "-m":
        parts = words[2].split(".")
        assert (ROOT.joinpath(*parts).with_suffix(".py")).exists() or ROOT.joinpath(*parts).is_dir()
    if program == "pip":
        config = configparser.ConfigParser()
        config.read(ROOT / "setup.cfg")
        extras = next(word for word in words if word.startswith(".[")).strip(".[]")
        assert set(extras.split(",")) <= set(config["options.extras_require"])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("train --config=configs/local/slm.py --brnch=RUN", "unknown option '--brnch=RUN'"),
        ("train --config=configs/local/slm.py --config.train.token=4", "train.token"),
        ("train --config=configs/local/slm.py --config.train.tokens=-4", "train.tokens=-4"),
        ("train --config=configs/local/gone.py", "gone.py"),
    ],
)
def test_a_wrong_command_would_be_noticed(line, message, read, monkeypatch):
    monkeypatch.chdir(ROOT)
    command, *words = line.split()
    with pytest.raises((UserError, AssertionError), match=re.escape(message)):
        _, config_path, overrides = cli.parse(command, words)
        check_settings(read(config_path), overrides)


def is_quick(words):
    kind = "launch/" if words[0].startswith("launch/") else words[0]
    return (words[1],) in QUICK if kind == "specialm" else (kind, *words[1:2]) in QUICK


def test_what_is_not_run_says_why():
    named = {words[1] for words in OURS.values() if not is_quick(words)}
    assert named - set(WHY_NOT) == set()
    for why in (*WHY_NOT.values(), *OTHERS.values()):
        for file in re.findall(r"tests/[\w/]+(?:\.py)?", why):
            assert (ROOT / file).exists(), file


@pytest.mark.parametrize("key", [k for k, w in FOUND.items() if is_quick(w)], ids=name)
def test_quick_commands_run(key, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    words = FOUND[key]
    if words[0] == "specialm":
        assert cli.main(words[1:]) == 0, capsys.readouterr().err
        assert capsys.readouterr().out
    else:
        done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0 and done.stdout, done.stderr
