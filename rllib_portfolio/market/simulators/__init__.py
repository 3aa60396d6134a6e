"""Synthetic markets with known parameters."""
