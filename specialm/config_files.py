"""Where a config file is: a path of the user's, or the name of one that comes with specialm."""

import difflib
from pathlib import Path

from specialm.common.errors import UserError

SHIPPED = Path(__file__).parent / "configs"


def names() -> list[str]:
    """Names of the shipped configs: "local/bank", ..., "paper/soup"."""
    files = sorted(SHIPPED.glob("*/*.py"))
    return [f"{file.parent.name}/{file.stem}" for file in files if not file.stem.startswith("__")]


def find(config: str) -> str:
    """Returns the path of a config, `:ARGUMENT` for its `get_config` included if one is given.

    Args:
      config: the path of a file, or a shipped config: `local/slm_is`, with `.py` or without, and
        with `configs/` before it or without. A file of the user's comes first.

    Raises:
      UserError: there is neither.
    """
    given, colon, argument = config.partition(":")
    if not Path(given).is_file():
        given = str(_shipped(given))
    return f"{given}{colon}{argument}"


def _shipped(given: str) -> Path:
    name = given.removeprefix("./").removeprefix("configs/").removesuffix(".py")
    if name in names():
        return SHIPPED / f"{name}.py"
    near = difflib.get_close_matches(name, names(), n=1)
    hint = f" Did you mean {near[0]}?" if near else ""
    raise UserError(
        f"--config={given}: no such file, nor is it a config that comes with specialm, such as "
        f"local/slm_is.{hint} Those are in {SHIPPED}."
    )
