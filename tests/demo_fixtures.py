"""Rows and records of a demo that exercise its report; none is a result."""

import math

import numpy as np

DOMAINS = ("med", "books", "news")
HOSTILE = "<script>alert('x')</script> & \"quoted\" https://example.org/\x00"


def rows_of(losses, macro=True, **common):
    """Rows of {(method, phase, seed): {domain: nll}} with macro rows as the papers define them."""
    rows = []
    for (method, phase, seed), by_domain in losses.items():
        averaged = dict(by_domain)
        if macro:
            averaged["macro"] = float(np.mean(list(by_domain.values())))
        for domain, nll in averaged.items():
            rows.append(
                dict(
                    method=method,
                    domain=domain,
                    phase=phase,
                    seed=seed,
                    train_tokens=1_000_000,
                    nll_per_token=nll,
                    perplexity=math.exp(nll),
                    bits_per_byte=nll / 2.0,
                    **common,
                )
            )
    return rows


def made_up_rows(methods=("slm", "slm_is"), gain=0.3, seeds=(0, 1, 2), domains=DOMAINS, noise=0.01):
    """Made-up rows: every method after the first is `gain` nats below it."""
    rng = np.random.default_rng(7)
    return rows_of(
        {
            (method, phase, seed): {
                d: 4.0 + 0.3 * i + start - (gain if m else 0.0) + float(rng.normal(0, noise))
                for i, d in enumerate(domains)
            }
            for m, method in enumerate(methods)
            for phase, start in (("pretrained", 0.5), ("finetuned", 0.0))
            for seed in seeds
        }
    )


def made_up_run(k=16):
    rng = np.random.default_rng(3)
    generic, specialist = rng.dirichlet(np.ones(k)), rng.dirichlet(np.full(k, 0.2))
    weights = specialist / generic
    sizes = dict(windows=900, tokens=100_000, documents=80, bytes=300_000)
    points = [
        dict(step=s, tokens=100 * s, loss=3 + 4 / s, split=split)
        for s in range(1, 300)
        for split in ("train", "valid")
    ]
    return dict(
        title="made up",
        created="2025-01-02T03:04:05",
        command="specialm demo\n  --x=1",
        versions={"jax": "0.0"},
        settings={"data.context": 128, "data.fields": ["a", "b"]},
        machine=dict(cpu="a cpu", cores=2, memory_gb=8, platform="linux"),
        stages=[
            dict(name="a", title="First", seconds=75.0, reused=True, detail="d"),
            dict(name="b", title="Second", seconds=10.0, reused=False, detail=""),
        ],
        corpora=[dict(name="sotu", role="generic", documents=2, bytes=10, licence="public domain")],
        data=dict(
            generic=sizes,
            domains={d: dict(train=sizes, heldout=sizes) for d in DOMAINS},
            generic_sources=[dict(source="sotu.jsonl", train=0.75, heldout=0.5)],
        ),
        weights={
            "med": dict(
                generic_histogram=generic.tolist(),
                specialist_histogram=specialist.tolist(),
                weights=weights.tolist(),
                effective_sample_size=1234.5,
                effective_fraction=0.05,
                mean_repetitions=0.5,
                max_repetitions=40.0,
                planned_windows=5000,
                entropy=2.0,
                top_fraction=0.3,
                top_clusters=[
                    dict(
                        cluster=c,
                        generic_probability=0.01,
                        specialist_probability=0.2,
                        weight=20.0,
                        samples=[HOSTILE, "word " * 200],
                    )
                    for c in range(5)
                ],
            )
        },
        curves=[
            dict(method=m, domain=d, seed=0, phase=phase, points=points)
            for m, d in (("slm", None), ("slm_is", "med"), ("slm_is", "books"))
            for phase in ("pretrained", "finetuned")
        ],
        models={
            "slm": dict(
                params=340_000,
                flops_per_token=2e6,
                tokens=6_000_000,
                tokens_per_parameter=17.6,
                layers=4,
            )
        },
        results=made_up_rows(),
    )


def expected(rows, field, **where):
    """Mean and sample standard deviation of a field, straight from the rows."""
    values = [r[field] for r in rows if all(r[k] == v for k, v in where.items())]
    return np.mean(values), np.std(values, ddof=1)
