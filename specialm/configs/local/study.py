"""The study: every method at equal cost over budgets, specialist set sizes, domains and seeds.

Reproduces: in kind, the main comparison of arXiv 2402.01093 at a size that two cores train: small
  models of 0.06M parameters (vocabulary 1,024, d 32), a large one of 0.33M, budgets of 4M and 16M
  tokens (64 and 257 a parameter of the small one), specialist sets of 10k and 100k tokens.
Hardware: two CPU cores, under 2 GB of memory.
Time: 84 minutes for seeds 0 and 1 and the variants, with other work beside it.
Expected: results/README.md (seeds 0 and 1): macro perplexity at 16M with 10k specialist tokens:
  SLM-is 53.0, LLM 60.0, SLM-mix 61.2, SLM-pn 61.6, SLM-d 63.1, SLM 63.6, SLM-nopt 128.
Command:
  specialm study --config=configs/local/study.py --workdir=runs/study
  specialm report --workdir=runs/study
"""

import runpy
from pathlib import Path

from ml_collections import ConfigDict

LARGE = ("model.d_model=96", "model.d_ff=384")


def get_config():
    config = runpy.run_path(str(Path(__file__).with_name("bank.py")))["get_config"]()
    config.title = "Small specialised models and their baselines at equal cost"
    config.seeds = (0, 1, 2)
    config.model.d_model = 32
    config.model.d_ff = 128
    config.train.log_every = 100
    config.train.tensorboard = False
    # Chosen on one domain and frozen: configs/local/study_rates.py.
    config.finetune.learning_rate = 4e-3 / 6
    config.finetune.distill_weight = 0.25
    config.finetune.max_steps = 3000
    config.finetune.max_epochs = 25.0
    study = config.study
    study.arms = ConfigDict(
        {
            "slm": (),
            "slm_nopt": ("finetune.learning_rate=2e-3", "finetune.max_epochs=60.0"),
            "llm": LARGE,
            "llm_lora": (
                "method=llm",
                "finetune.lora_rank=16",
                "finetune.learning_rate=2e-3",
                *LARGE,
            ),
            "slm_d": ("method=slm", "teacher=llm"),
            "slm_is": (),
            "slm_mix": (),
            "slm_pn": (),
        }
    )
    study.budgets = (4_000_000, 16_000_000)
    study.specialist_tokens = (10_000, 100_000)
    study.sizes_with_largest_only = True
    study.largest_only = study.first_seed_only = ("llm_lora",)
    study.variants = (
        *(f"slm_is/clustering.k={k}" for k in (16, 64, 1024)),
        *(f"{arm}/model.num_experts={k}" for k in (4, 16) for arm in ("slm_mix", "slm_pn")),
        *(
            f"{arm}/expert.choice={how}"
            for how in ("frequent", "loss", "finetune_all")
            for arm in ("slm_mix", "slm_pn")
        ),
        "slm/train.specialist_fraction=0.02",
        "slm/train.specialist_fraction=0.04,train.specialist_start=0.5",
    )
    study.variant_budget = 4_000_000
    study.histogram_k = (4, 16, 64, 256, 1024)
    return config
