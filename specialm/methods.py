"""Methods: which model is pretrained on which draws of windows.

A dense method differs from another in the probability of each cluster. A bank or a mixture holds
one expert for each of `model.num_experts` clusters, and its draws say whose turn it is.

Letters: N windows, k experts (clusters), C features.
"""

import copy

import numpy as np
from ml_collections import ConfigDict

from specialm.clustering import levels
from specialm.clustering.clusters import Clusters
from specialm.clustering.encoders import MINILM_DIM
from specialm.common.errors import UserError
from specialm.config import BANKS, MIXTURE, MULTI, SAMPLED, UNIFORM
from specialm.data.groups import ExpertSampler, GroupSampler, HistogramSampler, MixtureSampler
from specialm.models import bank, families, mixture, transformer
from specialm.training.runs import Experts

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
    on the corpus and of unit length, else the identity."""
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
