"""`train.feed` as pretraining uses it: which stream of windows takes the place of the store."""

from specialm import methods
from specialm.common import processes
from specialm.common.errors import UserError
from specialm.data import feeds
from specialm.data.feeds import Own
from specialm.data.mixed import Joined
from specialm.data.sampler import BatchSampler
from specialm.data.store import WindowStore
from specialm.data.stream import Stream
from specialm.draws import Uniform
from specialm.training import loop
from specialm.workflows.pipeline import Run


def own(run: Run, method: str, domain: str, seed: int) -> Own | None:
    """The user's Task or Mixture that `train.feed` names; None if it names none.

    Raises:
      UserError: see `feeds.own`; or the method has draws of its own, which a Mixture replaces.
    """
    config = run.config
    feed, train, data = config.train.feed, config.train, config.data
    if not feeds.is_own(feed):
        return None
    if not isinstance(methods.get(method).draws, Uniform) or methods.mixes(config, method):
        aims = f" for {domain}" if domain else ""
        raise UserError(
            f"train.feed={feed}: a Task or Mixture of yours brings its own draws, and "
            f"method={method!r}{aims} has others; set --config.method={methods.BASE} (and "
            f"train.specialist_fraction=0), or train.feed={feeds.SEQIO}."
        )
    windows = loop.num_steps(train, run.generic.context) * train.batch_size
    opened: list[Own] = []

    def key_of_opened() -> dict:
        opened.append(
            feeds.own(
                feed,
                tuple(data.seqio_modules),
                data.field,
                run.prepared.vocabulary,
                run.generic.context,
                train.batch_size,
                windows,
                seed,
            )
        )
        return opened[0].key

    keys = processes.run_on_all(f"opening {feed}", key_of_opened)
    if any(key != keys[0] for key in keys):
        raise UserError(
            f"train.feed={feed}: the processes of this run read other windows of it, each its own; "
            "its order must depend on the seed alone."
        )
    return opened[0]


def through(
    run: Run, title: str, store: WindowStore | Joined | Stream, sampler: BatchSampler, windows: int
) -> tuple[WindowStore | Joined | Stream, BatchSampler]:
    """What batches are read through: the store itself, or the Task of what is drawn of it.

    Args:
      title: of the model; the Task's name is made of it.
      store: that the sampler draws from; a stream of the user's own stays as it is.
      sampler: of the method.
      windows: W, that are drawn in all.
    """
    if run.config.train.feed != feeds.SEQIO or isinstance(store, Stream):
        return store, sampler
    name = title.replace(" ", "_")
    vocabulary = run.prepared.vocabulary
    return feeds.registered(name, store, run.generic.start, vocabulary, sampler, windows)
