#!/usr/bin/env bash
# Trains on a Cloud TPU VM slice. See usage below and docs/launch.md.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

usage() {
  cat << 'TEXT'
usage: launch/tpu_vm.sh --config=FILE --workdir=gs://BUCKET/FOLDER --topology=v5e:4x4 --zone=ZONE
         [--queued] [--spot] [--name=NAME] [--project=PROJECT] [--command=train|specialize]
         [--runtime_version=VERSION] [--gcloud.FLAG=VALUE ...] [--env.NAME=VALUE ...]
         [--secret.NAME=SECRET ...] [--config.FIELD=VALUE ...] [--checkpoint=DIR] [--unchecked]
         [--dry_run]

Checks the settings, creates the slice if it is not there (again, if it was preempted), copies the code to every host and
starts training on all of them, detached from ssh. The same command resumes; while the job
runs it changes nothing.
  --queued              asks for the slice as a queued resource and waits until it is granted
  --spot                spare capacity, which can be preempted
  --gcloud.             any flag of the command that creates it: --gcloud.network=mine
  --secret.NAME=SECRET  an environment variable that the hosts read from Secret Manager
TEXT
  common_options
}

# absent, waiting, gone (preempted or failed) or ready; a dry run supposes $supposed.
state() {
  local text field=state
  [[ $kind == tpu-vm ]] || field=state.state
  local describe=(gcloud compute tpus "$kind" describe "$name" "${where[@]}"
    "--format=value($field)")
  show "${describe[@]}"
  if [[ $dry_run ]]; then
    echo "$supposed"
  elif text=$("${describe[@]}" 2> "$scratch/error"); then
    case $text in
      READY | ACTIVE) echo ready ;;
      PREEMPTED | TERMINATED | SUSPENDED | FAILED) echo gone ;;
      STOPPING | STOPPED) echo stopped ;;
      *) echo waiting ;;
    esac
  elif grep -q NOT_FOUND "$scratch/error"; then
    echo absent
  else
    cat "$scratch/error" >&2
    return 1
  fi
}

create() {
  if [[ $kind == tpu-vm ]]; then
    run gcloud compute tpus tpu-vm create "$name" "${where[@]}" \
      "--accelerator-type=$accelerator" "--version=$runtime_version" ${spot:+--spot} \
      ${own[@]+"${own[@]}"}
  else
    run gcloud compute tpus queued-resources create "$name" "--node-id=$name" "${where[@]}" \
      "--accelerator-type=$accelerator" "--runtime-version=$runtime_version" ${spot:+--spot} \
      ${own[@]+"${own[@]}"}
  fi
  created=1 supposed=ready
}

delete() {
  local force=()
  [[ $kind == tpu-vm ]] || force=(--force)
  run gcloud compute tpus "$kind" delete "$name" "${where[@]}" --quiet ${force[@]+"${force[@]}"}
}

zone='' project='' runtime_version='' queued='' spot=''
parse "topology zone project runtime_version gcloud." "queued spot" "$@"
check_run
read_topology
[[ $zone ]] || fail "--zone is missing; for example --zone=us-west4-a."
[[ $workdir == gs://?* || $workdir == /* ]] ||
  fail "--workdir=$workdir: must be gs://BUCKET/FOLDER, or the absolute path of a folder that is" \
    "mounted on every host."
case $chip in # v4 and v5p are counted in cores, two a chip
  v4) accelerator=v4-$((2 * chips)) default_version=tpu-ubuntu2204-base ;;
  v5e) accelerator=v5litepod-$chips default_version=v2-alpha-tpuv5-lite ;;
  v5p) accelerator=v5p-$((2 * chips)) default_version=v2-alpha-tpuv5 ;;
  v6e) accelerator=v6e-$chips default_version=v2-alpha-tpuv6e ;;
  *) fail "--topology=$topology: $chip is not offered as a TPU VM; use launch/gke.sh." ;;
esac
: "${runtime_version:=$default_version}"
check_settings "--topology=$topology"
need gcloud
pack

kind=${queued:+queued-resources} kind=${kind:-tpu-vm}
where=("--zone=$zone" ${project:+"--project=$project"})
created='' supposed=absent
while true; do
  found=$(state)
  case $found in
    ready) break ;;
    absent) create ;;
    gone)
      [[ ! $created ]] || fail "$name was lost as soon as it was there; run the same command again."
      delete
      create
      ;;
    stopped) fail "$name is stopped; start it, or delete it, then run the same command again." ;;
    waiting)
      echo "$name: waiting for the slice." >&2
      sleep "${SPECIALM_POLL_SECONDS:-30}"
      ;;
  esac
done

# The first connections to a fresh host can be refused.
for pause in 20 60 0; do
  run gcloud compute tpus tpu-vm scp "$archive" "$name:${archive##*/}" "${where[@]}" \
    --worker=all && break
  ((pause)) || fail "$name: cannot be reached by ssh; the messages above say why."
  sleep "${SPECIALM_POLL_SECONDS:-$pause}"
done
folder=specialm-$version
host_words
job=$(printf ' %q' "$folder/launch/host.sh" ${host[@]+"${host[@]}"} --detach tpu "$workdir" "${program[@]}")
run gcloud compute tpus tpu-vm ssh "$name" "${where[@]}" --worker=all \
  --command="mkdir -p $folder && tar -xzf $folder.tar.gz -C $folder && bash$job"
echo "Follow it: gcloud compute tpus tpu-vm ssh $name ${where[*]} --command='tail -F specialm.log'"
echo "At the end: gcloud compute tpus $kind delete $name ${where[*]}${queued:+ --force}"
