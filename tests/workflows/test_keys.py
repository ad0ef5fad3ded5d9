"""Every setting changes the key of the first stage that depends on it, or is in a short list of
those that change no result, each with why. A setting that neither does fails here."""

import copy

import conftest
import numpy as np
import pytest
from ml_collections import ConfigDict

from specialm import config as config_lib
from specialm.common.errors import UserError
from specialm.common.stages import Stage, Stages, fingerprint
from specialm.data.store import WindowStore
from specialm.workflows import experts, finetuning, pipeline, pretraining

METHODS = ("slm_is", "slm_pn", "slm_mix", "soup", "dsir")

NO_RESULT = {
    "title": "a heading",
    "method": "in the name of a stage",
    "methods": "which stages there are",
    "baselines": "which stages there are",
    "domain": "in the name of a stage",
    "domains": "which stages there are",
    "seeds": "which stages there are",
    "method_modules": "what they register is in the keys by its content",
    "data.domains": "a domain's source is in the key of its scan, as data.generic is",
    "data.corpora_root": "where files lie; they themselves are in the key of the scan",
    "data.seqio_modules": "what they register is named by the source",
    "data.shard_tokens": "the same windows in other files",
    "data.vocabulary": "a vocabulary's hash is in the key of the windows",
    "clustering.encoder": "its fingerprint is in the key of the embeddings; minilm is not here",
    "clustering.encoder_path": "as clustering.encoder",
    "clustering.max_tokens": "as clustering.encoder",
    "clustering.candidates": "what is chosen of them is clustering.k, whose clusters are in the keys",
    "clustering.choose_by": "as clustering.candidates",
    "clustering.targets": "the draws, which it changes, are in the key: test_rules.py",
    "clustering.level": "in the fingerprint of the clusters: tests/clustering",
    "evaluate": "how many windows are scored at once; whether there is a check besides",
    "generate": "no stage",
    "study": "which stages there are",
    "mesh": "how it is computed: sums in another order",
    "model.attention": "how it is computed",
    "train.feed": "the same windows; a feed of one's own is in the key by its content: test_feeds.py",
    "train.microbatch": "how it is computed",
    "train.log_every": "how often is reported",
    "train.checkpoint_every": "how often is saved",
    "train.keep_branch": "a state of it is kept beside",
    "train.tensorboard": "more files of metrics",
    "train.wandb": "metrics go elsewhere too",
    "train.init_learning_rate": "with --init it is train.learning_rate in the key: test_initial.py",
    "train.profile_steps": "a trace beside",
    "finetune.checkpoint_every": "how often is saved",
    "expert.halving_steps": "steps of a round are in the name and the key of its stage",
}

# Settings that are read only if others are set.
WITH = {
    "clustering.branching": {"clustering.method": "tree", "clustering.branching": (2, 2)},
    "clustering.pseudo_windows": {"clustering.histogram": "backoff"},
    "clustering.sample": {"clustering.method": "tree", "clustering.branching": (2, 2)},
    "clustering.max_repetitions": {"train.tokens": 200_000},
    "model.bank_layers": {"model.num_layers": 2},
    "model.exits": {"model.num_layers": 2},
    "train.specialist_start": {"train.specialist_fraction": 0.5},
    "train.patience": {"train.valid_every": 1},
    "train.dropout_schedule": {"train.dropout": 0.1},
    "train.dropout_fraction": {"train.dropout": 0.1, "train.dropout_schedule": "early"},
    "train.quantize_from": {"train.quantize_bits": 4},
    "train.final_fraction": {"train.decay_fraction": 0.5},
    "finetune.replay_draws": {"finetune.replay_fraction": 0.5},
    "finetune.distill_heads": {"finetune.distill_terms": ("value",)},
    "finetune.distill_layer": {"finetune.distill_terms": ("value",)},
    "finetune.lora_alpha": {"finetune.lora_rank": 2},
    "finetune.lora_matrices": {"finetune.lora_rank": 2},
    "finetune.lora_targets": {"finetune.lora_rank": 2},
    "finetune.dora": {"finetune.lora_rank": 2},
    "model.global_every": {"model.sliding_window": 4},
    "model.local_rope_base": {"model.sliding_window": 4, "model.positions": "rope"},
    "model.rope_base": {"model.positions": "rope"},
    "model.rope_factor": {"model.positions": "rope"},
    "model.embedder": {"model.head": "untied"},
    **{
        f"model.byte_{name}": {"model.embedder": "bytes", "model.head": "bytes"}
        for name in ("slots", "classes", "size", "heads", "layers", "head_layers")
    },
    **{f"model.ngram_{name}": {"model.embedder": "ngrams"} for name in ("order", "rows")},
    "model.embed_rank": {"model.embedder": "bytes"},
    "model.share_rank": {"model.share": ("mlp:all+low_rank",)},
}

# What a setting is changed to, where twice the value, 0.25 for 0 or the opposite would not do.
OTHERS = {
    "train.optimizer": "adam",
    "train.schedule": "constant",
    "train.dropout_schedule": "linear",
    "train.objective": "masked",
    "train.moment_dtype": "bfloat16",
    "train.second_moment_dtype": "bfloat16",
    "train.param_dtype": "bfloat16",
    "train.quantize_bits": 4,
    "finetune.quantize_bits": 4,
    "train.groups": 4,
    "train.trunk_fraction": 0.5,
    "model.dtype": "bfloat16",
    "model.norm": "rmsnorm",
    "model.positions": "rope",
    "model.mlp": "swiglu",
    "model.head": "untied",
    "model.head_size": 6,
    "model.num_kv_heads": 1,
    "model.only_expert": 1,
    "model.bank_layers": (0,),
    "model.exits": (0,),
    "model.remat": "full",
    "model.share": ("mlp:all",),
    "model.embedder": "bytes",
    "clustering.method": "minibatch",
    "clustering.branching": (4,),
    "clustering.sample": 50,
    "clustering.smoothing": 0.5,
    "clustering.histogram": "backoff",
    "clustering.max_repetitions": 1.0,
    "data.field": "id",
    "data.part_chars": 300,
    "data.vocabulary_kind": "bpe",
    "expert.choice": "loss",
    "expert.index": 1,
    "finetune.lora_matrices": ("qkv",),
    "finetune.lora_targets": "q=3,v",
    "finetune.replay_fraction": 0.5,
    "finetune.replay_draws": "importance",
    "finetune.average": 0.9,
    "finetune.distill_terms": ("value",),
}

FIRST = {  # the stages, one of whose keys has to change
    "data": ("scan", "vocabulary", "windows"),
    "data.specialist_tokens": ("finetuned",),
    "data.valid_tokens": ("finetuned",),
    "data.heldout_tokens": ("scores",),
    "clustering": ("encoder", "embeddings", "clusters"),
    "clustering.smoothing": ("pretrained",),
    "clustering.histogram": ("pretrained",),
    "clustering.pseudo_windows": ("pretrained",),
    "clustering.power": ("pretrained",),
    "clustering.max_repetitions": ("pretrained",),
    "model": ("pretrained",),
    "model.num_experts": ("clusters",),
    "train": ("pretrained",),
    "finetune": ("finetuned",),
    "expert": ("experts", "losses"),
    "seed": ("pretrained",),
}


class Keys(Stages):
    """Runs nothing: notes the keys, and gives what an earlier run came to."""

    def __init__(self, root, results):
        super().__init__(root, quiet=True)
        self.results, self.keys = results, {}

    def run(self, name, inputs, work, on_all=False):
        self.keys[name] = key = fingerprint(inputs)
        if name not in self.results:
            raise NewStageError
        was = self.results[name]
        return Stage(name, was.path, was.result, was.seconds, True, key)


class NewStageError(Exception):
    """No such stage was run before: the setting is in its name."""


def stages_of(config, stages, method, teacher=None):
    """All stages of `train` and `specialize`."""
    run = pipeline.open_run(config, stages.root, ["linalg"], (method,), stages)
    model = pretraining.pretrain(run, method, "linalg", config.seed)
    key = model.fingerprint
    tuned = experts.specialize(run, model.path, "linalg", config.seed, key, teacher)
    pipeline.score_heldout(run, tuned.path, ["linalg"], tuned.fingerprint, "tuned")
    return tuned


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """{method: (config, its finished stages, the fine-tuned model)}."""
    root = tmp_path_factory.mktemp("keys")
    conftest.write_docstrings(root)
    (root / "config.py").write_text(conftest.BANK_CONFIG.format(root=root))
    (root / "other.jsonl").write_text((root / "linalg.jsonl").read_text())
    made = {}
    for method in METHODS:
        config = config_lib.load(str(root / "config.py")).unlock()
        config.method, config.domain = method, "linalg"
        config.clustering.k, config.train.tokens = 4, 2 * 8 * 16
        config.finetune.max_steps = 2
        stages = Stages(root / "run", quiet=True)
        tuned = stages_of(config, stages, method)
        made[method] = (config, {stage.name: stage for stage in stages.done}, tuned)
    return made


def keys(base, method, changes):
    """{stage: its key} with these settings changed."""
    config, results, tuned = base[method]
    changed = copy.deepcopy(config).unlock()
    for name, value in changes.items():
        config_of(changed, name)[name.rpartition(".")[2]] = value
    root, teacher = tuned.path.parents[1], None
    if any(name.startswith("finetune.distill") for name in changes):
        teacher = finetuning.Teacher(tuned.path, tuned.fingerprint)
    stages = Keys(root, results)
    try:
        stages_of(changed, stages, method, teacher)
    except (NewStageError, UserError):
        pass  # it does not fit what follows; the keys until here are noted
    return stages.keys


def config_of(config, name):
    """The section that a setting is in."""
    for section in name.split(".")[:-1]:
        config = config[section]
    return config


def leaves(part, prefix=""):
    for name, value in part.items():
        name = f"{prefix}{name}"
        if name in NO_RESULT:
            continue
        if isinstance(value, ConfigDict):
            yield from leaves(value, f"{name}.")
        else:
            yield name


SETTINGS = tuple(leaves(config_lib.default()))


def other(config, name):
    """Another value of a setting."""
    if name == "data.generic":
        return config.data.generic.replace("generic.jsonl", "other.jsonl")
    value = config_of(config, name)[name.rpartition(".")[2]]
    if name in OTHERS:
        return OTHERS[name]
    if isinstance(value, bool):
        return not value
    assert isinstance(value, int | float), f"{name}={value!r}: OTHERS has no other value for it"
    if value == 0 or isinstance(value, int):
        return value + 1 if value == 0 else 2 * value
    return 0.5 if value == 1.0 else 2 * value


def first(name):
    return FIRST.get(name) or FIRST[name.partition(".")[0]]


@pytest.mark.parametrize("name", SETTINGS)
def test_a_setting_is_in_a_key(base, name):
    changed = set()
    for method in METHODS:
        with_others = WITH.get(name, {})
        if name.startswith("finetune.distill"):
            with_others = with_others | {"finetune.distill_weight": 0.5}
        before = keys(base, method, with_others)
        value = other(base[method][0], name)
        after = keys(base, method, with_others | {name: value})
        changed |= {stage.partition("/")[0] for stage, _ in before.items() ^ after.items()}
    assert changed & set(first(name)), (name, changed)


@pytest.mark.parametrize("split", ["train", "valid"])
def test_a_store_of_the_specialist_is_in_the_key_of_fine_tuning(base, monkeypatch, split):
    """By itself: the key of a bank, on which it builds, has none of them."""
    before, real = keys(base, "slm_pn", {}), WindowStore.fingerprint

    def fingerprint(store):
        other = "other text" if store.path.name.startswith(f"linalg-{split}") else ""
        return real.__get__(store) + other

    monkeypatch.setattr(WindowStore, "fingerprint", property(fingerprint))
    after = keys(base, "slm_pn", {})
    changed = {stage.partition("/")[0] for stage, _ in before.items() ^ after.items()}
    assert "finetuned" in changed and "pretrained" not in changed, changed


def test_the_seed_is_in_the_key_of_pretraining(base):
    """By itself: the names of stages and the draws of other methods have it too."""
    config, results, tuned = base["slm_pn"]
    stages = Keys(tuned.path.parents[1], results)
    run = pipeline.open_run(config, stages.root, ["linalg"], (), stages)
    for seed in (0, 1):
        with pytest.raises(NewStageError):
            pretraining.pretrain(run, "slm", "linalg", seed)
    found = {key for name, key in stages.keys.items() if name.startswith("pretrained/slm-")}
    assert len(found) == 2


def test_the_optimizers_settings_are_in_the_key_of_fine_tuning_a_given_model(base):
    """By itself: the key of a model that was pretrained here has them too."""
    config, results, tuned = base["slm_pn"]
    found = set()
    for clip_norm in (1.0, 0.5):
        changed = copy.deepcopy(config).unlock()
        changed.train.clip_norm = clip_norm
        stages = Keys(tuned.path.parents[1], results)
        run = pipeline.open_run(changed, stages.root, ["linalg"], (), stages)
        with pytest.raises(NewStageError):
            finetuning.finetune(run, tuned.path, "linalg", 0, "key", "given")
        found |= {key for name, key in stages.keys.items() if name.startswith("finetuned/")}
    assert len(found) == 2


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("losses/", [{"expert.choice": "loss", "data.specialist_tokens": n} for n in (1000, 100)]),
        ("experts/", [{"expert.index": n} for n in (0, 1)]),
    ],
)
def test_what_an_expert_is_chosen_by_is_in_the_key(base, kind, settings):
    """By itself: windows on which experts are judged, the histogram; the bank is the same."""
    config, results, tuned = base["slm_pn"]
    (bank,) = (stage for name, stage in results.items() if name.startswith("pretrained/"))
    found = set()
    for changes in settings:
        changed = copy.deepcopy(config).unlock()
        for name, value in changes.items():
            config_of(changed, name)[name.rpartition(".")[2]] = value
        stages = Keys(tuned.path.parents[1], results)
        run = pipeline.open_run(changed, stages.root, ["linalg"], (), stages)
        with pytest.raises(NewStageError):
            experts.take(run, bank.path, "linalg", "key")
        found |= {key for name, key in stages.keys.items() if name.startswith(kind)}
    assert len(found) == 2


def test_the_windows_that_are_scored_are_in_the_key(base):
    config, results, tuned = base["slm_pn"]
    stages, found = Keys(tuned.path.parents[1], results), set()
    run = pipeline.open_run(config, stages.root, ["linalg"], (), stages)
    for indices in ([0, 1], [0, 2], None):
        windows = indices and {"linalg": np.array(indices)}
        with pytest.raises(NewStageError):
            pipeline.score_heldout(run, tuned.path, ["linalg"], "key", "some windows", windows)
        found.add(stages.keys["scores/some windows"])
    assert len(found) == 3


@pytest.mark.parametrize(
    "name",
    ["data.shard_tokens", "train.microbatch", "train.log_every", "finetune.checkpoint_every"],
)
def test_what_changes_no_result_changes_no_key(base, name):
    for method in METHODS:
        config = base[method][0]
        assert keys(base, method, {}) == keys(base, method, {name: other(config, name)})
