"""Marks of tests that need what the light install leaves out."""

import importlib.util

import pytest


def _installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


SEQIO = pytest.mark.skipif(not _installed("seqio"), reason="needs the extra seqio")
WANDB = pytest.mark.skipif(not _installed("wandb"), reason="needs the extra wandb")
