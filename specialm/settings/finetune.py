"""Settings of fine-tuning, distillation and the choice of an expert."""

from specialm.common.setting import Setting, table
from specialm.settings.data import TOKENS

FINETUNE = (
    Setting(
        "finetune.learning_rate",
        0.0,
        "0 as published: train.learning_rate / 3, and train.learning_rate for specialist sets of "
        "full_rate_tokens and for a model that was not pretrained; of a model from an open "
        "checkpoint 1e-4 * 576 / model.d_model, at most 1e-4",
        least=0,
    ),
    Setting("finetune.full_rate_tokens", 1_000_000, "see learning_rate", least=0, most=TOKENS),
    Setting("finetune.batch_size", 16, "windows a step", least=1),
    Setting("finetune.max_steps", 600, "0 does not fine-tune", least=0),
    Setting(
        "finetune.max_epochs",
        120.0,
        "over the specialist training set, if that is fewer steps",
        above=0,
    ),
    Setting(
        "finetune.replay_fraction",
        0.0,
        "of the drawn windows, how many are of the generic text, against forgetting",
        least=0,
        below=1,
    ),
    Setting(
        "finetune.replay_draws",
        "uniform",
        "which generic windows are replayed: all alike, or by the importance weights of the domain",
        choices=table("specialm.workflows.replaying:DRAWN_AS", "uniform", "importance"),
    ),
    Setting(
        "finetune.average",
        0.0,
        "what is validated and kept is a moving average of the parameters: how much of it a step "
        "leaves, such as 0.99; 0 for the parameters themselves",
        least=0,
        below=1,
    ),
    Setting("finetune.warmup_steps", 10, "0 starts at the full rate", least=0),
    Setting("finetune.eval_every", 20, "steps", least=1),
    Setting(
        "finetune.patience",
        5,
        "evaluations without improvement before stopping; 0 never stops early",
        least=0,
    ),
    Setting("finetune.weight_decay", 0.1, "adamw, on matrices only", least=0),
    Setting(
        "finetune.checkpoint_every",
        500,
        "steps; it is saved at the first evaluation from there on",
        least=1,
    ),
    Setting(
        "finetune.quantize_bits",
        0,
        "matrices are tuned for being stored in 8, 4, 3 or 2 bits (docs/tiny.md); 0 for full "
        "precision",
        least=0,
        most=8,
    ),
    Setting(
        "finetune.lora_rank",
        0,
        "0 trains all parameters, else low-rank changes of lora_matrices",
        least=0,
    ),
    Setting("finetune.lora_alpha", 16.0, "the change of a matrix is alpha / rank * A B", above=0),
    Setting(
        "finetune.lora_matrices",
        ("qkv", "out", "up", "down"),
        "linear maps that LoRA changes",
        choices=("qkv", "out", "up", "down"),
        some=True,
    ),
    Setting(
        "finetune.lora_targets",
        "",
        "ranks of single linear maps, instead of lora_matrices: NAME=RANK, comma, and so on; names "
        "are q, k, v, out, gate, up, down or patterns such as attention.* and mlp.*; the last that "
        "fits counts, 0 leaves out, without =RANK it is lora_rank",
    ),
    Setting("finetune.dora", False, "LoRA with a trained magnitude of each output (DoRA)"),
    Setting(
        "finetune.distill_weight",
        0.5,
        "with a teacher: (1 - weight) * -log p of the data + weight * temperature^2 * KL(teacher "
        "|| student)",
        least=0,
        most=1,
    ),
    Setting("finetune.distill_temperature", 1.0, "see distill_weight", above=0),
    Setting(
        "finetune.distill_top_k",
        0,
        "0: the teacher reads every batch; k > 0: its k largest probabilities of each token are "
        "stored once, the others as one remainder",
        least=0,
    ),
    Setting(
        "finetune.distill_terms",
        (),
        "with a teacher: what else is to be alike, NAME or NAME=WEIGHT each: hidden, attention, "
        "query, key, value (docs/tiny.md)",
    ),
    Setting(
        "finetune.distill_heads",
        0,
        "distill_terms: relation heads that the vectors of both are cut into; 0 for the student's "
        "model.num_heads",
        least=0,
    ),
    Setting(
        "finetune.distill_layer",
        0,
        "distill_terms: the teacher's layer that the student's last one is compared with, counted "
        "from 1; 0 for its last",
        least=0,
    ),
)


EXPERT = (
    Setting(
        "expert.choice",
        "frequent",
        "frequent: the specialist set's most frequent cluster; loss: lowest on the specialist "
        "training set; histogram or soup: mixed by the specialist's cluster histogram; halving: "
        "successive halving from `loss` towards `finetune_all`; finetune_all: fine-tune every "
        "expert, keep the best",
        # specialize/choice.py, which imports NumPy; soup is the method that takes histograms.
        choices=("frequent", "loss", "histogram", "halving", "finetune_all", "soup"),
    ),
    Setting("expert.index", -1, "a given expert instead; -1 for none", least=-1),
    Setting("expert.halving_steps", 40, "halving: fine-tuning steps of each round", least=1),
)
