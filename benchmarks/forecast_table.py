"""Makes specialm/planning/evidence.json, which forecasts are made from, from rows of results/.

    python -m benchmarks.forecast_table                            # the rows, and fits the laws
    python -m benchmarks.forecast_table --corpora=data/corpora     # measures the domains as well
    python -m benchmarks.forecast_table --open                     # those of open checkpoints alone

Of every study the models of methods as they are by default are taken, after fine-tuning, on
held-out text. Left out are variants that a plan does not offer (other numbers of clusters, choices
of an expert, weights), the shuffled control, models without pretraining, and rates that are not a
study's own. Of the two variants that mix specialist text in, both count as slm_mixed. Rows say
themselves how often text was repeated, or it is computed: tokens read / tokens of the corpus, and
for importance sampling without a cap this divided by the effective fraction of the corpus that
results/repetition measured with the same 256 clusters.

Rows of open checkpoints (results/open_model, if they are there) are not fitted: `open_rows.py` says
what is made of them. Of each method and number of tokens the rows of the rate that validation text
chose are taken.
"""

import argparse
import hashlib
import json
import statistics
from collections.abc import Iterator
from pathlib import Path

from specialm.common import code, files
from specialm.planning import domain_text, evidence, law
from specialm.planning.evidence import BYTES_PER_TOKEN, Curve, Row

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "results"
DOMAINS = ("med", "books", "ency")
CORPUS = 10_107_182  # generic training tokens of the default corpora, vocabulary 1,024
DEMO, GPT2, LARGE = 173_888, 173_824, 5.4  # parameters: configs/local/slm.py, gpt2.py
DRAWS, SEED = 100, 0
KINDS = ("own", "mixed")
OPEN_ROWS = "open_model/rows.jsonl"
OPEN_TOKENS, OPEN_BYTES = 50_000, 4.0  # specialist tokens of those rows; bytes of one, about
OTHER = ("slm_is_shuffled", "slm_nopt", "macro", "generic")


def read(name: str) -> list[dict]:
    """The rows of a file that may be taken."""
    lines = (RESULTS / name).read_text().splitlines()
    found = [json.loads(line) for line in lines]
    return [
        row
        for row in found
        if row.get("phase", "finetuned") == "finetuned"
        and row["method"] not in OTHER
        and row["domain"] in DOMAINS
    ]


def effective_fraction() -> float:
    """Of the corpus, that importance sampling without a cap draws; median over the domains."""
    rows = read("repetition/rows.jsonl")
    return statistics.median(r["effective_fraction"] for r in rows if r["method"] == "slm_is")


def taken() -> Iterator[dict]:
    """Of every row that is taken the fields of `Row` but what the domain says of itself, with
    specialist_tokens.
    """
    fraction = effective_fraction()

    def repeated(method: str, tokens: int, corpus: float = CORPUS) -> float:
        return tokens / corpus / (fraction if method == law.IMPORTANCE else 1)

    def made(study: str, row: dict, specialist_tokens: int, params: int, **more) -> dict:
        tokens = row["train_tokens"]
        values = {
            "study": study,
            **{name: row[name] for name in ("method", "domain", "seed")},
            "params": params,
            "tokens": tokens,
            "repetitions": repeated(row["method"], tokens),
            "learned": True,
            "bits_per_byte": row["bits_per_byte"],
            "specialist_tokens": specialist_tokens,
        }
        return values | more

    for row in read("demo/results.jsonl"):
        repetitions = row["expected_repetitions"]
        yield made("demo", row, 50_000, DEMO, repetitions=repetitions, learned=False)
    for name, size in (("results", 10_000), ("tokens50k", 50_000)):
        yield from (made("bank", row, size, GPT2) for row in read(f"bank/{name}.jsonl"))
    for row in read("bank/rates.jsonl"):
        if row["learning_rate"] == 0.004:
            yield made("bank", row, 10_000, GPT2)
    for row in read("encoders/tfidf_svd.jsonl"):
        again = repeated(row["method"], row["train_tokens"], CORPUS / 5)
        yield made("encoders", row, 50_000, GPT2, repetitions=again)
    models = files.read_json(RESULTS / "study" / "study.json")["models"]
    for row in read("study/results.jsonl"):
        size, method = row["specialist_tokens"], row["method"]
        if "specialist_fraction" in row["variant"]:
            yield made("study", row, size, models["slm"]["params"], method="slm_mixed")
        elif not row["variant"]:
            yield made("study", row, size, models[method]["params"])
    for row in read("repetition/rows.jsonl"):
        method = {"slm": "slm", "slm_is": "slm_is"}.get(row["method"], "slm_is")
        if row["method"][:3] not in ("slm", "cap", "k64"):
            continue
        if row["effective_fraction"] == 1:  # a cap that leaves nothing to choose
            method = "slm"
        same = {"train_tokens": row["tokens"], "bits_per_byte": row["heldout_after"]}
        again = row["expected_repetitions"]
        yield made(
            "repetition", row | same, 50_000, row["params"], method=method, repetitions=again
        )


def rows(curves: dict[str, Curve]) -> list[Row]:
    """All rows that are taken."""
    found = []
    for values in taken():
        size = round(values.pop("specialist_tokens") * BYTES_PER_TOKEN)
        own, mixed = (round(curves[values["domain"]].at(kind, size), 4) for kind in KINDS)
        values["repetitions"] = round(values["repetitions"], 4)
        values["bits_per_byte"] = round(values["bits_per_byte"], 5)
        found.append(Row(**values, specialist_bytes=size, own=own, mixed=mixed))
    return found


def open_checkpoints(curves: dict[str, Curve]) -> list[dict]:
    """Rows of models that went on from an open checkpoint; [] if there are none."""
    if not (RESULTS / OPEN_ROWS).exists():
        return []
    from benchmarks.open_model import chosen_rates

    found = [row for row in read(OPEN_ROWS) if "valid_after" in row]
    rates, size = chosen_rates(found), round(OPEN_TOKENS * OPEN_BYTES)
    names = ("method", "domain", "seed", "tokens", "params", "served_bytes", "train_flops")
    return [
        {
            **{name: row[name] for name in names},
            "seconds": round(row["seconds"], 1),
            "bits_per_byte": round(row["heldout_after"], 5),
            "specialist_bytes": size,
            **{kind: round(curves[row["domain"]].at(kind, size), 4) for kind in KINDS},
        }
        for row in found
        if rates[row["corpus"], row["size"], row["tokens"], row["method"]] == row["learning_rate"]
    ]


def costs() -> dict:
    """What methods cost, from the rows of results/study.

    Returns:
      passes: over the specialist tokens in fine-tuning, those of the small model, median.
      pretraining: FLOPs of a token against the small model's.
      special: FLOPs of fine-tuning against the small model's.
      large: parameters of the large model against the small one's.
      effective_fraction: see `effective_fraction`.
    """
    models = files.read_json(RESULTS / "study" / "study.json")["models"]
    found = [r for r in read("study/results.jsonl") if not r["variant"] and r["method"] != "slm_is"]
    special: dict[str, list[float]] = {}
    for row in found:
        beside = next(
            r
            for r in found
            if r["method"] == "slm"
            and all(r[n] == row[n] for n in ("domain", "seed", "budget", "specialist_tokens"))
        )
        special.setdefault(row["method"], []).append(
            row["specialise_flops"] / beside["specialise_flops"]
        )
    plain = [r for r in found if r["method"] == "slm"]
    passes = [r["specialise_tokens"] / r["specialist_tokens"] for r in plain]
    per_token = {n: m["flops_per_token"] for n, m in models.items() if "/" not in n}
    return {
        "passes": round(statistics.median(passes), 2),
        "pretraining": {n: round(f / per_token["slm"], 4) for n, f in per_token.items()},
        "special": {name: round(statistics.median(each), 3) for name, each in special.items()},
        "large": round(models["llm"]["params"] / models["slm"]["params"], 3),
        "effective_fraction": round(effective_fraction(), 4),
    }


def measure(corpora: Path) -> dict[str, dict]:
    """What the n-gram models say of the studies' domains."""
    found = {}
    for domain in DOMAINS:
        text = domain_text.measure(f"corpora:{domain}", "corpora:generic", 0, str(corpora))
        curve = text.curve
        found[domain] = {
            "bytes": list(curve.bytes_y),
            "own": [round(value, 4) for value in curve.own_y],
            "mixed": [round(value, 4) for value in curve.mixed_y],
        }
    return found


def curves_of(domains: dict[str, dict]) -> dict[str, Curve]:
    """The curves of the table's domains."""
    return {
        name: Curve(tuple(each["bytes"]), tuple(each["own"]), tuple(each["mixed"]))
        for name, each in domains.items()
    }


def sources() -> dict[str, str]:
    """SHA-256 of every file that is read."""
    names = ("demo/results", "bank/results", "bank/tokens50k", "bank/rates", "study/results")
    names += ("encoders/tfidf_svd", "repetition/rows")
    paths = [f"{name}.jsonl" for name in names] + ["study/study.json"]
    paths += [OPEN_ROWS] if (RESULTS / OPEN_ROWS).exists() else []
    return {name: hashlib.sha256((RESULTS / name).read_bytes()).hexdigest() for name in paths}


def laws(found: list[Row]) -> dict:
    """The fitted laws, by the n-gram figure that they read."""
    made = {}
    for kind in KINDS:
        fitted = law.fit(found, kind)
        draws = law.bootstrap(found, kind, DRAWS, SEED)
        made[kind] = {
            "theta": [round(value, 4) for value in fitted.theta_l.tolist()],
            "draws": [[round(value, 4) for value in draw] for draw in draws.tolist()],
            "spreads": {n: round(v, 4) for n, v in law.spreads(found, kind).items()},
        }
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpora", default="", help="measure the domains of these corpora")
    parser.add_argument("--open", action="store_true", help="rows of open checkpoints alone")
    options = parser.parse_args()
    if options.open:
        value = {**evidence.table(), "sources": sources()}
        value["open"] = open_checkpoints(curves_of(value["domains"]))
        write(value)
        return
    domains = measure(Path(options.corpora)) if options.corpora else evidence.table()["domains"]
    found = rows(curves_of(domains))
    value = {
        "made_by": {"command": "python -m benchmarks.forecast_table", **code.made_by()},
        "sources": sources(),
        "domains": domains,
        "costs": costs(),
        "names": list(law.NAMES),
        "laws": laws(found),
        "rows": [evidence.to_json(row) for row in found],
        "open": open_checkpoints(curves_of(domains)),
    }
    write(value)
    for kind, each in value["laws"].items():
        print(kind, each["spreads"], dict(zip(law.NAMES, each["theta"], strict=True)))


def write(value: dict) -> None:
    """Writes the package's table, with its digest."""
    value["digest"] = evidence.digest(value)
    text = json.dumps(value, separators=(",", ":"))
    text = text.replace('{"study"', '\n{"study"').replace('"laws":', '\n"laws":')
    files.write_text(evidence.PATH, text + "\n")
    print(f"{evidence.PATH}: {len(value['rows'])} rows, {len(value['open'])} of open checkpoints")


if __name__ == "__main__":
    main()
