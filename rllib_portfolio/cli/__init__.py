"""The command line: arguments, progress, signals, exit codes. The only package that prints.

Exit codes: 0 done, 1 an audit found a counterexample or the machine failed, as when a disk is full or a process dies
(one line says how, and how to go on), 2 a setting, file or argument that cannot be used (one line says which), 130 and
143 stopped by Ctrl-C and SIGTERM after writing a checkpoint.
"""

from rllib_portfolio.cli.backtest import backtest
from rllib_portfolio.cli.train import train
from rllib_portfolio.cli.tune import tune

__all__ = ["backtest", "train", "tune"]
