"""Preparation as Beam pipelines, on the DirectRunner; `make test-beam` has the environment."""

import json

import pytest
from pieces_helpers import PART_BYTES, content, make_config, write_text

from specialm.clustering.clusters import cluster
from specialm.common.errors import UserError
from specialm.common.stages import Stages
from specialm.data import pieces
from specialm.data.prepare import LOCAL_READER, prepare
from specialm.data.sources import open_source
from specialm.workflows import beam_prepare

pytest.importorskip(
    "apache_beam", reason="Apache Beam has an environment of its own; run `make test-beam`"
)

DIRECT = ("--runner=DirectRunner",)
CONFIG = """
from ml_collections import ConfigDict
from specialm.config import default

def get_config():
    config = default()
    config.data.update({data})
    config.data.domains = ConfigDict({domains})
    config.clustering.update({clustering})
    return config
"""


@pytest.fixture(scope="module")
def text(tmp_path_factory, real_documents):
    return write_text(tmp_path_factory.mktemp("text"), real_documents)


@pytest.fixture(scope="module")
def local(text, vocabulary, tmp_path_factory):
    """What one process writes."""
    workdir, config = tmp_path_factory.mktemp("local"), make_config(text, vocabulary)
    stages = Stages(workdir)
    cluster(config, stages, prepare(config, stages, ["mine"]), config.clustering.k)
    return content(workdir)


def run(workdir, text, vocabulary):
    """The counters of a run."""
    runner = beam_prepare.Runner(DIRECT)
    beam_prepare.run(make_config(text, vocabulary), workdir, runner, PART_BYTES)
    return runner.counters


def write_config(path, text, vocabulary):
    config = make_config(text, vocabulary)
    path.write_text(
        CONFIG.format(
            data={
                "generic": config.data.generic,
                "vocabulary": config.data.vocabulary,
                "context": 16,
                "shard_tokens": 7000,
                "generic_heldout_fraction": 0.2,
                "generic_fraction": 0.9,
            },
            domains=config.data.domains.to_dict(),
            clustering={"encoder": "tfidf_svd", "dim": 8, "k": 4},
        )
    )
    return path


def test_the_bytes_are_those_of_one_process(text, vocabulary, local, tmp_path):
    counters = run(tmp_path, text, vocabulary)
    made = content(tmp_path)
    assert made.keys() == local.keys()
    assert [path for path in made if made[path] != local[path]] == []
    index = next(
        json.loads(made[path])
        for path in made
        if path.startswith("windows/generic-train") and path.endswith("index.json")
    )
    assert counters["windows generic train"] == {
        **index["counts"],
        "windows": index["windows"],
        "tokens": index["tokens"],
        "pieces written": 3,
    }
    assert counters["shards generic train"]["shards"] == len(index["shards"]) > 5
    assert counters["scan generic"]["skipped: not JSON"] == 5
    assert counters["embedding generic"]["rows"] == index["windows"]


def test_workers_of_their_own(text, tmp_path):
    """Processes that share nothing but the folder."""
    source = open_source(f"jsonl:{text / 'generic'}")
    runner = beam_prepare.Runner(
        [*DIRECT, "--direct_num_workers=2", "--direct_running_mode=multi_processing"]
    )
    scanned = pieces.InPieces(runner.each, PART_BYTES).scan(tmp_path, "text", source)
    assert scanned == LOCAL_READER.scan(tmp_path, "text", source)
    assert runner.counters["scan text"] == {**scanned.counts, "pieces written": 3}
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_failed_goes_on(text, vocabulary, local, tmp_path, monkeypatch):
    """A worker fails at the last part; the parts that are whole are not cut again."""
    cut_part = pieces.cut_part

    def failing(source, settings, vocabulary, split, shard_tokens, folder, files):
        if files[-1].name == "4.jsonl":
            raise UserError("data.vocabulary='x': no such SentencePiece model.")
        return cut_part(source, settings, vocabulary, split, shard_tokens, folder, files)

    monkeypatch.setattr(pieces, "cut_part", failing)
    with pytest.raises(UserError, match="^data.vocabulary='x': no such SentencePiece model.$"):
        run(tmp_path, text, vocabulary)
    monkeypatch.undo()
    counters = run(tmp_path, text, vocabulary)
    assert "scan generic" not in counters  # a finished stage
    parts = counters["windows generic train"]
    assert parts["pieces written"] >= 1 and parts["pieces written"] + parts["pieces reused"] == 3
    assert content(tmp_path) == local


def test_the_command(text, vocabulary, tmp_path, local, capsys):
    arguments = [
        f"--config={write_config(tmp_path / 'config.py', text, vocabulary)}",
        f"--workdir={tmp_path / 'work'}",
        f"--part_bytes={PART_BYTES}",
        *DIRECT,
    ]
    assert beam_prepare.main(arguments) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["counters"]["scan generic"]["pieces written"] == 3
    assert content(tmp_path / "work") == local
    assert beam_prepare.main(arguments) == 0  # every stage is found
    assert json.loads(capsys.readouterr().out) == {"counters": {}, "generic": told["generic"]}


def test_errors(tmp_path, capsys, text, vocabulary):
    config = f"--config={write_config(tmp_path / 'config.py', text, vocabulary)}"
    for arguments, message in (
        ([], "--config is missing"),
        ([config, "--part_bytes=0"], "--part_bytes=0: must be"),
        (
            [config, "--config.data.generic=jsonl:/nowhere", f"--workdir={tmp_path / 'w'}"],
            "no such file or folder: '/nowhere'",
        ),
    ):
        assert beam_prepare.main([*arguments, *DIRECT]) == 2
        assert message in capsys.readouterr().err
