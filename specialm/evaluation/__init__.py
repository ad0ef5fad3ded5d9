"""Evaluation: result rows and their metrics, the contamination check, what a model cost."""
