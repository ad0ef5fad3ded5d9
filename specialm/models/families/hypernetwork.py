"""Hyper-networks (SLM-hn, named in arXiv 2402.01093v1): coefficients are a network of the centroid.

Our reading: v2 calls SLM-pn a hyper-network whose secondary network is linear; here it has a hidden
layer, as in Ha et al. 2017 (arXiv 1609.09106).
"""

from specialm.models.families import network
from specialm.models.families.record import CENTROID, Family, register

NAME = "hypernetwork"

register(Family(NAME, network.mixer, network.coefficients, CENTROID))
