"""How long fine-tuning goes on: its limit of steps, how often it is validated, what to raise."""

import copy
import math

from ml_collections import ConfigDict

EVALUATIONS = 8  # in one epoch of a user's own text, at most


def max_steps(finetune: ConfigDict, windows: int) -> int:
    """The limit of steps over so many training windows."""
    return min(finetune.max_steps, _steps_of_epochs(finetune, windows))


def _steps_of_epochs(finetune: ConfigDict, windows: float) -> int:
    windows = _drawn(finetune, windows)
    return max(1, math.ceil(finetune.max_epochs * windows / finetune.batch_size))


def _drawn(finetune: ConfigDict, windows: float) -> float:
    """Windows that are drawn in an epoch over so many, with the generic ones that are replayed."""
    return windows / (1 - finetune.replay_fraction)


def for_tokens(config: ConfigDict, tokens: float) -> ConfigDict:
    """The config with fine-tuning's steps for so many tokens, repeats included; 0 leaves them."""
    if not tokens:
        return config
    changed = copy.deepcopy(config).unlock()
    batch = config.finetune.batch_size
    changed.finetune.max_steps = max(1, round(tokens / (batch * config.data.context)))
    changed.finetune.max_epochs = float(changed.finetune.max_steps * batch)
    return changed.lock()


def eval_every(finetune: ConfigDict, windows: int) -> int:
    """Steps between two evaluations, more than `finetune.eval_every` where a set is so large that
    there would be more than `EVALUATIONS` in an epoch.
    """
    return max(
        finetune.eval_every,
        math.ceil(_drawn(finetune, windows) / finetune.batch_size / EVALUATIONS),
    )


def limit(finetune: ConfigDict, windows: int, halving_steps: int = 0) -> str:
    """The setting that limits the steps over so many training windows, "NAME=VALUE".

    Args:
      halving_steps: of a round of `expert.choice=halving`, instead of `finetune.max_steps`.
    """
    if halving_steps:
        return f"expert.halving_steps={halving_steps}"
    if finetune.max_steps <= _steps_of_epochs(finetune, windows):
        return f"finetune.max_steps={finetune.max_steps}"
    return f"finetune.max_epochs={finetune.max_epochs:g}"


def plan(tune: ConfigDict, limit: str, windows: int) -> str:
    """What is going to happen, for people.

    Args:
      tune: the settings for this set, see `finetune.for_set`.
      limit: the setting that limits the steps.
    """
    epochs = tune.max_steps * tune.batch_size / _drawn(tune, windows)
    return (
        f"{windows:,} windows, at most {tune.max_steps:,} steps ({epochs:.1f} times over them: "
        f"{limit}), until {tune.patience} evaluations, one every {tune.eval_every:,} steps, bring "
        "no improvement"
    )


def ending(entry: dict) -> str:
    """How it ended, for people.

    Args:
      entry: of the ledger: `steps`, `best_step`, `max_steps`, `epochs` and `limit`.
    """
    if "max_steps" not in entry:  # an earlier version wrote it
        return f"best after {entry['best_step']:,} of {entry['steps']:,} steps"
    steps, best, passes = entry["steps"], entry["best_step"], f"{entry['epochs']:.1f} times"
    if steps < entry["max_steps"]:
        trained = f"best after {best:,} of {steps:,} steps ({passes} over the text)"
        return f"{trained}, ended by early stopping"
    setting, _, value = entry["limit"].partition("=")
    found = "still improving" if best == steps else f"best after {best:,} steps, not stopped early"
    return (
        f"{found} at the last of {steps:,} steps ({passes} over the text); to train longer raise "
        f"--config.{setting} (now {value})"
    )
