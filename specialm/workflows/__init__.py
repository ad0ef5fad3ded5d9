"""Whole jobs, in stages: from text to results."""
