"""Synthetic markets with known parameters.

Each simulator takes `num_days` (number of rows, the first without a return), `seed` (seed of the random draws),
`cash_rate` (annual rate of cash, a fraction) and `periods_per_year` (rows per year); their own docstrings do not repeat
these parameters. A simulator raises a ConfigError if a parameter is out of its range.
"""
