"""Maps from a dense model to one of other sizes: a start for training. One file each.

A map is `apply(params, source, target, noise)` -> parameters of `target`, NumPy arrays, and
`check(source, target)`, which raises UserError for sizes that it cannot give. docs/open_models.md,
"Other sizes", says what each is good for.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from specialm.models.config import Config
from specialm.models.maps import first_layers, hypercloning, selection


@dataclass(frozen=True)
class Map:
    """A way to other sizes."""

    check: Callable[[Config, Config], None]
    apply: Callable[[Any, Config, Config, float], Any]


# specialm init --method
MAPS = {
    "selection": Map(selection.check, selection.apply),
    "hypercloning": Map(hypercloning.check, hypercloning.apply),
    "first_layers": Map(first_layers.check, first_layers.apply),
}
