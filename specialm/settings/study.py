"""Settings of the study, of scoring and of generation."""

from collections.abc import Sequence
from typing import Any

from specialm.common.setting import Setting
from specialm.settings.data import TOKENS
from specialm.settings.run import BASE, IMPORTANCE


def _arms(config: Any) -> Sequence[str]:
    return () if config is None else tuple(config.study.arms)


STUDY = (
    Setting(
        "study.arms",
        {BASE: (), IMPORTANCE: ()},
        'arm -> changes of this config, "FIELD=VALUE" each; an arm is named like the method it '
        'pretrains, or says so by "method=NAME"; "teacher=ARM" distils from that arm',
        of=tuple,
        some=True,
    ),
    Setting("study.variants", (), 'more arms, "ARM/FIELD=VALUE", for the first seed'),
    Setting(
        "study.variant_budget",
        0,
        "of the variants, with the smallest specialist set; 0 for the largest",
        least=0,
        most=TOKENS,
    ),
    Setting(
        "study.budgets",
        (4_000_000,),
        "tokens of the arm `slm`, and as many of another as the same FLOPs pay for",
        of=int,
        least=1,
        most=TOKENS,
        some=True,
    ),
    Setting(
        "study.specialist_tokens",
        (10_000, 50_000),
        "sizes of the specialist training set; 0 for all",
        of=int,
        least=0,
        most=TOKENS,
        some=True,
    ),
    Setting("study.sizes_with_largest_only", False, "smaller budgets with the smallest set alone"),
    Setting(
        "study.largest_only", (), "arms that are run with the largest budget alone", choices=_arms
    ),
    Setting(
        "study.first_seed_only", (), "arms that are run for the first seed alone", choices=_arms
    ),
    Setting(
        "study.histogram_k",
        (4, 16, 64, 256),
        "clusters whose histograms the report tabulates",
        of=int,
        least=1,
    ),
)


USE = (
    Setting("evaluate.batch_size", 64, "windows at once", least=1),
    Setting(
        "evaluate.hidden_every",
        0,
        "masked models: one token in so many is hidden at once, in as many forward passes; 0: each "
        "by itself, as published",
        least=0,
    ),
    Setting(
        "evaluate.contamination_check",
        True,
        "looks for held-out windows that are near-duplicates of training windows",
    ),
    Setting("generate.tokens", 64, "at most", least=1),
    Setting("generate.temperature", 0.8, "0 takes the likeliest token", least=0),
    Setting("generate.top_k", 40, "likeliest tokens that are drawn from; 0 for all", least=0),
    Setting(
        "generate.top_p",
        1.0,
        "the fewest likeliest tokens of this probability together are drawn from",
        above=0,
        most=1,
    ),
    Setting(
        "generate.min_p",
        0.0,
        "tokens less likely than this fraction of the likeliest are left out",
        least=0,
        most=1,
    ),
    Setting(
        "generate.repetition_penalty",
        1.0,
        "above 1 makes tokens that were there less likely",
        least=0.01,
        most=100,
    ),
    Setting("generate.stop", (), "texts before which a continuation ends"),
    Setting(
        "generate.slide",
        False,
        "beyond the context the oldest text is forgotten; else a prompt that is too long is "
        "refused, and a text ends there",
    ),
    Setting("generate.top_logprobs", 0, "likeliest tokens in --json", least=0, most=20),
)
