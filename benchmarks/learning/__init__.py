"""Learning, measured: markets with a known optimum, and who comes how close how fast."""
