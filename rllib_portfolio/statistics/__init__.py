"""Performance measures and statistical tests of return series."""
