"""Walk-forward analysis: train on a window of the past, test on the days after it, and pool all test days."""
