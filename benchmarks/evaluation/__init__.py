"""Whether the tests of `rllib_portfolio.evaluation` reject as often as they say, and how fast they are."""
