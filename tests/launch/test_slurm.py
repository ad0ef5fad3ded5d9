"""launch/slurm.sh and its batch script."""

import os
import subprocess
import sys

import pytest
from launch_helpers import CONFIG, ROOT, Fakes, slurm


def submitted(fakes: Fakes) -> tuple[list[str], list[str]]:
    """(flags of sbatch, what it runs)."""
    words = fakes.calls("sbatch")[-1][1:]
    first = next(i for i, word in enumerate(words) if not word.startswith("-"))
    return words[:first], words[first:]


def start(fakes: Fakes, job: list[str], **environment: str):
    """Runs a submitted job as SLURM would, `srun` being the fake."""
    return subprocess.run(
        ["bash", *job],
        env={**fakes.environment, "SLURM_JOB_ID": "7", **environment},
        capture_output=True,
        text=True,
    )


def test_slurm_submits_and_the_same_command_resumes(fakes):
    options = (
        *slurm(fakes),
        "--nodes=2",
        "--gpus=4",
        "--sbatch.partition=gpu",
        "--sbatch.time=24:00:00",
        "--config.seed=3",
    )
    fakes.launch(*options)
    flags, job = submitted(fakes)
    assert {
        "--nodes=2",
        "--ntasks-per-node=4",
        "--gpus-per-node=4",
        "--partition=gpu",
        "--time=24:00:00",
        "--dependency=singleton",
        "--job-name=specialm-slm",
    } <= set(flags)
    assert not any("gpus-per-task" in flag for flag in flags)
    assert len(fakes.calls("python")) == 1  # the requirements, on the login node
    assert start(fakes, job).returncode == 0
    fakes.launch(*options)
    assert submitted(fakes) == (flags, job)
    assert len(fakes.calls("python")) == 1
    assert start(fakes, job).returncode == 0
    first, again = fakes.recorded("runs")
    assert first == again
    assert first["args"] == [
        "train",
        f"--config={CONFIG}",
        "--config.seed=3",
        f"--workdir={fakes.folder}/shared",
    ]
    assert first["JAX_PLATFORMS"] == "cuda,cpu" and first["SPECIALM_DISTRIBUTED"] == "1"
    assert not fakes.calls("scontrol")


def test_the_batch_script_asks_slurm_to_put_preempted_jobs_back():
    text = (ROOT / "launch/slurm.sbatch").read_text()
    directives = [line.split()[1] for line in text.splitlines() if line.startswith("#SBATCH")]
    assert {"--requeue", "--open-mode=append"} <= set(directives)
    # sbatch stops reading directives at the first command.
    assert text.rindex("#SBATCH") < text.index("\nset -")


@pytest.mark.parametrize(
    "status, restarts, requeued",
    [("1", "0", True), ("137", "19", True), ("2", "0", False), ("1", "20", False)],
)
def test_a_failed_slurm_job_goes_back_into_the_queue(fakes, status, restarts, requeued):
    fakes.launch(*slurm(fakes))
    fakes.answer("specialm", status)
    done = start(fakes, submitted(fakes)[1], SLURM_RESTART_COUNT=restarts)
    assert done.returncode == int(status)
    assert fakes.calls("scontrol") == ([["scontrol", "requeue", "7"]] if requeued else [])


def test_a_slurm_job_at_its_time_limit_goes_back_into_the_queue(fakes):
    fakes.launch(*slurm(fakes))
    """After its processes, to which srun passes the signal on, have saved and ended."""
    srun = """#!/usr/bin/env bash
trap 'echo told; sleep 0.5; echo saved; exit 143' USR1
kill -USR1 $PPID
for i in {1..200}; do sleep 0.05; done
"""
    (fakes.bin / "srun").write_text(srun)
    done = start(fakes, submitted(fakes)[1], SLURM_RESTART_COUNT="50")
    assert done.stdout.splitlines()[:2] == ["told", "saved"] and done.returncode == 143
    assert fakes.calls("scontrol") == [["scontrol", "requeue", "7"]]


def test_processes_that_srun_starts_find_each_other(fakes):
    """Two real processes with SLURM's variables, which are all that jax.distributed needs."""
    fakes.launch(*slurm(fakes))
    _, job = submitted(fakes)
    program = (
        "import jax; jax.distributed.initialize(); import jax.numpy as jnp; "
        "print(jax.process_index(), jax.process_count(), jax.device_count())"
    )
    (specialm,) = (fakes.folder / "shared").glob("env-*/bin/specialm")
    specialm.write_text(f"#!/usr/bin/env bash\nexec {sys.executable} -c '{program}'\n")
    (fakes.bin / "srun").write_text("""#!/usr/bin/env bash
shift
for i in 0 1; do SLURM_PROCID=$i SLURM_LOCALID=$i "$@" & jobs+=($!); done
for job in ${jobs[@]}; do wait $job || exit; done
""")
    done = start(
        fakes,
        job,
        SLURM_JOB_ID=str(os.getpid()),
        SLURM_STEP_NODELIST="localhost",
        SLURM_NTASKS="2",
        JAX_PLATFORMS="cpu",
        XLA_FLAGS="--xla_force_host_platform_device_count=1",
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert sorted(done.stdout.split("\n")[:2]) == ["0 2 2", "1 2 2"]


def test_modules_variables_and_secrets_reach_every_process(fakes):
    (fakes.folder / "profile").write_text(
        'unset -v nothing; : $nothing\nmodule() { echo "$*" >> "$FAKES/modules"; }\n'
    )
    (fakes.folder / "key").write_text("s3cret\n")
    profile = {"SPECIALM_PROFILE": str(fakes.folder / "profile")}
    options = (*slurm(fakes), "--modules=cuda/13 python/3.12", "--env.OWN_A=a b")
    fakes.launch(*options, f"--secret.OWN_KEY={fakes.folder}/key", environment=profile)
    done = start(fakes, submitted(fakes)[1], **profile)
    assert done.returncode == 0, done.stderr
    (run,) = fakes.recorded("runs")
    assert (run["OWN_A"], run["OWN_KEY"]) == ("a b", "s3cret")
    loaded = (fakes.folder / "modules").read_text()
    assert loaded == 2 * "load cuda/13 python/3.12\n"  # for the installation, for the job
    wrong = fakes.launch(*slurm(fakes), "--secret.OWN_KEY=key", status=2)
    assert "--secret.OWN_KEY=key: must be the absolute path" in wrong.stderr


@pytest.mark.parametrize("image", ["registry#team/specialm:1", "/shared/specialm.sif"])
def test_a_container_has_the_requirements(fakes, image):
    fakes.launch(*slurm(fakes), f"--image={image}")
    assert not fakes.calls("python")  # nothing is installed on the login node
    assert start(fakes, submitted(fakes)[1]).returncode == 0
    shared = f"{fakes.folder}/shared"
    (srun,) = fakes.calls("srun")
    if image.endswith(".sif"):
        assert srun[2:8] == ["apptainer", "exec", "--nv", "--bind", shared, image]
    else:
        assert srun[2:4] == [f"--container-image={image}", f"--container-mounts={shared}:{shared}"]
    (run,) = fakes.recorded("runs")
    assert run["args"][:3] == ["-m", "specialm", "train"]
    assert run["PYTHONPATH"] == run["cwd"]
