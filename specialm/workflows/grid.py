"""The grid of a study: arms, cells, equal cost, and how long what is left will take.

An arm is a method with the settings that it was tuned to. A cell is one arm with one generic
budget, specialist set size and seed, over all domains.
"""

import copy
from collections.abc import Iterator
from dataclasses import dataclass, field

from ml_collections import ConfigDict

from specialm import config as config_lib
from specialm import methods
from specialm.common.errors import UserError
from specialm.common.stages import Stage
from specialm.planning.inspection import inspect_config


@dataclass(frozen=True)
class Arm:
    """What is compared. Named "METHOD" or, a variant of it, "METHOD/FIELD=VALUE"."""

    method: str  # as the rows say it
    variant: str  # "" or FIELD=VALUE
    pretrained: str  # the method that is pretrained
    teacher: str  # the arm that it is distilled from, or ""
    changes: tuple[str, ...]  # FIELD=VALUE

    @property
    def name(self) -> str:
        """How configs and rows name it."""
        return "/".join(filter(None, [self.method, self.variant]))


@dataclass(frozen=True)
class Cell:
    """One arm with one budget, specialist set size and seed, over all domains."""

    arm: Arm
    budget: int
    specialist_tokens: int
    seed: int

    def __str__(self) -> str:
        return (
            f"{self.arm.name}, {self.budget / 1e6:g}M generic tokens, "
            f"{self.specialist_tokens / 1e3:g}k specialist tokens, seed {self.seed}"
        )


@dataclass
class Pace:
    """Time left, from what was done: seconds per FLOP, of pretraining and of all the rest."""

    seconds: dict[str, float] = field(default_factory=lambda: {"pretrained": 0.0, "rest": 0.0})
    flops: dict[str, float] = field(default_factory=lambda: {"pretrained": 0.0, "rest": 0.0})

    def add(self, planned: dict[str, float], stages: list[Stage]) -> None:
        """Takes in the planned FLOPs of a finished cell and the stages it was the first to use."""
        for kind in self.flops:
            self.flops[kind] += planned[kind]
        for stage in stages:
            kind = "pretrained" if stage.name.startswith("pretrained/") else "rest"
            self.seconds[kind] += stage.seconds

    def left(self, planned: list[dict[str, float]]) -> float | None:
        """Seconds that the cells planned will take; None as long as nothing is known."""
        total, rates = (
            0.0,
            {
                kind: self.seconds[kind] / self.flops[kind]
                for kind in self.flops
                if self.flops[kind]
            },
        )
        if not rates:
            return None
        for cell in planned:
            total += sum(
                flops * rates.get(kind, max(rates.values())) for kind, flops in cell.items()
            )
        return total


def arms(config: ConfigDict) -> tuple[list[Arm], list[Arm]]:
    """(main arms, variants) of `config.study`.

    Raises:
      UserError: an unknown method, teacher or field.
    """
    known = {
        name: _arm(config, name, "", tuple(changes)) for name, changes in config.study.arms.items()
    }
    for arm in known.values():
        if arm.teacher and arm.teacher not in known:
            raise UserError(
                f"study.arms.{arm.name}: teacher={arm.teacher!r} is none of the arms "
                f"{', '.join(known)}."
            )
    variants = []
    for name in config.study.variants:
        method, slash, change = name.partition("/")
        if not slash or method not in known:
            raise UserError(
                f"study.variants: {name!r} is no ARM/FIELD=VALUE; the arms are {', '.join(known)}."
            )
        variants.append(
            _arm(config, method, change, (*config.study.arms[method], *change.split(",")))
        )
    return list(known.values()), variants


def _arm(config: ConfigDict, name: str, variant: str, changes: tuple[str, ...]) -> Arm:
    words = dict(change.partition("=")[::2] for change in changes)
    arm = Arm(
        name,
        variant,
        words.pop("method", name),
        words.pop("teacher", ""),
        tuple(f"{key}={value}" for key, value in words.items()),
    )
    if arm.pretrained not in methods.choices():
        raise UserError(
            f"study.arms.{name}: {arm.pretrained!r} is no method; name one with "
            f"method=..., of {', '.join(methods.choices())}."
        )
    arm_config(config, arm, config.study.budgets[0], config.study.specialist_tokens[0])
    return arm


def arm_config(config: ConfigDict, arm: Arm, budget: int, specialist_tokens: int) -> ConfigDict:
    """The config of a cell: the arm's changes, and as many tokens of pretraining as cost what
    `budget` tokens of the base method's arm do.
    """
    changed = _changed(config, arm.pretrained, arm.changes)
    base = _changed(config, methods.BASE, tuple(config.study.arms.get(methods.BASE, ())))
    changed.train.tokens = round(budget * _rate(base) / _rate(changed))
    changed.data.specialist_tokens = specialist_tokens
    config_lib.check(changed)
    return changed.lock()


def _rate(config: ConfigDict) -> float:
    """FLOPs per token of pretraining."""
    return inspect_config(config)["train_flops_per_token"]


def _changed(config: ConfigDict, method: str, changes: tuple[str, ...]) -> ConfigDict:
    changed = copy.deepcopy(config).unlock()
    changed.method = method
    for change in changes:
        config_lib.override(changed, change)
    return changed


def cells(config: ConfigDict) -> list[Cell]:
    """All cells, the largest budget first: a study that is cut short is still worth something."""
    study, (main, variants) = config.study, arms(config)
    budgets, sizes = sorted(study.budgets, reverse=True), sorted(study.specialist_tokens)
    planned = []
    for seed in config.seeds:
        for budget in budgets:
            for arm in main:
                pretrained = methods.get(arm.pretrained).pretrained
                once = not pretrained or arm.name in study.largest_only
                if once and budget != budgets[0]:
                    continue
                if arm.name in study.first_seed_only and seed != config.seeds[0]:
                    continue
                small = study.sizes_with_largest_only and budget != budgets[0]
                planned += [Cell(arm, budget, size, seed) for size in sizes[: 1 if small else None]]
    at = study.variant_budget or budgets[0]
    return planned + [Cell(arm, at, sizes[0], config.seeds[0]) for arm in variants]


def expected_flops(config: ConfigDict, planned: list[Cell], domains: int) -> list[dict[str, float]]:
    """FLOPs of each cell, for the time left: of pretraining, if it is the first to need it, and
    of the rest, where half of the fine-tuning steps allowed are expected.
    """
    seen, expected = set(), []
    for cell in planned:
        of_cell = arm_config(config, cell.arm, cell.budget, cell.specialist_tokens)
        train, tune, rate = of_cell.train, of_cell.finetune, _rate(of_cell)
        key = (
            cell.arm.pretrained,
            tuple(_pretraining(cell.arm)),
            cell.budget,
            cell.seed,
            cell.specialist_tokens if train.specialist_fraction else 0,
        )
        first = key not in seen and methods.get(cell.arm.pretrained).pretrained
        seen.add(key)
        models = domains if methods.aims_at_domain(of_cell, cell.arm.pretrained) else 1
        epoch = cell.specialist_tokens / (tune.batch_size * of_cell.data.context)  # in steps
        steps = min(tune.max_steps, tune.max_epochs * epoch)
        expected.append(
            {
                "pretrained": first * models * rate * train.tokens,
                "rest": domains * rate * steps / 2 * tune.batch_size * of_cell.data.context,
            }
        )
    return expected


def _pretraining(arm: Arm) -> Iterator[str]:
    """The changes of an arm that matter to what is pretrained."""
    return (change for change in arm.changes if not change.startswith(("finetune.", "expert.")))
