"""A digest of the code that decides results."""

from types import SimpleNamespace

from specialm.common import code
from specialm.common.stages import Stages

BEFORE = '''"""What it is."""

import os  # why


def f(x):
    """Says.

    More.
    """
    # a reason
    return x + 1
'''


def test_words_do_not_count_and_statements_do():
    other = (
        BEFORE.replace("What it is", "Other").replace("Says.", "Tells.").replace("a reason", "b")
    )
    assert code.statements(BEFORE) == code.statements(other.replace("\n\n\n", "\n"))
    assert code.statements(BEFORE) != code.statements(BEFORE.replace("x + 1", "x + 2"))
    assert code.statements(BEFORE).splitlines() == [
        "import os  # why",
        "def f(x):",
        "    return x + 1",
    ]


def room(folder, name, text):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_a_digest_is_of_every_file_of_every_room(tmp_path):
    for name in code.ROOMS:
        room(tmp_path, name if name.endswith(".py") else f"{name}/deep/a.py", BEFORE)
    room(tmp_path, "reports/a.py", BEFORE)
    digest = code.digest.__wrapped__
    found = {digest(tmp_path)}
    for name in code.ROOMS:
        path = name if name.endswith(".py") else f"{name}/deep/a.py"
        room(tmp_path, path, BEFORE + f"y = {name!r}\n")
        found.add(digest(tmp_path))
        assert digest(tmp_path, name) == digest(tmp_path, name)
    assert len(found) == len(code.ROOMS) + 1
    before = digest(tmp_path)
    room(tmp_path, "reports/a.py", "x = 1\n")
    assert digest(tmp_path) == before
    room(tmp_path, "data/deep/b.py", "x = 1\n")  # a new file
    assert digest(tmp_path) != before


def test_a_stage_knows_its_code_and_rows_name_other_code(tmp_path):
    stages = Stages(tmp_path, quiet=True)
    stage = stages.run("s", {}, lambda path: {})
    assert stages.run("s", {}, lambda path: {}).code == stage.code == code.digest()
    found = code.made_by([stage])
    assert found["code"] == code.digest() and found["changes"] == len(code.CHANGES)
    older = [stage, SimpleNamespace(code="b" * 12), SimpleNamespace(code="")]
    assert code.made_by(older)["code"] == f"{code.digest()}+{'b' * 12}+{code.UNKNOWN}"


def test_the_changes_are_counted_in_order():
    """Rows hold how many of them their code had: none is ever taken out or moved."""
    names = [change.name for change in code.CHANGES]
    assert names[:6] == [
        "k-means over a sample that doubles",
        "Keras's documentation in place of TensorFlow's",
        "caps and splits by independent hashes, every source held out alike",
        "the control repeats as much as importance sampling",
        "validation passes count in the FLOPs of fine-tuning",
        "on v5p too a sum of which a slice is kept counts as a reduce-scatter",
    ]
