"""Soup-of-Experts (arXiv 2502.01804): coefficients are a network of a histogram over clusters."""

from specialm.models.families import network
from specialm.models.families.record import HISTOGRAM, Family, register

NAME = "soup"

register(Family(NAME, network.mixer, network.coefficients, HISTOGRAM))
