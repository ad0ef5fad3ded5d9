#!/usr/bin/env bash
# One process of a job, on its host: host.sh [--detach | --install] tpu|gpu [WORKDIR COMMAND ...]
# Installs the requirements of the code that it lies in, mounts WORKDIR if it is a bucket, and calls
# `specialm COMMAND ... --workdir=WORKDIR`, which joins the other processes and resumes by itself.
#   --install  only installs.
#   --detach   runs detached from the ssh session, one job a host, started again if it fails.
set -euo pipefail

code=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
tries=20 pause=${SPECIALM_RETRY_SECONDS:-30}

detach() {
  local lock=$HOME/specialm.lock log=$HOME/specialm.log status=0
  flock --nonblock --conflict-exit-code=75 "$lock" true || status=$?
  if ((status == 75)); then echo "$(hostname): is training already; see ~/specialm.log."; fi
  if ((status)); then return "$((status == 75 ? 0 : status))"; fi
  # --close: what the job leaves behind (the mount) must not hold the lock.
  setsid nohup flock --nonblock --close "$lock" bash "$0" --keep "$@" >> "$log" 2>&1 < /dev/null &
  echo "$(hostname): started; see ~/specialm.log."
}

keep() { # until it is done (0) or a setting is wrong (2)
  local status try
  for ((try = 1; try <= tries; try++)); do
    status=0
    bash "$0" "$@" || status=$?
    echo "$(date -u +%FT%TZ) ended with status $status (try $try of $tries)"
    if ((status == 0 || status == 2)); then return "$status"; fi
    sleep "$pause"
  done
  return "$status"
}

mount_bucket() { # gs://BUCKET is mounted at /gcs/BUCKET, on every host alike
  local gcs=${SPECIALM_GCS:-/gcs}
  local bucket=${workdir#gs://}
  bucket=${bucket%%/*}
  if ! mountpoint --quiet "$gcs/$bucket"; then
    command -v gcsfuse > /dev/null || install_gcsfuse
    mkdir -p "$gcs/$bucket" 2> /dev/null || sudo install -d -o "$(id -un)" "$gcs/$bucket"
    # Hosts see each other's files at once; a finished checkpoint is a renamed folder.
    gcsfuse --implicit-dirs --metadata-cache-ttl-secs=0 --rename-dir-limit=200000 \
      "$bucket" "$gcs/$bucket"
  fi
  workdir=$gcs/${workdir#gs://}
  mkdir -p "$workdir"
  # specialm knows ordinary paths only: in the options too.
  local prefix=gs://$bucket/
  program=("${program[@]//"$prefix"/"$gcs/$bucket/"}")
}

install_gcsfuse() {
  local key=/usr/share/keyrings/cloud.google.asc site=https://packages.cloud.google.com/apt
  curl -fsSL "$site/doc/apt-key.gpg" | sudo tee "$key" > /dev/null
  echo "deb [signed-by=$key] $site gcsfuse-$(lsb_release -cs) main" |
    sudo tee /etc/apt/sources.list.d/gcsfuse.list > /dev/null
  sudo apt-get -qq update
  sudo apt-get -qq install -y gcsfuse
}

# The requirements, in a virtual environment for each version of them; the code itself comes from
# PYTHONPATH. SPECIALM_VENV=none installs into the Python on PATH (a container's). SPECIALM_EXTRAS
# has more extras: seqio, for hosts that read tfds: or seqio: sources themselves.
install_requirements() {
  local venv=${SPECIALM_VENV:-$HOME/specialm-env} extras=$1${SPECIALM_EXTRAS:+,$SPECIALM_EXTRAS}
  export PYTHONPATH=$code
  if [[ $venv != none ]]; then
    venv+=-${extras//,/-}-$(cat "$code/setup.cfg" "$code/constraints.txt" | cksum | cut -d ' ' -f 1)
    if [[ ! -x $venv/bin/python ]]; then make_venv "$venv"; fi
    export PATH=$venv/bin:$PATH
    if [[ -f $venv/installed ]]; then return; fi
  fi
  python -m pip install --quiet --disable-pip-version-check -c "$code/constraints.txt" \
    "${code}[$extras]"
  if [[ $venv != none ]]; then touch "$venv/installed"; fi
}

make_venv() {
  local python
  for python in "${PYTHON:-python3}" python3.12 python3.11; do
    if "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2> /dev/null &&
      "$python" -m venv "$1"; then return; fi
  done
  # Images of TPU VMs come with Python 3.10; uv fetches a newer one.
  python3 -m pip install --quiet --user uv
  python3 -m uv venv --quiet --seed --python=3.12 "$1"
}

case ${1-} in
  --detach)
    shift
    detach "$@"
    exit
    ;;
  --keep)
    shift
    keep "$@"
    exit
    ;;
  --install)
    install_requirements "$2"
    exit
    ;;
esac
# Status 2 is only for a wrong setting; what fails before specialm runs is worth another try.
set -E
trap 'exit 1' ERR
accelerator=$1 workdir=$2
shift 2
program=("$@")
if [[ $workdir == gs://* ]]; then mount_bucket; fi
if [[ ! -d $workdir ]]; then
  echo "host.sh: --workdir=$workdir: $(hostname) has no such folder; mount the shared one." >&2
  exit 2
fi
install_requirements "$accelerator"
cd "$code"
export SPECIALM_DISTRIBUTED=1
# Named, so that a missing driver is an error and not a job on the CPU.
if [[ $accelerator == gpu ]]; then platforms=cuda,cpu; else platforms=tpu,cpu; fi
export JAX_PLATFORMS=${JAX_PLATFORMS:-$platforms}
# With the checkpoints, so that a fresh host need not compile again.
export JAX_COMPILATION_CACHE_DIR=${JAX_COMPILATION_CACHE_DIR:-$workdir/compiled}
exec specialm "${program[@]}" --workdir="$workdir"
