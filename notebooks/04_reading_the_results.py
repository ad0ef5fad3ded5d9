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
# # Reading the results
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/specialm/blob/main/notebooks/04_reading_the_results.ipynb)
#
# Everything that the project claims stands as rows in `results/`, one line of JSON for each
# evaluation. This notebook reads them and draws the conclusions again: what importance sampling
# gains, what one set of parameters for many domains gains, how often text may be repeated, and
# what each method costs as the number of domains grows. Nothing is trained. The unit is **bits
# per byte** of held-out text, lower is better.

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
import sys
from pathlib import Path

import look
import matplotlib.pyplot as plt
import numpy as np
from IPython.display import display
from scipy import stats

from specialm.evaluation import cost
from specialm.reports import charts
from specialm.reports.apart import set_apart
from specialm.reports.plots import cost_axis, log_x
from specialm.reports.study_rows import Study
from specialm.reports.summary import Summary, label

look.use_style()
RESULTS = Path("../results")
BITS = "bits_per_byte"


def rows(name):
    """The lines of a file in results/."""
    return [json.loads(line) for line in (RESULTS / name).read_text().splitlines()]


def interval(values):
    """(mean, half width of the 95% t-interval) over seeds; no width for one value."""
    values = np.array([*values], float)
    if len(values) < 2:
        return float(values.mean()), np.nan
    spread = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return float(values.mean()), float(spread)


def shown(values, decimals=3):
    """`mean ± half width`."""
    mean, half = interval(values)
    return (
        f"{mean:.{decimals}f}" if np.isnan(half) else f"{mean:.{decimals}f} ± {half:.{decimals}f}"
    )


# %% [markdown]
# ## Does importance sampling help? (`results/demo`)
#
# `slm` is pretrained on generic text as it comes, `slm_is` on the same number of tokens drawn by
# importance, `slm_is_shuffled` with the same weights on the wrong clusters. All are then
# fine-tuned on the specialist's text. Intervals are 95% t-intervals over seeds: with three seeds
# they are wide, 2.5 times the standard deviation.

# %%
demo = Summary(rows("demo/results.jsonl"))
columns = [*demo.domains, "macro"]


def score_table(summary):
    """Bits per byte of all methods, before and after fine-tuning; the lowest ones are bold."""
    lines = []
    for phase, when in (("pretrained", "before"), ("finetuned", "after")):
        for method in summary.methods:
            cells = [
                shown(summary.values(method, column, phase, BITS).values())
                if summary.lowest(column, phase, BITS) != method
                else f"**{shown(summary.values(method, column, phase, BITS).values())}**"
                for column in columns
            ]
            lines.append([f"{label(method)}, {when} fine-tuning", *cells])
    look.table(["", *columns], lines)


score_table(demo)


# %% [markdown]
# Whether a gain is one is best seen seed by seed: both methods of a pair share initial values and
# order. Below zero is a gain; a method whose dots lie on both sides of the line has shown nothing.


# %%
def gains(summary, method, column, phase="finetuned", base="slm"):
    """Relative change in bits per byte against the base of the same seed, in percent."""
    ours, theirs = (summary.values(m, column, phase, BITS) for m in (method, base))
    return {seed: 100 * (ours[seed] / theirs[seed] - 1) for seed in ours if seed in theirs}


def draw_gains(axis, summary, compared, title):
    """A dot for each seed and domain, a bar for the mean and its interval."""
    for i, method in enumerate(compared):
        colour, marker = look.style(method, compared)
        for j, column in enumerate(columns):
            found = [*gains(summary, method, column).values()]
            x = j + 0.7 * (i - (len(compared) - 1) / 2) / len(compared)
            axis.scatter(
                [x] * len(found), found, color=colour, marker=marker, s=22, zorder=3,
                label=label(method) if j == 0 else None,
            )  # fmt: skip
            mean, half = interval(found)
            axis.errorbar([x], [mean], yerr=[half], color=colour, alpha=0.5, capsize=4, fmt="_")
    axis.axhline(0, color=look.INK, linewidth=0.9)
    axis.set_xticks(range(len(columns)), columns)
    axis.grid(False, axis="x")
    axis.set(title=title, ylabel="bits per byte against SLM, %")


figure, axis = look.panels(height=3.4)
draw_gains(
    axis, demo, ["slm_is", "slm_is_shuffled"], "Gain by seed after fine-tuning, results/demo"
)
look.legend_below(figure, axis)
plt.show()
macro = [*gains(demo, "slm_is", "macro").values()]
mean, half = interval(macro)
control = gains(demo, "slm_is_shuffled", "macro")
look.say(
    f"Importance sampling changes the macro average by **{mean:+.1f}% ± {half:.1f}** "
    f"({len(macro)} seeds, each from {max(macro):+.1f}% to {min(macro):+.1f}%). With the weights "
    f"on the wrong clusters it is {interval(control.values())[0]:+.1f}%: which text is repeated "
    "matters, not that some is."
)

# %% [markdown]
# ### What a person would use instead
#
# An n-gram model and a compressor, given the same text. The small models of the demo are trained
# for minutes; the comparison says so.

# %%
baselines = Summary(rows("demo/baselines.jsonl"))
lines = [
    [
        label(method),
        *(shown(baselines.values(method, c, "finetuned", BITS).values()) for c in columns),
    ]
    for method in baselines.methods
]
for method in ("slm", "slm_is"):
    values = [shown(demo.values(method, c, "finetuned", BITS).values()) for c in columns]
    lines.append([label(method), *values])
look.table(["", *columns], lines)

# %% [markdown]
# ## One set of parameters for many domains (`results/bank`)
#
# A bank is pretrained once, and a model for each domain is taken out of it. All methods have had
# the same generic tokens, and serve a model of the same size.

# %%
bank = Summary(rows("bank/results.jsonl"))
score_table(bank)
figure, axis = look.panels(height=3.6)
families = [m for m in bank.methods if m != "slm"]
draw_gains(axis, bank, families, "Gain by seed after fine-tuning, results/bank")
look.legend_below(figure, axis)
plt.show()
for method in families:
    mean, half = interval(gains(bank, method, "macro").values())
    verdict = "holds zero: no gain is shown" if abs(mean) < half else "excludes zero"
    look.say(f"{label(method)}: {mean:+.1f}% ± {half:.1f} in the macro average; this {verdict}.")

# %% [markdown]
# ## How often may text be repeated? (`results/repetition`)
#
# Each point is a way of drawing the same text. To the right, a few texts are drawn again and
# again; the dotted line is plain pretraining. With little training (4M tokens) repetition is
# harmless. With more (20M), importance sampling as published lies above the line, and with a cap
# on repetitions far below it. `cap8` draws no text more than eight times; `k64` has fewer clusters;
# `power0.5` and `smoothing0.5` blunt the weights; `late0.5` begins with uniform sampling.

# %%
sys.path.append("..")
from benchmarks.repetition_figure import chart  # noqa: E402
from benchmarks.repetition_figure import macro as macro_of  # noqa: E402

repetition = rows("repetition/rows.jsonl")
with plt.rc_context({"figure.dpi": 110, "figure.facecolor": look.PAGE}):
    drawn = charts.on_paper(chart(repetition))
drawn.set(facecolor=look.PAGE, dpi=120)
display(drawn)
scores, times = (macro_of(repetition, f) for f in ("heldout_after", "expected_repetitions"))
longest = max(tokens for tokens, *_ in scores)
seeds = sorted({seed for tokens, method, seed in scores if tokens == longest and method == "cap8"})
for method, words in (("slm_is", "As published"), ("cap8", "With at most 8 repetitions")):
    by_seed = [scores[longest, method, s] / scores[longest, "slm", s] - 1 for s in seeds]
    look.say(
        f"{words}, importance sampling at {longest / 1e6:g}M tokens draws a text "
        f"{times[longest, method, seeds[0]]:.0f} times and changes bits per byte by "
        f"**{', '.join(f'{100 * g:+.1f}%' for g in by_seed)}** against plain pretraining "
        f"(seeds {', '.join(map(str, seeds))})."
    )

# %% [markdown]
# ## What does it cost for N domains? (`results/study`)
#
# The cost of serving N domains is C(N) = generic cost, paid once, + N times the cost of each
# domain (arXiv 2402.01093, section 4). Importance sampling pretrains anew for every domain;
# a bank or a plain model only fine-tunes.

# %%
settings = json.loads((RESULTS / "study/study.json").read_text())["settings"]
study = Study(rows("study/results.jsonl"), settings)
budget, size = study.budget, study.size
arms = [
    m for m in study.methods
    if study.cell(m, budget=budget, size=size, field=BITS) and study.costs(m, budget, size)
]  # fmt: skip
lines = []
for method in arms:
    generic, special = study.costs(method, budget, size)
    values = study.values(method, budget=budget, size=size, field=BITS).values()
    once, each = f"{generic.flops / 1e12:.2f}", f"{special.flops / 1e12:.2f}"
    lines.append([label(method), once, each, shown(values)])
look.say(f"Budget {budget / 1e6:g}M generic tokens, {size:,} specialist tokens for each domain:")
look.table(["", "once, TFLOP", "each domain, TFLOP", "bits per byte, macro"], lines)

# %%
domains = np.unique(np.geomspace(1, 100, 60).round())
figure, (left, right) = look.panels(2, width=9.5, height=3.9)
spent = []
for method in arms:
    colour, marker = look.style(method, arms)
    costs = study.costs(method, budget, size)
    left.plot(
        domains, [cost.total(*costs, n).flops for n in domains], color=colour, marker=marker,
        markevery=[0, -1], label=label(method),
    )  # fmt: skip
    if method == "slm_nopt":
        continue  # far above all others
    mean, _ = interval(study.values(method, budget=budget, size=size, field=BITS).values())
    at = [cost.total(*costs, n).flops for n in (1, 50)]
    right.plot(at, [mean, mean], color=colour, linewidth=0.8, alpha=0.6)
    for flops, face in zip(at, (look.PAGE, colour), strict=True):
        right.plot(flops, mean, marker, color=colour, markerfacecolor=face, markersize=7)
    spent += at
log_x(left, (1, 2, 5, 10, 20, 50, 100))
cost_axis(left)
left.set(
    xlabel="domains N", ylabel="total cost C(N), FLOP", title="Cost against the number of domains"
)
log_x(right, (1e12, 1e13, 1e14))
right.set_xlim(0.6 * min(spent), 1.6 * max(spent))
right.margins(y=0.15)
right.set(
    xlabel="total cost, FLOP: hollow for 1 domain, full for 50", ylabel="bits per byte, macro"
)
right.set_title("Quality against cost")
look.legend_below(figure, left)
figure.draw_without_rendering()
set_apart(left)
plt.show()

# %% [markdown]
# Lines that would cover each other stand side by side: SLM, SLM-pn and SLM-mix cost the same. In
# the right panel the bottom left corner is best: better and cheaper. What has no pretraining at all
# is so much worse that it is left out there.

# %%
importance = study.costs("slm_is", budget, size)
for method in ("slm", "slm_pn", "slm_mix"):
    n = cost.crossover(importance, study.costs(method, budget, size))
    quality = {
        m: study.cell(m, budget=budget, size=size, field=BITS).mean for m in (method, "slm_is")
    }
    worse = 100 * (quality[method] / quality["slm_is"] - 1)
    ours, theirs = (
        cost.total(*c, 50).flops for c in (study.costs(method, budget, size), importance)
    )
    look.say(
        f"{label(method)} costs less than SLM-is from **{n} domains** on. For 50 domains it costs "
        f"{ours / theirs:.0%} as much and is {worse:.1f}% worse in bits per byte."
    )

# %% [markdown]
# ## Does it hold with more text of one's own?
#
# The fewer specialist tokens there are, the more pretraining on the right text matters. Lines that
# come together towards the right are advantages that own text makes up for.

# %%
figure, axis = look.panels(height=3.4, width=6.5)
for method in [m for m in arms if m != "slm_nopt"]:
    colour, marker = look.style(method, arms)
    points = [
        (s, *interval(study.values(method, budget=budget, size=s, field=BITS).values()))
        for s in study.sizes
        if study.cell(method, budget=budget, size=s, field=BITS)
    ]
    axis.plot(
        *zip(*[p[:2] for p in points], strict=True),
        marker=marker,
        color=colour,
        label=label(method),
    )
axis.set(xscale="log", xlabel="specialist tokens", ylabel="bits per byte, macro")
axis.set_xticks(study.sizes, [f"{s:,}" for s in study.sizes])
axis.minorticks_off()
axis.set_title(
    f"After fine-tuning, {budget / 1e6:g}M generic tokens, mean over {len(study.seeds)} seeds"
)
look.legend_below(figure, axis)
plt.show()

# %% [markdown]
# ## Next
#
# The text that belongs to these rows is [results/README.md](../results/README.md). Your own rows
# (`specialm demo`, `specialm study`) have the same form: put their file in place of one of these.
