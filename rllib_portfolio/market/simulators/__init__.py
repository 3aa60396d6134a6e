"""Synthetic markets with known parameters.

Each of them takes `num_days` (rows, the first without a return), `seed` (of the draws), `cash_rate` (annual rate of
cash, a fraction) and `periods_per_year` (rows per year), which its own documentation does not repeat.
"""
