"""`python -m rllib_portfolio.market`, which is `rllib-portfolio data`; the command itself is in the floor `cli`."""

import sys

from rllib_portfolio.cli import data

if __name__ == "__main__":
    sys.exit(data())
