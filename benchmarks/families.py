"""What a bank or a mixture costs in training, against the dense model that it serves.

    python -m benchmarks.families [--repeats=9] [--sizes=demo,wide] [--experts=16] [--groups=8]
    python -m benchmarks.families --moments [the same]

Also run by `python -m benchmarks.step`. In one process, on the same tokens, the dense step and that
of each family take turns. `wall_ratio` is the median over rounds of family / dense in the same
round; `flop_ratio` counts the matrix products of both traced programs, loops with their trip
counts. `optimizer_ms` is the update alone (clipping, Adam), `step_ms` the whole step, medians.

With --moments the projected network's step with each form of Adam's moments (MOMENTS) takes turns
with the dense step in float32 instead, at 2,048 and 8,192 tokens a step; `moment_bytes` is what all
moments take.
"""

import argparse
import json
import statistics
import time

SIZES = {  # of the demo, and one with a larger vocabulary and width; 8,192 tokens a step
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
WINDOWS = 64
FAMILIES = ("projected", "hypernetwork", "soup", "mixture")
ROUND_SECONDS = 0.7
TOKENS = (2048, 8192)  # a step, with --moments
MOMENTS = {  # train.moment_dtype, train.second_moment_dtype
    "float32": ("float32", "float32"),
    "bfloat16 first": ("bfloat16", "float32"),
    "int8": ("int8", "int8"),
    "factored second": ("float32", "factored"),
    "int8 first, factored second": ("int8", "factored"),
}


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

    def __init__(self, config, groups: int, windows: int = WINDOWS, **train):
        import jax

        from specialm import config as settings
        from specialm.models import families
        from specialm.planning.flops import matmul_flops
        from specialm.training import optimizer, program, sharding, step

        experts = config.num_experts if families.kind(config) == families.MIXTURE else 1
        mesh = sharding.make_mesh(windows, groups, experts=experts, layout={"expert": 0})
        chosen = settings.default().train
        chosen.update(train)
        tx = optimizer.make(chosen, 1000, families.declare(config))
        self.state = step.init_state(config, tx, mesh, key=jax.random.key(0))
        self.batch = sharding.put_batch(mesh, random_batch(config, windows, groups))
        self.step = program.make_train_step(config, tx, mesh)
        self.flops = matmul_flops(jax.make_jaxpr(self.step)(self.state, self.batch).jaxpr)
        grads = jax.tree.map(lambda leaf: leaf + 0, self.state.params)
        update = lambda moments, params: tx.update(grads, moments, params)  # noqa: E731
        update = jax.vmap(tx.update) if families.kind(config) == families.MIXTURE else update
        arguments = (self.state.optimizer, self.state.params)
        if families.kind(config) == families.MIXTURE:
            arguments = (grads, *arguments)
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


def measure(name: str, experts: int, groups: int, repeats: int) -> dict:
    """{"families": {family: ratios}} and the dense step, at one size."""
    from specialm.models import transformer
    from specialm.models.families import bank, mixture

    dense = transformer.Config(**SIZES[name])
    configs = {"dense": dense}
    for family in FAMILIES:
        layers = tuple(range(dense.num_layers))
        configs[family] = (
            mixture.Config(dense, experts)
            if family == "mixture"
            else bank.Config(dense, family, experts, experts, experts, layers, features=128)
        )
    sides = {family: Side(config, groups) for family, config in configs.items()}
    steps = max(1, round(ROUND_SECONDS / sides["dense"].seconds(3)))
    rounds = [
        {family: side.seconds(steps) for family, side in sides.items()} for _ in range(repeats)
    ]

    def median(values) -> float:
        return statistics.median(values)

    families = {}
    for family in FAMILIES:
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
        "tokens_per_step": WINDOWS * dense.context,
        "experts": experts,
        "groups": groups,
        "dense_step_ms": round(1e3 * median(made["dense"] for made in rounds), 2),
        "dense_optimizer_ms": round(sides["dense"].optimizer_ms, 2),
        "families": families,
    }


def measure_moments(name: str, experts: int, groups: int, repeats: int, tokens: int) -> dict:
    """{"moments": {form: ratios}} of the projected network at one size."""
    import jax

    from specialm.models import transformer
    from specialm.models.families import bank

    dense = transformer.Config(**SIZES[name])
    layers = tuple(range(dense.num_layers))
    config = bank.Config(dense, "projected", experts, experts, experts, layers)
    windows = tokens // dense.context
    sides = {
        form: Side(config, groups, windows, moment_dtype=first, second_moment_dtype=second)
        for form, (first, second) in MOMENTS.items()
    }
    sides["dense"] = Side(dense, groups, windows)
    steps = max(1, round(ROUND_SECONDS / sides["dense"].seconds(3)))
    rounds = [{form: side.seconds(steps) for form, side in sides.items()} for _ in range(repeats)]
    found = {}
    for form in MOMENTS:
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
        "moments": found,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--sizes", default=",".join(SIZES))
    parser.add_argument("--experts", type=int, default=16)
    parser.add_argument("--groups", type=int, default=8)
    parser.add_argument("--moments", action="store_true")
    options = parser.parse_args()
    from specialm.common import runtime

    runtime.configure()
    if options.moments:
        rows = [
            measure_moments(name, options.experts, options.groups, options.repeats, tokens)
            for name in options.sizes.split(",")
            for tokens in TOKENS
        ]
        print(json.dumps({"moments": rows}, indent=1))
        return
    measured = [
        measure(name, options.experts, options.groups, options.repeats)
        for name in options.sizes.split(",")
    ]
    print(json.dumps({"families": measured[0]["families"], "sizes": measured}, indent=1))


if __name__ == "__main__":
    main()
