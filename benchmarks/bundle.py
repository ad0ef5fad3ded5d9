"""A bundle as its receiver uses it: seconds to a domain's model, and what that model is worth.

    python -m benchmarks.bundle --out=results/bundle/rows.jsonl

Pretrains a small bank and a small model (configs/local/bank.py with fewer tokens and fewer sources:
some of the default corpora are kept out as domains). Both are bundled and copied. The rest is run
in processes that can open no socket, from the copies: a domain of --bytes of text by projection
alone, with an empty and a full cache of compiled programs, and fine-tuned, beside the small model
fine-tuned in the same way; and ten domains with one command. Seconds are by the clock and of the
CPU: on a machine that others use too the latter say more. Finished stages of pretraining are
reused; what is timed is done anew. It rewrites --out.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
CONFIG = ROOT / "configs" / "local" / "bank.py"
# Of the default corpora: what is pretrained on, and what is kept out as domains.
GENERIC = "sotu icd10cm uberon chebi wordnet bible licences docs-scipy docs-jax docs-scikit-learn"
DOMAINS = (
    *("domains/med domains/books domains/legal domains/ency").split(),
    *("generic/austen generic/cl generic/fbbt generic/docs-numpy").split(),
    *("generic/docs-keras generic/docs-tensorflow-datasets").split(),
)
TEXT = "domains/legal"  # of which a user has --bytes
FEW = ("--config.finetune.max_epochs=5.0",)
OFFLINE = """
import socket, sys

def refuse(event, arguments):
    internet = event == "socket.__new__" and arguments[1] in (socket.AF_INET, socket.AF_INET6)
    if internet or event in ("socket.getaddrinfo", "socket.connect", "socket.gethostbyname"):
        raise RuntimeError(f"no network here: {event} {arguments}")

sys.addaudithook(refuse)
from specialm import cli
sys.exit(cli.main(sys.argv[1:]))
"""


def specialm(*argv: str, offline: bool = False, **options) -> tuple[dict, dict]:
    """(what a command prints as JSON, seconds of its process by the clock and of the CPU)."""
    program = ["-c", OFFLINE] if offline else ["-m", "specialm"]
    env = {**os.environ, "PYTHONPATH": str(ROOT), **options.pop("env", {})}
    started, before = time.perf_counter(), os.times()
    done = subprocess.run(
        [sys.executable, *program, *argv, "--json"],
        stdout=subprocess.PIPE,
        env=env,
        check=True,
        **options,
    )
    after = os.times()
    used = after.children_user + after.children_system
    used -= before.children_user + before.children_system
    took = {"seconds": time.perf_counter() - started, "cpu_seconds": used}
    return json.loads(done.stdout), {name: round(value, 1) for name, value in took.items()}


def sample(source: Path, target: Path, size: int) -> int:
    """Writes documents from all over a corpus, about `size` bytes of text; returns their bytes."""
    documents = [json.loads(line) for line in source.read_text("utf-8").splitlines()]
    every = max(1, round(sum(len(each["text"].encode()) for each in documents) / size))
    taken = documents[::every]
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text("".join(json.dumps(each) + "\n" for each in taken), "utf-8")
    return sum(len(each["text"].encode()) for each in taken)


def pretrained(work: Path, corpora: Path, tokens: int) -> tuple[str, str]:
    """(run folder of the bank, of the plain small model) on the same generic text."""
    generic = work / "generic"
    generic.mkdir(parents=True, exist_ok=True)
    for name in GENERIC.split():
        shutil.copyfile(corpora / "generic" / f"{name}.jsonl", generic / f"{name}.jsonl")
    made = []
    for method in ("slm_pn", "slm"):
        result, _ = specialm(
            *("train", f"--config={CONFIG}", f"--config.method={method}"),
            *(f"--config.data.generic=jsonl:{generic}", f"--config.train.tokens={tokens}"),
            f"--workdir={work / 'pretraining'}",
        )
        made.append(result["checkpoint"])
    return made[0], made[1]


def one_domain(work: Path, bundle: Path, plain: Path, text: Path, size: int) -> Iterator[dict]:
    """Rows of one domain: projected, with a cold and a warm cache of programs, and fine-tuned."""
    for number, (name, model, cache, more) in enumerate(
        (
            ("projected", bundle, "cold", ("--no_finetune",)),
            ("projected", bundle, "warm", ("--no_finetune",)),
            ("fine-tuned", bundle, "cold", FEW),
            ("plain small model, fine-tuned", plain, "warm", FEW),
        )
    ):
        # Each in a work folder of its own: nothing that was done before is reused.
        empty = work / "empty" / str(number)
        shutil.rmtree(empty, ignore_errors=True)
        empty.mkdir(parents=True)
        found, took = specialm(
            *("specialize", f"--bundle={model}", f"--source={text}", *more),
            offline=True,
            cwd=empty,
            env={"SPECIALM_CACHE": str(work / "programs")},
        )
        bits = [
            scores and scores[text.stem]["bits_per_byte"]
            for scores in (found["before"], found["heldout"]["scores"])
        ]
        yield {
            "what": name,
            "programs": cache,
            "bytes": size,
            **took,
            "steps": found.get("steps", 0),
            "bits_per_byte_before": bits[0],
            "bits_per_byte": bits[1],
        }


def many_domains(work: Path, bundle: Path, plain: Path, corpora: Path, size: int) -> Iterator[dict]:
    """Rows of ten domains from one bundle, with one command."""
    lines = []
    for path in DOMAINS:
        name = path.partition("/")[2]
        target = work / "texts" / f"{name}.jsonl"
        sample(corpora / f"{path}.jsonl", target, size)
        lines.append(f"{name} = {target}\n")
    (work / "sources").write_text("".join(lines))
    shutil.rmtree(work / "ten", ignore_errors=True)
    found, took = specialm(
        *("specialize", f"--bundle={bundle}", f"--sources={work / 'sources'}", *FEW),
        *(f"--plain={plain}", f"--workdir={work / 'ten'}"),
        offline=True,
    )
    kept = ("domain", "bytes", "before", "after", "seconds")
    kept += tuple(f"plain_{name}" for name in ("before", "after", "seconds"))
    for row in found["domains"]:
        yield {"what": "one of ten", **{name: row[name] for name in kept}}
    yield {"what": "ten domains with one command", **took}


def main() -> None:
    """Measures, and writes the rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", default="results/bundle/rows.jsonl")
    parser.add_argument("--workdir", default="runs/bundle")
    parser.add_argument("--corpora", default="data/corpora", help="where specialm fetch put them")
    parser.add_argument("--tokens", type=int, default=2_000_000, help="of pretraining")
    parser.add_argument("--bytes", type=int, default=1_000_000, help="of the one domain")
    parser.add_argument("--domain_bytes", type=int, default=100_000, help="of each of ten")
    given = parser.parse_args()
    work, corpora = Path(given.workdir).resolve(), Path(given.corpora).resolve()
    specialm("fetch", f"--root={corpora}")
    models = pretrained(work, corpora, given.tokens)
    for name in ("bank", "plain", "copied", "programs"):
        shutil.rmtree(work / name, ignore_errors=True)
    out = Path(given.out)
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("w") as lines:

        def note(row: dict) -> None:
            for stream in (lines, sys.stderr):
                print(json.dumps(row), file=stream, flush=True)

        for name, run in zip(("bank", "plain"), models, strict=True):
            made, took = specialm("bundle", f"--checkpoint={run}", f"--to={work / name}")
            about = ("method", "experts", "parameters", "files", "bytes")
            facts = {"pretraining_tokens": given.tokens, "cores": os.cpu_count()}
            note({"what": "bundle", **{key: made[key] for key in about}, **took, **facts})
            shutil.copytree(work / name, work / "copied" / name)
        bank, plain = work / "copied" / "bank", work / "copied" / "plain"
        text = work / "text.jsonl"
        size = sample(corpora / f"{TEXT}.jsonl", text, given.bytes)
        for row in one_domain(work, bank, plain, text, size):
            note(row)
        for row in many_domains(work, bank, plain, corpora, given.domain_bytes):
            note(row)


if __name__ == "__main__":
    main()
