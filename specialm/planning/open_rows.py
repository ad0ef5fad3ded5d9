"""What rows of open checkpoints say of one that goes on from there: `benchmarks/open_model.py`.

They are of one checkpoint, so no law of sizes is fitted. On every domain it is measured how many
bits per byte the model needs for one of an n-gram model's (`domain_text.py`); of another domain the
n-gram model's bits are known, and the ratio is forecast to be the mean of the measured ones, with
Student's t over the domains.
"""

import statistics
from dataclasses import dataclass

import numpy as np

from specialm.planning import evidence

LEAST_DOMAINS = 2  # of one alone nothing is known of others


@dataclass(frozen=True)
class Measured:
    """A way to go on from the checkpoint, with one number of tokens.

    Attributes:
      tokens: that it went on with, before fine-tuning.
      log_ratio, deviation: ln (bits per byte / those of the n-gram model), over the domains.
      domains: that were measured.
      params, served_bytes: of the model that is served.
      flops, seconds: of all that was trained for one domain, mean.
      text: (bytes of specialist text, bits per byte of the n-gram model) of every row.
    """

    tokens: int
    log_ratio: float
    deviation: float
    domains: int
    params: float
    served_bytes: float
    flops: float
    seconds: float
    text: tuple[tuple[int, float], ...]

    def draws(self, ngram_bits: float, count: int, generator: np.random.Generator) -> np.ndarray:
        """ln bits per byte [count] of another domain: Student's t for a new value, as the mean is
        not known better than its domains say.

        Args:
          ngram_bits: bits per byte of the n-gram model of it.
        """
        spread = self.deviation * (1 + 1 / self.domains) ** 0.5
        noise_o = generator.standard_t(self.domains - 1, size=count)
        return np.log(ngram_bits) + self.log_ratio + spread * noise_o


def measured(method: str, kind: str) -> list[Measured]:
    """Those of a method, one for every number of tokens that has rows of enough domains.

    Args:
      kind: the n-gram figure, own or mixed.
    """
    found: dict[int, list[dict]] = {}
    for row in evidence.table().get("open", ()):
        if row["method"] == method:
            found.setdefault(row["tokens"], []).append(row)
    made = [_of(tokens, rows, kind) for tokens, rows in sorted(found.items())]
    return [one for one in made if one.domains >= LEAST_DOMAINS]


def _of(tokens: int, rows: list[dict], kind: str) -> Measured:
    of_domain: dict[str, list[float]] = {}
    for row in rows:
        ratio = float(np.log(row["bits_per_byte"] / row[kind]))
        of_domain.setdefault(row["domain"], []).append(ratio)
    ratios = [statistics.mean(each) for each in of_domain.values()]
    mean = {
        name: statistics.mean(row[name] for row in rows)
        for name in ("params", "served_bytes", "train_flops", "seconds")
    }
    return Measured(
        tokens=tokens,
        log_ratio=statistics.mean(ratios),
        deviation=statistics.stdev(ratios) if len(ratios) > 1 else 0.0,
        domains=len(ratios),
        params=mean["params"],
        served_bytes=mean["served_bytes"],
        flops=mean["train_flops"],
        seconds=mean["seconds"],
        text=tuple((row["specialist_bytes"], row[kind]) for row in rows),
    )
