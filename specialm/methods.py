"""Methods: the table of what is pretrained, on which draws of windows. One record a method.

A method is a distribution over windows (`draws.py`) and a family of models (`models/families/`).
Of the family "dense" is one small transformer; "mixture" one for each of `model.num_experts`
clusters; all others are banks, which hold an expert for each cluster in shared parameters. A
method of your own is one more record, in a module that `config.method_modules` names: see
docs/extending.md.

JAX is imported where a model is described: a config is read without it.
"""

import dataclasses
import importlib
import math
import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from ml_collections import ConfigDict

from specialm import draws as draws_lib
from specialm import selected, sizes
from specialm.common.errors import UserError
from specialm.data.sampler import BatchSampler
from specialm.draws import Draws, Source
from specialm.models import check as check_model
from specialm.models import sharing
from specialm.models.config import Config as Architecture

if TYPE_CHECKING:
    from specialm.clustering.clusters import Clusters
    from specialm.clustering.weights import WeightReport
    from specialm.models import families, transformer
    from specialm.training.runs import Experts

BASE = "slm"  # what others are compared with, and whose FLOPs a budget is counted in
IMPORTANCE = "slm_is"
CONTROL = "slm_is_shuffled"  # of importance sampling
PROJECTED = "slm_pn"
HYPERNETWORK = "slm_hn"
SOUP = "soup"
MIXTURE = "slm_mix"
DSIR = "dsir"
SOURCE_FILTER = "source_filter"
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
    colour: str  # of its lines; Okabe and Ito's, then Tol's: the colour-blind see them apart
    marker: str  # of its points, in matplotlib's letters
    large: bool = False  # it costs more to serve than a small model
    family: str = ""  # of the model; "": only a name in result rows, never pretrained
    draws: Draws = draws_lib.Uniform()  # the windows that it is pretrained on
    pretrained: bool = True  # False: it starts from the specialist text alone
    trunk: bool = False  # may start from the dense model that `train.trunk_fraction` pays for

    @property
    def is_dense(self) -> bool:
        """Whether one small model is pretrained, not an expert for each cluster."""
        return self.family == "dense"

    @property
    def is_mixture(self) -> bool:
        """Whether it pretrains an independent model for each cluster."""
        return self.family == "mixture"

    @property
    def is_bank(self) -> bool:
        """Whether it pretrains a bank."""
        return bool(self.family) and not (self.is_dense or self.is_mixture)

    @property
    def settings(self) -> tuple[str, ...]:
        """Dotted names of the settings that this method has a use for and others have not."""
        bank_settings = ("train.mixer_multiplier", "train.bank_every") if self.is_bank else ()
        of_trunk = ("train.trunk_fraction", "train.expert_multiplier") if self.trunk else ()
        return (*self.draws.settings, *bank_settings, *of_trunk)


METHODS: dict[str, Method] = {}


def register(method: Method) -> Method:
    """Adds a method to the table.

    Raises:
      UserError: another method has its name.
    """
    if METHODS.get(method.name, method) != method:
        raise UserError(f"two methods are named {method.name!r}; rename one of them.")
    METHODS[method.name] = method
    return method


for _method in (
    Method(
        BASE,
        "SLM",
        "small model pretrained on generic text drawn uniformly",
        "#000000",
        "o",
        family="dense",
    ),
    Method(
        IMPORTANCE,
        "SLM-is",
        "small model pretrained on generic text drawn by importance: clusters as often as in the "
        "domain's own text",
        "#0072B2",
        "D",
        family="dense",
        draws=draws_lib.Weighted(draws_lib.importance),
    ),
    Method(
        CONTROL,
        "SLM-is shuffled",
        "control: the importance weights, exchanged between clusters of like size",
        "#44AA99",
        "d",
        family="dense",
        draws=draws_lib.Weighted(draws_lib.shuffled),
    ),
    Method(
        DSIR,
        "DSIR",
        "small model pretrained on generic windows chosen by importance weights of hashed n-grams",
        "#117733",
        "8",
        family="dense",
        draws=selected.Selected(selected.resampled),
    ),
    Method(
        SOURCE_FILTER,
        "Source filter",
        "small model pretrained on the generic sources most like the domain, by hashed n-grams",
        "#AA4499",
        "H",
        family="dense",
        draws=selected.Selected(selected.of_near_sources),
    ),
    Method(
        PROJECTED,
        "SLM-pn",
        "projected network: an expert per cluster, projected from shared weights",
        "#D55E00",
        "^",
        family="projected",
        draws=draws_lib.ByCluster(),
    ),
    Method(
        HYPERNETWORK,
        "SLM-hn",
        "hyper-network: expert weights computed from the cluster's embedding",
        "#E69F00",
        ">",
        family="hypernetwork",
        draws=draws_lib.ByCluster(),
    ),
    Method(
        MIXTURE,
        "SLM-mix",
        "hard mixture: one independent small model per cluster",
        "#009E73",
        "s",
        family="mixture",
        draws=draws_lib.ByExpert(),
        trunk=True,
    ),
    Method(
        SOUP,
        "Soup-of-Experts",
        "small model instantiated from a histogram of clusters",
        "#56B4E9",
        "P",
        family="soup",
        draws=draws_lib.ByHistogram(),
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
        family="dense",
        pretrained=False,
    ),
    Method(
        LARGE,
        "LLM",
        "large model, for reference: it costs more to serve",
        "#555555",
        "*",
        large=True,
        family="dense",
    ),
    Method(
        LARGE_LORA,
        "LLM-lora",
        "large model fine-tuned through low-rank matrices",
        "#8C8C8C",
        "X",
        large=True,
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


def choices() -> tuple[str, ...]:
    """The methods that a config may name: those with a model, not only a name in result rows."""
    return tuple(name for name, method in METHODS.items() if method.family)


def import_modules(modules: Iterable[str]) -> None:
    """Imports the modules that register methods from outside; those of the current directory too.

    Raises:
      UserError: one cannot be imported.
    """
    for module in modules:
        if os.getcwd() not in sys.path:
            sys.path.append(os.getcwd())
        try:
            if not all(part.isidentifier() for part in module.split(".")):
                raise ImportError("not the name of a module")
            importlib.import_module(module)
        except ImportError as error:
            raise UserError(
                f"method_modules: {module!r} cannot be imported ({error}); it must be a module in "
                "the current directory or on PYTHONPATH."
            ) from error


def num_clusters(config: ConfigDict, method: str) -> int:
    """Clusters that a method needs; 0 if none."""
    return get(method).draws.clusters(config)[0]


def setting_of_clusters(config: ConfigDict, method: str) -> str:
    """The setting that `num_clusters` comes from, for errors."""
    return get(method).draws.clusters(config)[1]


def with_clusters(config: ConfigDict) -> str:
    """The method whose clusters a config is about: its own, else importance sampling."""
    return config.method if num_clusters(config, config.method) else IMPORTANCE


def mixes(config: ConfigDict, method: str) -> bool:
    """Whether specialist text is mixed into the pretraining of a method."""
    record = get(method)
    return bool(config.train.specialist_fraction) and record.is_dense and record.pretrained


def aims_at_domain(config: ConfigDict, method: str) -> bool:
    """Whether what is pretrained is for one domain alone."""
    return mixes(config, method) or get(method).draws.aims


def dense_config(config: ConfigDict, vocabulary_size: int) -> "transformer.Config":
    """The small transformer's architecture: every setting of `model` that is a field of it.

    Raises:
      UserError: a part that there is not, or sizes that make no transformer.
    """
    names = {field.name for field in dataclasses.fields(Architecture)}
    known = {name: value for name, value in config.model.items() if name in names}
    dense = Architecture(vocab_size=vocabulary_size, context=config.data.context, **known)
    check_model.check(dense)
    return dense


def model_config(
    config: ConfigDict,
    method: str,
    vocabulary_size: int,
    centroid_size: int,
    dense: "transformer.Config | None" = None,
) -> "families.Config":
    """What a method pretrains: a dense model, a bank or a mixture.

    Args:
      dense: the small transformer's architecture; None for that of the settings.
    """
    record, dense = get(method), dense or dense_config(config, vocabulary_size)
    if record.is_bank:
        return _bank_config(config, record, dense, centroid_size)
    return _mixture_config(config, dense) if record.is_mixture else dense


def _bank_config(
    config: ConfigDict, record: Method, dense: "transformer.Config", centroid_size: int
) -> "families.bank.Config":
    from specialm.models import families

    model, k = config.model, config.model.num_experts
    return families.bank.Config(
        model=dense,
        family=record.family,
        num_experts=k,
        rank=model.bank_size or k,
        code=model.code_size or k,
        layers=tuple(sorted(model.bank_layers)) or tuple(sorted(set(sharing.rows("mlp", dense)))),
        features=centroid_size,
        hidden=model.mixer_hidden,
        spread=model.spread,
    )


def _mixture_config(
    config: ConfigDict, dense: "transformer.Config"
) -> "transformer.Config | families.mixture.Config":
    from specialm.models import families

    only_one = config.model.only_expert >= 0
    return dense if only_one else families.mixture.Config(dense, config.model.num_experts)


def centroid_size(config: ConfigDict) -> int:
    """Numbers of a centroid, before there are clusters."""
    from specialm.clustering.minilm_files import MINILM_DIM

    clustering = config.clustering
    return MINILM_DIM if clustering.encoder == "minilm" else clustering.dim


def experts(clusters: "Clusters", method: str) -> "Experts":
    """Cluster shares, and the features of each cluster: for a family that reads centroids those,
    centred on the corpus and of unit length, else the identity.
    """
    from specialm.models import families
    from specialm.training.runs import Experts

    share_k, features_kxC = clusters.share_K, np.eye(len(clusters.centroids_KxD))
    record = get(method)
    if record.is_bank and families.get(record.family).features == families.CENTROID:
        centroids_kxC = np.asarray(clusters.centroids_KxD, np.float64)
        centred_kxC = centroids_kxC - share_k @ centroids_kxC
        length_kx1 = np.linalg.norm(centred_kxC, axis=1, keepdims=True)
        features_kxC = centred_kxC / np.maximum(length_kx1, 1e-12)
    return Experts(features_kxC.astype(np.float32), share_k, clusters.fingerprint)


def source(
    method: str,
    windows: int,
    clusters: "Clusters | None" = None,
    weights: "WeightReport | None" = None,
) -> Source:
    """What a method draws its windows from.

    Args:
      windows: N, of the generic text.
      clusters: those that it needs, if any.
      weights: of the domain that it aims at, if it does.
    """
    features = experts(clusters, method).features_kxC if get(method).is_bank and clusters else None
    return Source(windows, clusters, features, weights)


def sampler(config: ConfigDict, method: str, source: Source, seed: int) -> BatchSampler:
    """The sampler that a method is pretrained with."""
    return get(method).draws.sampler(config, source, seed)


def check(config: ConfigDict, method: str) -> None:
    """Raises UserError for settings that a method cannot be pretrained with."""
    check_sizes(config, method)
    get(method).draws.check(config)
    if config.train.quantize_bits and not get(method).is_dense:
        raise UserError(
            f"train.quantize_bits={config.train.quantize_bits}: method={method!r} is pretrained in "
            "full precision; set it to 0, and finetune.quantize_bits for what is made of it."
        )
    train = config.train
    steps = math.ceil(train.tokens / (train.batch_size * config.data.context))
    if get(method).is_bank and train.bank_every > steps:
        raise UserError(
            f"train.bank_every={train.bank_every}: train.tokens={train.tokens} are {steps} steps, "
            "in which the bank would never be updated; set it lower, or train.tokens higher."
        )


def check_sizes(config: ConfigDict, method: str) -> None:
    """Raises UserError for sizes of a bank or a mixture that make no model."""
    record = get(method)
    if not record.is_dense:
        sizes.check(config.model, method, record.is_mixture)


def num_groups(config: ConfigDict, method: str) -> int:
    """Groups of a step that a bank is projected for; 0 without a bank."""
    return config.train.groups if get(method).is_bank else 0


def tokens_per_group(config: ConfigDict, method: str) -> int:
    """Over how many tokens the projection of a bank is shared in training; 0 without a bank."""
    groups = num_groups(config, method)
    return config.train.batch_size * config.data.context // groups if groups else 0


def trains_one_expert(config: ConfigDict, method: str) -> bool:
    """Whether one expert of a mixture is trained alone."""
    return get(method).is_mixture and config.model.only_expert >= 0
