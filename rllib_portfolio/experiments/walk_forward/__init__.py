"""Walk-forward analysis: train on each window of the past, judge on the days after it, pool the days."""
