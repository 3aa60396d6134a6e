"""The errors that a user of the package can cause or meet.

ValueError
├── ConfigError   a setting, flag, path or checkpoint that cannot be used
└── DataError     a price table that cannot be used
RuntimeError
└── MachineError  files, a process or a machine that were lost during the work
    └── ClaimLostError  a place that another process writes into by now

Every text reads `<name> must <rule>, got <value> (<where>). <what to do>`; the command line prints it as one line. The
value is anyone's: the text shows it without control characters, and a long one without its middle.
"""

from __future__ import annotations

from rllib_portfolio.shown_text import LONGEST_ERROR, displayable


class _UserError(ValueError):
    def __str__(self) -> str:
        return displayable(super().__str__(), LONGEST_ERROR)


class ConfigError(_UserError):
    """A setting, a flag, a path or a checkpoint that cannot be used as given."""


class DataError(_UserError):
    """A price table that cannot be used as given: names file, column, date or row, and the remedy."""


class MachineError(RuntimeError):
    """The loss of files, of a process or of a machine while work was under way; its user asked for nothing wrong."""


class ClaimLostError(MachineError):
    """The loss of a place to another process while this one wrote into it: nothing more may be written there."""


def one_line(error: BaseException) -> str:
    """An error's class, text and notes without line breaks, for a table or a log."""
    text = " ".join(" ".join((str(error), *getattr(error, "__notes__", ()))).split())
    text = displayable(text, LONGEST_ERROR)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
