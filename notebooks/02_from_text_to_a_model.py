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
# # From a folder of text to a specialised model
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/specialm/blob/main/notebooks/02_from_text_to_a_model.ipynb)
#
# The whole way with the commands that you would type: a folder of your text, a generic corpus,
# weights, pretraining on what is like your text, fine-tuning, scores before and after, a look at
# what the model expects, a continuation. The budgets are those of two minutes on two cores, so the
# model is no good yet; what the settings below would have to be is said where they are used.

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
from pathlib import Path

import look
import matplotlib.pyplot as plt
import numpy as np

look.use_style()
MINE = "folder:../specialm"  # your text, or jsonl:FILE, hf:PATH ...; here this package's code
TOKENS = 800_000  # of pretraining; 4_000_000 is the default of this config, and takes 2 minutes
GENERIC_FRACTION = 0.25  # of the generic corpus, to be quick

# True imports SmolLM2-135M and scores it on the same text: a download of 92 MB, 1 GB of memory and
# about 2 minutes more. It needs the extra gguf (`pip install gguf`).
OPEN_CHECKPOINT = False

# %% [markdown]
# Every command prints its result as JSON with `--json`; `look.specialm` runs the command after the
# `$`, as a shell would, and reads that. First the generic text, [the default
# corpora](../docs/corpora.md) (195 MB to download, once):

# %%
fetched = look.specialm(f"fetch --root={look.CORPORA}")
documents = sum(c["documents"] for c in fetched["corpora"].values() if c["role"] == "generic")
look.say(f"{documents:,} generic documents.")

# %% [markdown]
# ## Is there text like mine?
#
# The config is `configs/local/slm_is.py`: a model of two layers, importance sampling over clusters.
# `data.domains.mine` is a name for your text; everything else is an override of a setting
# ([all settings](../docs/settings.md)).

# %%
SETTINGS = (
    f"--config=local/slm_is --workdir={look.WORK}/text "
    f"--config.data.domains.mine={MINE} --config.domain=mine "
    f"--config.data.corpora_root={look.CORPORA} --config.data.generic_fraction={GENERIC_FRACTION} "
    f"--config.train.tokens={TOKENS} --config.train.batch_size=32 "
    "--config.train.log_every=5 --config.clustering.k=64 "
    "--config.data.heldout_tokens=60000 --config.finetune.max_steps=240"
)
weights = look.specialm(f"weights {SETTINGS}")["mine"]
look.say(
    f"{weights['specialist_windows']:,} windows of your text and "
    f"{weights['generic_windows']:,} generic ones. The effective sample is "
    f"**{weights['effective_fraction']:.0%}** of the generic text; in {TOKENS / 1e6:g}M tokens of "
    f"pretraining a window is drawn {weights['mean_repetitions']:.1f} times on average."
)

# %% [markdown]
# ## Pretrain, then fine-tune
#
# `train` draws generic text by these weights; `specialize` fine-tunes on your text and stops when
# validation stops improving. Each leaves a run folder. Given again, a command finds its
# result and does nothing.

# %%
trained = look.specialm(f"train {SETTINGS}")
tuned = look.specialm(f"specialize {SETTINGS}")
base, model = Path(trained["checkpoint"]), Path(tuned["checkpoint"])


def curve(run, field):
    """(steps, values) of one field of a run's metrics."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return zip(*[(line["step"], line[field]) for line in lines if field in line], strict=True)


figure, (left, right) = look.panels(2)
left.plot(*curve(base, "loss"), color=look.GENERIC)
left.set(xlabel="step", ylabel="training loss, nats per token", title="Pretraining, generic text")
right.plot(*curve(model, "valid_nll"), "o-", color=look.SPECIALIST)
right.set(xlabel="step", ylabel="validation loss, nats per token", title="Fine-tuning, your text")
plt.show()

# %% [markdown]
# Where a curve still falls at its end, more steps would help; where the right one turns up, your
# text is used up. Then the scores on documents that were held out. **Bits per byte**
# can be compared between models of different vocabularies; perplexity cannot.

# %%
before, after = tuned["before"], tuned["heldout"]["scores"]
look.table(
    ["held-out text", "before", "after", "change", "windows"],
    [
        [
            {"mine": "your text", "generic": "generic"}[name],
            f"{before[name]['bits_per_byte']:.3f}",
            f"{after[name]['bits_per_byte']:.3f}",
            f"{100 * (after[name]['bits_per_byte'] / before[name]['bits_per_byte'] - 1):+.1f}%",
            f"{after[name]['windows']:,}",
        ]
        for name in ("mine", "generic")
        if name in before
    ],
)
found = tuned["heldout"]["contamination"]["mine"]
look.say(
    f"Of {found['checked']:,} held-out windows {len(found['windows'])} are nearly the same as some "
    "training window, or covered by them (the contamination check)."
)

# %% [markdown]
# ## What does it expect?
#
# A text of the same kind that neither model has seen, each token the darker the more it surprised
# the model (hover for bits). Before fine-tuning nearly everything is a surprise; after it, what is
# left is what the text is about: names and numbers.

# %%
unseen = Path("../benchmarks/overlap.py").read_text()
extract = unseen[unseen.index("import") :][:900]
look.surprise("Before fine-tuning", look.token_bits(base, extract))
look.surprise("After fine-tuning", look.token_bits(model, extract))

# %%
bits = {name: look.token_bits(run, unseen) for name, run in (("before", base), ("after", model))}
figure, axis = look.panels(width=6, height=2.8)
colours = {"before": look.GENERIC, "after": look.SPECIALIST}
for name, tokens in bits.items():
    values = np.sort([b for _, b in tokens])
    axis.plot(values, np.linspace(0, 1, len(values)), color=colours[name], label=name)
axis.set(xlabel="surprise of a token, bits", ylabel="share of tokens below", xlim=(0, 16))
axis.set_title("Surprise, before and after fine-tuning")
axis.legend(loc="lower right")
plt.show()
sizes = {name: sum(b for _, b in tokens) for name, tokens in bits.items()}
look.say(
    f"Over all of this file fine-tuning takes the surprise from {sizes['before']:,.0f} to "
    f"**{sizes['after']:,.0f} bits**."
)

# %% [markdown]
# ## Continue a text

# %%
PROMPT = "def "
generate = f"--prompt='{PROMPT}' --config.generate.tokens=60 --config.generate.temperature=0.7"
for run in (base, model):
    print(look.specialm(f"generate --checkpoint={run} {generate}")["text"], end="\n\n")

# %% [markdown]
# ## From an open checkpoint
#
# A model that someone has trained on trillions of tokens is a better start than any minute of
# pretraining. It becomes a run folder like any other, and `specialize` fine-tunes it:
#
# ```sh
# specialm import --model=smollm2-135m --workdir=runs/open
# specialm specialize --checkpoint=runs/open --source=folder:PATH --workdir=runs/mine
# specialm export --checkpoint=runs/mine --to=exported/mine --format=gguf --dtype=q8_0
# ```
#
# Fine-tuning it needs an accelerator, or hours; here it is only imported and scored, if
# `OPEN_CHECKPOINT` says so, on the text above. Look at both columns: it serves fewer bits per byte
# for many more parameters.

# %%
if OPEN_CHECKPOINT:
    imported = look.specialm(f"import --model=smollm2-135m --workdir={look.WORK}/open")
    other = look.token_bits(Path(imported["checkpoint"]), extract)
    look.surprise("SmolLM2-135M, as it is", other)
    rows = [("small model, fine-tuned", look.token_bits(model, extract)), ("SmolLM2-135M", other)]
    size = len(extract.encode())
    look.table(
        ["", "bits per byte", "tokens"],
        [[name, f"{sum(b for _, b in t) / size:.3f}", f"{len(t):,}"] for name, t in rows],
    )
else:
    look.say("`OPEN_CHECKPOINT = False`: nothing was downloaded.")

# %% [markdown]
# ## Next
#
# `specialm serve --checkpoint=...` serves both models with a page to compare them
# ([serving](../docs/serving.md)); `specialm export` writes them for transformers, llama.cpp or ONNX
# ([open models](../docs/open_models.md)). Many domains instead of one: [inside a projected
# network](03_inside_a_projected_network.ipynb).
