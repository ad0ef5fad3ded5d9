"""A new distribution: importance weights to a power below 1, between uniform draws and SLM-is."""

import numpy as np

from specialm.clustering import weights
from specialm.clustering.weights import WeightReport
from specialm.draws import Weighted
from specialm.methods import Method, register

POWER = 0.5  # 0 draws uniformly, 1 as importance sampling does


def tempered(report: WeightReport, seed: int) -> np.ndarray:
    """float64 [K]: the probability of each cluster."""
    return weights.sampling_distribution(report.weights_K**POWER, report.generic_counts_K)


register(
    Method(
        name="slm_is_tempered",
        label="SLM-is tempered",
        description="small model pretrained on generic text, drawn by the root of the weights",
        colour="#332288",
        marker="p",
        family="dense",
        draws=Weighted(tempered),
    )
)
