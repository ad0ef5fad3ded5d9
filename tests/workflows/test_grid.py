import numpy as np
import pytest
from ml_collections import ConfigDict

from specialm import config as config_lib
from specialm.common.errors import UserError
from specialm.common.stages import Stage
from specialm.workflows import grid

LARGE = ("model.d_model=128", "model.d_ff=512")


@pytest.fixture
def config():
    made = config_lib.default()
    made.clustering.encoder = "tfidf_svd"
    made.seeds = (3, 4)
    made.study.arms = ConfigDict(
        {
            "slm": (),
            "slm_nopt": (),
            "llm": LARGE,
            "slm_d": ("method=slm", "teacher=llm"),
            "slm_is": (),
            "slm_mixed": ("method=slm", "train.specialist_fraction=0.5"),
        }
    )
    made.study.budgets = (1_000_000, 2_000_000)
    made.study.specialist_tokens = (1000, 5000)
    made.study.largest_only = ("slm_mixed",)
    made.study.variants = ("slm_is/clustering.k=16", "slm_is/clustering.k=16,train.tokens=5")
    return made.lock()


def test_arms(config):
    main, variants = grid.arms(config)
    by_name = {arm.name: arm for arm in main}
    assert set(by_name) == {"slm", "slm_nopt", "llm", "slm_d", "slm_is", "slm_mixed"}
    assert by_name["slm_d"] == grid.Arm("slm_d", "", "slm", "llm", ())
    assert by_name["llm"].changes == LARGE and by_name["llm"].pretrained == "llm"
    assert variants[0] == grid.Arm("slm_is", "clustering.k=16", "slm_is", "", ("clustering.k=16",))
    assert variants[1].changes == ("clustering.k=16", "train.tokens=5")
    assert variants[0].name == "slm_is/clustering.k=16"


@pytest.mark.parametrize(
    ("arms", "variants", "message"),
    [
        ({"slm": (), "own": ()}, (), r"study.arms.own: 'own' is no method"),
        ({"slm_d": ("method=slm", "teacher=llm")}, (), r"teacher='llm' is none of the arms slm_d"),
        (
            {"slm": ("model.d_modle=3",)},
            (),
            r"no setting model.d_modle. Did you mean 'model.d_model'",
        ),
        (
            {"slm": ("model.d_model=wide",)},
            (),
            r"model.d_model=wide: must be a whole number, at least 1",
        ),
        ({"slm": ("model.num_heads=7",)}, (), r"model.num_heads=7 does not divide"),
        ({"slm": ()}, ("slm_pn/model.num_experts=2",), r"no ARM/FIELD=VALUE; the arms are slm"),
        ({"slm": ()}, ("slm",), r"no ARM/FIELD=VALUE"),
    ],
)
def test_wrong_arms(config, arms, variants, message):
    config.unlock()
    config.study.arms, config.study.variants = ConfigDict(arms), variants
    config.study.largest_only = config.study.first_seed_only = ()
    with pytest.raises(UserError, match=message):
        grid.arms(config)


def test_an_arm_gets_the_tokens_of_equal_cost(config):
    """FLOPs per token by hand: 3 x (2 x matrices + attention in full), embeddings tied."""

    def flops(layers, d, ff, context, vocabulary):
        matrices = layers * (4 * d * d + 2 * d * ff) + vocabulary * d
        return 3 * (2 * matrices + layers * 2 * 2 * context * d)

    main, _ = grid.arms(config)
    llm = next(arm for arm in main if arm.name == "llm")
    made = grid.arm_config(config, llm, 2_000_000, 5000)
    assert made.method == "llm" and made.model.d_model == 128
    assert made.data.specialist_tokens == 5000 and made.is_locked
    ratio = flops(4, 64, 256, 128, 2048) / flops(4, 128, 512, 128, 2048)
    assert made.train.tokens == pytest.approx(2_000_000 * ratio, rel=1e-3)
    slm = grid.arm_config(config, main[[a.name for a in main].index("slm")], 2_000_000, 5000)
    assert slm.train.tokens == 2_000_000
    assert config.model.d_model == 64 and config.train.tokens == 3_000_000  # untouched


def test_cells(config):
    planned = grid.cells(config)
    once = {"slm_nopt", "slm_mixed"}
    # Four arms over 2 budgets x 2 sizes, two over 2 sizes, for two seeds; two variants for one.
    assert len(planned) == 2 * (4 * 4 + 2 * 2) + 2
    assert len(set(planned)) == len(planned)
    main = [cell for cell in planned if not cell.arm.variant]
    assert main == planned[:-2]  # variants come last
    assert [cell.seed for cell in main] == sorted(cell.seed for cell in main)
    for cell in planned:
        if cell.arm.name in once or cell.arm.variant:
            assert cell.budget == 2_000_000
        if cell.arm.variant:
            assert (cell.seed, cell.specialist_tokens) == (3, 1000)
    first = [cell.budget for cell in main if cell.seed == 3]
    assert first == sorted(first, reverse=True)


def test_sizes_may_be_left_to_the_largest_budget(config):
    config.unlock()
    config.study.sizes_with_largest_only = True
    planned = [cell for cell in grid.cells(config) if not cell.arm.variant]
    assert len(planned) == 2 * (4 * 3 + 2 * 2)
    assert {cell.specialist_tokens for cell in planned if cell.budget == 1_000_000} == {1000}


def test_a_pretraining_is_expected_once(config):
    planned = grid.cells(config)
    expected = grid.expected_flops(config, planned, domains=3)
    slm = next(cell.arm for cell in planned if cell.arm.name == "slm")
    rate = grid._rate(grid.arm_config(config, slm, 1_000_000, 1000))
    total = {
        name: sum(
            e["pretrained"]
            for cell, e in zip(planned, expected, strict=True)
            if cell.arm.method == name and not cell.arm.variant and cell.seed == 3
        )
        for name in ("slm", "slm_nopt", "slm_d", "slm_is", "slm_mixed")
    }
    one = rate * 3_000_000  # both budgets
    # slm_d starts from the model of slm, whichever of them comes first.
    assert total["slm"] + total["slm_d"] == pytest.approx(one)
    assert total["slm_nopt"] == 0
    assert total["slm_is"] == pytest.approx(3 * one)  # one for each domain
    assert total["slm_mixed"] == pytest.approx(2 * 3 * rate * 2_000_000)  # and for each size
    assert all(e["rest"] > 0 for e in expected)


def stage(name, seconds):
    return Stage(name, None, {}, seconds, False, "")


def test_time_left_is_by_kind():
    pace = grid.Pace()
    planned = [{"pretrained": 100.0, "rest": 10.0}]
    assert pace.left(planned) is None
    pace.add(
        {"pretrained": 50.0, "rest": 20.0},
        [
            stage("pretrained/slm-seed0", 5.0),
            stage("finetuned/slm-med", 3.0),
            stage("scores/slm", 1.0),
        ],
    )
    assert pace.left(planned) == pytest.approx(100 * 5 / 50 + 10 * 4 / 20)
    pace.add({"pretrained": 0.0, "rest": 20.0}, [stage("finetuned/slm-books", 8.0)])
    assert pace.left(planned * 2) == pytest.approx(2 * (10 + 10 * 12 / 40))


def test_an_unknown_kind_is_taken_as_slow():
    pace = grid.Pace()
    pace.add({"pretrained": 10.0, "rest": 0.0}, [stage("pretrained/slm", 5.0)])
    assert np.isclose(pace.left([{"pretrained": 0.0, "rest": 4.0}]), 2.0)
