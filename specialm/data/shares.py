"""Where the text of a window store comes from: does its held-out text represent the rest?"""

import collections

import numpy as np

from specialm.data.store import WindowStore

SHOWN = 24  # sources by name; the smaller ones are taken together
MOST_DOCUMENTS = 5_000_000  # the names of more are not read
OTHERS = "others"


def source_of(name: str) -> str:
    """The file of rows, or the folder, that a document's name begins with."""
    place = name.partition(":")[0]
    return place.rpartition("/")[0] or place


def by_source(train: WindowStore, heldout: WindowStore) -> list[dict]:
    """Return [{source, train, heldout}]: each source's share of the text of both, the largest
    first; [] where there are more than `MOST_DOCUMENTS`.
    """
    stores = {"train": train, "heldout": heldout}
    if sum(store.index["documents"] for store in stores.values()) > MOST_DOCUMENTS:
        return []
    sizes = {name: _bytes_of(store) for name, store in stores.items()}
    ranked = [source for source, _ in sum(sizes.values(), collections.Counter()).most_common()]
    named = ranked if len(ranked) <= SHOWN + 1 else ranked[:SHOWN]
    found = [{"source": source, **{n: s[source] for n, s in sizes.items()}} for source in named]
    if len(named) < len(ranked):
        rest = {name: sum(size[s] for s in ranked[SHOWN:]) for name, size in sizes.items()}
        found.append({"source": OTHERS, **rest})
    for name, size in sizes.items():
        for row in found:
            row[name] /= max(size.total(), 1)
    return found


def farthest(shares: list[dict]) -> float:
    """Return the largest difference between a source's shares of training and held-out text."""
    return max((abs(row["train"] - row["heldout"]) for row in shares), default=0.0)


def _bytes_of(store: WindowStore) -> collections.Counter:
    bytes_d = np.bincount(store.document_N, store.bytes_N, store.index["documents"])
    sizes: collections.Counter = collections.Counter()
    for (name, _), size in zip(store.documents, bytes_d, strict=True):
        sizes[source_of(name)] += int(size)
    return sizes


def lines(shares: list[dict], set_name: str = "generic") -> list[str]:
    """For people."""
    if len(shares) < 2:
        return []
    return [
        f"{set_name + ' by source':40} {'training':>9} {'held out':>9}",
        *(f"{row['source'][:40]:40} {row['train']:9.1%} {row['heldout']:9.1%}" for row in shares),
    ]
