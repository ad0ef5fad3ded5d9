"""Rules beyond the plain ratio, through the commands: what is aimed at, and what is chosen."""

import json

import numpy as np
import pytest
from workflows.test_pipeline import command, project, write_lines  # noqa: F401

from specialm import cli
from specialm.clustering import histograms
from specialm.settings import clustering
from specialm.workflows import choosing

TREE = ("--config.clustering.method=tree", "--config.clustering.branching=(2,4)")
FREE = "--config.clustering.max_repetitions=0"


@pytest.fixture
def weights(command):  # noqa: F811
    def run(*argv):
        status, found = command("weights", *TREE, FREE, *argv)
        assert status == 0, found
        return {
            domain: report | {"sampling": np.array(report["sampling"])}
            for domain, report in found.items()
        }

    return run


def test_choices_are_those_of_the_tables():
    by_name = {setting.name: setting for setting in clustering.CLUSTERING}
    assert by_name["clustering.histogram"].choices == tuple(histograms.RULES)
    assert by_name["clustering.choose_by"].choices == tuple(choosing.WAYS)


def test_backing_off_is_that_of_the_counts(weights):
    plain = weights()["linalg"]
    soft = weights("--config.clustering.histogram=backoff", "--config.clustering.pseudo_windows=7")
    generic, own = (
        np.rint(np.array(plain[f"{name}_histogram"]) * plain[f"{name}_windows"])
        for name in ("generic", "specialist")
    )
    aim = histograms.Aim("backoff", 7.0, (2, 4))
    assert soft["linalg"]["sampling"] == pytest.approx(aim.of(generic, own))
    assert soft["linalg"]["specialist_histogram"] == plain["specialist_histogram"]
    assert not np.allclose(soft["linalg"]["sampling"], plain["sampling"])


def test_several_targets_give_all_domains_one_distribution(weights, project, capsys):  # noqa: F811
    plain = weights()
    mixed = weights("--config.clustering.targets=('linalg=3','random')")
    wanted = 0.75 * plain["linalg"]["sampling"] + 0.25 * plain["random"]["sampling"]
    for domain in plain:
        assert mixed[domain]["sampling"] == pytest.approx(wanted, abs=1e-9)
    alone = weights("--config.domain=linalg", "--config.clustering.targets=('linalg=3','random')")
    assert list(alone) == ["linalg"]
    assert alone["linalg"]["sampling"] == pytest.approx(wanted, abs=1e-9)
    argv = ["weights", f"--config={project / 'config.py'}"]
    assert cli.main([*argv, "--config.clustering.targets=('art',)"]) == 2
    assert "clustering.targets='art': data.domains has no 'art'" in capsys.readouterr().err


def test_the_depth_is_chosen_by_held_out_documents(project, capsys):  # noqa: F811
    argv = ["weights", f"--config={project / 'config.py'}", f"--workdir={project / 'run'}"]
    argv += [*TREE, "--config.clustering.candidates=(1,2)", "--json"]
    assert cli.main([*argv, "--config.clustering.choose_by=likelihood"]) == 0
    captured = capsys.readouterr()
    reports = json.loads(captured.out)
    (line,) = (line for line in captured.err.splitlines() if line.startswith("level: chosen"))
    assert "by the bits per window of held-out documents" in line
    tried = dict(pair.split(": ") for pair in line.partition("(")[2].strip(")").split(", "))
    chosen = min(tried, key=lambda level: float(tried[level]))
    assert line.startswith(f"level: chosen {chosen} ")
    assert {len(report["weights"]) for report in reports.values()} == {{"1": 2, "2": 8}[chosen]}
