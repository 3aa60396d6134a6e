"""The command line: arguments, progress, signals, exit codes. The only package that prints.

Exit codes: 0 done, 1 an audit found a counterexample or the machine failed, as when a disk is full or a process dies
(one line says how, and how to go on), 2 a setting, file or argument that cannot be used (one line says which), 130 and
143 stopped by Ctrl-C and SIGTERM after writing a checkpoint.
"""

# Modules before the functions of the same names, which then are the package's attributes.
from rllib_portfolio.cli import backtest as _backtest  # noqa: F401
from rllib_portfolio.cli import train as _train  # noqa: F401
from rllib_portfolio.cli import tune as _tune  # noqa: F401
from rllib_portfolio.cli.commands import backtest, data, main, train, tune

__all__ = ["backtest", "data", "main", "train", "tune"]
