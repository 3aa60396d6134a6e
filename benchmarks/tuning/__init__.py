"""What a search costs, and what early stopping saves: see benchmarks/README.md."""
