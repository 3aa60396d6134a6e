"""Benchmarks: `python -m benchmarks`, or `make bench`. Never run as tests."""
