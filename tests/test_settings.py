"""Wrong values: each is refused in one sentence with setting, value and range, before JAX is there."""

import copy
import importlib
import math
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import example, given
from hypothesis import settings as settings_of_hypothesis
from hypothesis import strategies as st
from ml_collections import ConfigDict

from specialm import cli, config, settings
from specialm.common.errors import UserError
from specialm.common.setting import MOST, Setting, Table
from specialm.planning import memory, precheck
from specialm.settings import SETTINGS, listing

ROOT = Path(__file__).parents[1]
LOCAL = "--config=configs/local/slm.py"


def beside(end: float, kind: type, up: bool) -> float:
    """The nearest value above or below an end of a range."""
    if kind is int:
        return int(end) + (1 if up else -1)
    return math.nextafter(end, math.inf if up else -math.inf)


def wrong_numbers(setting: Setting, kind: type) -> list:
    wrong: list = ["wide", None]
    wrong += [1.5, True] if kind is int else [math.nan, math.inf, -math.inf]
    if setting.least is not None:
        wrong.append(beside(setting.least, kind, up=False))
    if setting.above is not None:
        wrong += [kind(setting.above), -1.0]
    if setting.most is not None or kind is int:
        wrong.append(beside(MOST if setting.most is None else setting.most, kind, up=True))
    if setting.below is not None:
        wrong.append(kind(setting.below))
    return wrong


def wrong_values(setting: Setting) -> list:
    """What a setting must not be, from its row of the table."""
    kind = setting.value_type
    if kind in (int, float):
        return wrong_numbers(setting, kind)
    if kind is bool:
        return ["yes", 1, None]
    if kind is str:
        return [
            5,
            None,
            *(["nonsense"] if setting.choices else []),
            *([""] if setting.some else []),
        ]
    empty = [kind()] if setting.some else []
    if kind is dict:
        return [*empty, 5, {"med": 5}]
    each = wrong_numbers(setting, setting.of) if setting.of in (int, float) else [5, None]
    each += ["nonsense"] if setting.choices else []
    return [*empty, 5, *((value,) for value in each)]


WRONG = [(name, value) for name, setting in SETTINGS.items() for value in wrong_values(setting)]


@pytest.fixture(scope="module")
def base():
    return config.load(str(ROOT / "configs/local/slm.py"))


def put(base: ConfigDict, name: str, value) -> ConfigDict:
    """A config with a value that it may not have, as a config file could make it."""
    changed = copy.deepcopy(base).unlock()
    section, _, field = name.rpartition(".")
    part = config.find(changed, section)
    with part.ignore_type():
        part[field] = ConfigDict(value) if isinstance(value, dict) else value
    return changed


def test_there_are_at_least_195_and_two_of_every_setting():
    assert len(WRONG) >= 195
    assert min(len(wrong_values(setting)) for setting in SETTINGS.values()) >= 2


@pytest.mark.parametrize("name", SETTINGS)
def test_wrong_values_of_every_row(base, name):
    setting = SETTINGS[name]
    for value in wrong_values(setting):
        with pytest.raises(UserError) as error:
            config.check(put(base, name, value))
        message = str(error.value)
        assert message.startswith(f"{name}={value!r}: must be "), message
        told = message.partition(": must be ")[2]
        bounds = (setting.least, setting.most, setting.above, setting.below)
        ends = [
            f"{end:,}" if isinstance(end, int) else f"{end:g}" for end in bounds if end is not None
        ]
        assert "at most 2,147,483,647" in told or all(end in told for end in ends), message
        assert message.endswith((".", "?")) and "\n" not in message


@pytest.mark.parametrize("name", SETTINGS)
def test_defaults_and_the_ends_of_ranges_are_accepted(name):
    setting = SETTINGS[name]
    good = [setting.default]
    kind = setting.of if setting.value_type is tuple else setting.value_type
    if kind in (int, float):
        ends = [kind(end) for end in (setting.least, setting.most) if end is not None]
        ends += [] if setting.above is None else [beside(setting.above, kind, up=True)]
        ends += [] if setting.below is None else [beside(setting.below, kind, up=False)]
        good += [(end,) for end in ends] if setting.value_type is tuple else ends
    for value in good:
        setting.check(value)


# Command line: value -> what the sentence must say.
OVERRIDES = [
    ("train.learning_rate=-1", "train.learning_rate=-1.0: must be above 0, and finite"),
    ("train.learning_rate=nan", "train.learning_rate=nan: must be above 0, and finite"),
    ("train.learning_rate=inf", "train.learning_rate=inf: must be above 0, and finite"),
    ("train.learning_rate=fast", "--config.train.learning_rate=fast: must be a number, above 0"),
    ("train.warmup_steps=-5", "train.warmup_steps=-5: must be at least 0"),
    ("train.final_fraction=5", "train.final_fraction=5.0: must be between 0 and 1"),
    ("train.beta1=1", "train.beta1=1.0: must be at least 0 and below 1"),
    ("train.beta2=-0.1", "train.beta2=-0.1: must be at least 0 and below 1"),
    ("train.clip_norm=0", "train.clip_norm=0.0: must be above 0, and finite"),
    ("train.checkpoint_every=0", "train.checkpoint_every=0: must be at least 1"),
    ("finetune.checkpoint_every=0", "finetune.checkpoint_every=0: must be at least 1"),
    ("train.log_every=0", "train.log_every=0: must be at least 1"),
    ("train.microbatch=-1", "train.microbatch=-1: must be at least 0"),
    ("finetune.patience=-1", "finetune.patience=-1: must be at least 0"),
    ("data.specialist_tokens=-1", "data.specialist_tokens=-1: must be between 0 and 1,000,"),
    ("data.valid_tokens=-7", "data.valid_tokens=-7: must be between 0"),
    ("data.heldout_tokens=-7", "data.heldout_tokens=-7: must be between 0"),
    ("data.shard_tokens=0", "data.shard_tokens=0: must be between 1"),
    ("train.tokens=0", "train.tokens=0: must be between 1"),
    ("train.tokens=2.5", "--config.train.tokens=2.5: must be a whole number"),
    ("clustering.iterations=-1", "clustering.iterations=-1: must be at least 1"),
    ("evaluate.batch_size=0", "evaluate.batch_size=0: must be at least 1"),
    ("finetune.batch_size=0", "finetune.batch_size=0: must be at least 1"),
    ("generate.temperature=nan", "generate.temperature=nan: must be at least 0, and finite"),
    ("finetune.distill_temperature=nan", "finetune.distill_temperature=nan: must be above 0"),
    ("clustering.dim=0", "clustering.dim=0: must be at least 1"),
    ("seed=-1", "seed=-1: must be at least 0"),
    ("train.bank_every=0", "train.bank_every=0: must be at least 1"),
    ("train.bank_every=-2", "train.bank_every=-2: must be at least 1"),
    ("seeds=0,-1", "seeds=(0, -1): must be a tuple of whole numbers that is not empty, each at"),
    ("finetune.max_epochs=nan", "finetune.max_epochs=nan: must be above 0, and finite"),
    ("model.d_model=wide", "--config.model.d_model=wide: must be a whole number, at least 1."),
    ("model.qk_norm=maybe", "--config.model.qk_norm=maybe: must be True or False."),
    ("clustering.branching=(4,", "--config.clustering.branching=(4,: must be a tuple of whole"),
    ("model.mlp=relu", "model.mlp='relu': must be one of geglu, gelu, swiglu"),
    ("train.objective=next", "Did you mean 'next_token'?"),
    ("train.optimizer=adamm", "must be one of adam, adamw, muon. Did you mean 'adam"),
    ("study.largest_only=llm", "each one of slm, slm_is"),
    ("finetune.lora_matrices=qkw", "each one of qkv, out, up, down. Did you mean 'qkv'?"),
    # Names.
    ("model.d_mdel=5", "--config.model.d_mdel=5: there is no setting model.d_mdel. Did you mean"),
    ("trian.tokens=5", "there is no setting trian.tokens. Did you mean 'train.tokens'?"),
    ("train=5", "train is a section; set one of its settings"),
    ("data.domains.generic=folder:x", "data.domains.generic: a domain's name must"),
    ("data.domains.a/b=folder:x", "data.domains.a/b: a domain's name must"),
    (
        "data.domains.own=nowhere",
        "data.domains.own='nowhere': unknown scheme 'nowhere'; use folder",
    ),
    ("data.generic=http://x", "data.generic='http://x': unknown scheme 'http'"),
    # Several settings together.
    (
        "finetune.lora_targets=q=2",
        "finetune.lora_targets='q=2': LoRA is off; set finetune.lora_rank",
    ),
    ("model.num_heads=5", "model.num_heads=5 does not divide model.d_model=64."),
    ("model.num_kv_heads=3", "model.num_kv_heads=3 does not divide model.num_heads=4."),
    ("model.exits=9", "model.exits=(9,): must be different layers, from 1 to 1"),
    ("model.head_size=5", "model.positions='rope' turns pairs of numbers, but a head has 5"),
    ("clustering.level=3", "clustering.level=3: clustering.branching=(64, 64) has the levels 1"),
    ("clustering.branching=65536,65536", "whose product is below 2**31"),
    ("train.tokens=1e15", "train.tokens=1,000,000,000,000,000: in steps of train.batch_size=64"),
    # Sizes that cannot fit.
    ("model.d_model=100_000_000", "model.d_model=100000000"),
    ("model.d_model=1e8", "parameters, gradients and moments of the optimizer take at least"),
    ("train.batch_size=10_000_000_000", "must be at most 2,147,483,647"),
    ("train.batch_size=1e8", "train.batch_size=100000000, data.context=128: the tokens of a batch"),
    ("evaluate.batch_size=1e8", "evaluate.batch_size=100000000"),
    ("data.context=1e9", "data.context=1000000000"),
    ("data.vocabulary_size=1e9", "data.vocabulary_size=1000000000"),
    ("model.num_layers=1e7", "model.num_layers=10000000"),
    ("finetune.lora_rank=1e9", "finetune.lora_rank=1000000000"),
]


def test_heads_of_a_given_size_need_not_divide_the_width():
    given = ["--config.model.num_heads=5", "--config.model.head_size=8"]
    found = config.load(str(ROOT / "configs/local/slm.py"), given)
    assert found.model.num_heads == 5


@pytest.fixture
def small_machine(monkeypatch):
    """16 GB and no accelerator, whatever the tests run on."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr("specialm.planning.memory.host_memory", lambda: 16 * 10**9)
    monkeypatch.setattr("specialm.planning.memory.has_accelerator", lambda: False)


@pytest.mark.parametrize(("change", "message"), OVERRIDES)
def test_wrong_overrides(change, message, small_machine, capsys):
    assert cli.main(["check", LOCAL, f"--config.{change}"]) == 2
    told = capsys.readouterr()
    assert message in told.err and told.out == ""
    assert told.err.startswith("specialm: ") and told.err.count("\n") == 1, told.err


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["method=slm_is"], "config.domain is empty"),
        (["method=slm_nopt"], "method='slm_nopt' has no pretraining"),
        (["method=slm_pn", "train.groups=7"], "train.groups=7 does not divide"),
        (["method=slm_mix", "train.batch_size=40"], "train.batch_size=40 is not a multiple of"),
        (["method=slm_pn", "model.bank_layers=7"], "layer 7 does not exist"),
        (["method=slm_pn", "model.num_experts=1e9"], "of all experts take at least"),
        (["method=slm_mix", "model.num_experts=1e9", "train.batch_size=1e9"], "at least"),
        (["method=slm_is", "domain=med", "clustering.k=2e9"], "centroids take at least"),
        (["method=soup", "train.histogram_support=17"], "train.histogram_support=17"),
    ],
)
def test_what_a_method_cannot_work_with(changes, message, small_machine, capsys):
    overrides = [f"--config.{change}" for change in changes]
    assert cli.main(["check", LOCAL, *overrides]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    "change",
    [
        "train.warmup_steps=0",
        "finetune.patience=0",
        "finetune.checkpoint_every=30",
        "train.tokens=4e6",
        "domains=med,books",
        "domains=('med',)",
        "data.domains.own=folder:/x",
        "model.exits=1",
        "seed=2147483647",
        "train.tensorboard=false",
    ],
)
def test_what_is_sensible_is_accepted(change, small_machine, capsys):
    assert cli.main(["check", LOCAL, f"--config.{change}"]) == 0
    assert "train can run on this machine" in capsys.readouterr().out


def test_every_config_fits_and_the_papers_fit_their_slices(small_machine, capsys):
    for path in sorted((ROOT / "configs/paper").glob("[!_]*.py")):
        given = ["check", f"--config={path}", "--topology=v5e:2x4", "--config.domain=med"]
        given += ["--config.train.groups=8", "--config.model.num_experts=8"]
        assert cli.main(given) == 0, capsys.readouterr().err
    for path in sorted((ROOT / "configs/local").glob("[!_]*.py")):
        command = "specialize" if path.stem == "slm_nopt" else "train"
        given = ["check", f"--config={path}", f"--command={command}", "--config.domain=med"]
        assert cli.main(given) == 0, capsys.readouterr().err


def test_what_is_trained_elsewhere_can_be_prepared_and_scored_here(monkeypatch):
    """A large model is prepared, taken out of a mixture and scored where it could not be trained."""
    monkeypatch.setattr("specialm.planning.memory.host_memory", lambda: 8 * 10**9)
    monkeypatch.setattr("specialm.planning.memory.has_accelerator", lambda: False)
    large = config.load(str(ROOT / "configs/paper/slm_mix.py"))
    precheck.check_clusters(large)
    precheck.check_batches(large)
    with pytest.raises(UserError, match="model.num_experts=16.* take at least 30.9 GB"):
        precheck.check_training(large)


def test_what_a_step_holds_is_compared_where_the_devices_are_known(base, monkeypatch):
    """In bytes over all devices (tests/training/test_narrow.py counts them)."""
    device = SimpleNamespace(platform="tpu", memory_stats=lambda: {"bytes_limit": 10**9})
    memory.check_devices(base, "slm", 12 * 10**8, 2 * [device], 1)
    with pytest.raises(UserError, match="at least 2.4 GB, but the memory of 2 devices has 2 GB"):
        memory.check_devices(base, "slm", 24 * 10**8, 2 * [device], 1)
    silent = SimpleNamespace(platform="tpu", memory_stats=lambda: None)
    memory.check_devices(base, "slm", 10**15, [silent], 1)
    host = SimpleNamespace(platform="cpu")
    monkeypatch.setattr("specialm.planning.memory.host_memory", lambda: 10**9)
    with pytest.raises(UserError, match="this machine has 3 GB"):
        memory.check_devices(base, "slm", 12 * 10**9, [host], 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--devices=7"], "train.batch_size=64 is not a multiple of the 7 devices"),
        (["--devices=8", "--config.mesh.model=3"], "mesh.model=3: their product does not divide"),
        (["--devices=8", "--config.mesh.model=8"], "model.num_heads=4 is not a multiple of the 8"),
        (["--topology=v5e:4x4", "--slices=3"], "is not a multiple of the 48 devices"),
        (["--topology=v9:4x4"], "--topology=v9:4x4: must be CHIP:SHAPE"),
        (["--topology=v5e:4x4", "--config.model.d_model=400_000"], "16 v5e devices has 275 GB"),
        (["--devices=-1"], "--devices=-1: must be at least 0"),
        (["--slices=x"], "--slices=x: must be a whole number"),
        (["--command=demo"], "--command=demo: must be train or specialize"),
        (["--command=specialize"], "config.domain is empty"),
    ],
)
def test_a_slice_is_checked_without_its_devices(options, message, small_machine, capsys):
    assert cli.main(["check", LOCAL, *options]) == 2
    assert message in capsys.readouterr().err


def test_the_command_line_says_it_in_time_and_without_jax():
    """Five through the real program."""
    for change in (
        "train.learning_rate=-1",
        "model.dmodel=5",
        "model.d_model=1e8",
        "seed=x",
        "a=1",
    ):
        started = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-X", "importtime", "-m", "specialm", "train", LOCAL]
            + [f"--config.{change}"],
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
        seconds = time.monotonic() - started
        said = [line for line in done.stderr.splitlines() if not line.startswith("import time:")]
        assert done.returncode == 2 and len(said) == 1 and said[0].startswith("specialm: "), said
        assert not any(line.endswith("| jax") for line in done.stderr.splitlines())
        assert seconds < 15  # 1 on a machine that does nothing else; see docs/settings.md


# The table itself.


def tables() -> list[Setting]:
    return [setting for setting in SETTINGS.values() if isinstance(setting.choices, Table)]


@pytest.mark.parametrize("setting", tables(), ids=lambda setting: setting.name)
def test_names_of_a_table_are_those_that_it_has(setting):
    module, _, name = setting.choices.where.partition(":")
    assert set(setting.choices.names) == set(getattr(importlib.import_module(module), name))


def test_names_that_the_table_of_settings_repeats():
    from specialm import methods
    from specialm.models import lora, transformer
    from specialm.settings.run import BASE, IMPORTANCE
    from specialm.specialize import choice

    assert (BASE, IMPORTANCE) == (methods.BASE, methods.IMPORTANCE)
    assert SETTINGS["expert.choice"].allowed() == (*choice.CHOICES, methods.SOUP)
    dense = methods.dense_config(config.default(), 64)
    assert isinstance(dense, transformer.Config)
    assert set(SETTINGS["finetune.lora_matrices"].allowed()) == set(lora.linear_maps(dense))


def test_a_setting_of_ones_own(monkeypatch, base):
    own = Setting("train.noise", 0.0, "of the gradients", least=0, most=1)
    monkeypatch.setitem(settings.SETTINGS, own.name, own)
    assert config.default().train.noise == 0.0
    loaded = config.finish(config.default(), ["--config.train.noise=0.5"])
    assert loaded.train.noise == 0.5
    with pytest.raises(UserError, match=r"train.noise=2.0: must be between 0 and 1"):
        config.finish(config.default(), ["--config.train.noise=2"])


def test_a_number_or_a_word(monkeypatch):
    own = Setting("train.cap", "auto", "of draws", least=0, words=("auto",), kind=float)
    monkeypatch.setitem(settings.SETTINGS, own.name, own)
    assert config.finish(config.default()).train.cap == "auto"
    changed = config.default()
    changed.train.cap = 8.0
    assert config.finish(changed, ["--config.train.cap=auto"]).train.cap == "auto"
    assert config.finish(config.default(), ["--config.train.cap=2"]).train.cap == 2.0
    for wrong in ("-1", "often"):
        with pytest.raises(UserError, match=r"train.cap=\S+: must be .*at least 0.*, or auto"):
            config.finish(config.default(), [f"--config.train.cap={wrong}"])


def test_fields_that_a_config_file_adds_or_lacks(tmp_path):
    (tmp_path / "c.py").write_text(
        "from specialm.config import default\ndef get_config():\n    c = default()\n"
        "    c.train.tokns = 4\n    return c\n"
    )
    with pytest.raises(UserError, match=r"no setting train.tokns. Did you mean 'train.tokens'"):
        config.load(str(tmp_path / "c.py"))
    lacking = config.default()
    del lacking.train.tokens
    with pytest.raises(UserError, match=r"config.train.tokens is missing"):
        config.check(lacking)
    assert config.finish(lacking).train.tokens == SETTINGS["train.tokens"].default


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def get_config(:\n", r"line 1: SyntaxError"),
        ("import nowhere\n", r"line 1: ModuleNotFoundError: No module named 'nowhere'"),
        ("x = 1\n", "has no function get_config"),
        ("def get_config():\n    return undefined\n", r"line 2: NameError: name 'undefined'"),
    ],
)
def test_a_config_file_that_fails_is_named_with_its_line(tmp_path, text, message):
    (tmp_path / "c.py").write_text(text)
    with pytest.raises(UserError, match=message):
        config.load(str(tmp_path / "c.py"))


def test_a_config_file_with_an_argument(tmp_path):
    (tmp_path / "c.py").write_text(
        "from specialm.config import default\ndef get_config(width):\n    c = default()\n"
        "    c.model.d_model = int(width)\n    return c\n"
    )
    assert config.load(f"{tmp_path / 'c.py'}:96").model.d_model == 96


@settings_of_hypothesis(deadline=None, max_examples=40)
@given(st.sampled_from([name for name in SETTINGS if name != "method_modules"]), st.text())
@example("seeds", "{[]: 1}")
@example("seeds", "(" * 500)
@example("train.tokens", "1" * 5000)
@example("study.arms.slm", "train.tokens=5,")
@example("data.domains.own", "")
@example("data.domains", "{}")
def test_whatever_is_written_is_a_config_or_a_sentence(name, text):
    try:
        assert config.finish(config.default(), [f"--config.{name}={text}"]).is_locked
    except UserError as error:
        assert name.split(".")[0] in str(error)


@pytest.mark.parametrize("module", ["", ".relative", "a b", "no_such_module"])
def test_modules_that_cannot_be_imported(module):
    changed = config.default()
    changed.method_modules = (module,)
    with pytest.raises(UserError, match=f"method_modules: {module!r} cannot be imported"):
        config.check(changed)


@given(st.integers(1, MOST))
def test_whole_numbers_may_be_written_as_floats(value):
    setting = SETTINGS["model.d_model"]
    assert setting.parse(str(value)) == setting.parse(f"{value:_}") == value
    assert setting.parse(f"{float(value)!r}") == value


def test_the_page_of_settings_is_that_of_the_table():
    page = (ROOT / "docs/settings.md").read_text()
    assert page == listing.markdown() + "\n", "specialm settings --markdown > docs/settings.md"


def test_settings_are_listed(capsys):
    assert cli.main(["settings", "--name=mesh"]) == 0
    assert capsys.readouterr().out.count("\nmesh.") == 2
    assert cli.main(["settings", "--name=train.tokns"]) == 2
    assert "Did you mean 'train.tokens'?" in capsys.readouterr().err
