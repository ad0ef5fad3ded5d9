"""Values that a small mistake in the common room would change."""

import json

import numpy as np

from specialm.common.setting import Setting
from specialm.common.stages import Stages, digest, fingerprint


def test_a_stage_leaves_its_inputs_before_its_work(tmp_path):
    inputs, seen = {"b": [1, 2], "a": {"x": 0.5}}, []

    def work(path):
        seen.append(json.loads((path / "inputs.json").read_text()))
        return {"n": 1}

    stage = Stages(tmp_path, quiet=True).run("of/this", inputs, work)
    assert seen == [inputs] and json.loads((stage.path / "inputs.json").read_text()) == inputs
    assert (
        stage.path.name == f"this-{fingerprint(inputs)[:10]}"
        and stage.fingerprint == fingerprint(inputs)
    )


def test_fingerprints_are_of_values_not_of_their_order():
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    assert (
        len({fingerprint(x) for x in ({"a": 1}, {"a": 2}, {"b": 1}, {"a": [1]}, {"a": "1"})}) == 5
    )


def test_digests_are_of_every_value_and_of_the_type():
    a = np.arange(1000)
    b = a.copy()
    b[-1] += 1
    assert len({digest(x) for x in (a, b, a[:-1], a.astype(np.int32), a[::-1])}) == 5
    assert digest(a) == digest(a.copy()) == digest(np.arange(2000)[:1000])


def test_the_ends_of_a_range():
    """Each end by itself: what is at it, and what is just beyond."""
    closed = Setting("s", 0.5, "", least=0, most=1)
    opened = Setting("s", 0.5, "", above=0, below=1)
    whole = Setting("s", 3, "", least=1)
    for setting, value, fits in (
        (closed, 0, True),
        (closed, 1, True),
        (closed, -1e-9, False),
        (closed, 1.001, False),
        (opened, 0, False),
        (opened, 1, False),
        (opened, 1e-9, True),
        (whole, 1, True),
        (whole, 0, False),
        (whole, 2**31 - 1, True),
        (whole, 2**31, False),
        (closed, float("nan"), False),
        (Setting("s", 1.0, ""), float("inf"), False),
        (whole, True, False),
        (whole, 2.0, False),
        (Setting("s", ("a",), "", choices=("a", "b"), some=True), ("b", "a"), True),
        (Setting("s", ("a",), "", choices=("a", "b"), some=True), ("a", "c"), False),
        (Setting("s", ("a",), "", choices=("a", "b"), some=True), (), False),
    ):
        assert setting._fits(value, None) == fits, (setting, value)
