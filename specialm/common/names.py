"""Names that become parts of paths."""

import re


def is_name(name: str) -> bool:
    """Whether a name can be a part of a path and does not lead anywhere else."""
    return bool(re.fullmatch(r"[^\W.][\w .+-]*", name))
