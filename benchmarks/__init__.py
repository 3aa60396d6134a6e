"""Benchmarks beside peers: see benchmarks/README.md. They are never run as tests."""
