"""Methods: which model is pretrained on which draws of windows.

A dense method differs from another in the probability of each cluster. A bank or a mixture holds
one expert for each of `model.num_experts` clusters, and its draws say whose turn it is.
"""

import copy
from dataclasses import dataclass

import numpy as np
from ml_collections import ConfigDict

from specialm.clustering import levels
from specialm.clustering.clusters import Clusters
from specialm.clustering.minilm_files import MINILM_DIM
from specialm.common.errors import UserError
from specialm.config import BANKS, MULTI, SAMPLED, UNIFORM
from specialm.data.groups import ExpertSampler, GroupSampler, HistogramSampler, MixtureSampler
from specialm.models import families, transformer
from specialm.models.families import bank, mixture
from specialm.training.runs import Experts

BASE = "slm"  # what others are compared with, and whose FLOPs a budget is counted in
IMPORTANCE = "slm_is"
CONTROL = "slm_is_shuffled"  # of importance sampling
PROJECTED = "slm_pn"
HYPERNETWORK = "slm_hn"
SOUP = "soup"
MIXTURE = "slm_mix"
MIXED = "slm_mixed"  # specialist text mixed into pretraining
DISTILLED = "slm_d"
UNPRETRAINED = "slm_nopt"
LARGE = "llm"
LARGE_LORA = "llm_lora"


@dataclass(frozen=True)
class Method:
    """One method: all that distinguishes it from the others."""

    name: str  # in configs and result rows
    label: str  # for people
    description: str  # one line, for the report's key
    colour: (
        str  # of its lines; Okabe and Ito's colours, then Tol's: the colour-blind see them apart
    )
    marker: str  # of its points, in matplotlib's letters
    large: bool = False  # it costs more to serve than a small model


METHODS: dict[str, Method] = {}


def register(method: Method) -> Method:
    """Adds a method to the table."""
    METHODS[method.name] = method
    return method


for _method in (
    Method(BASE, "SLM", "small model pretrained on generic text drawn uniformly", "#000000", "o"),
    Method(
        IMPORTANCE,
        "SLM-is",
        "small model pretrained on generic text drawn by importance: clusters as often as in the "
        "domain's own text",
        "#0072B2",
        "D",
    ),
    Method(
        CONTROL,
        "SLM-is shuffled",
        "control: the same importance weights, shuffled between clusters",
        "#44AA99",
        "d",
    ),
    Method(
        PROJECTED,
        "SLM-pn",
        "projected network: an expert per cluster, made from shared weights",
        "#D55E00",
        "^",
    ),
    Method(
        HYPERNETWORK,
        "SLM-hn",
        "hyper-network: expert weights made from the cluster's embedding",
        "#E69F00",
        ">",
    ),
    Method(
        MIXTURE, "SLM-mix", "hard mixture: one independent small model per cluster", "#009E73", "s"
    ),
    Method(
        SOUP,
        "Soup-of-Experts",
        "small model instantiated from a histogram of clusters",
        "#56B4E9",
        "P",
    ),
    Method(
        MIXED,
        "SLM-mixed",
        "small model whose pretraining mixes in a fraction of the domain's own text",
        "#999933",
        "<",
    ),
    Method(
        DISTILLED,
        "SLM-d",
        "small model distilled from the large one on the domain's text",
        "#CC79A7",
        "v",
    ),
    Method(
        UNPRETRAINED,
        "SLM-nopt",
        "small model without pretraining: the domain's text alone",
        "#882255",
        "h",
    ),
    Method(
        LARGE, "LLM", "large model, for reference: it costs more to serve", "#777777", "*", True
    ),
    Method(
        LARGE_LORA,
        "LLM-lora",
        "large model fine-tuned through low-rank matrices",
        "#AAAAAA",
        "X",
        True,
    ),
):
    register(_method)


def get(name: str) -> Method:
    """The record of a method.

    Raises:
      UserError: no such method.
    """
    if name not in METHODS:
        raise UserError(f"{name!r} is no method; there are {', '.join(METHODS)}.")
    return METHODS[name]


def find(name: str) -> Method | None:
    """The record of a method; None for a name that is not in the table, as old rows may hold."""
    return METHODS.get(name)


BANK_FIELDS = (
    "num_experts",
    "bank_size",
    "code_size",
    "bank_layers",
    "mixer_hidden",
    "spread",
    "only_expert",
)


def num_clusters(config: ConfigDict, method: str) -> int:
    """Clusters that a method needs; 0 if none."""
    if method in UNIFORM:
        return 0
    if method in MULTI:
        return config.model.num_experts
    clustering = config.clustering
    if clustering.method == "tree":
        return levels.nodes(clustering.branching, clustering.level)
    return clustering.k


def setting_of_clusters(config: ConfigDict, method: str) -> str:
    """The setting that `num_clusters` comes from, for errors."""
    if method in MULTI:
        return "model.num_experts"
    return "clustering.branching" if config.clustering.method == "tree" else "clustering.k"


def aims_at_domain(config: ConfigDict, method: str) -> bool:
    """Whether what is pretrained is for one domain alone."""
    mixed = config.train.specialist_fraction > 0 and method in ("slm", "llm")
    return mixed or method in SAMPLED


def dense_config(config: ConfigDict, vocabulary_size: int) -> transformer.Config:
    """The small transformer's sizes."""
    sizes = {name: value for name, value in config.model.items() if name not in BANK_FIELDS}
    return transformer.Config(vocab_size=vocabulary_size, context=config.data.context, **sizes)


def model_config(
    config: ConfigDict, method: str, vocabulary_size: int, centroid_size: int
) -> families.Config:
    """What a method pretrains: a dense model, a bank or a mixture."""
    dense, sizes = dense_config(config, vocabulary_size), config.model
    if method == MIXTURE:
        only_one = sizes.only_expert >= 0
        return dense if only_one else mixture.Config(dense, sizes.num_experts)
    if method not in BANKS:
        return dense
    layers = tuple(sorted(sizes.bank_layers)) or tuple(range(dense.num_layers))
    rank = sizes.bank_size or sizes.num_experts
    return bank.Config(
        dense,
        BANKS[method],
        sizes.num_experts,
        rank,
        sizes.code_size or sizes.num_experts,
        layers,
        centroid_size,
        sizes.mixer_hidden,
        sizes.spread,
    )


def centroid_size(config: ConfigDict) -> int:
    """Numbers of a centroid, before there are clusters."""
    clustering = config.clustering
    return MINILM_DIM if clustering.encoder == "minilm" else clustering.dim


def experts(clusters: Clusters, method: str) -> Experts:
    """Cluster shares, and the features of each cluster: for a hypernetwork the centroids, centred
    on the corpus and of unit length, else the identity.
    """
    centroids_kxC = np.asarray(clusters.centroids_KxD, np.float64)
    k = len(centroids_kxC)
    probability_k = np.bincount(clusters.generic_N, minlength=k) / len(clusters.generic_N)
    features_kxC = np.eye(k)
    if method == "slm_hn":
        centred_kxC = centroids_kxC - probability_k @ centroids_kxC
        length_kx1 = np.linalg.norm(centred_kxC, axis=1, keepdims=True)
        features_kxC = centred_kxC / np.maximum(length_kx1, 1e-12)
    return Experts(features_kxC.astype(np.float32), probability_k, clusters.fingerprint)


def multi_sampler(config: ConfigDict, method: str, clusters: Clusters, seed: int):
    """The sampler of a bank or a mixture."""
    train, known = config.train, experts(clusters, method)
    cluster_N, k = clusters.generic_N, len(known.probability_k)
    if method == MIXTURE:
        if config.model.only_expert < 0:
            return MixtureSampler(train.batch_size, seed, cluster_N, k)
        return ExpertSampler(train.batch_size // k, seed, cluster_N, config.model.only_expert)
    if method == "soup":
        return HistogramSampler(
            train.batch_size,
            seed,
            cluster_N,
            known.probability_k,
            train.histogram_support,
            train.groups,
        )
    return GroupSampler(
        len(cluster_N),
        train.batch_size,
        seed,
        cluster_N,
        known.probability_k,
        train.groups,
        known.features_kxC,
    )


def check(config: ConfigDict, method: str) -> None:
    """Raises UserError for settings of a bank or a mixture that cannot be trained."""
    check_sizes(config, method)
    k, train = config.model.num_experts, config.train
    if method in MULTI and config.clustering.method == "tree":
        levels.of_size(config.clustering.branching, k, "model.num_experts")
    if method == MIXTURE and train.batch_size % k:
        raise UserError(
            f"train.batch_size={train.batch_size} is not a multiple of "
            f"model.num_experts={k}; every expert takes the same number of windows."
        )
    if method in BANKS and train.batch_size % train.groups:
        raise UserError(
            f"train.groups={train.groups} does not divide train.batch_size={train.batch_size}."
        )
    if method == "soup" and train.histogram_support > k:
        raise UserError(
            f"train.histogram_support={train.histogram_support}: there are only "
            f"model.num_experts={k} clusters."
        )


def check_sizes(config: ConfigDict, method: str) -> None:
    """Raises UserError for sizes of a bank or a mixture that make no model."""
    model = config.model
    if method not in MULTI:
        return
    k = model.num_experts
    if not -1 <= model.only_expert < k:
        raise UserError(
            f"model.only_expert={model.only_expert}: must be one of 0 to {k - 1} "
            f"(model.num_experts={k}), or -1 for all."
        )
    if model.only_expert >= 0 and method != MIXTURE:
        raise UserError(
            f"model.only_expert={model.only_expert}: the experts of {method} share "
            f"parameters; only those of {MIXTURE} can be trained alone."
        )
    for name in ("bank_size", "code_size", "mixer_hidden"):
        least = 1 if name == "mixer_hidden" else 0
        if model[name] < least:
            raise UserError(f"model.{name}={model[name]}: must be at least {least}.")
    if len(set(model.bank_layers)) < len(model.bank_layers):
        raise UserError(f"model.bank_layers={tuple(model.bank_layers)}: a layer is named twice.")
    outside = [y for y in model.bank_layers if not 0 <= y < model.num_layers]
    if outside:
        raise UserError(
            f"model.bank_layers={tuple(model.bank_layers)}: layer {outside[0]} does "
            f"not exist, there are model.num_layers={model.num_layers}."
        )


def tokens_per_group(config: ConfigDict, method: str) -> int:
    """Over how many tokens the projection of a bank is shared in training; 0 without a bank."""
    if method not in BANKS:
        return 0
    return config.train.batch_size * config.data.context // config.train.groups


def alone(train: ConfigDict, experts: int) -> ConfigDict:
    """The training settings of one expert of a mixture: its share of the budget and the batch."""
    return _changed(
        train, batch_size=train.batch_size // experts, tokens=-(-train.tokens // experts)
    )


def trunk(train: ConfigDict) -> tuple[ConfigDict | None, ConfigDict]:
    """The training settings of the dense model that the experts of a mixture start from (None:
    they start untrained), and those of the experts.

    The learning rate is decayed once, in the end, over `train.decay_fraction` of all steps.
    """
    tokens = round(train.trunk_fraction * train.tokens)
    rest = train.tokens - tokens
    experts = _changed(
        train,
        tokens=rest,
        learning_rate=train.learning_rate * train.expert_multiplier,
        decay_fraction=min(1.0, train.decay_fraction * train.tokens / rest),
    )
    return (_changed(train, tokens=tokens, schedule="constant") if tokens else None), experts


def _changed(train: ConfigDict, **values) -> ConfigDict:
    changed = copy.deepcopy(train).unlock()
    changed.update(values)
    return changed.lock()
