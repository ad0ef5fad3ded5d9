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
# # Inside a projected network
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/specialm/blob/main/notebooks/03_inside_a_projected_network.ipynb)
#
# A projected network (SLM-pn, [methods](../docs/methods.md)) is one set of parameters that holds a
# small model for every cluster of the generic text. Each expert's MLP weights are sums of
# shared weight sets `T[r]`, with coefficients `c[i, r]` that are learned too:
#
# `W_i = sum_r c[i, r] T[r]`, with `c[i, r] = sum_q E[i, q] M[q, r]`.
#
# Here a tiny one is trained, and taken apart: its coefficients, how far its experts are from each
# other, which expert is good at what, and what a domain gets.

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
from pathlib import Path

import look
import matplotlib.pyplot as plt
import numpy as np

from specialm import config as config_lib

look.use_style()
DOMAINS = ("books", "ency", "med")
WORKDIR = look.WORK / "projected"
OVERRIDES = [
    f"data.corpora_root={look.CORPORA}", "data.generic_fraction=0.25", f"domains={DOMAINS}",
    "train.tokens=1200000", "train.tensorboard=False", "clustering.dim=64",
    "data.heldout_tokens=40000",
]  # fmt: skip
config = config_lib.load("local/slm_pn", OVERRIDES)

# %% [markdown]
# ## Train it
#
# Every batch has groups of windows, each group from one cluster; a group's loss reaches the shared
# weights through its own expert's coefficients.

# %%
import jax  # noqa: E402

from specialm.models import families  # noqa: E402
from specialm.training import runs, scoring, step  # noqa: E402
from specialm.workflows import demo, experts, pipeline, pretraining  # noqa: E402

with look.quietly():
    demo.fetch(config)
    run = pipeline.open_run(config, WORKDIR, list(DOMAINS), used=("slm_pn",))
    stage = pretraining.pretrain(run, "slm_pn", "", 0)
model, known = runs.load(stage.path, run.mesh, experts.KINDS), runs.load_experts(stage.path)
bank, k = model.config, model.config.num_experts
look.say(
    f"**{families.num_params(bank):,}** parameters in training, {bank.rank} sets of MLP weights "
    f"for {k} experts; **{families.num_params(families.dense(bank)):,}** parameters in each small "
    f"model that comes out. Last training loss {stage.result['loss']:.2f} nats per token."
)

# %% [markdown]
# What are the clusters? The words of the generic windows nearest to each centre:

# %%
from sklearn.feature_extraction.text import TfidfVectorizer  # noqa: E402

clusters = run.clusters("slm_pn")
vocabulary = run.prepared.vocabulary
rng = np.random.default_rng(0)
picked = rng.choice(len(clusters.generic_N), min(4000, len(clusters.generic_N)), replace=False)
windows = run.generic.batch(np.sort(picked))
texts = vocabulary.decode_all(windows["targets"])
labels_N = clusters.generic_N[np.sort(picked)]
vectorizer = TfidfVectorizer(min_df=5, stop_words="english", token_pattern=r"(?u)\b[A-Za-z]{4,}\b")
tfidf_NxV = vectorizer.fit_transform(texts)
words, mean_V = vectorizer.get_feature_names_out(), np.asarray(tfidf_NxV.mean(axis=0)).ravel()


def keywords(cluster, count):
    """The words that tell a cluster from the rest."""
    rows = tfidf_NxV[np.flatnonzero(labels_N == cluster)]
    above_V = np.asarray(rows.mean(axis=0)).ravel() - mean_V
    return " ".join(str(words[i]) for i in np.argsort(-above_V)[:count])


histograms = {d: np.bincount(clusters.domains[d], minlength=k) for d in DOMAINS}
histograms = {d: counts / counts.sum() for d, counts in histograms.items()}
look.table(
    ["expert", "generic", *DOMAINS, "keywords of its cluster"],
    [
        [
            i,
            f"{known.probability_k[i]:.0%}",
            *(f"{histograms[d][i]:.0%}" for d in DOMAINS),
            keywords(i, 5),
        ]
        for i in range(k)
    ],
)

# %% [markdown]
# ## Coefficients
#
# A row is an expert, a column a weight set; the first set is shared by all. Training starts with
# one diagonal stripe: each expert has a set of its own, and the last one, for which none is left,
# half of two. What has spread beyond that was learned.

# %%
coefficients_kxSxh = np.asarray(
    families.bank.coefficients(model.params["mixer"], np.eye(k, dtype=np.float32), bank)
)
layers = coefficients_kxSxh.shape[1]
figure, axes = look.panels(layers, width=9, height=3.4)
most = np.abs(coefficients_kxSxh[:, :, 1:]).max()
for layer, axis in enumerate(np.atleast_1d(axes)):
    shown = axis.imshow(coefficients_kxSxh[:, layer], cmap="RdBu", vmin=-most, vmax=most)
    axis.set(title=f"Layer {layer}", xlabel="weight set r", ylabel="expert i")
    axis.set_xticks(range(bank.rank))
    axis.set_yticks(range(k))
    axis.grid(False)
figure.colorbar(shown, ax=axes, label="coefficient c[i, r]", extend="max")
plt.show()

# %% [markdown]
# ## What projection does
#
# It is a sum, no more. Here it is by hand, in NumPy and float64, for one expert and one weight,
# against the package's projection, and against the run folder that `specialm specialize` writes for
# that expert when it is told not to fine-tune.

# %%
EXPERT = int(np.argmax(histograms["med"]))
project = jax.jit(lambda p_k: families.expert(bank, model.params, known.features_kxC, p_k))
projected = project(np.eye(k, dtype=np.float32)[EXPERT])
part = sorted(model.params["bank"])[0]
flat = jax.tree_util.tree_flatten_with_path(model.params["bank"][part])[0]
worst = 0.0
for path, leaf_Sxh in flat:
    by_hand = np.einsum(
        "sh,sh...->s...",
        coefficients_kxSxh[EXPERT].astype(np.float64),
        np.asarray(leaf_Sxh, np.float64),
    )
    theirs = projected["layers"][part]
    for key in path:
        theirs = theirs[key.key]
    worst = max(worst, float(np.abs(by_hand - np.asarray(theirs)[list(bank.layers)]).max()))
assert worst < 1e-5
overrides = " ".join(f'"--config.{o}"' for o in OVERRIDES)
taken = look.specialm(
    f"specialize --config=local/slm_pn --workdir={WORKDIR} {overrides} --config.domain=med "
    f"--config.expert.index={EXPERT} --config.finetune.max_steps=0"
)
written = runs.load(Path(taken["checkpoint"]), run.mesh).params
differences = jax.tree.map(
    lambda a, b: float(np.abs(np.asarray(a) - np.asarray(b)).max()), projected, written
)
assert max(jax.tree.leaves(differences)) < 1e-5
look.say(
    f"Expert {EXPERT}: by hand within {worst:.0e} of the package's projection; "
    f"{len(jax.tree.leaves(written))} tensors of the run folder within "
    f"{max(jax.tree.leaves(differences)):.0e} of it. What is served is a plain small model; "
    "nothing of the bank is left in it."
)

# %% [markdown]
# ## How different have the experts become?
#
# All start as one model. The distance between two experts' MLP weights, relative to the size of
# the weights, shows which clusters went different ways.

# %%
experts_k = [project(np.eye(k, dtype=np.float32)[i]) for i in range(k)]
vectors_kxP = np.stack(
    [
        np.concatenate([np.asarray(leaf).ravel() for leaf in jax.tree.leaves(e["layers"][part])])
        for e in experts_k
    ]
)
norm = np.linalg.norm(vectors_kxP, axis=1).mean()
distance_kxk = np.linalg.norm(vectors_kxP[:, None] - vectors_kxP[None], axis=2) / norm
figure, axis = look.panels(width=6.6, height=4.6)
shown = axis.imshow(np.where(np.eye(k), np.nan, distance_kxk), cmap="cividis")
axis.set_yticks(range(k), [f"{i}  {keywords(i, 2)}" for i in range(k)])
axis.set_xticks(range(k))
axis.set(xlabel="expert", title="Distance between experts' MLP weights")
axis.grid(False)
figure.colorbar(shown, ax=axis, label="distance / mean norm")
plt.show()

# %% [markdown]
# ## Who is good at what?
#
# The loss of every expert on every domain's held-out text, and on the held-out generic text. Blue
# is better than the mean of the column. The last row is not an expert: it is the mean of all by
# the domain's histogram, which for a projected network is again one small model.

# %%
score_step = step.make_score_step(families.dense(bank), run.mesh)


def bits(params, store, indices):
    """Bits per byte of windows under a small model."""
    return scoring.score(score_step, params, store, indices, 64, run.mesh).bits_per_byte


columns = ["generic", *DOMAINS]
heldout = {name: pipeline.heldout(run, name) for name in columns}
bits_kxd = np.array([[bits(e, *heldout[name]) for name in columns] for e in experts_k])
mixtures = {"generic": known.probability_k, **histograms}
by_histogram_d = np.array(
    [bits(project(mixtures[n].astype(np.float32)), *heldout[n]) for n in columns]
)
all_rows = np.vstack([bits_kxd, by_histogram_d])
figure, axis = look.panels(width=7.6, height=5)
relative = all_rows - bits_kxd.mean(axis=0)
limit = np.abs(relative).max()
axis.imshow(-relative, cmap="RdBu", vmin=-limit, vmax=limit, aspect="auto")
for (i, j), value in np.ndenumerate(all_rows):
    best = i == int(np.argmin(all_rows[:, j]))
    dark = abs(relative[i, j]) > 0.6 * limit
    axis.text(
        j, i, f"{value:.3f}", ha="center", va="center", color=look.PAGE if dark else look.INK,
        fontweight="bold" if best else "normal",
    )  # fmt: skip
axis.set_xticks(range(len(columns)), columns)
axis.set_yticks(range(k + 1), [*(f"{i}  {keywords(i, 2)}" for i in range(k)), "mean by histogram"])
axis.set_title("Bits per byte on held-out text, before fine-tuning")
axis.grid(False)
plt.show()

# %% [markdown]
# ## Choosing by histogram, or by loss
#
# Three ways to take out a domain's model: the expert of its most frequent cluster (free), the one
# with the lowest loss on the domain's own training text (a pass of every expert over it), or the
# mean by histogram (free).

# %%
lines = []
for j, domain in enumerate(DOMAINS, start=1):
    given = pipeline.specialist(run, domain)
    on_train = [bits(e, given.train_store, given.train_indices) for e in experts_k]
    frequent, lowest = int(np.argmax(histograms[domain])), int(np.argmin(on_train))
    choices = [bits_kxd[frequent, j], bits_kxd[lowest, j], by_histogram_d[j]]
    cells = [f"{frequent}: {choices[0]:.3f}", f"{lowest}: {choices[1]:.3f}", f"{choices[2]:.3f}"]
    best = int(np.argmin(choices))
    cells[best] = f"**{cells[best]}**"
    lines.append([domain, *cells])
look.table(["bits per byte", "most frequent: expert", "lowest loss: expert", "by histogram"], lines)
same = sum(line[1].strip("*") == line[2].strip("*") for line in lines)
look.say(
    f"Frequency and loss name the same expert for {same} of {len(lines)} domains. "
    f"Between the best and the worst expert of a domain lie up to "
    f"{np.ptp(bits_kxd[:, 1:], axis=0).max():.3f} bits per byte. This bank has had "
    f"{config.train.tokens / 1e6:g}M tokens; [the results](04_reading_the_results.ipynb) are of "
    "banks that had 8M and more."
)

# %% [markdown]
# ## Next
#
# A family with coefficients of your own is one file: [add a method](05_add_a_method.ipynb),
# [docs/experts.md](../docs/experts.md).
