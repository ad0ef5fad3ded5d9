"""Configs are found by path and, those of the package, by name."""

import pytest

from specialm import config, config_files
from specialm.common.errors import UserError


@pytest.mark.parametrize(
    "given",
    ["local/slm_is", "local/slm_is.py", "configs/local/slm_is.py", "./configs/local/slm_is"],
)
def test_a_shipped_config_is_found_from_any_folder(tmp_path, monkeypatch, given):
    monkeypatch.chdir(tmp_path)
    assert config_files.find(given) == str(config_files.SHIPPED / "local/slm_is.py")
    assert config.load(given, ["--config.domain=med"]).method == "slm_is"


def test_a_file_of_the_users_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "local").mkdir()
    (tmp_path / "local/slm").write_text("")
    (tmp_path / "local/slm.py").write_text("")
    assert config_files.find("local/slm.py") == "local/slm.py"
    assert config_files.find("local/slm") == "local/slm"


def test_an_argument_of_get_config_is_left_on(tmp_path):
    (tmp_path / "mine.py").write_text(
        "from specialm.config import default\n"
        "def get_config(size):\n    c = default()\n    c.model.d_model = int(size)\n    return c\n"
    )
    assert config.load(f"{tmp_path}/mine.py:128").model.d_model == 128
    assert config_files.find("local/slm:7").endswith("/configs/local/slm.py:7")


def test_the_nearest_name_is_given(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"--config=local/slm_si: no such file.*Did you mean"):
        config_files.find("local/slm_si")
    for name in ("configs", "local/__init__", "", "local"):
        with pytest.raises(UserError, match="no such file"):
            config_files.find(name)


def test_every_shipped_config_has_a_name():
    assert {"local/demo", "local/slm_is", "paper/llm_lora"} <= set(config_files.names())
    assert len(config_files.names()) == len(list(config_files.SHIPPED.glob("*/[!_]*.py")))
