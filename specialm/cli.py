"""The `specialm` command: it reads the command line, prints help, and says how a command ended.

Everything heavy is imported only when a command runs, so that the help answers at once, and signals
are seen to before anything else is imported.
"""

import argparse
import importlib
import os
import select
import sys
from collections.abc import Sequence
from typing import Any, TextIO

from specialm.command_table import COMMANDS, NONE, OPTIONAL, REQUIRED, Command, Option
from specialm.common import signals
from specialm.common.errors import UserError

CONFIG = "--config"

HEAD = """specialm: small specialised language models from generic and a little specialist text.

usage: specialm COMMAND --config=FILE [--config.FIELD=VALUE ...] [--workdir=DIR] [--json]
"""
FOOT = """
Options of every command (more, and an example: specialm COMMAND --help):
  --config=PATH            a config file; --config.model.d_model=256 overrides a setting
  --workdir=DIR            where stages and models go (default runs/NAME of the config file)
  --json                   print the result as JSON on standard output

Example: specialm demo --workdir=runs/demo
"""

# Commands that, killed and given again, go on from what is finished.
GO_ON = (
    *("fetch", "prepare", "weights", "train", "specialize", "evaluate", "adapt", "transfer"),
    *("demo", "study"),
)


def main(argv: list[str] | None = None) -> int:
    """Runs one command. Exit status 0; 2 when the user has to change something; 130 or 143 after a
    signal; 141 when nobody reads on.
    """
    try:
        status = _main(list(sys.argv[1:] if argv is None else argv))
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        if not any(_is_closed(stream) for stream in (sys.stdout, sys.stderr)):
            raise
        return _closed_pipe()


def _main(argv: list[str]) -> int:
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(_help())
        return 0
    if argv[0] == "--version":
        from specialm import __version__

        print(__version__)
        return 0
    signals.install(goes_on=argv[0] in GO_ON)
    try:
        return _run(argv[0], argv[1:])
    except UserError as error:
        print(f"specialm: {error}", file=sys.stderr)
        return 2
    except signals.Interrupted as stopped:
        print(signals.message(stopped.number, stopped.saved), file=sys.stderr)
        return stopped.status
    except Exception as error:
        from specialm.common import disk

        if not disk.is_full(error):
            raise
        print(f"specialm: {disk.full(_workdir(argv))}", file=sys.stderr)
        return 2


def _workdir(argv: list[str]) -> str:
    """Where a command writes, for what was not said more exactly."""
    given = [word.partition("=")[2] for word in argv if word.startswith("--workdir=")]
    return given[-1] if given else "."


def _is_closed(stream: TextIO) -> bool:
    """Whether a stream is a pipe that nobody reads any more."""
    if not hasattr(select, "poll"):
        return True
    poll = select.poll()
    poll.register(stream, 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


def _closed_pipe() -> int:
    """What reads our output has had enough, `head` for example: the rest goes nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        if _is_closed(stream):
            os.dup2(nowhere, stream.fileno())
    return 141  # 128 + SIGPIPE, as a shell has it


def _help() -> str:
    width = 2 + max(map(len, COMMANDS))
    lines = [f"  {name:{width}} {command.summary}" for name, command in COMMANDS.items()]
    return "\n".join([HEAD, *lines, FOOT])


def _run(name: str, argv: list[str]) -> int:
    if name not in COMMANDS:
        from specialm.common.setting import near

        raise UserError(f"no command {name!r}.{near(name, list(COMMANDS))} See specialm --help.")
    command = COMMANDS[name]
    if "--help" in argv or "-h" in argv:
        print(_parser(name, command, []).format_help())
        return 0
    options, config_path, overrides = parse(name, argv)
    from specialm.common import processes, runtime

    runtime.configure()
    module, _, function = command.function.partition(".")
    work = getattr(importlib.import_module(f"specialm.commands.{module}"), function)
    result, text = work(config_path, overrides, options)
    if processes.is_first():
        from specialm.common import files

        print(files.to_json(result, 1) if options["json"] else text)
    return 0


def parse(name: str, argv: Sequence[str]) -> tuple[dict[str, Any], str, list[str]]:
    """(options, config path, config overrides) of a command's words.

    Raises:
      UserError: an unknown option (the nearest is named), a value that is missing or wrong.
    """
    command = COMMANDS[name]
    fields = [word.partition("=")[0] for word in argv if word.startswith(f"{CONFIG}.")]
    parser = _parser(name, command, fields)
    try:
        parsed, unknown = parser.parse_known_args(argv)
    except argparse.ArgumentError as error:
        missing = "expected one argument" in error.message
        what = " needs a value" if missing else error.message
        raise UserError(f"{name}: {error.argument_name}{what}.") from error
    options = vars(parsed)
    if unknown:
        raise UserError(_unknown(name, unknown[0], options))
    config_path, overrides = options.pop("config"), options.pop("overrides") or []
    if command.config == NONE and (config_path or overrides):
        raise UserError(f"{name}: reads no config; leave out {fields[0] if fields else CONFIG}.")
    return options, config_path, overrides


def _unknown(name: str, word: str, options: dict[str, Any]) -> str:
    from specialm.common.setting import near

    hint = near(word.partition("=")[0], [f"--{each}" for each in options])
    return f"{name}: unknown option {word!r}.{hint} See specialm {name} --help."


def _parser(name: str, command: Command, fields: list[str]) -> argparse.ArgumentParser:
    """The parser of a command's options.

    Args:
      fields: the overrides that are there, as "--config.train.tokens".
    """
    parser = argparse.ArgumentParser(
        prog=f"specialm {name}",
        usage=_usage(name, command),
        description=command.text,
        epilog=_epilog(command),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        exit_on_error=False,
    )
    configured = command.config != NONE
    config_help = "a config file" if configured else argparse.SUPPRESS
    parser.add_argument(CONFIG, default="", metavar="PATH", help=config_help)
    for field in dict.fromkeys(fields):
        parser.add_argument(
            field, action=_Override, dest="overrides", help=argparse.SUPPRESS, default=None
        )
    parser.set_defaults(overrides=None)
    for option in (*command.options, *_common(command)):
        _add(parser, option)
    return parser


def _common(command: Command) -> tuple[Option, Option]:
    default = " (default runs/NAME of the config file)" if command.config != NONE else ""
    return (
        Option("workdir", "", f"where stages and models go{default}"),
        Option("json", False, "print the result as JSON on standard output"),
    )


def _add(parser: argparse.ArgumentParser, option: Option) -> None:
    default = f" (default {option.default})" if option.default else ""
    kind: dict[str, Any] = {"metavar": "...", "type": str}
    if isinstance(option.default, bool):
        kind = {"nargs": "?", "const": True, "type": _truth, "metavar": "BOOL"}
    elif isinstance(option.default, int):
        kind = {"type": _whole, "metavar": "N"}
    elif isinstance(option.default, tuple):
        kind = {"action": _Each, "metavar": "..."}
    elif option.alone:
        kind |= {"nargs": "?", "const": option.alone}
    parser.add_argument(
        f"--{option.name}", default=option.default, help=option.help + default, **kind
    )


class _Each(argparse.Action):
    """Collects the values of an option that is given several times."""

    def __call__(self, parser, namespace, values, option_string=None):
        setattr(namespace, self.dest, (*getattr(namespace, self.dest), values))


class _Override(argparse.Action):
    """Collects "--config.FIELD=VALUE", in their order."""

    def __call__(self, parser, namespace, values, option_string=None):
        namespace.overrides = [*(namespace.overrides or []), f"{option_string}={values}"]


def _truth(text: str) -> bool:
    return text.lower() not in ("false", "0")


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"={text}: must be a whole number") from None


def _usage(name: str, command: Command) -> str:
    config = {
        REQUIRED: " --config=PATH [--config.FIELD=VALUE ...]",
        OPTIONAL: " [--config=PATH] [--config.FIELD=VALUE ...]",
        NONE: "",
    }[command.config]
    own = "".join(f" [--{option.name}{_value(option)}]" for option in command.options)
    return f"specialm {name}{config}{own} [--workdir=DIR] [--json]"


def _value(option: Option) -> str:
    if option.alone:
        return "[=...]"
    return "" if isinstance(option.default, bool) else "=..."


def _epilog(command: Command) -> str:
    lines = [f"example:\n  {command.example}"]
    if command.settings:
        lines.append(
            f"settings that it reads:\n  {', '.join(command.settings)}\n"
            "  (specialm settings --name=SECTION describes those of a section)"
        )
    return "\n\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
