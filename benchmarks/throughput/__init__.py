"""Benchmarks of throughput: environment steps per second of the package and its peers, in one run on one machine."""
