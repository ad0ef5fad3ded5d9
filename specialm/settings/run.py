"""The settings of no section: what `train`, `specialize`, `evaluate` and `demo` work on."""

from collections.abc import Sequence
from typing import Any

from specialm.common.setting import Setting, table

BASE, IMPORTANCE = "slm", "slm_is"  # names of specialm/methods.py, which imports NumPy


def _methods(config: Any) -> Sequence[str]:
    from specialm import methods

    return methods.choices()


def _domains(config: Any) -> Sequence[str]:
    return () if config is None else ("", *config.data.domains)


RUN = (
    Setting("title", "specialm", "of reports"),
    Setting("method", BASE, "what is pretrained: see docs/methods.md", choices=_methods),
    Setting("method_modules", (), "modules imported first, which register methods of your own"),
    Setting(
        "domain", "", "the specialist domain that is aimed at; empty for none", choices=_domains
    ),
    Setting("seed", 0, "of initial parameters, order of windows and fine-tuning", least=0),
    Setting("methods", (BASE, IMPORTANCE), "what demo compares", choices=_methods, some=True),
    Setting(
        "baselines",
        ("ngram", "lzma"),
        "demo: what a person would use instead, scored beside the models; () for none",
        choices=table("specialm.evaluation.baselines:BASELINES", "ngram", "lzma"),
    ),
    Setting("domains", (), "demo and study: the domains; () for all", choices=_domains),
    Setting("seeds", (0,), "demo and study: the seeds", of=int, least=0, some=True),
)
