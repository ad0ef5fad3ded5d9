"""Size golf: the best bits per byte on held-out text for an artifact of so many bytes.

    python -m benchmarks.golf --bytes=1000000 --minutes=10 --out=results/golf/rows.jsonl

An entry (benchmarks/golf_entries.py) is a model whose weights, as they are stored, and vocabulary,
compressed together by LZMA, and n-grams, if it has any, are at most --bytes; code is not counted.
It is trained for at most --minutes of all cores, counted in processor time, compiling included: as
many tokens as a short trial says. Scores are of the generic held-out windows, of the weights as
stored: every entry is scored on the same text, in windows of its own. The shares of the n-grams,
one for each length of the context that they know, are fitted on training windows that they do not
have. Beside the entries stand a compressor, which has as much training text in front of the
held-out text as --bytes hold compressed, and n-gram models pruned to --bytes. Finished entries are
reused, so the same command goes on after an interruption (the time of an entry that was interrupted
is that of its last part: delete --workdir if it matters). Rows of other sizes, times and seeds in
--out stay.
"""

import argparse
import dataclasses
import json
import sys
from pathlib import Path

from specialm.common import runtime

runtime.configure()

import numpy as np  # noqa: E402

from benchmarks import processor_time  # noqa: E402
from benchmarks.cells import add_names  # noqa: E402
from benchmarks.golf_entries import DENSE, ENTRIES, LARGE, WIDER, Entry, config_of, widest  # noqa: E402
from benchmarks.golf_table import table  # noqa: E402
from benchmarks.recipe_table import read  # noqa: E402
from specialm import config as config_lib  # noqa: E402
from specialm import methods  # noqa: E402
from specialm.common import code  # noqa: E402
from specialm.common.files import write_text  # noqa: E402
from specialm.evaluation import compressor, ngrams, positions  # noqa: E402
from specialm.evaluation.baselines import Corpus  # noqa: E402
from specialm.evaluation.kneser_ney import KneserNey  # noqa: E402
from specialm.evaluation.ngrams import Windows  # noqa: E402
from specialm.models import families, transformer  # noqa: E402
from specialm.training import runs, sharding  # noqa: E402
from specialm.workflows import demo, pipeline, pretraining, quantizing  # noqa: E402


def left_out(count: int) -> np.ndarray:
    """bool [count]: one in a hundred training windows, 16 together, which n-grams do not have where
    they are mixed with a network.
    """
    return np.arange(count) // 16 % 100 == 0


def artifact(path: Path, bits: int) -> tuple[int, runs.Model, dict]:
    """(compressed bytes of weights and vocabulary, the model, its weights as stored)."""
    model = runs.load(path, sharding.make_mesh())
    config = families.dense(model.config)
    stored = quantizing.pack(model.params, config, bits)
    content = [value.tobytes() for _, value in sorted(quantizing.arrays(stored).items())]
    content += [file.read_bytes() for _, file in sorted(model.vocabulary.files.items())]
    return compressor.compressed_bytes(b"".join(content)), model, stored


def windows(run: pipeline.Run, most: int) -> tuple:
    """The generic held-out windows: all, or so many."""
    store = run.generic_heldout
    return store, np.arange(min(len(store), most or len(store)))


def width_of(entry: Entry, args: argparse.Namespace) -> int:
    """The width of an entry, see `widest`."""
    run = pipeline.open_run(config_of(entry, args, WIDER), Path(args.workdir), [])
    files = run.prepared.vocabulary.files
    return widest(entry, args, sum(file.stat().st_size for file in files.values()))


def plan_file(name: str, width: int, args: argparse.Namespace) -> Path:
    """Where the tokens of an entry stand, see `processor_time.tokens_for`."""
    folder = f"{name}-{width}-{args.minutes:g}".replace(" ", "-")
    return Path(args.workdir) / "golf" / folder / "plan.json"


def row(name: str, entry: Entry, args: argparse.Namespace) -> dict:
    """Trains an entry, or reads the one that was trained; its figures."""
    workdir = Path(args.workdir)
    width = width_of(entry, args)
    run = pipeline.open_run(config_of(entry, args, width), workdir, [])
    plan = plan_file(name, width, args)
    tokens = processor_time.tokens_for(run, methods.BASE, plan, args.minutes)
    run = pipeline.open_run(config_of(entry, args, width, tokens), workdir, [])
    time_file = plan.with_name(f"seed{args.seed}.json")
    with processor_time.measured(time_file):
        stage = pretraining.pretrain(run, methods.BASE, "", args.seed)
        size, model, stored = artifact(stage.path, entry.bits)
        mixed = _ngrams(run, entry, args.bytes - size)
    as_stored = quantizing.unpack(stored, model.params, model.config)
    bits, shares = {}, {}
    for what, params in (("before", model.params), ("stored", as_stored)):
        now = dataclasses.replace(model, params=params)
        fitted = run.generic, np.flatnonzero(left_out(len(run.generic)))
        bits[what], shares[what] = _bits(now, mixed, windows(run, args.windows), fitted)
    size += mixed.num_bytes if mixed else 0
    minutes = processor_time.read(time_file)
    return {
        "entry": name,
        "bytes": args.bytes,
        "minutes": args.minutes,
        "seed": args.seed,
        "artifact_bytes": size,
        "fits": size <= args.bytes,
        "spent_minutes": round(minutes, 2),
        "in_time": minutes <= args.minutes,
        "params": transformer.num_params(model.config),
        "d_model": width,
        "bits": entry.bits,
        "tokens": tokens,
        "bits_per_byte": round(bits["stored"], 5),
        "before_quantization": round(bits["before"], 5),
        "ngram_shares": [round(share, 4) for share in shares["stored"]],
        **code.made_by([stage]),
    }


def _ngrams(run: pipeline.Run, entry: Entry, most: int) -> KneserNey | None:
    """The n-gram model that fills the bytes that are left."""
    if not entry.ngram:
        return None
    there = np.flatnonzero(~left_out(len(run.generic)))
    corpus = Corpus((run.generic, there), run.prepared.vocabulary)
    return corpus.model.pruned(most)


def _bits(model: runs.Model, mixed: KneserNey | None, scored, fitted) -> tuple[float, list[float]]:
    """(bits per byte of the scored windows, shares of the n-gram model: one for each number of
    orders that know what is before a token, least first).
    """

    def of_network(of, own: Windows) -> np.ndarray:
        return np.exp(-positions.token_nll(model, *of).astype(np.float64))[own.mask_NxL]

    def of_both(of) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        own = Windows.of(*of)
        p_NxL, known_by_NxL = mixed.walked(own)
        return of_network(of, own), p_NxL[own.mask_NxL], known_by_NxL[own.mask_NxL]

    total = int(scored[0].bytes_N[scored[1]].sum())
    if not mixed:
        return ngrams.bits_per_byte(of_network(scored, Windows.of(*scored)), total), []
    network_T, ngrams_T, known_T = of_both(fitted)
    shares = [0.5] * (len(mixed.sizes) + 1)
    for count in np.unique(known_T):
        here = known_T == count
        shares[count] = ngrams.mixed(network_T[here], ngrams_T[here])[1]
    network_T, ngrams_T, known_T = of_both(scored)
    share_T = np.array(shares)[known_T]
    p_T = (1 - share_T) * network_T + share_T * ngrams_T
    return ngrams.bits_per_byte(p_T, total), shares[1:]


def baselines(args: argparse.Namespace) -> list[dict]:
    """The compressor and the n-gram models of as many bytes, of two vocabularies."""
    rows = []
    for entry in (Entry(DENSE), Entry(DENSE, data=LARGE)):
        run = pipeline.open_run(config_of(entry, args, WIDER), Path(args.workdir), [])
        corpus = Corpus((run.generic, np.arange(len(run.generic))), run.prepared.vocabulary)
        held = windows(run, args.windows)
        pruned, own = corpus.model.pruned(args.bytes), Windows.of(*held)
        p_T = pruned.probabilities(own)[own.mask_NxL]
        name = f"n-grams of {run.prepared.vocabulary.size:,} pieces, pruned"
        total = int(held[0].bytes_N[held[1]].sum())
        rows.append((name, pruned.num_bytes, ngrams.bits_per_byte(p_T, total)))
    text, before = corpus.text(held), _prefix(corpus.generic, args.bytes)
    served, added = compressor.added_bytes(before, text)
    rows.append(("LZMA", served, 8 * added / len(text)))
    return [
        {"entry": name, "bytes": args.bytes, "artifact_bytes": size, "fits": size <= args.bytes}
        | {"in_time": True, "bits_per_byte": round(float(bits), 5), **code.made_by()}
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


def parsed(argv: list[str] | None = None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bytes", type=int, default=1_000_000)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--out", default="")
    parser.add_argument("--workdir", default="runs/golf")
    parser.add_argument("--config", default="configs/local/slm.py")
    add_names(parser, "--entries", ENTRIES)
    parser.add_argument("--windows", type=int, default=0, help="that are scored; 0: all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("overrides", nargs="*", help="FIELD=VALUE of every config")
    return parser.parse_args(argv)


def _others(args: argparse.Namespace) -> list[dict]:
    """Rows that --out has of other sizes, or times, or seeds."""
    if not args.out or not Path(args.out).exists():
        return []
    asked = {"bytes": args.bytes, "minutes": args.minutes, "seed": args.seed}
    rows = read(Path(args.out))
    return [each for each in rows if any(each.get(k, v) != v for k, v in asked.items())]


def main(argv: list[str] | None = None) -> None:
    """Plays all entries and writes their rows."""
    args = parsed(argv)
    base = config_lib.load(args.config, [f"--config.{each}" for each in args.overrides])
    if base.data.generic.startswith("corpora:"):
        demo.fetch(base)
    rows, others = baselines(args), _others(args)
    for done, name in enumerate(args.entries, 1):
        rows.append(row(name, ENTRIES[name], args))
        if args.out:
            Path(args.out).parent.mkdir(parents=True, exist_ok=True)
            lines = (json.dumps(each) + "\n" for each in (*others, *rows))
            write_text(Path(args.out), "".join(lines))
        left = (len(args.entries) - done) * args.minutes
        print(
            f"[{done} of {len(args.entries)}] at most {left:.0f} min of training left",
            file=sys.stderr,
        )
    print(table(rows))


if __name__ == "__main__":
    main()
