"""Generic text mixed into fine-tuning, against forgetting: `finetune.replay_fraction`.

This fraction of every batch is of the generic text, the rest of the specialist's, each in shuffled
epochs of its own (Ibrahim et al., arXiv 2403.08763, replay some percent of the former text in
continued pretraining). Which generic windows: `finetune.replay_draws`, workflows/replaying.py.
"""

from ml_collections import ConfigDict

from specialm.common.errors import UserError
from specialm.data.mixed import Joined, Shares
from specialm.data.sampler import Sampler
from specialm.data.store import WindowStore
from specialm.specialize import finetune
from specialm.specialize.finetune import Draws, Specialist


def draws(
    specialist: Specialist,
    generic: WindowStore,
    of_generic: Sampler,
    train: ConfigDict,
    tune: ConfigDict,
    seed: int,
) -> Draws:
    """What is drawn from both.

    Args:
      generic: the generic training windows.
      of_generic: the order in which they are replayed.

    Raises:
      UserError: what a teacher said of the specialist's windows alone is stored.
    """
    if tune.distill_top_k:
        raise UserError(
            f"finetune.replay_fraction={tune.replay_fraction}: a teacher whose probabilities are "
            f"stored (finetune.distill_top_k={tune.distill_top_k}) has read the domain's windows "
            "alone; set one of both to 0."
        )
    own = Sampler(len(specialist.train_indices), tune.batch_size, seed)
    return Draws(
        Shares(of_generic, own, tune.replay_fraction, tune.batch_size),
        finetune.settings(train, tune),
        finetune.REMEDY,
        Joined(generic, specialist.train_store, specialist.train_indices),
        1 - tune.replay_fraction,
    )
