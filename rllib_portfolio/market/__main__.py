"""`python -m rllib_portfolio.market`: the command is in `rllib_portfolio.cli.market`, above this floor."""

import sys

from rllib_portfolio.cli.market import main

if __name__ == "__main__":
    sys.exit(main())
