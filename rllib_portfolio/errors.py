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

import errno

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


_OF_THE_USER = {
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ESPIPE,
    errno.ELOOP, errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ, None,
}  # fmt: skip
"""Errors of files that another path or other permissions help against; None is a library's, of a damaged file."""


def is_of_machine(error: BaseException) -> bool:
    """Return whether an error is of the machine: no other path, permission or setting would help against it."""
    return isinstance(error, MachineError) or (isinstance(error, OSError) and error.errno not in _OF_THE_USER)


def file_error(
    error: Exception, text: str, remedy: str, kind: type[ConfigError] | type[DataError] = ConfigError
) -> ConfigError | DataError | MachineError:
    """Return what to raise for a file or a folder that cannot be read or written.

    `text` says what must be, and what is, without a full stop; `remedy` is a sentence on what the user can do, which is
    left out where the machine failed, such as with a full disk.
    """
    if is_of_machine(error):
        return MachineError(f"{text}. Make room on that disk, or mend it, then try again.")
    return kind(f"{text}. {remedy}")


def reason(error: Exception) -> str:
    """Return what an operating system says of a file, or an error's class and text."""
    return getattr(error, "strerror", None) or one_line(error)


def one_line(error: BaseException) -> str:
    """An error's class, text and notes without line breaks, for a table or a log."""
    text = " ".join(" ".join((str(error), *getattr(error, "__notes__", ()))).split())
    text = displayable(text, LONGEST_ERROR)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
