"""What is installed only on request: the extras of setup.cfg, and the error without one."""

import importlib
import sys
from typing import Any

from specialm.common.errors import UserError


def load(module: str, extra: str, what: str) -> Any:
    """Returns a module that comes with an extra.

    Args:
      module: its name.
      extra: in setup.cfg.
      what: needs it, for the message.

    Raises:
      UserError: it is not installed; the message says how to.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise UserError(
            f"{what} needs the extra {extra!r} (there is no module {error.name!r}): {how(extra)}."
        ) from error


def how(extra: str) -> str:
    """How an extra is installed: from specialm's folder, as no package index has specialm."""
    if extra == "seqio" and sys.version_info >= (3, 14):
        return "TensorFlow has no release for Python 3.14; use Python 3.11 to 3.13"
    return f"run `pip install '.[{extra}]'` in the folder of specialm's source"
