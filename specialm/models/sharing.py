"""Weight sharing: which stored weights each layer uses. Numbers alone, without JAX.

`model.share` is a tuple of entries PART:PATTERN or PART:PATTERN+low_rank:

    PART     mlp | attention | attention_output | block (all of a layer, its norms too)
    PATTERN  all       every layer uses the same weights
             inner     all layers but the first and the last use the same
             cycle-N   N sets one after the other, again and again (a loop over N blocks)
             repeat-N  N sets, each in consecutive layers

With `+low_rank` every layer adds a correction of its own, of rank `model.share_rank`, to each
matrix that it shares. Sources: MLPs and low-rank corrections arXiv 2405.14159, loops of blocks
arXiv 2410.20672 (with such corrections), consecutive layers arXiv 2402.14905.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from specialm.common.errors import UserError

Path = tuple[str, ...]  # of a tensor in a layer, such as ("mlp", "up")
OUTPUT = (("attention", "out"), ("attention", "out_bias"))
# Part -> whether it has a tensor.
PARTS: dict[str, Callable[[Path], bool]] = {
    "mlp": lambda path: path[0] == "mlp",
    "attention": lambda path: path[0] == "attention",
    "attention_output": lambda path: path in OUTPUT,
    "block": lambda path: True,
}
# Pattern -> (layers, N) -> the stored set of each layer.
SHARINGS: dict[str, Callable[[int, int], tuple[int, ...]]] = {
    "all": lambda layers, n: (0,) * layers,
    "inner": lambda layers, n: (0, *(1,) * (layers - 2), 2),
    "cycle-N": lambda layers, n: tuple(y % n for y in range(layers)),
    "repeat-N": lambda layers, n: tuple(y * n // layers for y in range(layers)),
}
ENTRY = re.compile(r"(?P<part>\w+):(?P<pattern>[a-z]+)(-(?P<n>\d+))?(?P<low_rank>\+low_rank)?")
SYNTAX = (
    f"PART:PATTERN or PART:PATTERN+low_rank, PART one of {', '.join(PARTS)}, PATTERN one of "
    f"{', '.join(SHARINGS)}"
)


@dataclass(frozen=True)
class Share:
    """One entry of `model.share`."""

    part: str
    rows: tuple[int, ...]  # of each layer: the stored set that it uses
    low_rank: bool  # whether each layer corrects it

    @property
    def sets(self) -> int:
        """How many are stored."""
        return max(self.rows) + 1

    def has(self, path: Path) -> bool:
        """Whether it is about this tensor of a layer."""
        return PARTS[self.part](path)


def parse(model: Any) -> tuple[Share, ...]:
    """The entries of an architecture.

    Args:
      model: has `share` and `num_layers`: a `models.config.Config`, or the settings `model`.

    Raises:
      UserError: an entry that means nothing, or does not fit the layers.
    """
    return tuple(_entry(text, model.num_layers) for text in model.share)


def _entry(text: str, layers: int) -> Share:
    found = ENTRY.fullmatch(text)
    name = "" if not found else found["pattern"] + ("-N" if found["n"] else "")
    if not found or found["part"] not in PARTS or name not in SHARINGS:
        raise UserError(f"model.share={text!r}: must be {SYNTAX}.")
    n = int(found["n"] or 1)
    if not 1 <= n <= layers:
        raise UserError(
            f"model.share={text!r}: there are model.num_layers={layers} layers to share "
            f"{n} sets; choose 1 to {layers}."
        )
    if name == "inner" and layers < 3:
        raise UserError(
            f"model.share={text!r}: model.num_layers={layers} leaves no two layers between the "
            "first and the last; choose 'all', or at least 4 layers."
        )
    return Share(found["part"], SHARINGS[name](layers, n), bool(found["low_rank"]))


def check(model: Any) -> None:
    """Raises UserError as `parse`, and for two entries about the same weights."""
    shares = parse(model)
    for path in (("mlp", "up"), ("attention", "qkv"), OUTPUT[0]):
        parts = [text for text, share in zip(model.share, shares, strict=True) if share.has(path)]
        if len(parts) > 1:
            raise UserError(
                f"model.share={tuple(model.share)}: {' and '.join(parts)} are both about "
                f"{'.'.join(path)}; leave one out."
            )


def of(path: Path, model: Any) -> Share | None:
    """What is shared of a tensor; None if every layer stores its own."""
    return next((share for share in parse(model) if share.has(path)), None)


def rows(part: str, model: Any) -> tuple[int, ...]:
    """The stored set of a part that each layer uses: its own number where nothing is shared.

    Args:
      part: "mlp", or another all of whose tensors are shared in one way.
    """
    share = of((part, ""), model)
    return share.rows if share else tuple(range(model.num_layers))


def fewest(model: Any) -> int:
    """The sets that are stored of the part of which the fewest are."""
    return min([share.sets for share in parse(model)], default=model.num_layers)
