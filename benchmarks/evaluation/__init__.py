"""Whether the tests of `rllib_portfolio.statistics` reject as often as they say, and how fast they are."""
