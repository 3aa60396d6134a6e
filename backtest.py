#!/usr/bin/env python3
"""Judge trained policies: `python backtest.py RUN_DIR`. See `python backtest.py --help`."""

import sys

from rllib_portfolio.cli import backtest

if __name__ == "__main__":
    sys.exit(backtest())
