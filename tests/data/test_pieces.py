"""Preparation in pieces: byte for byte what one process writes, whatever happens to the workers."""

import collections
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pieces_helpers import PART_BYTES, content, make_config, write_text

from specialm.clustering.clusters import cluster
from specialm.common.stages import Stages
from specialm.data import pieces
from specialm.data.prepare import prepare
from specialm.data.sources import Source, open_source


@pytest.fixture(scope="module")
def text(tmp_path_factory, real_documents):
    return write_text(tmp_path_factory.mktemp("text"), real_documents)


def run(workdir, config, engine=None):
    arguments = (engine,) if engine else ()
    stages = Stages(workdir)
    prepared = prepare(config, stages, ["mine"], *arguments)
    cluster(config, stages, prepared, config.clustering.k, rows=engine and engine.rows)
    return prepared


@pytest.fixture(scope="module")
def local(text, vocabulary, tmp_path_factory):
    """What one process writes."""
    workdir = tmp_path_factory.mktemp("local")
    run(workdir, make_config(text, vocabulary))
    return content(workdir)


def pickled(title, folder, items, make):
    """In any order, and everything a worker gets has gone through a pickle."""
    for number, item in reversed(list(enumerate(items))):
        pieces.write_once(
            pieces.piece_path(folder, number), *pickle.loads(pickle.dumps((make, item)))
        )


def test_pieces_are_what_one_process_writes(text, vocabulary, local, tmp_path):
    prepared = run(tmp_path, make_config(text, vocabulary), pieces.InPieces(pickled, PART_BYTES))
    made = content(tmp_path)
    assert made.keys() == local.keys()
    assert [path for path in made if made[path] != local[path]] == []
    assert len(prepared.generic.index["shards"]) > 5
    counts = prepared.generic.index["counts"]
    assert counts["skipped: not JSON"] == 5 and counts["skipped: empty"] == 5
    assert 0 < counts["left out: data.generic_fraction"] < 60


def test_a_killed_run_goes_on_behind_its_finished_pieces(text, vocabulary, local, tmp_path):
    """Killed at every piece once: nothing is made twice, and the same comes out."""
    made = collections.Counter()
    limit = 0

    def killed(title, folder, items, make):
        for number, item in enumerate(items):
            if pieces.piece_path(folder, number).exists():
                continue
            if sum(made.values()) >= limit:
                unfinished = folder / f"{number:05d}.attempt"  # what a kill leaves behind
                unfinished.mkdir(parents=True, exist_ok=True)
                (unfinished / "00000.tokens.npy").write_bytes(b"half")
                raise KeyboardInterrupt
            pieces.write_once(pieces.piece_path(folder, number), make, item)
            made[str(folder), number] += 1

    for limit in range(0, 100, 5):  # noqa: B007
        try:
            run(tmp_path, make_config(text, vocabulary), pieces.InPieces(killed, PART_BYTES))
            break
        except KeyboardInterrupt:
            continue
    assert len(made) > 20 and set(made.values()) == {1}
    assert content(tmp_path) == local


@pytest.mark.parametrize("stage", ["scan", "windows", "shards"])
def test_a_restart_with_other_parts_takes_no_piece_of_the_first(
    text, vocabulary, local, tmp_path, stage
):
    def killed(title, folder, items, make):
        begun = title.startswith(stage)
        pieces.write_locally(title, folder, items[:-1] if begun else items, make)
        if begun:
            raise KeyboardInterrupt

    config = make_config(text, vocabulary)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, config, pieces.InPieces(killed, PART_BYTES))
    run(tmp_path, config, pieces.InPieces(pieces.write_locally, 1))
    assert content(tmp_path) == local


def test_of_two_workers_at_a_piece_one_wins(tmp_path):
    target = tmp_path / "00000"

    def slow(folder, item):
        pieces.write_once(target, fast, item)
        (folder / "made").write_text("slow")
        return collections.Counter(made=1)

    def fast(folder, item):
        (folder / "made").write_text("fast")
        return collections.Counter(made=1)

    assert pieces.write_once(target, slow, None) == {"made": 1, "pieces written": 1}
    assert (target / "made").read_text() == "fast"
    assert pieces.write_once(target, slow, None) == {"pieces reused": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["00000"]


def test_parts_are_runs_of_whole_files(text):
    source = open_source(f"jsonl:{text / 'generic'}")
    runs = pieces.group_files(source, PART_BYTES)
    assert [path for run in runs for path in run] == list(source.files)
    sizes = [sum(path.stat().st_size for path in run) for run in runs]
    assert len(runs) == 3 and min(sizes[:-1]) >= PART_BYTES
    assert pieces.group_files(source, 1) == [(path,) for path in source.files]
    assert pieces.group_files(Source("s", None), 1) == []


def test_sources_of_one_part_and_without_files_are_read_here(text, tmp_path):
    def never(*arguments):
        raise AssertionError("no piece is needed")

    whole = open_source(f"jsonl:{text / 'generic'}")
    stream = Source("stream", whole.documents)
    made = pieces.InPieces(never).scan(tmp_path, "generic", whole)
    other = pieces.InPieces(never, 1).scan(tmp_path, "generic", stream)
    assert made.bytes == other.bytes and made.counts == other.counts
    assert len(made.digests) == 5 and len(other.digests) == 1


def one_writer(tokens, shard_tokens):
    """Documents in each shard, as StoreWriter fills them."""
    shards, documents, size = [], 0, 0
    for count in tokens:
        documents, size = documents + 1, size + count
        if size >= shard_tokens:
            shards.append(documents)
            documents = size = 0
    return [*shards, documents] if documents else shards


@given(st.lists(st.lists(st.integers(1, 30), max_size=12), max_size=8), st.integers(1, 60))
def test_the_plan_is_that_of_one_writer(parts, shard_tokens):
    planned = pieces.plan_shards((np.array(part, np.int64) for part in parts), shard_tokens)
    reached = [
        (part, document)
        for _, _, ranges in planned
        for part, start, stop in ranges
        for document in range(start, stop)
    ]
    assert reached == [(p, d) for p, part in enumerate(parts) for d in range(len(part))]
    sizes = [sum(stop - start for _, start, stop in ranges) for _, _, ranges in planned]
    assert sizes == one_writer([count for part in parts for count in part], shard_tokens)
    assert [number for number, _, _ in planned] == list(range(len(planned)))
    assert [first for _, first, _ in planned] == np.cumsum([0, *sizes])[:-1].tolist()


def square(start, stop):
    return np.arange(start, stop) ** 2


def test_rows_are_found_again(tmp_path):
    engine = pieces.InPieces(pieces.write_locally)
    rows = engine.rows("squares", tmp_path / "pieces", 10, 4, square)
    found = [rows(start, min(start + 4, 10)).tolist() for start in (8, 0, 4)]
    assert found == [[64, 81], [0, 1, 4, 9], [16, 25, 36, 49]]
