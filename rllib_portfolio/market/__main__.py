"""Entry point of `python -m rllib_portfolio.market`, which runs the command `rllib-portfolio data` from `cli`."""

import sys

from rllib_portfolio.cli import data

if __name__ == "__main__":
    sys.exit(data())
