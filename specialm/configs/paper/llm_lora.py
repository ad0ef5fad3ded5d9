"""LLM-lora: low-rank fine-tuning of the paper's large model.

Reproduces: arXiv 2402.01093: LoRA of rank 64 on the LLM with up to five times the fine-tuning
  steps. On the attention's input matrices (our reading) it trains the published 5M parameters.
Hardware: as configs/paper/llm.py, whose checkpoint it starts from.
Time: not published.
Expected: published as a figure only. Not run by us: it needs c4.
Command:
  specialm specialize --config=configs/paper/llm_lora.py --workdir=runs/paper \\
    --config.domain=pubmed --config.data.domains.pubmed=jsonl:/data/pubmed
"""

import runpy
from pathlib import Path


def get_config():
    config = runpy.run_path(str(Path(__file__).with_name("llm.py")))["get_config"]()
    config.title = "LLM-lora at the published size"
    config.finetune.lora_rank = 64
    config.finetune.lora_matrices = ("qkv",)
    config.finetune.max_steps *= 5
    return config
