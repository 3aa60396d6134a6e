#!/usr/bin/env python3
"""Train a portfolio policy: `python train.py --algo ppo`. See `python train.py --help`."""

import sys

from rllib_portfolio.cli import train

if __name__ == "__main__":
    sys.exit(train())
