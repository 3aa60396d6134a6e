"""Hyperparameter search over a Ray cluster."""
