#!/usr/bin/env bash
# Trains on GPUs of a SLURM cluster. See usage below and docs/launch.md.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

usage() {
  cat << 'TEXT'
usage: launch/slurm.sh --config=FILE --workdir=/SHARED/FOLDER [--nodes=1] [--gpus=8] [--name=NAME]
         [--command=train|specialize] [--modules="NAME ..."] [--image=IMAGE]
         [--sbatch.FLAG=VALUE ...] [--env.NAME=VALUE ...] [--secret.NAME=FILE ...]
         [--config.FIELD=VALUE ...] [--checkpoint=DIR] [--unchecked] [--dry_run]

Run on a login node: checks the settings, copies the code into the workdir, installs the
requirements there once, and submits launch/slurm.sbatch: one process for each GPU. Preempted,
failed and timed-out jobs go back into the queue and resume. The same command resumes too; while a
job of this name is there the next one waits for it.
  --gpus                GPUs of a node
  --modules             environment modules that are loaded first, as in "cuda/13 python/3.12"
  --image               a container that has the requirements, so that nothing is installed:
                        FILE.sif for Apptainer, else for pyxis (enroot)
  --secret.NAME=FILE    an environment variable that is read from a file on the nodes
  --sbatch.             any flag of sbatch: --sbatch.partition=gpu --sbatch.time=24:00:00
TEXT
  common_options
}

nodes=1 gpus=8 modules='' image=''
parse "nodes gpus sbatch. modules image" "" "$@"
check_run
[[ $workdir == /* ]] ||
  fail "--workdir=$workdir: must be the absolute path of a folder that all nodes share."
for key in nodes gpus; do
  [[ ${!key} =~ ^[1-9][0-9]*$ ]] || fail "--$key=${!key}: must be a whole number, at least 1."
done
for word in ${secrets[@]+"${secrets[@]}"}; do
  [[ ${word#*=} == /* ]] ||
    fail "--secret.${word%%=*}=${word#*=}: must be the absolute path of a file on the nodes."
done
check_settings "--devices=$((nodes * gpus))"
need sbatch
pack

code=$workdir/code/specialm-$version
run mkdir -p "$code" "$workdir/logs"
run tar -xzf "$archive" -C "$code"
# Here, because compute nodes often have no way out.
load=(${modules:+--modules "$modules"})
[[ $image ]] || run env "SPECIALM_VENV=$workdir/env" bash "$code/launch/host.sh" \
  ${load[@]+"${load[@]}"} --install gpu
host_words
# jax.distributed takes one process for each GPU on SLURM, and must see all GPUs of the node.
run sbatch "--job-name=$name" --dependency=singleton "--nodes=$nodes" "--ntasks-per-node=$gpus" \
  "--gpus-per-node=$gpus" "--output=$workdir/logs/$name.log" ${own[@]+"${own[@]}"} \
  "$code/launch/slurm.sbatch" "$code" "$workdir" "$image" ${load[@]+"${load[@]}"} \
  ${host[@]+"${host[@]}"} gpu "$workdir" "${program[@]}"
echo "# Follow it: tail -F $workdir/logs/$name.log"
