"""`train --branch`: what goes on from a branch point is what training from the start gives."""

import conftest
import jax
import numpy as np
import pytest

from specialm import cli
from specialm.training import branch, metrics, runs, sharding

STEPS = 8 * 16  # tokens of a step
DECAY = ("--config.train.decay_fraction=0.4", "--config.train.schedule=linear")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("branch")
    conftest.write_docstrings(root)
    (root / "config.py").write_text(conftest.BANK_CONFIG.format(root=root))
    return root


def command(root, workdir, method, tokens, *more):
    return cli.main(
        [
            "train",
            f"--config={root / 'config.py'}",
            f"--workdir={root / workdir}",
            f"--config.method={method}",
            f"--config.train.tokens={tokens * STEPS}",
            *more,
        ]
    )


def made(root, workdir, method, count=1):
    found = sorted(
        (root / workdir / "pretrained").glob(f"{method}-*"), key=lambda p: p.stat().st_mtime
    )
    assert len(found) == count
    return found[-1]


def params(path):
    return jax.device_get(runs.load(path, sharding.make_mesh()).params)


@pytest.fixture(scope="module")
def stem(root):
    assert command(root, "run", "slm", 10, "--config.train.keep_branch=True", *DECAY) == 0
    return made(root, "run", "slm")


def test_other_decays_and_budgets_are_those_from_the_start(root, stem):
    """Of 10 steps 6 are before the decay; 14 steps with a decay over 7 of them, by a cosine."""
    assert branch.step_of(stem) == 6
    other = ("--config.train.decay_fraction=0.5", "--config.train.schedule=cosine")
    assert command(root, "run", "slm", 14, f"--branch={stem}", *other) == 0
    branched = made(root, "run", "slm", 2)
    assert command(root, "again", "slm", 14, *other) == 0
    whole = made(root, "again", "slm")
    assert branched.name == whole.name
    jax.tree.map(np.testing.assert_array_equal, params(branched), params(whole))
    records = [metrics.read(path / "metrics.jsonl") for path in (branched, whole)]
    for name in ("step", "loss", "grad_norm"):
        assert [r[name] for r in records[0]] == [r[name] for r in records[1]]


@pytest.mark.parametrize(
    "more,words",
    [
        (("--config.train.beta1=0.8",), "was trained with other train.beta1"),
        (("--config.seed=3",), "was trained with other seed"),
        (("--config.model.d_ff=24",), "was trained with other model"),
        (("--config.train.decay_fraction=0.9",), "decays from step"),
        (("--config.train.warmup_steps=9",), "other train.warmup_steps"),
        (
            ("--config.train.dropout=0.1", "--config.train.dropout_schedule=linear"),
            "other train.dropout",
        ),
    ],
)
def test_what_is_no_beginning_is_refused(root, stem, capsys, more, words):
    given = ("--config.train.decay_fraction=0.4", *more)
    assert command(root, "run", "slm", 11, f"--branch={stem}", *given) == 2
    assert words in capsys.readouterr().err


def test_a_run_without_a_branch_point_is_refused_and_said(root, stem, capsys):
    assert command(root, "plain", "slm", 4) == 0
    plain = made(root, "plain", "slm")
    assert command(root, "plain", "slm", 5, f"--branch={plain}") == 2
    assert "train.keep_branch=True" in capsys.readouterr().err
    assert command(root, "plain", "slm", 4, "--config.train.keep_branch=True") == 0
    assert "without train.keep_branch" in capsys.readouterr().err
