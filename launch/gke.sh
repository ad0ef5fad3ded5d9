#!/usr/bin/env bash
# Trains on TPU slices of a GKE cluster as a JobSet. See usage below and docs/launch.md.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

usage() {
  cat << 'TEXT'
usage: launch/gke.sh --config=FILE --workdir=gs://BUCKET/FOLDER --topology=v5e:16x16
         [--slices=1] [--spot] [--restarts=100] [--name=NAME] [--namespace=default]
         [--service_account=default] [--image=python:3.12] [--pull_secret=NAME] [--queue=NAME]
         [--label.KEY=VALUE ...] [--env.NAME=VALUE ...] [--secret.NAME=SECRET/KEY ...]
         [--command=train|specialize] [--config.FIELD=VALUE ...] [--checkpoint=DIR] [--unchecked]
         [--dry_run]

Checks the settings, copies the code to the bucket, fills in launch/gke_jobset.yaml and applies it to the cluster of
kubectl's current context. Lost pods are started again; the same command resumes a job that ended.
While the job runs it changes nothing.
  --image               a Python >= 3.11; one with the requirements installed starts faster
  --pull_secret         the Kubernetes secret that the image is pulled with
  --queue               Kueue's local queue: the label kueue.x-k8s.io/queue-name
  --label.              a label of the JobSet: --label.kueue.x-k8s.io/priority-class=high
  --secret.NAME=SECRET/KEY  an environment variable from a key of a Kubernetes secret
TEXT
  common_options
}

quote() { # a word as a YAML string; without @, so that nothing in it is filled in
  local word=${1//\\/\\\\}
  word=${word//\"/\\\"} word=${word//$'\n'/\\n}
  printf '"%s"' "${word//@/\\x40}"
}

list() { # words as a YAML list
  local word text=''
  for word; do text+=", $(quote "$word")"; done
  echo "[${text#, }]"
}

map() { # words KEY=VALUE as a YAML map
  local word text=''
  for word; do text+=", $(quote "${word%%=*}"): $(quote "${word#*=}")"; done
  echo "{${text#, }}"
}

variables() { # of the container, as a YAML list
  local word where text='{name: SPECIALM_VENV, value: none}'
  for word in ${environment[@]+"${environment[@]}"}; do
    text+=", {name: ${word%%=*}, value: $(quote "${word#*=}")}"
  done
  for word in ${secrets[@]+"${secrets[@]}"}; do
    where=${word#*=}
    text+=", {name: ${word%%=*}, valueFrom: {secretKeyRef: {name: $(quote "${where%%/*}"),"
    text+=" key: $(quote "${where#*/}")}}}"
  done
  echo "[$text]"
}

fill() { # fill WORD TEXT: puts TEXT in the place of @WORD@
  manifest=${manifest//@"$1"@/"$2"}
}

slices=1 spot='' restarts=100 namespace=default service_account=default image=python:3.12
pull_secret='' queue=''
parse "topology slices restarts namespace service_account image pull_secret queue label." "spot" \
  "$@"
check_run
read_topology
[[ $workdir =~ ^gs://([^/]+)/(.+)$ ]] ||
  fail "--workdir=$workdir: on GKE it must be gs://BUCKET/FOLDER, which every pod mounts."
bucket=${BASH_REMATCH[1]}
for key in slices restarts; do
  [[ ${!key} =~ ^[1-9][0-9]*$ ]] || fail "--$key=${!key}: must be a whole number, at least 1."
done
case $chip in
  v4) accelerator=tpu-v4-podslice ;;
  v5e) accelerator=tpu-v5-lite-podslice ;;
  v5p) accelerator=tpu-v5p-slice ;;
  v6e) accelerator=tpu-v6e-slice ;;
  tpu7x) accelerator=tpu7x ;;
esac
for word in ${secrets[@]+"${secrets[@]}"}; do
  [[ ${word#*=} =~ ^[^/]+/[^/]+$ ]] ||
    fail "--secret.${word%%=*}=${word#*=}: must be SECRET/KEY of a Kubernetes secret."
done
if [[ $queue ]]; then labels+=("kueue.x-k8s.io/queue-name=$queue"); fi
per_host=$((chips < 4 ? chips : 4))
check_settings "--topology=$topology" "--slices=$slices"
need gcloud kubectl
pack

code=code/${archive##*/}
manifest=$(< "$root/launch/gke_jobset.yaml")
fill name "$name"
fill namespace "$(quote "$namespace")"
fill restarts "$restarts"
fill slices "$slices"
fill hosts "$((chips / per_host))"
fill chips "$per_host"
fill service_account "$(quote "$service_account")"
fill accelerator "$accelerator"
fill shape "$shape"
fill labels "$(map ${labels[@]+"${labels[@]}"})"
fill variables "$(variables)"
pull=''
if [[ $pull_secret ]]; then pull="imagePullSecrets: [{name: $(quote "$pull_secret")}]"; fi
fill pull "$pull"
fill spot "${spot:+cloud.google.com/gke-spot: \"true\"}"
fill image "$(quote "$image")"
fill bucket "$(quote "$bucket")"
fill mount "$(quote "/gcs/$bucket")"
fill arguments "$(list "/gcs/${workdir#gs://}/$code" tpu "$workdir" "${program[@]}")"
printf '%s\n' "$manifest" > "$scratch/jobset.yaml"

run gcloud storage cp "$archive" "$workdir/$code"
get=(kubectl get jobset "$name" "--namespace=$namespace" --ignore-not-found
  "--output=jsonpath={.metadata.name} {.status.conditions[?(@.status==\"True\")].type}")
show "${get[@]}"
found=''
[[ $dry_run ]] || found=$("${get[@]}")
case "$found " in
  *" Completed "* | *" Failed "*) run kubectl delete jobset "$name" "--namespace=$namespace" ;;
  "$name"*)
    echo "$name is running already. To change it, delete it first:" \
      "kubectl delete jobset $name --namespace=$namespace"
    exit
    ;;
esac
run kubectl apply "--filename=$scratch/jobset.yaml"
[[ ! $dry_run ]] || cat "$scratch/jobset.yaml"
echo "# Follow it: kubectl logs --follow --namespace=$namespace --container=specialm" \
  "--selector=jobset.sigs.k8s.io/jobset-name=$name,batch.kubernetes.io/job-completion-index=0"
