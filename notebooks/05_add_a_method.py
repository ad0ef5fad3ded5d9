# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#       jupytext_version: 1.19.6
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Add a method
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/specialm/blob/main/notebooks/05_add_a_method.ipynb)
#
# A method is one record: a *distribution* over the generic text, and the *family* of models that is
# pretrained on it ([extending](../docs/extending.md)). Here a weighting rule of our own is written,
# looked at, registered, and run against `slm` and `slm_is`, at a budget of seconds.

# %%
# On Colab this fetches the repository and installs it (2 minutes); elsewhere it does nothing.
import importlib.util
import os
import subprocess
import sys

if not os.path.exists("look.py"):
    if not os.path.exists("specialm-repository"):
        url = "https://github.com/OWNER/specialm"
        subprocess.run(["git", "clone", "--depth=1", url, "specialm-repository"], check=True)
    os.chdir("specialm-repository/notebooks")
if importlib.util.find_spec("specialm") is None:
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", ".."], check=True)
    importlib.invalidate_caches()

# %%
import look
import matplotlib.pyplot as plt
import numpy as np

from specialm import config as config_lib
from specialm import methods
from specialm.clustering import weights as weights_lib
from specialm.draws import Weighted
from specialm.reports.summary import Summary, label
from specialm.workflows import demo, pipeline

look.use_style()
DOMAIN = "med"
WORKDIR = look.WORK / "add_a_method"

# %% [markdown]
# ## The idea
#
# Importance sampling takes the specialist's histogram over the clusters as it was counted. With
# little specialist text, many clusters are counted zero or one times by chance. A Bayesian would
# add some windows of the generic histogram as a prior: with little text the result is near
# uniform sampling, with much it is importance sampling. (`clustering.smoothing` mixes in a fixed
# share instead, however much text there is.)
#
# That is the whole rule: from a domain's weights to the probability of each cluster.

# %%
STRENGTH = 30.0  # specialist windows that the prior counts for


def shrunk(report, seed, strength=STRENGTH):
    """float64 [K]: the specialist's counts and so many windows of the generic histogram."""
    there_K = report.generic_counts_K > 0
    target_K = there_K * (report.specialist_counts_K + strength * report.generic_K)
    return target_K / target_K.sum()


# %% [markdown]
# ## Does it do what it should?
#
# Before any training: it is a distribution; without a prior it is importance sampling; with an
# endless one it is uniform.

# %%
SETTINGS = [
    f"data.corpora_root={look.CORPORA}", "data.generic_fraction=0.15", f"domains=('{DOMAIN}',)",
    "data.specialist_tokens=5000", "data.heldout_tokens=60000", "clustering.k=128",
    "clustering.dim=64", "train.tokens=500000", "train.batch_size=16", "train.tensorboard=False",
    "finetune.max_steps=120", "baselines=()",
]  # fmt: skip
config = config_lib.load("local/demo", SETTINGS)
with look.quietly():
    demo.fetch(config)
    run = pipeline.open_run(config, WORKDIR, [DOMAIN], used=("slm", "slm_is"))
    report = pipeline.weigh(run, DOMAIN)
rule_K = shrunk(report, seed=0)
assert np.isclose(rule_K.sum(), 1) and (rule_K >= 0).all()
assert np.allclose(shrunk(report, 0, strength=0), report.sampling_K)
assert np.allclose(shrunk(report, 0, strength=1e12), report.generic_K)
look.say(
    f"{report.specialist_counts_K.sum()} specialist windows lie in "
    f"{(report.specialist_counts_K > 0).sum()} of {len(rule_K)} clusters. With so few, "
    "chance decides about many of the others."
)

# %%
rules = {"slm": report.generic_K, "slm_is": report.sampling_K, "slm_is_shrunk": rule_K}
colours = {"slm": look.INK, "slm_is": look.SPECIALIST, "slm_is_shrunk": look.style("slm_pn", ())[0]}
order_K = np.argsort(-report.sampling_K, kind="stable")
figure, (left, right) = look.panels(2, width=9)
for name, p_K in rules.items():
    times_K = report.planned_windows * p_K / np.maximum(report.generic_counts_K, 1)
    left.plot(np.cumsum(p_K[order_K]), color=colours[name], label=name)
    right.plot(np.sort(times_K)[::-1], color=colours[name], label=name)
left.set(xlabel="cluster, by importance", ylabel="share of the draws up to it", ylim=(0, 1.02))
left.set_title("Where the draws go")
left.yaxis.set_major_formatter(lambda share, _: f"{100 * share:.0f}%")
right.set(xlabel="cluster, by repetitions", ylabel="times a window is drawn", title="Repetition")
look.legend_below(figure, left)
plt.show()
look.table(
    ["rule", "effective sample, windows", "of the generic text"],
    [
        [name, f"{size:,.0f}", f"{size / report.generic_counts_K.sum():.0%}"]
        for name, p_K in rules.items()
        for size in [
            weights_lib.effective_sample_size(
                p_K / np.maximum(report.generic_K, 1e-12), report.generic_counts_K
            )
        ]
    ],
)

# %% [markdown]
# ## Register it
#
# One record in the table of methods; from now on it is a method like any other. In a project this
# stands in a file of yours that `config.method_modules` names, and every command takes it.

# %%
record = methods.register(
    methods.Method(
        name="slm_is_shrunk",
        label="SLM-is shrunk",
        description="small model pretrained by importance, the histogram shrunk to the generic one",
        colour=colours["slm_is_shrunk"],
        marker="p",
        family="dense",
        draws=Weighted(shrunk),
    )
)
look.say(f"`{record.name}` is one of {len(methods.METHODS)} methods now.")

# %% [markdown]
# ## Run it against the others
#
# The demo pretrains each method on the same number of tokens, fine-tunes it on the domain, and
# scores both on held-out documents. What it has trained already it finds again.

# %%
all_three = config_lib.load("local/demo", [*SETTINGS, f"methods={tuple(rules)}"])
with look.quietly():
    results, _ = demo.demo(all_three, WORKDIR)
summary = Summary(results["results"])
BITS = "bits_per_byte"


def score(method, phase):
    """Bits per byte of the one seed."""
    (value,) = summary.values(method, DOMAIN, phase, BITS).values()
    return value


look.table(
    ["bits per byte", "before fine-tuning", "after", "after, against SLM"],
    [
        [
            label(m),
            *(f"{score(m, phase):.3f}" for phase in ("pretrained", "finetuned")),
            f"{100 * (score(m, 'finetuned') / score('slm', 'finetuned') - 1):+.1f}%"
            if m != "slm"
            else "",
        ]
        for m in summary.methods
    ],
)

# %%
figure, axis = look.panels(width=6, height=3)
for method in summary.methods:
    values = [score(method, phase) for phase in ("pretrained", "finetuned")]
    colour, marker = look.style(method, summary.methods)
    axis.plot([0, 1], values, marker=marker, color=colour, label=label(method))
axis.set_xticks([0, 1], ["before fine-tuning", "after"])
axis.set(xlim=(-0.3, 1.3), ylabel="bits per byte, held-out", title=f"One seed, {DOMAIN}")
axis.legend()
plt.show()
ours, theirs = score("slm_is_shrunk", "finetuned"), score("slm_is", "finetuned")
look.say(
    f"After fine-tuning our rule is {abs(100 * (ours / theirs - 1)):.1f}% "
    f"{'below' if ours < theirs else 'above'} `slm_is`. **This proves nothing yet**: it is one "
    "seed, one domain and a model that has hardly begun to learn. `config.seeds=(0,1,2)`, all "
    "domains and the full budget make it a comparison; "
    "[reading the results](04_reading_the_results.ipynb) says how to read one."
)

# %% [markdown]
# ## Next
#
# A family of models of your own, settings of your own, other kinds of draws:
# [docs/extending.md](../docs/extending.md). Try `STRENGTH = 300`, or a rule that leaves out the
# clusters with a single specialist window; after a change of the rule give the method another name.
