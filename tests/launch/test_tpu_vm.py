"""launch/tpu_vm.sh and what a host runs, launch/host.sh."""

import shutil
import subprocess
from pathlib import Path

import pytest
from launch_helpers import CONFIG, ROOT, TPU, Fakes, shown


def verbs(fakes: Fakes) -> list[str]:
    return [" ".join(words[3:5]) for words in fakes.calls("gcloud")]


@pytest.mark.parametrize(
    "topology, accelerator, version",
    [
        ("v4:2x2x4", "v4-32", "tpu-ubuntu2204-base"),
        ("v5e:16x16", "v5litepod-256", "v2-alpha-tpuv5-lite"),
        ("v5p:4x4x4", "v5p-128", "v2-alpha-tpuv5"),
        ("v6e:1x1", "v6e-1", "v2-alpha-tpuv6e"),
    ],
)
def test_the_slice_asked_for(fakes, topology, accelerator, version):
    options = (*TPU, f"--topology={topology}", "--project=mine", "--spot", "--dry_run")
    create = shown(fakes.launch(*options).stdout)[1]
    assert create == [
        "gcloud",
        "compute",
        "tpus",
        "tpu-vm",
        "create",
        "specialm-slm",
        "--zone=us-west4-a",
        "--project=mine",
        f"--accelerator-type={accelerator}",
        f"--version={version}",
        "--spot",
    ]
    create = shown(fakes.launch(*options, "--queued", "--runtime_version=v3").stdout)[1]
    assert create == [
        "gcloud",
        "compute",
        "tpus",
        "queued-resources",
        "create",
        "specialm-slm",
        "--node-id=specialm-slm",
        "--zone=us-west4-a",
        "--project=mine",
        f"--accelerator-type={accelerator}",
        "--runtime-version=v3",
        "--spot",
    ]


def test_a_queued_slice_is_awaited_and_a_lost_one_is_asked_for_again(fakes):
    fakes.answer("describe", "SUSPENDED", "WAITING_FOR_RESOURCES", "PROVISIONING", "ACTIVE")
    fakes.launch(*TPU, "--queued")
    assert verbs(fakes) == [
        f"{kind} {verb}"
        for kind, verb in [
            ("queued-resources", "describe"),
            ("queued-resources", "delete"),
            ("queued-resources", "create"),
            *[("queued-resources", "describe")] * 3,
            ("tpu-vm", "scp"),
            ("tpu-vm", "ssh"),
        ]
    ]
    delete = fakes.calls("gcloud")[1]
    assert "--force" in delete and "--quiet" in delete


def test_states_that_the_user_has_to_decide(fakes):
    fakes.answer("describe", "STOPPED")
    assert "is stopped; start it" in fakes.launch(*TPU, status=2).stderr
    fakes.answer("describe", "ERROR PERMISSION_DENIED on project")
    assert "PERMISSION_DENIED" in fakes.launch(*TPU, status=1).stderr
    fakes.answer("describe", "ERROR NOT_FOUND", "FAILED")
    assert "was lost as soon as" in fakes.launch(*TPU, status=2).stderr
    assert verbs(fakes).count("tpu-vm create") == 1 and "tpu-vm ssh" not in verbs(fakes)


def test_a_fresh_host_that_refuses_the_first_connections(fakes):
    fakes.answer("describe", "READY")
    fakes.answer("scp", "refused", "refused")
    fakes.launch(*TPU)
    assert verbs(fakes)[-4:] == ["tpu-vm scp"] * 3 + ["tpu-vm ssh"]
    fakes.answer("describe", "READY")
    fakes.answer("scp", *["refused"] * 3)
    assert "cannot be reached by ssh" in fakes.launch(*TPU, status=2).stderr


def test_tpu_vm_trains_and_the_same_command_resumes_after_preemption(fakes):
    """The fake ssh really runs host.sh, in a home of its own, from the copied archive."""
    title = '--config.title=it\'s "a" $HOME & more'
    options = (*TPU, title, "--config.data.generic=jsonl:gs://bucket/c4")
    new = fakes.repository / "specialm/new.py"  # a file that is not committed is copied too
    new.parent.mkdir(exist_ok=True)
    new.write_text("pass\n")
    fakes.answer("describe", "ERROR NOT_FOUND", "READY")
    fakes.launch(*options)
    fakes.await_end(0)
    shutil.rmtree(fakes.folder / "worker")  # preempted: the disk is gone, the bucket is not
    fakes.answer("describe", "PREEMPTED", "READY")
    fakes.launch(*options)
    fakes.await_end(0)
    assert [verb for verb in verbs(fakes) if verb.split()[1] in ("create", "delete")] == [
        "tpu-vm create",
        "tpu-vm delete",
        "tpu-vm create",
    ]
    first, again = fakes.recorded("runs")
    assert first == again
    gcs = fakes.folder / "gcs/bucket"
    assert first["args"] == [
        "train",
        f"--config={CONFIG}",
        title,
        f"--config.data.generic=jsonl:{gcs}/c4",
        f"--workdir={gcs}/run",
    ]
    assert first["SPECIALM_DISTRIBUTED"] == "1"
    assert first["JAX_PLATFORMS"] == "tpu,cpu"
    assert first["JAX_COMPILATION_CACHE_DIR"] == f"{gcs}/run/compiled"
    assert first["PYTHONPATH"] == first["cwd"]
    assert (Path(first["cwd"]) / "specialm/new.py").exists()
    assert (Path(first["cwd"]) / CONFIG).read_text() == (ROOT / CONFIG).read_text()
    assert [words[-2:] for words in fakes.calls("gcsfuse")] == [["bucket", str(gcs)]]
    install = fakes.calls("python")[0]
    assert install[-1] == f"{first['cwd']}[tpu]" and f"{first['cwd']}/constraints.txt" in install


def test_a_failed_job_is_started_again_but_not_one_with_a_wrong_setting(fakes):
    fakes.answer("describe", "READY")
    fakes.answer("specialm", "1", "137", "0")
    fakes.launch(*TPU)
    fakes.await_end(0)
    assert len(fakes.recorded("runs")) == 3
    assert len(fakes.calls("python")) == 1  # installed once
    fakes.answer("describe", "READY")
    fakes.answer("specialm", "2", "0")
    fakes.launch(*TPU)
    fakes.await_end(2)
    assert len(fakes.recorded("runs")) == 4


def test_a_host_whose_python_is_too_old_gets_one_from_uv(fakes):
    fakes.answer("too old", "yes")
    (fakes.folder / "run").mkdir()
    fakes.launch("host.sh", "tpu", str(fakes.folder / "run"), "train")
    pip, uv = [words for words in fakes.calls("python3") if words[1] == "-m"]
    assert pip[-1] == "uv" and uv[1:4] == ["-m", "uv", "venv"] and "--python=3.12" in uv
    assert len(fakes.recorded("runs")) == 1


def test_a_host_with_more_extras_has_an_environment_of_its_own(fakes):
    (fakes.folder / "run").mkdir()
    for extras in ("", "seqio"):
        fakes.more = {"SPECIALM_EXTRAS": extras}
        fakes.launch("host.sh", "tpu", str(fakes.folder / "run"), "train")
    light, full = [words[-1] for words in fakes.calls("python")]
    assert light.endswith("[tpu]") and full.endswith("[tpu,seqio]")


def test_while_a_job_runs_the_same_command_starts_no_second_one(fakes):
    worker = fakes.folder / "worker"
    worker.mkdir()
    running = subprocess.Popen(
        ["flock", worker / "specialm.lock", "cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    running.stdin.write(b"locked\n")
    running.stdin.flush()
    running.stdout.read(1)  # what `cat` says, it says under the lock
    fakes.answer("describe", "READY")
    assert "is training already" in fakes.launch(*TPU).stdout
    running.communicate()
    assert not fakes.recorded("runs")


def test_a_folder_that_is_not_on_the_host(fakes):
    done = fakes.launch("host.sh", "tpu", "/nowhere/run", "train", status=2)
    assert "--workdir=/nowhere/run" in done.stderr and "mount the shared one" in done.stderr
    (fakes.bin / "gcsfuse").write_text("#!/usr/bin/env bash\nexit 2\n")
    fakes.launch("host.sh", "tpu", "gs://bucket/run", "train", status=1)  # worth another try
    assert not fakes.recorded("runs")
