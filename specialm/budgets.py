"""How a pretraining budget is divided in a mixture: a dense trunk first, then the experts."""

import copy

from ml_collections import ConfigDict


def one_expert_settings(train: ConfigDict, experts: int) -> ConfigDict:
    """The training settings of one expert of a mixture: its share of the budget and the batch."""
    return _changed(
        train, batch_size=train.batch_size // experts, tokens=-(-train.tokens // experts)
    )


def trunk(train: ConfigDict) -> tuple[ConfigDict | None, ConfigDict]:
    """The training settings of the dense model that the experts of a mixture start from (None:
    they start untrained), and those of the experts.

    The learning rate is decayed once, in the end, over `train.decay_fraction` of all steps.
    """
    tokens = round(train.trunk_fraction * train.tokens)
    rest = train.tokens - tokens
    experts = _changed(
        train,
        tokens=rest,
        learning_rate=train.learning_rate * train.expert_multiplier,
        decay_fraction=min(1.0, train.decay_fraction * train.tokens / rest),
    )
    return (_changed(train, tokens=tokens, schedule="constant") if tokens else None), experts


def _changed(train: ConfigDict, **values) -> ConfigDict:
    changed = copy.deepcopy(train).unlock()
    changed.update(values)
    return changed.lock()
