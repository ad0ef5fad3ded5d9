"""The models of a server: parameters, vocabulary, a worker, scores of texts."""

from dataclasses import dataclass, field
from functools import partial

import numpy as np

from specialm.common.errors import UserError
from specialm.data.vocabularies import Vocabulary
from specialm.models import families
from specialm.models.config import Config
from specialm.serving import generate
from specialm.serving.decoding.engine import Engine
from specialm.serving.decoding.sampling import Sampling
from specialm.serving.decoding.scoring import Scorer
from specialm.serving.server.limits import Limits, Refused
from specialm.serving.server.worker import Worker
from specialm.training import runs


@dataclass
class Served:
    """One model."""

    name: str
    config: Config
    vocabulary: Vocabulary
    worker: Worker
    created: int  # seconds since the epoch
    about: dict = field(default_factory=dict)

    @property
    def has_chat(self) -> bool:
        """Whether it holds conversations."""
        return self.vocabulary.chat_template is not None

    async def score(self, text: str) -> list[tuple[bytes, float]]:
        """(bytes, -log2 p) of each token of a text, and at last of its end (no bytes)."""
        tokens = [*self.vocabulary.encode([text])[0], self.vocabulary.eos]
        contents = self.vocabulary.token_bytes
        found: list[tuple[bytes, float]] = []
        for first in range(0, len(tokens), self.config.context):
            window = tokens[first : first + self.config.context]
            bits = await self.worker.call(partial(self._bits, window))
            found += zip((contents[token] for token in window), bits.tolist(), strict=True)
        return found

    def _bits(self, window: list[int]) -> np.ndarray:
        scorer = Scorer(self.worker.engine.params, self.config, self.vocabulary.start)
        return scorer.nats(window) / np.log(2)


class Models:
    """Those of a server, by name; the first one is the default."""

    def __init__(self, models: list[Served]):
        self._models = {model.name: model for model in models}

    def __iter__(self):
        return iter(self._models.values())

    def get(self, name: str) -> Served:
        """The model of this name; "" for the first.

        Raises:
          Refused: there is none (404).
        """
        if not name:
            return next(iter(self))
        if name not in self._models:
            raise Refused(404, f"no model {name!r}; there are {', '.join(self._models)}.", "model")
        return self._models[name]


def served(name: str, model: runs.Model, limits: Limits) -> Served:
    """A model, ready to work.

    Raises:
      UserError: it is not causal.
    """
    config, vocabulary = families.dense(model.config), model.vocabulary
    engine = generate.engine(model.params, config, vocabulary, limits.rows)

    def open_engine() -> Engine:
        return engine.anew()

    record = model.record
    about = {key: record[key] for key in ("method", "domain", "seed") if key in record}
    created = int((model.path / "model.json").stat().st_mtime)
    return Served(name, config, vocabulary, Worker(open_engine, limits.waiting), created, about)


def warm_up(model: Served) -> None:
    """Compiles what a first request needs, before it comes."""
    engine = model.worker.engine.anew()
    for _ in range(2):
        generate.complete(engine, [[model.vocabulary.start]], Sampling(tokens=2, temperature=1.0))


def names_of(paths: list[str]) -> list[str]:
    """A name for each run folder: the last part of its path, with a number if it is there twice.

    Raises:
      UserError: there is none.
    """
    if not paths:
        raise UserError("--checkpoint is missing: the folder of a trained model.")
    names: list[str] = []
    for path in paths:
        name, count = path.rstrip("/").rpartition("/")[2], 1
        while (unique := name if count == 1 else f"{name}-{count}") in names:
            count += 1
        names.append(unique)
    return names
