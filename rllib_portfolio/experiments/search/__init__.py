"""Search for settings: Ray Tune trials, an Optuna study, validation Sharpe ratios after costs."""
