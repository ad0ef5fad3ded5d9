"""A made-up study: rows by a formula, so that every figure and table has a known answer.

None of it is a result.
"""

import math
import zlib

import numpy as np

METHODS = (
    "slm",
    "slm_is",
    "slm_pn",
    "slm_mix",
    "slm_hn",
    "soup",
    "slm_mixed",
    "slm_d",
    "slm_nopt",
    "llm",
    "llm_lora",
)
BUDGETS = (1_000_000, 4_000_000, 16_000_000)
SIZES = (10_000, 80_000, 640_000)
DOMAINS = ("med", "law", "code", "prose")
SEEDS = (0, 1, 2)
RATE = {"slm_pn": 10e6, "llm": 24e6, "llm_lora": 24e6}  # FLOPs per training token; others 6e6
# Nats below slm after fine-tuning on the smallest set; half of it is left at each larger set.
GAIN = {
    "slm": 0.0,
    "slm_is": 0.30,
    "slm_pn": 0.15,
    "slm_mix": 0.12,
    "slm_hn": 0.08,
    "soup": 0.10,
    "slm_mixed": 0.05,
    "slm_d": 0.06,
    "slm_nopt": -1.2,
    "llm": 0.25,
    "llm_lora": 0.22,
}
PER_DOMAIN = ("slm_is", "slm_mixed")  # pretrained again for each domain


def rows(
    methods=METHODS,
    budgets=BUDGETS,
    sizes=SIZES,
    domains=DOMAINS,
    seeds=SEEDS,
    noise=0.01,
    gain=None,
    variants=True,
):
    """All rows; `gain` replaces a method's gain."""
    made = []
    gains = {**GAIN, **(gain or {})}
    for method in methods:
        for seed in seeds:
            for budget in budgets if method != "slm_nopt" else (0,):
                made += _before(method, budget, sizes, domains, seed, noise, gains)
                for size in sizes:
                    made += _after(method, budget, size, domains, seed, noise, gains)
    if variants:
        made += _arms(methods, max(budgets), min(sizes), domains, seeds, noise, gains)
    return made


def _arms(methods, budget, size, domains, seeds, noise, gains):
    arms = [("slm_is", f"clustering.k={k}", math.log2(k)) for k in (4, 16, 64)]
    arms += [
        (m, f"model.num_experts={k}", math.log2(k)) for m in ("slm_pn", "slm_mix") for k in (4, 8)
    ]
    arms += [("slm_mix", "expert.choice=loss", 5.0), ("slm_mix", "expert.choice=finetune", 6.0)]
    made = []
    for method, variant, extra in arms:
        if method not in methods:
            continue
        changed = {**gains, method: gains.get(method, 0) - 0.02 * (4 - extra)}
        for seed in seeds:
            here = _before(method, budget, (size,), domains, seed, noise, changed)
            here += _after(method, budget, size, domains, seed, noise, changed)
            times = 4 if variant.endswith("finetune") else 1
            made += [
                dict(row, variant=variant, specialise_flops=times * row["specialise_flops"])
                for row in here
            ]
    return made


def _before(method, budget, sizes, domains, seed, noise, gains):
    """Pretrained rows: of a model made for a domain one for each target on generic text too."""
    if method == "slm_nopt":
        return []
    own = method in PER_DOMAIN
    made = []
    for size in sizes if own else (0,):
        cost = _cost(method, budget, 0)
        losses = {d: _loss(method, budget, d, gains) + 0.6 for d in domains}
        made += _scored(method, budget, size, losses, seed, noise, "pretrained", cost)
        for target in domains if own else ("",):
            loss = 4.5 - 0.1 * math.log(budget / 1e6) - (0.2 if method.startswith("llm") else 0)
            made.append(
                _row(
                    method,
                    budget,
                    size,
                    "generic",
                    target,
                    seed,
                    loss + _noise(noise, method, budget, size, target, seed, "generic"),
                    "pretrained",
                    cost,
                )
            )
    return made


def _after(method, budget, size, domains, seed, noise, gains):
    step = math.log(size / 10_000) / math.log(8)
    losses = {
        d: _loss(method, budget, d, {m: g * 0.5**step for m, g in gains.items()}) - 0.2 * step
        for d in domains
    }
    cost = {
        **_cost(method, budget, size),
        "steps": 100 * (1 + round(step)),
        "best_step": 60 * (1 + round(step)),
    }
    return _scored(method, budget, size, losses, seed, noise, "finetuned", cost)


def _loss(method, budget, domain, gains):
    trained = 0.12 * math.log(max(budget, 1e6) / 1e6)
    return 4.0 - trained - gains.get(method, 0.0) + 0.15 * len(domain)


def _cost(method, budget, size):
    rate = RATE.get(method, 6e6)
    pretrained, tuned = rate * budget, rate * 4 * size
    once, each = (0.0, pretrained + tuned) if method in PER_DOMAIN else (pretrained, tuned)
    once_tokens, each_tokens = (
        (0, budget + 4 * size) if method in PER_DOMAIN else (budget, 4 * size)
    )
    if method == "slm_d":
        once += 24e6 * budget
        once_tokens += budget
    return dict(
        generic_flops=once,
        specialise_flops=each,
        generic_tokens=once_tokens,
        specialise_tokens=each_tokens,
        generic_device_seconds=once / 5e10,
        specialise_device_seconds=each / 5e10,
        device_seconds=(once + each) / 5e10,
    )


def _scored(method, budget, size, losses, seed, noise, phase, cost):
    losses = {d: v + _noise(noise, method, budget, size, d, seed, phase) for d, v in losses.items()}
    made = [_row(method, budget, size, d, d, seed, v, phase, cost) for d, v in losses.items()]
    return [
        *made,
        _row(
            method,
            budget,
            size,
            "macro",
            "",
            seed,
            float(np.mean(list(losses.values()))),
            phase,
            cost,
        ),
    ]


def _row(method, budget, size, domain, target, seed, loss, phase, cost):
    return dict(
        method=method,
        variant="",
        domain=domain,
        target=target,
        phase=phase,
        seed=seed,
        train_tokens=budget,
        specialist_tokens=size,
        nll_per_token=loss,
        perplexity=math.exp(loss),
        bits_per_byte=loss / 2.5,
        **cost,
    )


def _noise(scale, *where):
    """The same for the same place: rows do not depend on what else the study holds."""
    seed = zlib.crc32(repr(where).encode())
    return float(np.random.default_rng(seed).normal(0, scale)) if scale else 0.0


def record():
    """A record of a run that made such rows."""
    ks = (4, 16, 64)
    histograms = {
        str(k): {
            d: dict(entropy=0.3 * i + 0.5 * math.log(k), top_fraction=1 / (1 + i))
            for i, d in enumerate((*DOMAINS, "generic"))
        }
        for k in ks
    }
    return dict(
        title="Made-up study",
        created="2025-01-02T03:04:05",
        command="specialm study --x=1",
        versions={"jax": "0.0"},
        machine=dict(cpu="a cpu", cores=2, memory_gb=8),
        settings={"clustering.k": 32, "model.num_experts": 16, "expert.choice": "frequent"},
        seconds=7300.0,
        cells=dict(done=90, planned=100),
        histograms=histograms,
        leaks={
            d: dict(
                checked=100 + i,
                too_short=0,
                against=dict(
                    generic=dict(trained=5000, leaked=i, covered=1),
                    specialist=dict(trained=50, leaked=0, covered=0),
                ),
            )
            for i, d in enumerate(DOMAINS)
        },
        models={
            m: dict(
                params=1_000_000,
                pretrain_params=1_000_000 * (1 + (m == "slm_pn")),
                flops_per_token=RATE.get(m, 6e6),
                tokens_per_parameter=16.0,
            )
            for m in METHODS
        },
    )
