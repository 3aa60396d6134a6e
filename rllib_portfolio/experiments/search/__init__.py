"""Hyperparameter search: Ray Tune trials, an Optuna study, and validation Sharpe ratios after costs."""
