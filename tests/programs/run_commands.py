"""Runs commands of `specialm` one after the other: python run_commands.py JSON, a list of argument
lists. The exit status is that of the last one; one that fails before ends it."""

import json
import sys

from specialm import cli


def main(commands: str) -> int:
    status = 0
    for command in json.loads(commands):
        status = status or cli.main(command)
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
