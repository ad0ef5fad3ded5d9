"""launch/gke.sh and its manifest."""

import shutil
import subprocess

import pytest
import yaml
from launch_helpers import CONFIG, GKE, Fakes


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
        "labels": {},
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
        "terminationGracePeriodSeconds",
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


def test_variables_secrets_and_labels_of_the_manifest(fakes):
    given = manifest(
        fakes,
        '--env.OWN_A=@image@ "1"',
        "--env.OWN_B=two\nlines",
        "--secret.OWN_KEY=wandb/key",
        "--queue=team",
        "--label.kueue.x-k8s.io/priority-class=high",
        "--pull_secret=registry",
    )
    assert given["metadata"]["labels"] == {
        "kueue.x-k8s.io/queue-name": "team",
        "kueue.x-k8s.io/priority-class": "high",
    }
    pod = given["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]
    assert pod["imagePullSecrets"] == [{"name": "registry"}]
    assert pod["containers"][0]["env"] == [
        {"name": "SPECIALM_VENV", "value": "none"},
        {"name": "OWN_A", "value": '@image@ "1"'},
        {"name": "OWN_B", "value": "two\nlines"},
        {"name": "OWN_KEY", "valueFrom": {"secretKeyRef": {"name": "wandb", "key": "key"}}},
    ]
    wrong = fakes.launch(*GKE, "--secret.OWN_KEY=wandb", status=2)
    assert "--secret.OWN_KEY=wandb: must be SECRET/KEY" in wrong.stderr
