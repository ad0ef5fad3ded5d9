"""Which generic windows fine-tuning replays: all alike, or by the domain's importance weights."""

import copy
import math
from dataclasses import dataclass, replace

from ml_collections import ConfigDict

from specialm import methods
from specialm.common.errors import UserError
from specialm.data.sampler import Sampler
from specialm.data.store import WindowStore
from specialm.specialize import replay
from specialm.specialize.finetune import Draws, Specialist
from specialm.workflows import repeats
from specialm.workflows.pipeline import Run

# finetune.replay_draws -> the method whose draws of the generic windows they are.
DRAWN_AS = {"uniform": methods.BASE, "importance": methods.IMPORTANCE}


@dataclass(frozen=True)
class Replayed:
    """What a fine-tuning reads of both texts.

    Attributes:
      draws: of both.
      inputs: what identifies the generic windows, besides settings and seed.
      notes: for people.
    """

    draws: Draws
    inputs: list[str]
    notes: list[str]


def replayed(run: Run, part: Specialist, tune: ConfigDict, seed: int, title: str) -> Replayed:
    """The draws of a fine-tuning with `finetune.replay_fraction`.

    Importance weights are those of a pretraining of as many windows as are replayed at most: within
    `clustering.max_repetitions`, of which so few use little.

    Args:
      tune: `config.finetune`, with the steps that it takes at most.

    Raises:
      UserError: there is no generic text here; see `replay.draws`.
    """
    generic = _generic(run, tune)
    method = DRAWN_AS[tune.replay_draws]
    likewise = replace(run, config=_as_pretraining(run, part.domain, tune))
    source = repeats.source(likewise, method, part.domain)
    sampler = methods.sampler(likewise.config, method, source, seed)
    assert isinstance(sampler, Sampler), "no draws come before others"
    notes = []
    if tune.replay_draws != "uniform":
        found = repeats.of(likewise, method, part.domain, seed, source)
        notes = repeats.lines(found, f"{title}, generic text")
    key = methods.get(method).draws.key(likewise.config, source, seed)
    draws = replay.draws(part, generic, sampler, run.config.train, tune, seed)
    return Replayed(draws, [generic.fingerprint, *key], notes)


def _as_pretraining(run: Run, domain: str, tune: ConfigDict) -> ConfigDict:
    """The config with which a pretraining draws what is replayed, and nothing else."""
    config = copy.deepcopy(run.config).unlock()
    if methods.get(DRAWN_AS[tune.replay_draws]).draws.aims:
        with config.ignore_type():  # a number in the place of `auto`, which pretraining settles
            config.clustering.max_repetitions = run.cap(domain)
    windows = math.ceil(tune.max_steps * tune.batch_size * tune.replay_fraction)
    config.train.update(
        batch_size=tune.batch_size,
        tokens=windows * config.data.context,
        importance_start=0.0,
        replay_fraction=0.0,
        specialist_fraction=0.0,
    )
    return config.lock()


def _generic(run: Run, tune: ConfigDict) -> WindowStore:
    """The generic windows that fine-tuning replays.

    Raises:
      UserError: they are not here.
    """
    if "train" not in run.prepared.generic_splits:
        raise UserError(
            f"finetune.replay_fraction={tune.replay_fraction}: there is no generic text here to "
            "replay; give it with --generic=corpora:generic or any other source, or the --config "
            "that the model was trained with."
        )
    return run.prepared.generic
