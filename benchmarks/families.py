"""What a bank or a mixture costs in training, against the dense model that it serves.

    python -m benchmarks.families [--repeats=9] [--sizes=demo,wide] [--tokens=2048,8192]
        [--experts=4,16] [--groups=8] [--set=train.FIELD=VALUE ...] [--out=ROWS.jsonl] [--table]
    python -m benchmarks.families --moments|--every [the same]

Also run by `python -m benchmarks.step`. In one process, on the same tokens, the dense step and that
of each family take turns. `wall_ratio` is the median over rounds of family / dense in the same
round; `flop_ratio` counts the matrix products of both traced programs, loops with their trip
counts. `optimizer_ms` is the update alone (clipping, Adam), `step_ms` the whole step, medians.

--tokens are those of a step (TOKENS[kind] if none are given), --experts those of a bank or mixture.
With --moments the projected network's step with each form of Adam's moments (MOMENTS) takes turns
with the dense step in float32 instead, at 2,048 and 8,192 tokens a step; `moment_bytes` is what all
moments take. With --every it is its mean step with each `train.bank_every` (EVERY): `moment_bytes`
has the gradients kept, `optimizer_ms` is that of a step that updates the bank.

--set changes the settings of all sides. With --out each size is a row, written when it is there;
what is there already, measured with the same options, is not measured again. --table prints the
ratios of every family as Markdown instead of JSON.
"""

import argparse
import itertools
import json
import statistics
import time
from pathlib import Path

from benchmarks.cells import listed, read

SIZES = {  # of the demo, and one with a larger vocabulary and width
    "demo": {
        "vocab_size": 1024,
        "context": 128,
        "num_layers": 2,
        "d_model": 64,
        "num_heads": 4,
        "d_ff": 256,
    },
    "wide": {
        "vocab_size": 8000,
        "context": 128,
        "num_layers": 3,
        "d_model": 128,
        "num_heads": 4,
        "d_ff": 512,
    },
}
FAMILIES = ("projected", "hypernetwork", "soup", "mixture")
ROUND_SECONDS = 0.7
TOKENS = {"families": (8192,), "moments": (2048, 8192), "every": (2048, 8192)}  # of a step
MOMENTS: dict[str, dict] = {  # of train
    "float32": {},
    "bfloat16 first": {"moment_dtype": "bfloat16"},
    "int8": {"moment_dtype": "int8", "second_moment_dtype": "int8"},
    "factored second": {"second_moment_dtype": "factored"},
    "int8 first, factored second": {"moment_dtype": "int8", "second_moment_dtype": "factored"},
}
EVERY: dict[str, dict] = {str(every): {"bank_every": every} for every in (1, 2, 4, 8)}
CYCLE = 8  # steps that are timed are a multiple of these
FORMS = {"moments": MOMENTS, "every": EVERY}


def random_batch(config, windows: int, groups: int) -> dict:
    """Random tokens of a dense model, a bank or a mixture, and a bank's features, as NumPy."""
    import numpy as np

    from specialm.models import families

    dense, rng = families.dense(config), np.random.default_rng(0)
    tokens = rng.integers(0, dense.vocab_size, (windows, dense.context + 1)).astype(np.int32)
    batch = {
        "inputs": tokens[:, :-1],
        "targets": tokens[:, 1:],
        "mask": np.ones((windows, dense.context), np.float32),
    }
    if families.kind(config) == families.BANK:
        count = 1 if config.family == "soup" else groups
        batch["features"] = rng.dirichlet(np.ones(config.num_features), count)
        batch["features"] = batch["features"].astype(np.float32)
    return batch


class Side:
    """One model being trained on random tokens."""

    def __init__(self, config, groups: int, windows: int, changes=(), **train):
        import jax

        from specialm import config as settings
        from specialm.models import families
        from specialm.planning.flops import matmul_flops
        from specialm.training import bank_updates, optimizer, program, sharding, step

        experts = config.num_experts if families.kind(config) == families.MIXTURE else 1
        mesh = sharding.make_mesh(windows, groups, experts=experts, layout={"expert": 0})
        overrides = [f"--config.{change}" for change in changes]
        chosen = settings.finish(settings.default(), overrides).train
        chosen.update(train)
        of_bank = groups if families.kind(config) == families.BANK else 0
        tx = optimizer.make(chosen, 1000, families.declare(config), of_bank)
        self.state = step.init_state(config, tx, mesh, key=jax.random.key(0))
        self.batch = sharding.put_batch(mesh, random_batch(config, windows, groups))
        self.step = program.make_train_step(config, tx, mesh)
        self.flops = matmul_flops(jax.make_jaxpr(self.step)(self.state, self.batch).jaxpr)
        grads = jax.tree.map(lambda leaf: leaf + 0, self.state.params)
        arguments = (self.state.optimizer, self.state.params)

        def update(moments, params):
            if not isinstance(tx, bank_updates.Optimizer):
                return tx.update(grads, moments, params)
            parts = zip(*map(bank_updates.parted, (grads, params)), strict=True)
            each = zip((tx.bank, tx.rest), (moments.bank, moments.rest), parts, strict=True)
            return [one.update(grad, state, param) for one, state, (grad, param) in each]

        if families.kind(config) == families.MIXTURE:
            update, arguments = jax.vmap(tx.update), (grads, *arguments)
        self.update = jax.jit(update).lower(*arguments).compile()
        self.optimizer_ms = _milliseconds(lambda: self.update(*arguments))
        self.seconds(2)

    def seconds(self, steps: int) -> float:
        """Wall time of a step, the mean of so many."""
        started = time.perf_counter()
        for _ in range(steps):
            self.state, metrics = self.step(self.state, self.batch)
            float(metrics["loss"])
        return (time.perf_counter() - started) / steps


def _milliseconds(function, repeats: int = 15) -> float:
    import jax

    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        jax.block_until_ready(function())
        times.append(time.perf_counter() - started)
    return 1e3 * statistics.median(times)


def measure(name: str, experts: int, groups: int, repeats: int, tokens: int, changes=()) -> dict:
    """{"families": {family: ratios}} and the dense step, at one size; without the mixture where a
    step's windows are not the same number for each expert.
    """
    from specialm.models import transformer
    from specialm.models.families import bank, mixture

    dense = transformer.Config(**SIZES[name])
    windows = tokens // dense.context
    configs = {"dense": dense}
    for family in FAMILIES:
        if family == "mixture" and windows % experts:
            continue
        layers = tuple(range(dense.num_layers))
        configs[family] = (
            mixture.Config(dense, experts)
            if family == "mixture"
            else bank.Config(dense, family, experts, experts, experts, layers, features=128)
        )
    sides = {name: Side(config, groups, windows, changes) for name, config in configs.items()}
    steps = max(1, round(ROUND_SECONDS / sides["dense"].seconds(3)))
    rounds = [
        {family: side.seconds(steps) for family, side in sides.items()} for _ in range(repeats)
    ]

    def median(values) -> float:
        return statistics.median(values)

    families = {}
    for family in [name for name in FAMILIES if name in sides]:
        ratios = [made[family] / made["dense"] for made in rounds]
        families[family] = {
            "wall_ratio": round(median(ratios), 3),
            "wall_range": [round(min(ratios), 3), round(max(ratios), 3)],
            "flop_ratio": round(sides[family].flops / sides["dense"].flops, 4),
            "step_ms": round(1e3 * median(made[family] for made in rounds), 2),
            "optimizer_ms": round(sides[family].optimizer_ms, 2),
        }
    return {
        "size": name,
        **SIZES[name],
        "tokens_per_step": tokens,
        "experts": experts,
        "groups": groups,
        "dense_step_ms": round(1e3 * median(made["dense"] for made in rounds), 2),
        "dense_optimizer_ms": round(sides["dense"].optimizer_ms, 2),
        "families": families,
    }


def measure_forms(
    kind: str, name: str, experts: int, groups: int, repeats: int, tokens: int, changes=()
) -> dict:
    """{kind: {form: ratios}} of the projected network at one size.

    Args:
      kind: of FORMS.
    """
    import jax

    from specialm.models import transformer
    from specialm.models.families import bank

    dense = transformer.Config(**SIZES[name])
    layers = tuple(range(dense.num_layers))
    config = bank.Config(dense, "projected", experts, experts, experts, layers)
    windows = tokens // dense.context
    sides = {
        form: Side(config, groups, windows, changes, **train) for form, train in FORMS[kind].items()
    }
    sides["dense"] = Side(dense, groups, windows, changes)
    cycle = CYCLE if kind == "every" else 1
    steps = cycle * max(1, round(ROUND_SECONDS / sides["dense"].seconds(3) / cycle))
    rounds = [{form: side.seconds(steps) for form, side in sides.items()} for _ in range(repeats)]
    found = {}
    for form in FORMS[kind]:
        ratios = [made[form] / made["dense"] for made in rounds]
        state = jax.tree.leaves(sides[form].state.optimizer)
        found[form] = {
            "wall_ratio": round(statistics.median(ratios), 3),
            "wall_range": [round(min(ratios), 3), round(max(ratios), 3)],
            "step_ms": round(1e3 * statistics.median(made[form] for made in rounds), 2),
            "optimizer_ms": round(sides[form].optimizer_ms, 2),
            "moment_bytes": sum(leaf.nbytes for leaf in state),
        }
    return {
        "size": name,
        "tokens_per_step": tokens,
        "experts": experts,
        "groups": groups,
        "dense_step_ms": round(1e3 * statistics.median(made["dense"] for made in rounds), 2),
        kind: found,
    }


def measured(options: argparse.Namespace) -> list[dict]:
    """A row for each size, number of experts and of tokens; those of `options.out` are not measured
    again.
    """
    from specialm.common import code
    from specialm.common.files import write_text

    kind = kind_of(options)
    rows = read(options.out) if options.out else []
    found = []
    sizes = itertools.product(options.sizes, options.experts, options.tokens or TOKENS[kind])
    for name, experts, tokens in sizes:
        wanted = {"kind": kind, "size": name, "tokens_per_step": tokens, "experts": experts}
        wanted |= {"groups": options.groups, "repeats": options.repeats}
        wanted |= {"set": " ".join(options.set)}
        row = next((row for row in rows if wanted.items() <= row.items()), None)
        if row is None:
            given = (name, experts, options.groups, options.repeats, tokens, options.set)
            row = wanted | (measure(*given) if kind == "families" else measure_forms(kind, *given))
            rows.append(row | code.made_by())
            if options.out:
                options.out.parent.mkdir(parents=True, exist_ok=True)
                write_text(options.out, "".join(json.dumps(each) + "\n" for each in rows))
        found.append(row)
    return found


def kind_of(options: argparse.Namespace) -> str:
    """What is compared."""
    return next((kind for kind in FORMS if getattr(options, kind)), "families")


def table(kind: str, rows: list[dict]) -> str:
    """Markdown: ratios of wall time to the dense step's, the range of the rounds in brackets."""
    names = list(dict.fromkeys(name for row in rows for name in row[kind]))
    lines = [f"| size | experts | tokens a step | dense step | {' | '.join(names)} |"]
    lines.append("|---" * (4 + len(names)) + "|")
    for row in rows:
        cells = [row["size"], row["experts"], f"{row['tokens_per_step']:,}"]
        cells.append(f"{row['dense_step_ms']:.1f} ms")
        for found in (row[kind].get(name) for name in names):
            low, high = found["wall_range"] if found else (0, 0)
            cells.append(f"{found['wall_ratio']:.2f} ({low:.2f}-{high:.2f})" if found else "")
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> None:
    """Measures, and prints all rows as JSON, or their table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--sizes", type=listed(str), default=list(SIZES))
    parser.add_argument("--tokens", type=listed(int), default=[], help="of a step")
    parser.add_argument("--experts", type=listed(int), default=[16])
    parser.add_argument("--groups", type=int, default=8)
    for kind in FORMS:
        parser.add_argument(f"--{kind}", action="store_true")
    parser.add_argument("--set", action="append", default=[], help="train.FIELD=VALUE")
    parser.add_argument("--out", type=Path, help="rows, as they come")
    parser.add_argument("--table", action="store_true", help="Markdown instead of JSON")
    options = parser.parse_args(argv)
    from specialm.common import runtime

    runtime.configure()
    kind, rows = kind_of(options), measured(options)
    if options.table:
        print(table(kind, rows))
    elif kind in FORMS:
        print(json.dumps({kind: rows}, indent=1))
    else:
        print(json.dumps({"families": rows[0]["families"], "sizes": rows}, indent=1))


if __name__ == "__main__":
    main()
