"""Every setting changes the key of exactly the stages that read it, or is in a list of those that
change no result, each with why. A new setting fails here until it does either.

Nothing is computed but the stages up to the clusters, once: later stages are only named, and what
they would have come to is made up. A stage gets the same fingerprints of earlier stages whatever is
changed, so that a key is seen to change by itself, not because an earlier one did.
"""

import copy
import types

import conftest
import numpy as np
import pytest

from specialm import config as config_lib
from specialm.clustering import encoders
from specialm.common.errors import UserError
from specialm.common.stages import Stage, Stages, fingerprint
from specialm.data.store import WindowStore
from specialm.data.vocabularies import Vocabulary
from specialm.models import families
from specialm.settings import SETTINGS, of_section
from specialm.training import runs
from specialm.workflows import experts, heldout, pipeline, pretraining

K, FILE = 4, "vocabulary.model"

# The stages whose keys a setting is in by itself: of its section, and where it differs.
OF_SECTION = {
    "model": {"pretrained"},
    "train": {"pretrained", "finetuned"},
    "finetune": {"finetuned"},
}
SCANS, WINDOWS = {"scan"}, {"windows"}
STAGES = {
    "method": {"encoder", "embeddings", "clusters", "pretrained", "finetuned"},
    "seed": {"pretrained", "finetuned"},
    "data.generic": SCANS,
    "data.domains": SCANS,
    "data.generic_fraction": SCANS,
    "data.field": SCANS,
    "data.max_document_bytes": SCANS,
    "data.part_chars": SCANS,
    "data.context": WINDOWS | {"pretrained"},  # it is one of the model's sizes too
    "data.vocabulary_size": {"vocabulary"},
    "data.vocabulary_sample_bytes": {"vocabulary"},
    "data.generic_heldout_fraction": {"vocabulary", "windows"},
    "data.specialist_heldout_fraction": WINDOWS,
    "data.specialist_valid_fraction": WINDOWS,
    "data.specialist_tokens": {"embeddings", "losses", "finetuned", "contamination", "proxy"},
    "data.valid_tokens": {"finetuned", "contamination", "proxy"},
    "data.heldout_tokens": {"scores", "contamination"},
    "clustering.encoder": {"encoder", "embeddings"},
    "clustering.max_tokens": {"embeddings"},
    "clustering.dim": {"encoder"},
    "clustering.k": {"clusters"},
    "clustering.method": {"clusters"},
    "clustering.iterations": {"clusters"},
    "clustering.branching": {"clusters"},
    "clustering.level": {"clusters", "pretrained"},
    "clustering.sample": {"clusters"},
    "clustering.seed": {"encoder", "clusters", "proxy"},
    "clustering.smoothing": {"pretrained"},
    "clustering.power": {"pretrained"},
    "clustering.max_repetitions": {"pretrained"},
    "clustering.candidates": {"proxy"},
    "model.num_experts": {"clusters", "pretrained"},
    "train.trunk_fraction": {"pretrained"},
    "train.expert_multiplier": {"pretrained"},
    "train.importance_start": {"pretrained"},
    "train.groups": {"pretrained"},
    "train.histogram_support": {"pretrained"},
    "train.mixer_multiplier": {"pretrained"},
    "model.only_expert": {"pretrained", "experts", "finetuned"},
    "expert.choice": {"losses", "experts", "finetuned"},
    "expert.index": {"experts", "finetuned"},
    "expert.halving_steps": {"finetuned"},
}

COMPUTED = "how it is computed, sums in another order: tests/training/test_meshes.py"
SHOWN = "what is written down on the way: tests/training/test_loop.py"
WHICH = "which stages there are, each with a key of its own"
NO_RESULT = {
    "title": "a heading",
    "method_modules": "what they register is in the keys by its content",
    "domain": WHICH,
    "methods": WHICH,
    "domains": WHICH,
    "seeds": WHICH,
    "data.corpora_root": "where files lie; what they hold is in the key of their scan",
    "data.seqio_modules": "what they register is named by the source",
    "data.vocabulary": "the file's own hash is in the key of the windows, below",
    "data.shard_tokens": "the same windows in other files: tests/data/test_data_values.py",
    "clustering.encoder_path": "where the weights lie; their hash is in the encoder's fingerprint",
    "model.attention": COMPUTED,
    "train.microbatch": COMPUTED,
    "mesh.fsdp": COMPUTED,
    "mesh.model": COMPUTED,
    "mesh.expert": COMPUTED,
    "evaluate.batch_size": "tests/training/test_scoring.py has the same sums in any batches",
    "evaluate.contamination_check": "whether there is a check, with a key of its own",
    "train.log_every": SHOWN,
    "train.checkpoint_every": SHOWN,
    "train.tensorboard": SHOWN,
    "train.wandb": SHOWN,
    "train.profile_steps": SHOWN,
    "finetune.checkpoint_every": "tests/specialize/test_finetune.py resumes from any of them",
    **{setting.name: WHICH for setting in of_section("study")},
    **{setting.name: "no stage" for setting in of_section("generate")},
}

# Where a setting is read: the method or methods (else slm_is), and other settings.
METHOD: dict[str, str | tuple[str, ...]] = {
    "model.num_experts": "slm_pn",
    "model.bank_size": "slm_pn",
    "model.code_size": "slm_pn",
    "model.bank_layers": "slm_pn",
    "model.spread": "slm_pn",
    "model.mixer_hidden": "slm_hn",
    "model.only_expert": "slm_mix",
    "train.groups": "slm_pn",
    "train.histogram_support": "soup",
    "train.mixer_multiplier": "slm_pn",
    "train.trunk_fraction": "slm_mix",
    "train.expert_multiplier": "slm_mix",
    "mesh.expert": "slm_mix",
    "expert.choice": "slm_mix",
    "expert.index": "slm_mix",
    "expert.halving_steps": "slm_mix",
    "data.specialist_tokens": ("slm_is", "slm_mix"),
}
TREE = {"clustering.method": "tree"}  # of four leaves
LOSSES = TREE | {"expert.choice": "loss"}
WITH: dict[str, dict] = {
    "clustering.branching": TREE,
    "clustering.level": TREE,
    "clustering.sample": TREE,
    "clustering.max_tokens": {"clustering.encoder": "minilm"},
    "data.valid_tokens": {"clustering.candidates": (2, K)},
    "data.specialist_tokens": {"clustering.candidates": (1, 2)} | LOSSES,
    "clustering.seed": {"clustering.candidates": (2, K)},
    "expert.choice": TREE,
    "expert.index": TREE,
    "expert.halving_steps": TREE | {"expert.choice": "halving"},
    "train.specialist_start": {"train.specialist_fraction": 0.5},
    "finetune.distill_weight": {"teacher": True},
    "finetune.distill_temperature": {"teacher": True},
    "finetune.distill_top_k": {"teacher": True},
    "finetune.lora_alpha": {"finetune.lora_rank": 2},
    "finetune.lora_matrices": {"finetune.lora_rank": 2},
    "finetune.full_rate_tokens": {"finetune.learning_rate": 0.0},
    "clustering.max_repetitions": {"train.tokens": 130_000},  # some windows more than once
    "model.bank_layers": {"model.num_layers": 2},
    "model.exits": {"model.num_layers": 2},
    "model.rope_base": {"model.positions": "rope"},
    "model.rope_factor": {"model.positions": "rope"},
}
# What it is changed to, where twice the value, one more or the opposite would not do.
OTHERS = {
    "data.domains": None,  # see `changed`
    "data.generic": None,
    "data.field": "id",
    "data.generic_fraction": 0.5,
    "data.part_chars": 300,
    "data.specialist_tokens": 300,
    "data.valid_tokens": 0,
    "data.heldout_tokens": 0,
    "clustering.encoder": "minilm",
    "clustering.method": "minibatch",
    "clustering.branching": (2, 3),
    "clustering.level": 1,
    "clustering.sample": 50,
    "clustering.smoothing": 0.5,
    "clustering.power": 0.5,
    "clustering.max_repetitions": 1.0,
    "clustering.candidates": (2, K),
    "model.num_heads": 4,
    "model.num_kv_heads": 1,
    "model.head_size": 6,
    "model.dtype": "bfloat16",
    "model.remat": "dots",
    "model.norm": "rmsnorm",
    "model.positions": "rope",
    "model.mlp": "swiglu",
    "model.head": "untied",
    "model.attention": "fused",
    "model.bank_layers": (0,),
    "model.exits": (1,),
    "model.only_expert": 1,
    "train.objective": "masked",
    "train.groups": 4,
    "train.histogram_support": 2,
    "train.optimizer": "adam",
    "train.schedule": "constant",
    "train.moment_dtype": "bfloat16",
    "finetune.full_rate_tokens": 1,
    "finetune.lora_matrices": ("qkv",),
    "expert.choice": "loss",
    "expert.index": 1,
    "method": "slm",
    "seed": 1,
    "mesh.fsdp": 2,
}
ONE_CHOICE = ("model.embedder",)  # there is no other value yet


class Named(Stages):
    """Computes the stages up to the clusters in the first run; afterwards keys are only noted, and
    results are those of that run, or made up.
    """

    def __init__(self, root, first=None, salt=None):
        super().__init__(root, quiet=True)
        self.first, self.salt, self.keys = first, salt or {}, {}

    def run(self, name, inputs, work, on_all=False):
        self.keys[name] = fingerprint(inputs)
        was = (self.first or {}).get(name)
        of = kind(name)
        if not was and of in MADE_UP:
            path = self.path(name, inputs)
            path.mkdir(parents=True, exist_ok=True)
            result = MADE_UP[of](path, work)
            was = Stage(name, path, result, 0.0, False, of)
        elif not was and not self.first:
            was = super().run(name, inputs, work, on_all)
        if not was:
            raise NewStageError(name)
        self.done.append(was)
        salted = fingerprint([was.fingerprint, self.salt.get(of, "")])
        return Stage(name, was.path, was.result, 0.0, True, salted)


class NewStageError(Exception):
    """What is changed is in the name of a stage before the clusters."""


ENTRY = {"phase": "p", "tokens": 1, "flops": 1, "seconds": 0.0, "valid_nll": 1.0}
MADE_UP = {  # kind of stage -> (folder, work) -> result
    "pretrained": lambda path, work: work(path),
    "experts": lambda path, work: work(path),
    "finetuned": lambda path, work: work(path),
    "losses": lambda path, work: {"nll": [1.0, 2.0, 3.0, 4.0], **ENTRY},
    "proxy": lambda path, work: {"bits_per_byte": [1.0, 2.0]},
    "scores": lambda path, work: {"linalg": {"nll": 1.0, "tokens": 1, "bytes": 1, "windows": 1}},
    "contamination": lambda path, work: {
        "linalg": {"places": [], "too_short": 0, "trained": 1, "leaked": 0, "covered": 0},
        "places": [],
        "too_short": 0,
        "trained": 1,
        "leaked": 0,
        "covered": 0,
    },
}


@pytest.fixture(scope="module")
def nothing_is_trained():
    """What trains, reads and writes parameters does none of it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pretraining.loop, "pretrain", lambda *given: dict(ENTRY))
        patch.setattr(pretraining.memory, "check_devices", lambda *given: None)
        patch.setattr(pipeline.finetune_lib, "finetune", lambda *given: dict(ENTRY))
        patch.setattr(pipeline.distill, "distill", lambda *given: dict(ENTRY))
        patch.setattr(experts, "_projection", lambda *given: lambda histogram_k: None)
        nothing = types.SimpleNamespace(copytree=lambda *a, **b: None, copyfile=lambda *a: None)
        patch.setattr(experts, "shutil", nothing)
        patch.setattr(runs, "save", lambda path, params: None)
        patch.setattr(runs, "load", described)
        make = encoders.make_encoder
        patch.setattr(encoders, "make_encoder", lambda *a, **b: minilm(*a, **b) or make(*a, **b))
        yield


def minilm(name, path=None, max_tokens=None, **rest):
    """What is read of an encoder whose weights are not here."""
    if name != "minilm":
        return None
    return types.SimpleNamespace(name=name, fingerprint=f"{name} {max_tokens}")


def described(path, mesh, kinds=()):
    """The model of a run folder without its parameters."""
    record = runs.read_record(path)
    config = families.from_record(record["kind"], record["model"])
    vocabulary = Vocabulary(path / FILE)
    return types.SimpleNamespace(config=config, params=None, vocabulary=vocabulary, record=record)


@pytest.fixture(scope="module")
def project(tmp_path_factory, nothing_is_trained):
    """(config, folder, stages up to the clusters)."""
    root = tmp_path_factory.mktemp("keys")
    conftest.write_docstrings(root)
    (root / "other.jsonl").write_text((root / "linalg.jsonl").read_text())
    (root / "config.py").write_text(conftest.BANK_CONFIG.format(root=root))
    config = config_lib.load(str(root / "config.py")).unlock()
    config.domain, config.clustering.k, config.clustering.branching = "linalg", K, (2, 2)
    config.train.histogram_support = 1
    first = {}
    # Two clusters: their numbers are those of some of any more.
    for changes in ({"clustering.k": 2}, {"clustering.method": "tree"}):
        stages = Named(root / "run")
        go_on(changed(config, changes), stages, "slm_is")
        first = {
            stage.name: stage for stage in stages.done if kind(stage.name) not in MADE_UP
        } | first
    return config, root / "run", first


def go_on(config, stages, method, teacher=False):
    """All stages of `train`, `specialize` and `evaluate`."""
    config.method = method
    run = pipeline.open_run(config, stages.root, ["linalg"], (method,), stages)
    model = pretraining.pretrain(run, method, "linalg", config.seed)
    given = run, model.path, "linalg", config.seed, model.fingerprint
    tuned = experts.specialize(*given)
    if teacher:
        tuned = experts.specialize(*given, pipeline.Teacher(tuned.path, "teacher"))
    pipeline.score_heldout(run, tuned.path, ["linalg"], tuned.fingerprint, "tuned")
    heldout.check(run, ["linalg"])
    return run, model, tuned


def part_of(config, name):
    for section in name.split(".")[:-1]:
        config = config[section]
    return config


def changed(config, changes):
    config = copy.deepcopy(config).unlock()
    for name, value in changes.items():
        part_of(config, name)[name.rpartition(".")[2]] = value
    return config


def other(config, name):
    """Another value of a setting."""
    if name == "data.generic":
        return config.data.generic.replace("generic.jsonl", "other.jsonl")
    if name == "data.domains":
        return {"linalg": config.data.domains["linalg"].replace("linalg.jsonl", "other.jsonl")}
    if name in OTHERS:
        return OTHERS[name]
    value = part_of(config, name)[name.rpartition(".")[2]]
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if name in NO_RESULT and isinstance(value, str | tuple):
        return value * 2 or type(value)("x")
    assert isinstance(value, float), f"OTHERS needs another value of {name}={value!r}"
    return value / 2 if value else 0.25


def keys(project, method, changes):
    """{stage: its key} with these settings."""
    config, root, first = project
    stages, changes = Named(root, first), dict(changes)
    teacher = changes.pop("teacher", False)
    try:
        go_on(changed(config, changes), stages, method, teacher)
    except NewStageError:
        pass
    return stages.keys


def base(project, method, given, known={}):  # noqa: B006 (it is meant to last)
    """The same, found once."""
    which = (project[1], method, repr(sorted(given.items())))
    if which not in known:
        known[which] = keys(project, method, given)
    return known[which]


def kind(name):
    """Of a stage."""
    return name.partition("/")[0]


def changed_kinds(project, name):
    """The kinds of stages whose keys another value of a setting changes."""
    used, given, found = METHOD.get(name, "slm_is"), WITH.get(name, {}), set()
    settings = {key: value for key, value in given.items() if key != "teacher"}
    value = other(changed(project[0], settings), name)
    for method in (used,) if isinstance(used, str) else used:
        before = base(project, method, given)
        after = keys(project, value if name == "method" else method, given | {name: value})
        found |= {kind(stage) for stage, _ in before.items() ^ after.items()}
    return found


KEYED = [name for name in SETTINGS if name not in NO_RESULT and name not in ONE_CHOICE]
# Another value of these is no other value of the same stages, or is not here.
NO_OTHER = ("domain", "domains", "methods", "method_modules", "data.vocabulary", "study.arms")


def test_every_setting_is_in_one_list():
    assert not set(NO_RESULT) & set(STAGES)
    for names in (NO_RESULT, STAGES, METHOD, WITH, OTHERS, ONE_CHOICE, NO_OTHER):
        assert set(names) <= set(SETTINGS)
    assert all(len(SETTINGS[name].allowed()) == 1 for name in ONE_CHOICE)
    assert all(NO_RESULT.values())


@pytest.mark.parametrize("name", KEYED)
def test_a_setting_is_in_the_keys_of_the_stages_that_read_it(project, name):
    want = STAGES.get(name) or OF_SECTION[SETTINGS[name].section]
    assert changed_kinds(project, name) == want


@pytest.mark.parametrize("name", [n for n in NO_RESULT if n not in NO_OTHER])
def test_what_changes_no_result_changes_no_key(project, name):
    assert changed_kinds(project, name) == set()


def test_a_given_vocabulary_is_in_the_key_by_its_content(project, tmp_path):
    config, root, first = project
    another = tmp_path / FILE
    unknown_field = b"\xc0\x3e\x01"  # of the format's, which changes nothing but the content
    another.write_bytes((first["vocabulary"].path / FILE).read_bytes() + unknown_field)
    trained = keys(project, "slm_is", {})
    same = keys(project, "slm_is", {"data.vocabulary": str(first["vocabulary"].path / FILE)})
    assert {kind(name) for name, _ in trained.items() ^ same.items()} == {"vocabulary"}
    stages = Named(root, first)
    with pytest.raises(UserError, match="this store was written with vocabulary"):
        go_on(changed(config, {"data.vocabulary": str(another)}), stages, "slm_is")
    assert stages.keys["windows/generic-train"] != same["windows/generic-train"]


# What a key has of earlier stages.
@pytest.mark.parametrize(
    ("method", "of", "want"),
    [
        ("slm_is", "embeddings", {"clusters"}),
        ("slm_is", "clusters", {"clusters", "pretrained"}),
        ("slm_is", "pretrained", {"finetuned"}),
        ("slm_is", "finetuned", {"scores"}),
        ("slm_pn", "clusters", {"clusters", "pretrained", "losses"}),  # by the model's folder
        ("slm_pn", "pretrained", {"experts", "losses"}),
        ("slm_pn", "experts", {"finetuned"}),
    ],
)
def test_a_key_has_the_stages_that_it_builds_on(project, method, of, want):
    config, root, first = project
    found = []
    for salt in ({}, {of: "another"}):
        stages = Named(root, first, salt)
        go_on(changed(config, LOSSES), stages, method)
        found.append(stages.keys.items())
    assert {kind(name) for name, _ in found[0] ^ found[1]} == want


def test_every_stage_that_reads_windows_has_their_fingerprint(project, monkeypatch):
    def made():
        both = keys(project, "slm_mix", LOSSES)
        return both | keys(project, "slm_is", {"clustering.candidates": (2, K)})

    before = made()
    was = WindowStore.fingerprint
    monkeypatch.setattr(WindowStore, "fingerprint", property(lambda s: "+" + was.fget(s)))
    after = made()
    assert {kind(name) for name, _ in before.items() ^ after.items()} == {
        "encoder",
        "embeddings",
        "pretrained",
        "losses",
        "finetuned",
        "scores",
        "contamination",
        "proxy",
    }


def test_scores_of_some_windows_have_them_in_their_key(project):
    config, root, first = project
    stages = Named(root, first)
    run, _, tuned = go_on(changed(config, {}), stages, "slm_is")
    found = set()
    for windows in (None, {"linalg": np.arange(3)}, {"linalg": np.arange(4)}):
        pipeline.score_heldout(run, tuned.path, ["linalg"], tuned.fingerprint, "some", windows)
        found.add(stages.keys["scores/some"])
    assert len(found) == 3
