# shellcheck shell=bash
# Shared by the launchers: options, errors, dry runs, and packing the code. Sourced, not run.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
config='' workdir='' command=train name='' topology='' dry_run=''
program=() # words for specialm after --config: overrides and --checkpoint
own=() # flags for sbatch

fail() { # as specialm does: status 2 when the user has to change something
  echo "${0##*/}: $*" >&2
  exit 2
}

# parse "OPTION ..." "SWITCH ..." "$@": options take a value (--x=value or --x value), switches do
# not. Each sets the variable of its name.
parse() {
  local options=" config config. checkpoint workdir command name $1 " switches=" dry_run $2 "
  local word key value
  shift 2
  while (($#)); do
    word=$1 key=${1%%=*}
    key=${key#--}
    shift
    if [[ $word == --help || $word == -h ]]; then usage && exit; fi
    if [[ $word == "--$key" && $switches == *" $key "* ]]; then
      printf -v "$key" 1
      continue
    fi
    [[ $word == --* && ($options == *" $key "* || $options == *" ${key%%.*}. "*) ]] ||
      fail "unknown option '$word'; see launch/${0##*/} --help."
    if [[ $word == *=* ]]; then
      value=${word#*=}
    else
      [[ ${1---} != --* ]] || fail "$word needs a value."
      value=$1
      shift
    fi
    case $key in
      config.* | checkpoint) program+=("--$key=$value") ;;
      sbatch.*) own+=("--${key#sbatch.}=$value") ;;
      *) printf -v "$key" '%s' "$value" ;;
    esac
  done
  # Commands are shown on descriptor 3: standard output in a dry run, else standard error.
  if [[ $dry_run ]]; then exec 3>&1; else exec 3>&2; fi
}

# Checks what every launcher is given; `config` becomes relative to the repository.
check_run() {
  [[ $config ]] || fail "--config is missing; for example --config=configs/paper/slm.py."
  [[ $workdir ]] ||
    fail "--workdir is missing: the folder of data and checkpoints, which every host must reach."
  [[ $command == train || $command == specialize ]] ||
    fail "--command=$command: must be train or specialize."
  local file=${config%%:*}
  if [[ ! -f $file ]]; then # a config of the package: local/slm_is
    file=${file#configs/}
    file=$root/specialm/configs/${file%.py}.py
  fi
  [[ -f $file ]] || fail "--config=$config: no such file. The given ones are under configs/."
  file=$(cd "$(dirname "$file")" && pwd -P)/${file##*/}
  [[ $file == "$root"/* ]] ||
    fail "--config=$config: lies outside of $root, which is what the hosts get; copy it there."
  local argument=${config#"${config%%:*}"}
  config=${file#"$root"/}$argument
  workdir=${workdir%/}
  if [[ ! $name ]]; then
    name=${file##*/} name=specialm-${name%.py}
    name=${name//_/-}
  fi
  [[ $name =~ ^[a-z]([-a-z0-9]{0,38}[a-z0-9])?$ ]] ||
    fail "--name=$name: must be at most 40 of a-z, 0-9 and '-', starting with a letter."
  program=("$command" "--config=$config" ${program[@]+"${program[@]}"})
}

# Reads --topology=CHIP:SHAPE, as `specialm compile` does; sets chip, shape and chips (a count).
# shellcheck disable=SC2034 # used by the launchers
read_topology() {
  local number='[1-9][0-9]*'
  [[ $topology ]] || fail "--topology is missing; for example --topology=v5e:4x4."
  [[ $topology =~ ^(v5e|v6e):${number}x${number}$ ||
    $topology =~ ^(v4|v5p|tpu7x):${number}x${number}x${number}$ ]] ||
    fail "--topology=$topology: must be CHIP:SHAPE, such as v5e:16x16, v6e:4x4, v4:2x2x4," \
      "v5p:4x4x4 or tpu7x:2x2x2."
  chip=${topology%%:*} shape=${topology#*:}
  chips=$((${shape//x/*}))
  ((chips < 4 ? chips == 1 : chips % 4 == 0)) ||
    fail "--topology=$topology: has $chips chips; hosts have 4, so it must be 1 or a multiple of 4."
}

need() { # the tools that the launch calls; a dry run calls none
  local tool
  [[ $dry_run ]] && return
  for tool; do
    command -v "$tool" > /dev/null ||
      fail "$tool is not on PATH; install it, or see what would be called with --dry_run."
  done
}

show() { printf '+%s\n' "$(printf ' %q' "$@")" >&3; }

run() { # shows a command and, outside of a dry run, calls it
  show "$@"
  [[ $dry_run ]] || "$@"
}

# pack: tracked and new files (not ignored ones) as they are on disk, into `archive`; its hash is
# `version`, so that equal code gets an equal name on every launch.
pack() {
  git -C "$root" rev-parse --git-dir > /dev/null 2>&1 ||
    fail "$root is no git checkout; git says which files are code. Run git init there."
  scratch=$(mktemp -d)
  trap 'rm -rf "$scratch"' EXIT
  git -C "$root" ls-files -z --cached --others --exclude-standard |
    while IFS= read -r -d '' file; do
      if [[ -f $root/$file ]]; then printf '%s\0' "$file"; fi
    done | tar -C "$root" -cf "$scratch/code.tar" --null -T -
  tar -tf "$scratch/code.tar" > "$scratch/names"
  grep -Fxq "${config%%:*}" "$scratch/names" ||
    fail "--config=$config: git ignores this file, so the hosts would not get it."
  version=$(git hash-object --no-filters "$scratch/code.tar" | cut -c1-12)
  archive=$scratch/specialm-$version.tar.gz
  gzip -nc "$scratch/code.tar" > "$archive"
}
