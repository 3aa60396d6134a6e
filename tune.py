#!/usr/bin/env python3
"""Search for settings: `python tune.py --algo ppo`. See `python tune.py --help`."""

import sys

from rllib_portfolio.cli import tune

if __name__ == "__main__":
    sys.exit(tune())
