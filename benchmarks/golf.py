"""Size golf: the best bits per byte on held-out text for an artifact of so many bytes.

    python -m benchmarks.golf --bytes=1000000 --minutes=10 --out=results/golf/rows.jsonl

An entry is a model whose weights, as they are stored (8, 4 or 3 bits), and vocabulary, compressed
together by LZMA, are at most --bytes; code is not counted. It is trained for at most --minutes on
this machine, compiling included: as many tokens as a short trial says. Its width is the largest
that fits. Scores are of the generic held-out windows, of the weights as stored. Beside the entries
stand a compressor, which has as much training text in front of the held-out text as --bytes hold
compressed, and an n-gram model pruned to --bytes. Finished entries are reused, so the same command
goes on after an interruption; it rewrites --out.
"""

import argparse
import json
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from specialm.common import runtime

runtime.configure()

import numpy as np  # noqa: E402

from specialm import config as config_lib  # noqa: E402
from specialm import methods  # noqa: E402
from specialm.common.errors import UserError  # noqa: E402
from specialm.common.files import write_json, write_text  # noqa: E402
from specialm.data.sampler import Sampler  # noqa: E402
from specialm.evaluation import compressor, ngrams  # noqa: E402
from specialm.evaluation.baselines import Corpus  # noqa: E402
from specialm.evaluation.ngrams import Windows  # noqa: E402
from specialm.models import families, transformer  # noqa: E402
from specialm.training import loop, metrics, runs, scoring, sharding, step  # noqa: E402
from specialm.workflows import demo, pipeline, pretraining, quantizing  # noqa: E402

TRIAL_STEPS, RESERVE = 12, 0.93  # of a trial; the part of the time that is planned with
WIDER = 16  # widths are multiples of it
BYTES = {"embedder": "bytes", "head": "bytes_in_turn", "byte_size": 32, "byte_heads": 4}
LLAMA = {"positions": "rope", "norm": "rmsnorm", "mlp": "swiglu", "biases": False}


@dataclass(frozen=True)
class Entry:
    """A way to play: settings, how weights are stored, and how wide the MLPs are."""

    model: dict
    bits: int = 4
    train: dict = field(default_factory=dict)
    data: dict = field(default_factory=dict)
    wide: float = 4.0  # d_ff / d_model


DENSE = {**LLAMA, "num_layers": 4}
MUON = {"optimizer": "muon", "learning_rate": 8e-3}
PATCHES = {"vocabulary_kind": "patches", "longest_piece": 4}
FOR_4_BITS, FOR_3_BITS = {"quantize_bits": 4}, {"quantize_bits": 3}
# Each differs from the one that it names by one trick.
ENTRIES = {
    "dense, 8 bits": Entry(DENSE, bits=8),
    "dense": Entry(DENSE),
    "dense, Muon": Entry(DENSE, train=MUON),
    "dense, trained for 4 bits": Entry(DENSE, train=FOR_4_BITS),
    "dense, trained for 3 bits": Entry(DENSE, bits=3, train=FOR_3_BITS),
    "dense, large vocabulary": Entry(DENSE, data={"vocabulary_size": 4096}),
    "shared MLP": Entry({**DENSE, "share": ("mlp:all",)}, train=MUON),
    "loop of two blocks": Entry({**DENSE, "share": ("block:cycle-2",)}, train=MUON),
    "byte-pooled": Entry({**DENSE, **BYTES}, train=MUON),
    "patches of 4 bytes": Entry({**DENSE, **BYTES, "byte_slots": 4}, train=MUON, data=PATCHES),
    "byte-pooled, trained for 4 bits": Entry({**DENSE, **BYTES}, train={**MUON, **FOR_4_BITS}),
    "byte-pooled, trained for 3 bits": Entry({**DENSE, **BYTES}, 3, {**MUON, **FOR_3_BITS}),
}


def config_of(entry: Entry, args: argparse.Namespace, width: int, tokens: int = 1):
    """The config of an entry at a width."""
    config = config_lib.load(args.config, [f"--config.{each}" for each in args.overrides])
    config = config.unlock()
    config.data.longest_piece = 12
    config.data.update(entry.data)
    config.model.update(entry.model)
    config.model.d_model = width
    config.model.num_heads = width // (16 if width % 32 else 32)
    config.model.d_ff = round(entry.wide * width / 16) * 16
    config.train.update({"learning_rate": 4e-3, "batch_size": 32, "tokens": tokens, **entry.train})
    config_lib.check(config)
    return config.lock()


def widest(entry: Entry, args: argparse.Namespace, vocabulary_bytes: int) -> int:
    """The largest width whose weights and vocabulary fit before they are compressed.

    Raises:
      UserError: none does.
    """
    width = 0
    while _estimate(entry, args, width + WIDER) + vocabulary_bytes <= args.bytes:
        width += WIDER
    if not width:
        raise UserError(f"--bytes={args.bytes}: no width of this entry fits; give more.")
    return width


def _estimate(entry: Entry, args: argparse.Namespace, width: int) -> float:
    """Bytes of the weights, uncompressed."""
    config = config_of(entry, args, width)
    model = methods.dense_config(config, config.data.vocabulary_size)
    return transformer.num_params(model) * (entry.bits / 8 + 2 / 32)


def artifact(path: Path, bits: int) -> tuple[int, runs.Model, dict]:
    """(compressed bytes of weights and vocabulary, the model, its weights as stored)."""
    model = runs.load(path, sharding.make_mesh())
    config = families.dense(model.config)
    stored = quantizing.pack(model.params, config, bits)
    content = [value.tobytes() for _, value in sorted(quantizing.arrays(stored).items())]
    content += [file.read_bytes() for _, file in sorted(model.vocabulary.files.items())]
    return compressor.compressed_bytes(b"".join(content)), model, stored


def planned_tokens(run: pipeline.Run, path: Path, minutes: float) -> int:
    """Tokens that fit into the time: of a trial, or what an earlier one has said."""
    if (path / "trial.json").exists():
        return json.loads((path / "trial.json").read_text())["tokens"]
    config, started = run.model_config(methods.BASE), time.perf_counter()
    train = run.config.train.copy_and_resolve_references().unlock()
    context = run.generic.context
    train.tokens, train.log_every = TRIAL_STEPS * train.batch_size * context, 2
    train.tensorboard = False
    sampler = Sampler(len(run.generic), train.batch_size, 1)
    given = families.constants(config, run.prepared.vocabulary.pieces)
    loop.pretrain(
        path / "run", config, train, run.generic, sampler, 1, run.mesh, "trial", None, given
    )
    rate = metrics.read(path / "run" / "metrics.jsonl")[-1]["tokens_per_second"]
    compiling = time.perf_counter() - started - train.tokens / rate
    left = max(RESERVE * 60 * minutes - compiling, 1.0)
    step_tokens = train.batch_size * context
    tokens = max(int(rate * left) // step_tokens, 1) * step_tokens
    write_json(path / "trial.json", {"tokens": tokens, "tokens_per_second": rate})
    return tokens


def heldout(run: pipeline.Run, most: int) -> tuple:
    """The generic held-out windows, at most so many."""
    store = run.generic_heldout
    return store, np.arange(min(len(store), most))


def row(name: str, entry: Entry, args: argparse.Namespace) -> dict:
    """Trains an entry, or reads the one that was trained; its figures."""
    workdir = Path(args.workdir)
    first = pipeline.open_run(config_of(entry, args, WIDER), workdir, [])
    files = first.prepared.vocabulary.files
    width = widest(entry, args, sum(file.stat().st_size for file in files.values()))
    run = pipeline.open_run(config_of(entry, args, width), workdir, [])
    trial = workdir / "golf" / f"{name.replace(' ', '-')}-{args.bytes}-{args.minutes:g}"
    tokens = planned_tokens(run, trial, args.minutes)
    run = pipeline.open_run(config_of(entry, args, width, tokens), workdir, [])
    stage = pretraining.pretrain(run, methods.BASE, "", args.seed)
    size, model, stored = artifact(stage.path, entry.bits)
    config, score_step = model.config, step.make_score_step(model.config, run.mesh)
    bits = {}
    for what, params in (
        ("as trained", model.params),
        ("as stored", quantizing.unpack(stored, model.params, config)),
    ):
        found = scoring.score(score_step, params, *heldout(run, args.windows), 64, run.mesh)
        bits[what] = round(found.bits_per_byte, 5)
    return {
        "entry": name,
        "bytes": args.bytes,
        "minutes": args.minutes,
        "seed": args.seed,
        "artifact_bytes": size,
        "fits": size <= args.bytes,
        "seconds": round(stage.result["seconds"], 1),
        "in_time": stage.result["seconds"] <= 60 * args.minutes,
        "params": transformer.num_params(config),
        "d_model": width,
        "bits": entry.bits,
        "tokens": tokens,
        "bits_per_byte": bits["as stored"],
        "before_quantization": bits["as trained"],
    }


def baselines(args: argparse.Namespace) -> list[dict]:
    """The compressor and the n-gram model of as many bytes."""
    run = pipeline.open_run(config_of(ENTRIES["dense"], args, WIDER), Path(args.workdir), [])
    corpus = Corpus((run.generic, np.arange(len(run.generic))), run.prepared.vocabulary)
    held = heldout(run, args.windows)
    total = int(held[0].bytes_N[held[1]].sum())
    pruned = corpus.model.pruned(args.bytes)
    windows = Windows.of(*held)
    p_T = pruned.probabilities(windows)[windows.mask_NxL]
    text, before = corpus.text(held), _prefix(corpus.generic, args.bytes)
    served, added = compressor.added_bytes(before, text)
    rows = [
        ("n-gram, pruned", pruned.num_bytes, ngrams.bits_per_byte(p_T, total)),
        ("LZMA", served, 8 * added / len(text)),
    ]
    return [
        {"entry": name, "bytes": args.bytes, "artifact_bytes": size, "fits": size <= args.bytes}
        | {"in_time": True, "bits_per_byte": round(float(bits), 5)}
        for name, size, bits in rows
    ]


def _prefix(text: bytes, most: int) -> bytes:
    """The longest beginning of a text, to a hundredth, that compresses to at most so many bytes."""
    if compressor.compressed_bytes(text) <= most:
        return text
    least, end = 0, len(text)
    while end - least > max(most // 100, 1):
        middle = (least + end + 1) // 2
        if compressor.compressed_bytes(text[:middle]) <= most:
            least = middle
        else:
            end = middle
    return text[:least]


def table(rows: list[dict]) -> str:
    """The rows as Markdown, the best first."""
    lines = [
        "| entry | bits per byte | before | artifact bytes | parameters | tokens | seconds |",
        "|---|---|---|---|---|---|---|",
    ]
    for each in sorted(rows, key=lambda row: row["bits_per_byte"]):
        out = "" if each["fits"] and each["in_time"] else " (out of bounds)"
        cells = [
            f"{each['entry']}{out}",
            f"{each['bits_per_byte']:.4f}",
            *(
                f"{each[name]:{form}}" if name in each else ""
                for name, form in (
                    ("before_quantization", ".4f"),
                    ("artifact_bytes", ","),
                    ("params", ","),
                    ("tokens", ","),
                    ("seconds", ",.0f"),
                )
            ),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def parsed(argv: list[str] | None = None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bytes", type=int, default=1_000_000)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--out", default="")
    parser.add_argument("--workdir", default="runs/golf")
    parser.add_argument("--config", default="configs/local/slm.py")
    parser.add_argument("--entries", default="", help="names with a semicolon between; all if none")
    parser.add_argument("--windows", type=int, default=1000, help="that are scored")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("overrides", nargs="*", help="FIELD=VALUE of every config")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Plays all entries and writes their rows."""
    args = parsed(argv)
    names = [name.strip() for name in args.entries.split(";") if name.strip()] or list(ENTRIES)
    unknown = [name for name in names if name not in ENTRIES]
    if unknown:
        sys.exit(f"--entries={args.entries}: must be some of {'; '.join(ENTRIES)}.")
    base = config_lib.load(args.config, [f"--config.{each}" for each in args.overrides])
    if base.data.generic.startswith("corpora:"):
        demo.fetch(base)
    rows = baselines(args)
    for done, name in enumerate(names, 1):
        rows.append(row(name, ENTRIES[name], args))
        if args.out:
            Path(args.out).parent.mkdir(parents=True, exist_ok=True)
            write_text(Path(args.out), "".join(json.dumps(each) + "\n" for each in rows))
        left = (len(names) - done) * args.minutes
        print(f"[{done} of {len(names)}] at most {left:.0f} min of training left", file=sys.stderr)
    print(table(rows))


if __name__ == "__main__":
    main()
