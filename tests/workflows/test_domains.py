"""Many domains from one bundle with one command, and the server that computes them from it."""

import contextlib
import inspect
import io
import json
import shutil
import threading
import time
from pathlib import Path

import jax
import numpy as np
import pytest

import specialm
from specialm import cli
from specialm.common import runtime
from specialm.common.errors import UserError
from specialm.models import families
from specialm.training import runs, sharding
from specialm.workflows import domains, mixes, side_by_side

FEW = ("--config.finetune.max_steps=4", "--config.finetune.eval_every=2")


def write_domain(folder, module):
    """A folder with the docstrings of a module's functions."""
    folder.mkdir(parents=True)
    texts = sorted({inspect.getdoc(getattr(module, name)) or "" for name in dir(module)})
    for number, text in enumerate([text for text in texts if 100 < len(text) < 3000][:24]):
        (folder / f"{number}.txt").write_text(text)


@pytest.fixture(scope="module")
def project(bank, tmp_path_factory):
    """root/bundle, and root/sources: three domains, of which the last has too little text."""
    root = tmp_path_factory.mktemp("domains")
    assert cli.main(["bundle", f"--checkpoint={bank / 'bank'}", f"--to={root / 'bundle'}"]) == 0
    for name, module in (("fft", np.fft), ("char", np.char)):
        write_domain(root / name, module)
    (root / "tiny").mkdir()
    (root / "tiny" / "a.txt").write_text("Some words. " * 99)
    (root / "sources").write_text(
        f"# two modules\n\nfft = folder:{root}/fft\ncharacters = {root}/char\n"
    )
    return root


@pytest.fixture
def command(capsys, monkeypatch, tmp_path):
    """Runs `specialm NAME` in an empty folder: (exit status, JSON or error text)."""
    monkeypatch.chdir(tmp_path)

    def run(*argv):
        status = cli.main([*map(str, argv), "--json"])
        captured = capsys.readouterr()
        return status, json.loads(captured.out) if status == 0 else captured.err

    return run


@pytest.fixture(scope="module")
def mixed(project):
    """The work folder of both domains, not fine-tuned, in two processes; `told` in it has what was
    said."""
    argv = [f"--bundle={project / 'bundle'}", f"--sources={project / 'sources'}", "--no_finetune"]
    folder = project / "mixed"
    with contextlib.redirect_stderr(io.StringIO()) as told:
        assert cli.main(["specialize", *argv, f"--workdir={folder}", "--jobs=2"]) == 0
    (folder / "told").write_text(told.getvalue())
    return folder


def test_each_is_as_alone_and_the_table_has_all(project, command):
    argv = ("specialize", f"--bundle={project / 'bundle'}", *FEW)
    many = (*argv, f"--sources={project / 'sources'}", "--workdir=all")
    status, result = command(*many, f"--plain={project / 'bundle'}")
    assert status == 0, result
    fft, characters = result["domains"]
    assert (fft["domain"], characters["domain"]) == ("fft", "characters")
    status, alone = command(
        *argv, f"--source={project / 'char'}", "--name=characters", "--workdir=alone"
    )
    assert status == 0, alone
    assert characters["after"] == alone["heldout"]["scores"]["characters"]["bits_per_byte"]
    assert characters["before"] == alone["before"]["characters"]["bits_per_byte"]
    # "Beside" it is the same model here, so it has the same figures.
    assert (fft["plain_before"], fft["plain_after"]) == (fft["before"], fft["after"])
    written = [json.loads(line) for line in Path(result["written"]).read_text().splitlines()]
    assert written == result["domains"]
    # Again: nothing is computed, not even the seconds.
    status, again = command(*many, f"--plain={project / 'bundle'}")
    assert status == 0 and again == result
    rows = [{k: v for k, v in row.items() if not k.startswith("plain")} for row in written]
    lines = domains.table(rows).splitlines()
    assert lines[0].split() == ["domain", "bytes", "before", "after", "seconds"]
    assert lines[1].split()[:4] == [
        "fft", f"{fft['bytes']:,}", f"{fft['before']:.3f}", f"{fft['after']:.3f}"
    ]  # fmt: skip
    mean = (fft["after"] + characters["after"]) / 2
    assert lines[3].split()[0] == "mean" and lines[3].split()[2] == f"{mean:.3f}"


def test_one_that_fails_keeps_no_other_from_being_done(project, mixed, command, tmp_path):
    file = tmp_path / "three"
    file.write_text(f"tiny = {project}/tiny\n" + (project / "sources").read_text())
    status, error = command(
        "specialize",
        f"--bundle={project / 'bundle'}",
        f"--sources={file}",
        "--no_finetune",
        f"--workdir={mixed}",
    )
    assert status == 2 and "1 of 3 domains failed" in error
    assert "tiny: " in error and "1 documents are too few" in error
    done = [json.loads(line) for line in (mixed / "domains.jsonl").read_text().splitlines()]
    assert [row["domain"] for row in done] == ["fft", "characters"]
    assert all(row["after"] is None and row["before"] > 0 for row in done)


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("fft", "line 1: must be NAME = SOURCE"),
        ("fft =", "line 1: must be NAME = SOURCE"),
        ("# a\na/b = folder:x", "line 2: data.domains.a/b: a domain's name must begin"),
        ("generic = folder:x", "line 1: data.domains.generic: a domain's name"),
        ("a.b = {0}", "line 1: a.b: has a dot"),
        ("a = {0}\na = {0}", "line 2: a: is there twice"),
        ("a = /nowhere", "line 1: --source=/nowhere: no such file or folder"),
        ("\n# nothing\n", "names no domain"),
        (b"\xff", "cannot be read"),
    ],
)
def test_what_is_no_list_of_domains(text, wrong, tmp_path):
    file = tmp_path / "sources"
    content = text if isinstance(text, bytes) else text.format(tmp_path).encode()
    file.write_bytes(content)
    with pytest.raises(UserError) as caught:
        domains.read(str(file))
    assert wrong in str(caught.value) and str(file) in str(caught.value)


def test_side_by_side_what_processes_did_is_found_again(mixed):
    """Two processes, each with a device of its own; what the command itself does is reused."""
    told = (mixed / "told").read_text()
    after = told[told.index("fft: domain 1 of 2") :]
    assert "experts/slm_pn-soup-fft: reused" in after
    assert [line for line in after.splitlines() if line.endswith(" s")] == []
    assert "bits/byte" in (mixed / "logs" / "characters.txt").read_text()


def test_processes_have_a_gpu_or_a_share_of_the_cores_each(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    assert side_by_side.devices() == 2
    slots = [side_by_side._environment(slot, 3)["CUDA_VISIBLE_DEVICES"] for slot in range(3)]
    assert slots == ["3", "5", "3"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr(runtime, "cores", lambda: 8)
    monkeypatch.setenv("XLA_FLAGS", f"--a=1 {side_by_side.COUNT}=8 --b=2")
    flags = side_by_side._environment(0, 2)["XLA_FLAGS"].split()
    assert sorted(flags) == sorted(["--a=1", "--b=2", f"{side_by_side.COUNT}=4"])
    assert side_by_side.devices() == 1


def test_saved_coefficients_give_the_model_again(project, mixed):
    """Those of domains.jsonl, by a formula of its own, are the parameters that were written."""
    found = mixes.of_bundles([str(project / "bundle")], [str(mixed)])
    ((path, of_domains),) = found.items()
    assert path == project / "bundle" and set(of_domains) == {"fft", "characters"}
    rows = [json.loads(line) for line in (mixed / "domains.jsonl").read_text().splitlines()]
    bank = runs.load(path, sharding.make_mesh(), families.KINDS)
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), bank.params)
    for row in rows:
        mix_k = of_domains[row["domain"]]
        assert mix_k.sum() == pytest.approx(1, abs=1e-12)
        mixer = params["mixer"]
        coefficients_Sxr = np.einsum("i,iq,Sqr->Sr", mix_k, mixer["code"], mixer["mix"])
        dense = runs.load(row["checkpoint"], sharding.make_mesh()).params
        for name, leaf in params["bank"]["mlp"].items():
            wanted = jax.tree.map(
                lambda part, c=coefficients_Sxr: np.einsum("Sr,Sr...->S...", c, part), leaf
            )
            jax.tree.map(
                lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6),
                dense["layers"]["mlp"][name],
                wanted,
            )


def test_coefficients_that_do_not_belong_to_the_bundle(project, mixed, tmp_path):
    (row, *_) = (mixed / "domains.jsonl").read_text().splitlines()
    row = json.loads(row)
    for change, wrong in (
        ({"base": "x"}, "line 1: fft was made from another model than those of --bundle"),
        ({"histogram": [1.0]}, "line 1: fft has no coefficient for each of 4 experts"),
        ({"histogram": [-1, 1, 1, 0]}, r"line 1: histogram\[0\] is -1, not a number of at least 0"),
        ({"domain": "../x"}, "line 1: domain is '../x', not a name"),
        (None, "line 1: is not JSON"),
    ):
        text = "{" if change is None else json.dumps({**row, **change})
        (tmp_path / "domains.jsonl").write_text(text)
        with pytest.raises(UserError, match=wrong):
            mixes.of_bundles([str(project / "bundle")], [str(tmp_path)])
    with pytest.raises(UserError, match="cannot be read"):
        mixes.of_bundles([str(project / "bundle")], [str(tmp_path / "none")])


def test_the_server_gives_what_the_projected_checkpoints_give(project, mixed, monkeypatch):
    """`specialm serve` as it is called; each domain as its model in a run folder continues a text.

    Without capsys: uvicorn sets logging up anew, which closes the stream that absl's handler has
    if it is not the present standard error.
    """
    uvicorn = pytest.importorskip("uvicorn")
    from serving_client import Client

    run, answers = uvicorn.Server.run, {}
    rows = [json.loads(line) for line in (mixed / "domains.jsonl").read_text().splitlines()]
    body = {"prompt": "Return", "max_tokens": 6, "temperature": 0}

    def visited(server, sockets):
        thread = threading.Thread(target=run, args=(server,), kwargs={"sockets": sockets})
        thread.start()
        while not server.started:
            time.sleep(0.01)
        client = Client(sockets[0].getsockname()[1])
        try:
            for name in (*(f"bundle/{row['domain']}" for row in rows), "bundle"):
                answers[name] = client.post("/v1/completions", {**body, "model": name})
        finally:
            server.should_exit = True
            thread.join(timeout=60)

    monkeypatch.setattr(uvicorn.Server, "run", visited)
    bundle = f"--bundle={project / 'bundle'}"
    argv = ["serve", bundle, f"--domains={mixed}", "--port=0"]
    with contextlib.redirect_stdout(io.StringIO()) as out:
        assert cli.main(argv) == 0
    assert "answers (the page" in out.getvalue()
    for row in rows:
        status, answer = answers[f"bundle/{row['domain']}"]
        made = specialm.load(row["checkpoint"]).generate("Return", temperature=0.0, tokens=6)
        assert status == 200 and "Return" + answer["choices"][0]["text"] == made
    assert answers["bundle"][0] == 404


def test_words_of_serve_that_do_not_go_together(project, mixed, command):
    bundle, of_domains = f"--bundle={project / 'bundle'}", f"--domains={mixed}"
    for words, wrong in (
        ([bundle], "--bundle and --domains go together"),
        ([of_domains], "--checkpoint is missing"),
        ([bundle, of_domains, "--held=0"], "--held=0: must be at least 1"),
        ([f"--checkpoint={project / 'bundle'}", "--port=0"], "is a bank of 4 experts"),
    ):
        status, error = command("serve", *words)
        assert status == 2 and wrong in error


@pytest.mark.parametrize(
    ("words", "wrong"),
    [
        (["--source=x"], "leave out --source"),
        (["--teacher=x"], "leave out --teacher"),
        (["--config=x.py"], "leave out --config"),
        (["--no_finetune", "--plain=x"], "--plain=x: is fine-tuned; leave out --no_finetune"),
        ([], "give a --bundle or a --checkpoint"),
    ],
)
def test_words_that_do_not_go_with_sources(words, wrong, command):
    given = ["--checkpoint=y", *words] if words else []
    status, error = command("specialize", "--sources=s", *given)
    assert status == 2 and wrong in error


def test_domains_of_an_earlier_command_stay(project, mixed, command, tmp_path):
    """In the same work folder; those of another model are not mixed with them."""
    shutil.copytree(mixed, tmp_path / "copy")
    (tmp_path / "sources").write_text(f"more = {project}/fft\n")
    argv = ("specialize", f"--bundle={project / 'bundle'}", f"--sources={tmp_path / 'sources'}")
    status, result = command(*argv, "--no_finetune", "--workdir=copy")
    assert status == 0, result
    rows = [json.loads(line) for line in Path("copy/domains.jsonl").read_text().splitlines()]
    assert [row["domain"] for row in rows] == ["fft", "characters", "more"]
    assert rows[2]["histogram"] == rows[0]["histogram"]
    for text, wrong in (
        (json.dumps({**rows[0], "base": "x"}), "has domains of another model; choose another --wo"),
        ("{", "line 1: is not JSON"),
    ):
        Path("copy/domains.jsonl").write_text(text)
        status, error = command(*argv, "--no_finetune", "--workdir=copy")
        assert status == 2 and wrong in error
        assert Path("copy/domains.jsonl").read_text() == text
