import subprocess
import sys
from pathlib import Path

import pytest

from specialm import config
from specialm.common import provenance
from specialm.common.errors import UserError

ROOT = Path(__file__).parent.parent
CONFIGS = sorted((ROOT / "configs").glob("*/[!_]*.py"))
SMALL = "from specialm.config import default\ndef get_config():\n    return default()\n"


@pytest.fixture
def path(tmp_path):
    (tmp_path / "c.py").write_text(SMALL)
    return str(tmp_path / "c.py")


@pytest.mark.parametrize("file", CONFIGS, ids=lambda f: f.relative_to(ROOT / "configs").as_posix())
def test_every_config_loads_and_says_what_it_is(file):
    assert config.load(str(file)).is_locked
    text = file.read_text().split('"""')[1]
    for heading in ("Reproduces:", "Hardware:", "Time:", "Expected:", "Command:"):
        assert heading in text, heading


def test_overrides(path):
    loaded = config.load(
        path,
        [
            "--config.model.d_model=256",
            "--config.domains=('med',)",
            "--config.data.domains.med=folder:/x",
        ],
    )
    assert loaded.model.d_model == 256
    assert loaded.domains == ("med",)
    assert loaded.data.domains.med == "folder:/x"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("--config.model.d_mdel=5", 'Did you mean "d_model"'),
        ("--config.trian.tokens=5", 'Did you mean "train"'),
        ("--config.model.d_model=wide", "config.model.d_model=wide"),
        ("--config.model.num_heads=5", "model.num_heads=5 does not divide model.d_model=64"),
        ("--config.clustering.k=0", "clustering.k=0: must be at least 1"),
        ("--config.clustering.smoothing=1.5", "clustering.smoothing=1.5"),
        ("--config.clustering.power=-0.5", "clustering.power=-0.5"),
        ("--config.clustering.max_repetitions=-1.0", "max_repetitions=-1.0: must be at least 0"),
        ("--config.clustering.max_repetitions=inf", "clustering.max_repetitions=inf"),
        ("--config.clustering.max_repetitions=nan", "clustering.max_repetitions=nan"),
        ("--config.train.importance_start=1.0", "must be below 1"),
        ("--config.train.importance_start=1.5", "train.importance_start=1.5"),
        ("--config.clustering.encoder=minilmm", "Did you mean 'minilm'"),
        ("--config.method=slm_iss", "Did you mean 'slm_is'"),
        ("--config.domain=mde", "Did you mean 'med'"),
        ("--config.domains=('books','mde')", "domain='mde'"),
    ],
)
def test_wrong_values_are_named(path, override, message):
    with pytest.raises(UserError, match=message):
        config.load(path, [override])


def test_missing_file_and_wrong_return(tmp_path):
    with pytest.raises(UserError, match="none.py: no such file"):
        config.load(str(tmp_path / "none.py"))
    (tmp_path / "c.py").write_text("def get_config():\n    return 5\n")
    with pytest.raises(UserError, match="ConfigDict"):
        config.load(str(tmp_path / "c.py"))


def test_a_misspelt_field_in_the_file(tmp_path):
    (tmp_path / "c.py").write_text(
        "from specialm.config import default\ndef get_config():\n    c = default().lock()\n"
        "    c.train.tokns = 4\n    return c\n"
    )
    with pytest.raises(UserError, match="tokens"):
        config.load(str(tmp_path / "c.py"))


def test_flat(path):
    flat = provenance.flat(config.load(path))
    assert flat["data.context"] == 128
    assert flat["data.domains.med"] == "corpora:med"
    assert flat["seeds"] == [0]


def test_a_config_is_read_without_jax():
    """Beam's workers and the launchers read configs too."""
    code = (
        "import sys; from specialm import config; config.load('configs/local/slm_pn.py'); "
        "sys.exit(bool({'jax', 'flax', 'tensorflow'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
