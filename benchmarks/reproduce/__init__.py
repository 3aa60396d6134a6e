"""`make results`: every figure and table of README.md and docs/RESULTS.md, from committed configurations."""
