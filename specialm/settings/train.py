"""Settings of pretraining, and of the mesh of devices."""

from specialm.common.setting import Setting, table
from specialm.settings.data import TOKENS

TRAIN = (
    Setting(
        "train.tokens", 3_000_000, "budget, counted as windows * context", least=1, most=TOKENS
    ),
    Setting("train.batch_size", 64, "windows a step, over all devices", least=1),
    Setting(
        "train.groups",
        8,
        "banks: groups a step, which divide batch_size; a group's windows have one cluster, or "
        "histogram; on several devices a multiple of them, one for each row along mesh.fsdp, or 1",
        least=1,
    ),
    Setting("train.histogram_support", 4, "soup: clusters in a group's histogram", least=1),
    Setting(
        "train.trunk_fraction",
        0.0,
        "slm_mix: the part of the budget of one dense model, from which all experts start",
        least=0,
        below=1,
    ),
    Setting(
        "train.expert_multiplier",
        1.0,
        "slm_mix: the experts' learning rate / learning_rate (their batches are k times smaller)",
        least=0,
    ),
    Setting(
        "train.specialist_fraction",
        0.0,
        "dense models: of the drawn windows, how many are of `domain`'s specialist training set",
        least=0,
        most=1,
    ),
    Setting(
        "train.specialist_start",
        0.0,
        "the part of the training after which specialist_fraction holds",
        least=0,
        most=1,
    ),
    Setting(
        "train.importance_start",
        0.0,
        "importance sampling: this first part of the steps is uniform",
        least=0,
        below=1,
    ),
    Setting(
        "train.objective",
        "next_token",
        "what is minimised, here and in fine-tuning",
        choices=table("specialm.training.objectives:OBJECTIVES", "next_token", "masked"),
    ),
    Setting(
        "train.replay_fraction",
        0.0,
        "importance sampling: of the weighted draws, how many are of the generic text as it is, "
        "against forgetting",
        least=0,
        most=1,
    ),
    Setting(
        "train.selected_repetitions",
        4.0,
        "dsir and source_filter: how often a chosen window is drawn; 1 chooses as many windows as "
        "are drawn, as published. At most clustering.max_repetitions",
        least=1,
    ),
    Setting(
        "train.feed",
        "store",
        "what batches are read through: store | seqio (the same windows, as a seqio Task) | "
        "seqio:NAME[:SPLIT] (a Task or Mixture of yours, with its own rates: docs/sources.md)",
        some=True,
    ),
    Setting(
        "train.microbatch",
        0,
        "windows at a time on a device, gradients added up; 0 chooses",
        least=0,
    ),
    Setting(
        "train.optimizer",
        "adamw",
        "optimizer; muon is Adam but for the matrices of the layers",
        choices=table("specialm.training.optimizer:OPTIMIZERS", "adam", "adamw", "muon"),
    ),
    Setting(
        "train.schedule",
        "cosine",
        "of the learning rate, after linear warm-up",
        choices=table(
            "specialm.training.optimizer:SCHEDULES", "constant", "cosine", "linear", "root"
        ),
    ),
    Setting("train.learning_rate", 4e-3, "at its peak", above=0),
    Setting(
        "train.init_learning_rate",
        0.0,
        "train --init: at its peak, instead of learning_rate; 0 for a third of learning_rate, and "
        "1e-4 * 576 / model.d_model (at most 1e-4) for a model from an open checkpoint",
        least=0,
    ),
    Setting("train.warmup_steps", 100, "0 starts at the peak", least=0),
    Setting(
        "train.final_fraction",
        0.1,
        "schedules that decay: last learning rate / peak",
        least=0,
        most=1,
    ),
    Setting(
        "train.decay_fraction",
        1.0,
        "the same: over this last part of the steps, constant before",
        least=0,
        most=1,
    ),
    Setting(
        "train.keep_branch",
        False,
        "keeps the state from before the decay, for train --branch (docs/tiny.md)",
    ),
    # A coefficient around 1 moves a whole matrix, and one of a network is a sum over many weights
    # that Adam moves all at once.
    Setting(
        "train.mixer_multiplier",
        0.1,
        "banks: learning rate of what the coefficients are computed with / learning_rate",
        least=0,
    ),
    Setting(
        "train.table_multiplier",
        1.0,
        "embedder ngrams: learning rate of its table / learning_rate, in fine-tuning too",
        least=0,
    ),
    Setting(
        "train.bank_every",
        1,
        "banks: steps between updates of the bank's weights, on the mean of their gradients; all "
        "else is updated at every step (docs/experts.md)",
        least=1,
    ),
    Setting("train.weight_decay", 0.1, "adamw and muon, on matrices only", least=0),
    Setting("train.beta1", 0.9, "of Adam", least=0, below=1),
    Setting("train.beta2", 0.98, "of Adam", least=0, below=1),
    Setting(
        "train.dropout",
        0.0,
        "of pretraining: the part of what enters the first layer and of what each block adds that "
        "is dropped, at most; 0 for none",
        least=0,
        below=1,
    ),
    Setting(
        "train.dropout_schedule",
        "constant",
        "of train.dropout over the steps; linear rises from 0, triangle rises and falls, early "
        "ends (docs/tiny.md)",
        choices=table(
            "specialm.training.dropout:SCHEDULES", "constant", "linear", "triangle", "early"
        ),
    ),
    Setting(
        "train.dropout_fraction",
        0.5,
        "the part of the steps after which linear and triangle are at train.dropout, and early is "
        "at 0",
        least=0,
        most=1,
    ),
    Setting("train.clip_norm", 1.0, "gradients are clipped at this global norm", above=0),
    Setting(
        "train.moment_dtype",
        "float32",
        "of Adam's first moment; bfloat16 is less traffic, int8 (in blocks, matrices) still less",
        choices=("float32", "bfloat16", "int8"),
    ),
    Setting(
        "train.second_moment_dtype",
        "float32",
        "of Adam's second moment; bfloat16 (rounded at random) is less memory, int8 (in blocks, of "
        "matrices) still less; factored keeps its means over inputs and outputs alone",
        choices=("float32", "bfloat16", "int8", "factored"),
    ),
    Setting(
        "train.param_dtype",
        "float32",
        "of matrices while they are trained; bfloat16 (rounded at random) is less memory",
        choices=("float32", "bfloat16"),
    ),
    Setting(
        "train.quantize_bits",
        0,
        "dense models: matrices are trained for being stored in 8, 4, 3 or 2 bits (docs/tiny.md); "
        "0 for full precision",
        least=0,
        most=8,
    ),
    Setting(
        "train.quantize_from",
        0.5,
        "the part of the steps after which quantize_bits holds",
        least=0,
        below=1,
    ),
    Setting("train.log_every", 25, "steps", least=1),
    Setting("train.checkpoint_every", 500, "steps", least=1),
    Setting(
        "train.valid_every",
        0,
        "steps between validations on the domain's specialist text, by which pretraining ends "
        "early; 0 for none. For dense methods that aim at a domain",
        least=0,
    ),
    Setting(
        "train.patience",
        5,
        "validations without improvement before pretraining ends; 0 for never",
        least=0,
    ),
    # What shows the metrics; RUN/metrics.jsonl has them in any case.
    Setting("train.tensorboard", True, "also writes TensorBoard's files (docs/tracking.md)"),
    Setting(
        "train.wandb", "", "a project of Weights & Biases, with the extra wandb; empty for none"
    ),
    Setting(
        "train.profile_steps", 0, "steps of JAX's trace in the run's profile/; 0 for none", least=0
    ),
)


MESH = (
    Setting("mesh.fsdp", 1, "copies with windows of their own; parameters are divided", least=1),
    Setting("mesh.model", 1, "heads and hidden units are divided", least=1),
    Setting("mesh.expert", 0, "slm_mix: experts are divided; 0 for as many as fit", least=0),
)
