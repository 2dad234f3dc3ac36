"""Metrics, their confidence intervals, untrained baselines, and the quality of semantic IDs."""
