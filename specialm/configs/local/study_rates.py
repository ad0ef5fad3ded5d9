"""Learning rates for the study: each method over three rates in pretraining and four in
fine-tuning, on one domain; the best ones are those of configs/local/study.py.

Reproduces: nothing published.
Hardware: two CPU cores, under 4 GB of memory.
Time: about 20 minutes.
Expected: results/study/rates.jsonl: 4e-3 best or within 1% of the best for all but the LLM (where
  8e-3 is far worse), and a sixth of it in fine-tuning.
Command:
  specialm study --config=configs/local/study_rates.py --workdir=runs/study
"""

import runpy
from pathlib import Path

METHODS = ("slm", "llm", "slm_is", "slm_mix", "slm_pn")
RATES = (2e-3, 4e-3, 8e-3)  # of pretraining
TUNING = (6.67e-4, 2.67e-3, 4e-3)  # of fine-tuning, besides a third of 4e-3


def get_config():
    config = runpy.run_path(str(Path(__file__).with_name("study.py")))["get_config"]()
    config.title = "Learning rates for the study"
    config.seeds = (0,)
    config.domains = ("ency",)
    study = config.study
    study.budgets = (4_000_000,)
    study.specialist_tokens = (10_000,)
    study.largest_only = study.first_seed_only = ()
    config.finetune.learning_rate = 0.0  # a third of the pretraining rate
    config.finetune.distill_weight = 0.5
    config.finetune.max_epochs = 60.0
    study.arms.slm_nopt = ()
    study.arms.llm_lora = study.arms.llm_lora[:2] + study.arms.llm
    study.variants = (
        *(f"{arm}/train.learning_rate={rate:g}" for rate in RATES for arm in METHODS),
        *(f"{arm}/finetune.learning_rate={rate:g}" for rate in TUNING for arm in METHODS),
        *(
            f"{arm}/finetune.learning_rate={rate:g}"
            for rate in (2e-3, 8e-3)
            for arm in ("slm_nopt", "llm_lora")
        ),
        *(f"slm_d/finetune.distill_weight={weight:g}" for weight in (0.25, 0.75, 0.9)),
        "slm_d/finetune.distill_temperature=2",
    )
    return config
