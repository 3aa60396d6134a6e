"""Back-tests of strategies and baselines on the same days, at the same costs, with the environments' kernel."""
