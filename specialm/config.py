"""The configuration tree: every setting with its default, and how a config file is read.

A config file is a Python file with `get_config()`, usually a few changes to `default()`:

    from specialm.config import default

    def get_config():
        config = default()
        config.model.d_model = 256
        return config

It is locked when it is read, so that a misspelt field is an error with the nearest name.
"""

import ast
import dataclasses
import difflib
import math
from collections.abc import Sequence

from absl import flags
from ml_collections import ConfigDict, config_dict, config_flags

from specialm import config_files, methods
from specialm.clustering import levels
from specialm.common.errors import UserError
from specialm.models.config import Config as Architecture
from specialm.specialize import choice

ENCODERS = ("minilm", "tfidf_svd")
# The histogram's other name is the method whose every model is taken out by it.
CHOICES = (*choice.CHOICES, methods.SOUP)


def default() -> ConfigDict:
    """Every setting of the project with its default value, unlocked."""
    config = ConfigDict()
    config.title = "specialm"
    # What `train`, `specialize` and `evaluate` work on.
    # slm draws windows uniformly, slm_is by importance for `domain`; all methods are described in
    # the table of specialm/methods.py, and your own come from method_modules.
    config.method = methods.BASE
    config.method_modules = ()  # modules imported first, which register the user's methods
    config.domain = ""  # the specialist domain that importance sampling aims at
    config.seed = 0  # initial parameters, window order, fine-tuning
    # What `demo` compares.
    config.methods = (methods.BASE, methods.IMPORTANCE)
    config.domains = ()  # () for all of data.domains
    config.seeds = (0,)
    config.data = _data()
    config.clustering = _clustering()
    config.model = _model()
    config.train = _train()
    # Devices along the axes of the mesh (training/sharding.py); all others are along `data`, copies
    # of the model with windows of their own.
    config.mesh = ConfigDict(
        dict(
            fsdp=1,  # the same, with parameters and moments divided
            model=1,  # heads and hidden units divided
            expert=0,
        )
    )  # slm_mix: experts divided; 0 for as many as fit
    config.finetune = _finetune()
    config.expert = _expert()
    config.study = _study()
    # contamination_check: looks for held-out windows that are near-duplicates of training windows
    config.evaluate = ConfigDict(dict(batch_size=64, contamination_check=True))
    config.generate = ConfigDict(dict(tokens=64, temperature=0.8, top_k=40))
    return config


def _data() -> ConfigDict:
    data = ConfigDict()
    # Sources: corpora:NAME | folder:PATH | jsonl:PATH, parquet:PATH or csv:PATH (file or folder) |
    # hf:PATH[:SPLIT] | tfds:NAME[:SPLIT] | seqio:TASK[:SPLIT]; ?FIELD=VALUE selects rows.
    data.generic = "corpora:generic"
    data.domains = ConfigDict({name: f"corpora:{name}" for name in ("med", "books", "ency")})
    data.generic_fraction = 1.0  # of the generic documents, chosen by hash: to try things faster
    data.corpora_root = "data/corpora"  # where the default corpora are downloaded to
    data.field = "text"  # of rows and examples: the one that holds the text
    data.part_chars = 0  # domains: cuts documents into parts of about this many characters, each
    # held out by itself; 0 leaves them whole
    data.seqio_modules = ()  # modules imported first, which register the user's seqio Tasks
    data.context = 128  # tokens a window, at most
    data.vocabulary = ""  # a given SentencePiece model; "" trains one on the generic text
    data.vocabulary_size = 2048
    data.vocabulary_sample_bytes = 8_000_000  # generic text that the vocabulary is trained on
    data.generic_heldout_fraction = 0.01
    data.specialist_heldout_fraction = 0.25  # of documents (whole groups)
    data.specialist_valid_fraction = 0.15  # of the documents that are not held out
    data.specialist_tokens = 50_000  # size of the specialist training set; 0 for all
    data.valid_tokens = 20_000  # at most, for early stopping; 0 for all
    data.heldout_tokens = 150_000  # at most, for evaluation; 0 for all
    data.shard_tokens = 16_000_000  # a window store is written in shards of about this size
    return data


def _clustering() -> ConfigDict:
    clustering = ConfigDict()
    clustering.encoder = "minilm"  # minilm | tfidf_svd
    clustering.encoder_path = ""  # minilm: a folder with its weights; "" looks in the usual places
    clustering.max_tokens = 256  # minilm: word pieces read of a window, at most
    clustering.dim = 128  # tfidf_svd: dimensions
    clustering.k = 256
    clustering.method = "full"  # full | minibatch: k clusters | tree: see docs/clustering.md
    clustering.iterations = 50
    clustering.branching = (64, 64)  # tree: children of a node at each level, instead of k
    clustering.level = 0  # tree: whose nodes are the clusters, 1 for the coarsest; 0 for the leaves
    clustering.sample = 2_000_000  # tree: windows it is trained on, at most
    clustering.seed = 0
    clustering.smoothing = 0.0  # of the specialist histogram towards the generic one, 0 to 1
    clustering.power = 1.0  # importance weights are raised to it: 1 leaves them, 0 is generic
    # Expected draws of a window in all, at most; 0: no cap (results/README.md has the choice);
    # "auto": chosen for each domain by an n-gram proxy (workflows/proxy.py).
    clustering.max_repetitions = config_dict.FieldReference(8.0, field_type=object)
    # Values of k (tree: of level) from which that proxy chooses for importance sampling; () for k.
    clustering.candidates = ()
    return clustering


def _model() -> ConfigDict:
    model = ConfigDict()
    model.num_layers = 4
    model.d_model = 64
    model.num_heads = 4
    model.d_ff = 256
    # The architecture: every field of models/config.py that has a default, described there.
    for field in dataclasses.fields(Architecture):
        if field.default is not dataclasses.MISSING:
            model[field.name] = field.default
    # Banks and mixtures: how many small models are held at once.
    model.num_experts = 16  # k: as many clusters
    model.bank_size = 0  # h: sets of MLP weights in a bank; 0 for num_experts
    model.code_size = 0  # slm_pn: m, size of an expert's code; 0 for num_experts
    model.bank_layers = ()  # the layers whose MLPs are in the bank; () for all
    model.mixer_hidden = 64  # slm_hn, soup: hidden units of the network of coefficients
    model.spread = 0.5  # of the coefficients of all but the first of the bank's weights
    model.only_expert = -1  # slm_mix: train this expert alone; -1 for all
    return model


def _train() -> ConfigDict:
    train = ConfigDict()
    train.tokens = 3_000_000  # budget, counted as windows * context
    train.batch_size = 64  # windows a step, over all devices
    train.groups = 8  # banks: groups a step; a group's windows have one cluster, or histogram
    train.histogram_support = 4  # soup: clusters in a group's histogram
    # slm_mix: the part of the budget that one dense model is trained for, from which all experts
    # start; and the experts' learning rate / learning rate (their batches are k times smaller).
    train.trunk_fraction = 0.0
    train.expert_multiplier = 1.0
    # Dense models: this fraction of the drawn windows is of `domain`'s specialist training set, in
    # the steps after this part of the training.
    train.specialist_fraction = 0.0
    train.specialist_start = 0.0
    train.importance_start = 0.0  # importance sampling: this first part of the steps is uniform
    train.objective = "next_token"  # one of training/objectives.py
    train.microbatch = 0  # windows at a time on a device, gradients added up; 0 chooses
    train.optimizer = "adamw"  # adam | adamw
    train.schedule = "cosine"  # constant | cosine, both after linear warm-up
    train.learning_rate = 4e-3
    train.warmup_steps = 100
    train.final_fraction = 0.1  # cosine: last learning rate / peak
    train.decay_fraction = 1.0  # cosine: over this last part of the steps, constant before
    # Banks: learning rate of what the coefficients are computed with / learning rate. A coefficient
    # around 1 moves a whole matrix, and one of a network is a sum over many weights that Adam
    # moves all at once.
    train.mixer_multiplier = 0.1
    train.weight_decay = 0.1  # adamw, on matrices only
    train.beta1 = 0.9
    train.beta2 = 0.98
    train.clip_norm = 1.0
    train.moment_dtype = "float32"  # of Adam's first moment: float32 | bfloat16 (less traffic)
    train.log_every = 25
    train.checkpoint_every = 500
    # What shows the metrics (docs/tracking.md); RUN/metrics.jsonl has them in any case.
    train.tensorboard = True  # TensorBoard's files in RUN/tensorboard
    train.wandb = ""  # a project of Weights & Biases, with the extra wandb; "" for none
    train.profile_steps = 0  # steps of JAX's trace in RUN/profile; 0 for none
    return train


def _finetune() -> ConfigDict:
    finetune = ConfigDict()
    # 0: as published (docs/methods.md, Fine-tuning), train.learning_rate / 3, and
    # train.learning_rate for specialist sets of at least `full_rate_tokens` and for a model that
    # was not pretrained.
    finetune.learning_rate = 0.0
    finetune.full_rate_tokens = 1_000_000
    finetune.batch_size = 16
    finetune.max_steps = 600
    finetune.max_epochs = 120.0  # over the specialist training set, if that is fewer steps
    finetune.warmup_steps = 10
    finetune.eval_every = 20
    finetune.patience = 5  # evaluations without improvement before stopping
    finetune.weight_decay = 0.1
    finetune.checkpoint_every = 500  # a multiple of eval_every, to resume from
    finetune.lora_rank = 0  # 0 trains all parameters, else low-rank changes of `lora_matrices`
    finetune.lora_alpha = 16.0  # the change of a matrix is alpha / rank * A B
    finetune.lora_matrices = ("qkv", "out", "up", "down")
    # With a teacher (`specialize --teacher`): (1 - weight) * -log p of the data + weight *
    # temperature^2 * KL(teacher || student).
    finetune.distill_weight = 0.5
    finetune.distill_temperature = 1.0
    # 0: the teacher reads every batch; k > 0: its k largest probabilities of each token are stored
    # once, the others as one remainder.
    finetune.distill_top_k = 0
    return finetune


def _expert() -> ConfigDict:
    expert = ConfigDict()
    # How `specialize` takes one model out of a bank or a mixture: frequent (the specialist set's
    # most frequent cluster) | loss (lowest on the specialist training set) | histogram (mixed by
    # the specialist's cluster histogram; soup is the same) | halving (successive halving from
    # `loss` towards `finetune_all`) | finetune_all (fine-tune every expert, keep the best).
    expert.choice = choice.FREQUENT
    expert.index = -1  # a given expert instead
    expert.halving_steps = 40  # halving: fine-tuning steps of each round
    return expert


def _study() -> ConfigDict:
    study = ConfigDict()
    # What `study` compares: arm -> changes of this config, "FIELD=VALUE" each. An arm is named like
    # the method it pretrains, or says so by "method=NAME"; "teacher=ARM" distils from that arm.
    study.arms = ConfigDict({methods.BASE: (), methods.IMPORTANCE: ()})
    # More arms, "ARM/FIELD=VALUE": with the smallest specialist set at `variant_budget` (0: the
    # largest), for the first seed.
    study.variants = ()
    study.variant_budget = 0
    # Generic budgets: tokens of the arm `slm`, and as many of another as the same FLOPs pay for.
    study.budgets = (4_000_000,)
    study.specialist_tokens = (10_000, 50_000)
    study.sizes_with_largest_only = False  # smaller budgets with the smallest set alone
    study.largest_only = ()  # arms that are run with the largest budget alone
    study.first_seed_only = ()  # arms that are run for the first seed alone
    study.histogram_k = (4, 16, 64, 256)  # clusters whose histograms the report tabulates
    return study


def override(config: ConfigDict, change: str) -> None:
    """Sets "FIELD=VALUE" in an unlocked config.

    Raises:
      UserError: no such field, or a value of another type.
    """
    name, given, text = change.partition("=")
    *sections, field = name.split(".")
    part = config
    for section in sections:
        part = part.get(section) if isinstance(part, ConfigDict) else None
    if not given or not isinstance(part, ConfigDict) or field not in part:
        raise UserError(
            f"{change!r}: no such field {name!r}; write FIELD=VALUE as in model.d_model=96."
        )
    try:
        free = part.get_type(field) is object  # takes words as well, see `default`
        value = (
            text
            if isinstance(part[field], str) or (free and text.isalpha())
            else (ast.literal_eval(text))
        )
        part[field] = value
    except (ValueError, SyntaxError, TypeError) as error:
        raise UserError(f"{change!r}: {name} takes values like {part[field]!r}.") from error


def load(path: str, overrides: Sequence[str] = ()) -> ConfigDict:
    """Reads a config file, applies `--config.a.b=value` overrides, checks it, locks it.

    Raises:
      UserError: the file is missing or has no `get_config`; an override names an unknown field
        (the nearest name is given) or has a value of the wrong type; a setting is out of range.
    """
    argv = ["specialm", f"--config={config_files.find(path)}", *overrides]
    values = flags.FlagValues()
    try:
        holder = config_flags.DEFINE_config_file("config", None, flag_values=values, sys_argv=argv)
        values(argv)
        config = holder.value
    except (AttributeError, flags.Error, TypeError, ValueError, KeyError) as error:
        raise UserError(_explain(path, error)) from error
    if not isinstance(config, ConfigDict):
        raise UserError(f"--config={path}: get_config() must return a ConfigDict.")
    config.lock()
    check(config)
    return config


def _explain(path: str, error: Exception) -> str:
    text = str(error).replace("\\n", "\n").replace("\\'", "'").replace('\\"', '"').strip("\"'\n ")
    if isinstance(error, AttributeError | KeyError):
        return f"--config={path}: no such field: {' '.join(text.split())}"
    return f"--config={path}: {text}"


def check(config: ConfigDict) -> None:
    """Imports the modules that register methods; raises UserError for a value that no command
    could work with.
    """
    methods.import_modules(config.method_modules)
    _one_of("clustering.encoder", config.clustering.encoder, ENCODERS)
    _one_of("clustering.method", config.clustering.method, ("full", "minibatch", "tree"))
    levels.check(config.clustering.branching, config.clustering.level)
    for method in (config.method, *config.methods):
        _one_of("method", method, methods.choices())
    _one_of("train.optimizer", config.train.optimizer, ("adam", "adamw"))
    _one_of("train.schedule", config.train.schedule, ("constant", "cosine"))
    _one_of("model.dtype", config.model.dtype, ("float32", "bfloat16"))
    _one_of("train.moment_dtype", config.train.moment_dtype, ("float32", "bfloat16"))
    _one_of("expert.choice", config.expert.choice, CHOICES)
    _one_of("model.remat", config.model.remat, ("none", "dots", "full"))
    for name in (
        "data.context",
        "data.vocabulary_size",
        "clustering.k",
        "clustering.sample",
        "model.num_layers",
        "model.d_model",
        "model.num_heads",
        "model.d_ff",
        "model.num_experts",
        "train.tokens",
        "train.groups",
        "train.histogram_support",
        "train.batch_size",
        "finetune.batch_size",
        "finetune.eval_every",
    ):
        value = _get(config, name)
        if value < 1:
            raise UserError(f"{name}={value}: must be at least 1.")
    if config.model.d_model % config.model.num_heads:
        raise UserError(
            f"model.num_heads={config.model.num_heads} does not divide "
            f"model.d_model={config.model.d_model}."
        )
    for name, least in (
        ("expert.index", -1),
        ("expert.halving_steps", 1),
        ("mesh.fsdp", 1),
        ("mesh.model", 1),
        ("mesh.expert", 0),
    ):
        if not least <= _get(config, name) < math.inf:
            raise UserError(f"{name}={_get(config, name)}: must be at least {least}, and finite.")
    _check_repetition(config.clustering)
    for name, rest in (
        ("train.trunk_fraction", "for the experts"),
        ("train.importance_start", "to be drawn by importance"),
    ):
        if _get(config, name) == 1:
            raise UserError(f"{name}=1.0: nothing is left {rest}; must be below 1.")
    if config.train.specialist_fraction and not methods.get(config.method).is_dense:
        raise UserError(
            f"train.specialist_fraction={config.train.specialist_fraction}: only dense "
            f"models can have specialist text mixed in, not method={config.method!r}."
        )
    for name in (
        "train.decay_fraction",
        "train.trunk_fraction",
        "train.specialist_fraction",
        "train.specialist_start",
        "train.importance_start",
        "clustering.smoothing",
        "clustering.power",
        "data.generic_fraction",
        "data.generic_heldout_fraction",
        "data.specialist_heldout_fraction",
        "data.specialist_valid_fraction",
    ):
        if not 0 <= _get(config, name) <= 1:
            raise UserError(f"{name}={_get(config, name)}: must be between 0 and 1.")
    for domain in (*config.domains, *([config.domain] if config.domain else [])):
        _one_of("domain", domain, tuple(config.data.domains))


def _check_repetition(clustering: ConfigDict) -> None:
    cap = clustering.max_repetitions
    number = isinstance(cap, int | float) and not isinstance(cap, bool)
    if cap != "auto" and not (number and 0 <= cap < math.inf):
        raise UserError(
            f"clustering.max_repetitions={cap}: must be at least 0, and finite, or 'auto'."
        )
    for value in clustering.candidates:
        if not isinstance(value, int) or value < 1:
            raise UserError(
                f"clustering.candidates={clustering.candidates}: must be whole numbers above 0."
            )
        if clustering.method == "tree":
            levels.check(clustering.branching, value)


def _get(config: ConfigDict, name: str):
    for part in name.split("."):
        config = config[part]
    return config


def _one_of(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value in choices:
        return
    near = difflib.get_close_matches(str(value), choices, n=1, cutoff=0.4)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise UserError(f"{name}={value!r}: must be one of {', '.join(choices)}.{hint}")
