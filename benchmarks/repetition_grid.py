"""The grid of benchmarks.repetition: sizes, ways to draw, and which cells to run next.

A block is a part of the grid; blocks stand in the order in which they are worth having. Rates are
chosen on validation text: the first seed runs all rates of the block, and a method's other seeds
the one with the lowest mean over the domains.
"""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence

import numpy as np

SIZES = {
    "0.2M": (),  # configs/local/slm.py: 2 layers, d 64, vocabulary 1,024, context 128
    "1M": (
        "model.num_layers=4",
        "model.d_model=128",
        "model.d_ff=576",
        "data.vocabulary_size=2048",
        "data.context=256",
        "train.batch_size=32",
    ),
}
DOMAINS = ("med", "books", "ency")
SEVEN = (*DOMAINS, "legal", "math", "dialog", "theology")  # all that have a licence
CORPORA = {  # name -> changes; rows of `first` have the default corpus as it was with
    "default": (),  # TensorFlow's documentation instead of Keras's, and GPT-2's parts
    "wide": ("data.generic=corpora:generic_wide",),
    # The default corpus with more domains; a seed varies the clusters too.
    "seven": tuple(f"data.domains.{name}=corpora:{name}" for name in SEVEN),
}
PUBLISHED = "clustering.max_repetitions=0.0"  # importance sampling without a cap
METHODS = {  # name -> changes of the config of importance sampling
    "slm": ("method=slm",),
    "slm_is": (PUBLISHED,),
    "cap1": ("clustering.max_repetitions=1.0",),
    "cap2": ("clustering.max_repetitions=2.0",),
    "cap4": ("clustering.max_repetitions=4.0",),
    "cap8": ("clustering.max_repetitions=8.0",),
    "smoothing0.5": (PUBLISHED, "clustering.smoothing=0.5"),
    "power0.5": (PUBLISHED, "clustering.power=0.5"),
    "k64": (PUBLISHED, "clustering.k=64"),
    "late0.5": (PUBLISHED, "train.importance_start=0.5"),
    "level1": (  # 16 clusters, the coarser level of a tree of 256
        PUBLISHED,
        "clustering.method=tree",
        "clustering.branching=(16, 16)",
        "clustering.level=1",
    ),
    "early": (PUBLISHED, "train.valid_every=50"),  # ends by the specialist's validation loss
    "auto": ("clustering.max_repetitions=auto",),
}
MAIN = ("slm", "slm_is", "cap8")
OTHERS = tuple(method for method in METHODS if method not in MAIN)


@dataclasses.dataclass(frozen=True)
class Cell:
    """One row."""

    corpus: str
    size: str
    tokens: int
    method: str
    learning_rate: float
    domain: str
    seed: int


@dataclasses.dataclass(frozen=True)
class Block:
    """A part of the grid: seed after seed, so that a part that is cut short has all methods."""

    corpus: str
    size: str
    tokens: int
    methods: Sequence[str]
    rates: Sequence[float]
    seeds: Sequence[int]
    domains: Sequence[str] = DOMAINS

    def cells(self, rows: Sequence[dict]) -> Iterator[Cell]:
        """Its cells. Ask for the next one when those before have their rows."""
        for seed, method in itertools.product(self.seeds, self.methods):
            rates = self.rates if seed == self.seeds[0] else [self.best_rate(method, rows)]
            for rate, domain in itertools.product(rates, self.domains):
                yield Cell(self.corpus, self.size, self.tokens, method, rate, domain, seed)

    def best_rate(self, method: str, rows: Sequence[dict]) -> float:
        """Of its first seed's rows."""
        key = (self.corpus, self.size, self.tokens, method)
        return self.rates[0] if len(self.rates) == 1 else best_rates(rows)[key]

    def count(self) -> int:
        """How many cells it has."""
        return len(self.methods) * len(self.domains) * (len(self.rates) + len(self.seeds) - 1)


GRID = (
    Block("default", "1M", 20_000_000, MAIN, (3e-3, 6e-3, 12e-3), (0, 1, 2)),
    Block("default", "0.2M", 4_000_000, MAIN, (4e-3, 8e-3, 16e-3), (0, 1, 2)),
    Block("default", "0.2M", 20_000_000, MAIN, (4e-3, 8e-3, 16e-3), (0, 1, 2)),
    Block("default", "1M", 20_000_000, OTHERS, (6e-3,), (0,)),
    Block("default", "1M", 4_000_000, MAIN, (3e-3, 6e-3, 12e-3), (0, 1, 2)),
    Block("wide", "1M", 20_000_000, MAIN, (6e-3,), (0,)),
    Block("default", "0.2M", 4_000_000, OTHERS, (8e-3,), (0, 1, 2)),
    Block("seven", "0.2M", 4_000_000, MAIN, (8e-3,), (0, 1, 2, 3, 4), SEVEN),
    Block("seven", "1M", 20_000_000, ("slm", "cap8"), (6e-3,), (0, 1, 2), SEVEN),
    Block("default", "0.2M", 20_000_000, OTHERS, (8e-3,), (0,)),
    Block("default", "1M", 60_000_000, MAIN, (6e-3,), (0,)),
    Block("default", "0.2M", 60_000_000, MAIN, (8e-3,), (0,)),
    Block("wide", "1M", 60_000_000, MAIN, (6e-3,), (0,)),
    Block("seven", "0.2M", 20_000_000, MAIN, (8e-3,), (0, 1, 2, 3, 4), SEVEN),
)


def find(cell: Cell, rows: Sequence[dict]) -> dict | None:
    """The latest row of a cell."""
    wanted = dataclasses.asdict(cell)
    return next((row for row in reversed(rows) if wanted.items() <= row.items()), None)


def best_rates(rows: Sequence[dict]) -> dict[tuple[str, str, int, str], float]:
    """{(corpus, size, tokens, method): the rate with the lowest validation score after
    fine-tuning, mean over the domains of the first seed}; rates without all domains do not count.
    """
    groups: dict[tuple, dict[float, dict[str, float]]] = {}
    for row in rows:
        if row["seed"] == 0:
            key = (row["corpus"], row["size"], row["tokens"], row["method"])
            rates = groups.setdefault(key, {}).setdefault(row["learning_rate"], {})
            rates[row["domain"]] = row["valid_after"]
    best = {}
    for key, rates in groups.items():
        most = max(len(scores) for scores in rates.values())
        whole = {
            rate: np.mean([*scores.values()])
            for rate, scores in rates.items()
            if len(scores) == most
        }
        best[key] = min(whole, key=whole.__getitem__)
    return best


def at_best_rates(rows: Sequence[dict]) -> list[dict]:
    """The rows of each method's chosen rate."""
    best = best_rates(rows)
    return [
        row
        for row in rows
        if row["learning_rate"] == best[row["corpus"], row["size"], row["tokens"], row["method"]]
    ]


def work_of(cell: Cell) -> float:
    """What a cell takes, in any unit: parameters times tokens, fine-tuning included."""
    return float(cell.size.rstrip("M")) * (cell.tokens + 600_000)


def work_left(blocks: Sequence[Block], rows: Sequence[dict]) -> float:
    """Of all cells without a row; in the unit of `work_of`. Rates not chosen yet count alike."""
    left = 0.0
    for block in blocks:
        cell = Cell(block.corpus, block.size, block.tokens, "", 0.0, "", 0)
        names = ("corpus", "size", "tokens")
        done = {
            tuple(row[field.name] for field in dataclasses.fields(Cell))
            for row in rows
            if all(row[name] == getattr(block, name) for name in names)
            and row["method"] in block.methods
            and row["seed"] in block.seeds
        }
        left += work_of(cell) * max(0, block.count() - len(done))
    return left
