"""The errors that a user of the package can cause or meet.

ValueError
├── ConfigError   a setting, flag, path or checkpoint that cannot be used
└── DataError     a price table that cannot be used
RuntimeError
└── MachineError  files, a process or a machine that were lost during the work
    └── ClaimLostError  a folder or stored run that another process has taken over

Every text reads `<name> must <rule>, got <value> (<where>). <what to do>`; the command line prints it as one line. The
value may come from an untrusted source: it is shown without control characters, and without its middle if it is long.
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
    """A price table that cannot be used as given. The message names file, column, date or row, and the remedy."""


class MachineError(RuntimeError):
    """Files, a process or a machine were lost during the work, without a mistake of the user."""


class ClaimLostError(MachineError):
    """Another process took over the place that this one was writing into, so that nothing more may be written there."""


_OF_THE_USER = {
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ESPIPE,
    errno.ELOOP, errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ, None,
}  # fmt: skip
"""Error numbers of files that another path or other permissions can fix. None is the number of an error that a library
raised for a damaged file."""


def is_of_machine(error: BaseException) -> bool:
    """Return whether the machine caused an error, so that no other path, permission or setting would fix it."""
    return isinstance(error, MachineError) or (isinstance(error, OSError) and error.errno not in _OF_THE_USER)


def file_error(
    error: Exception, text: str, remedy: str, kind: type[ConfigError] | type[DataError] = ConfigError
) -> ConfigError | DataError | MachineError:
    """Return the error to raise for a file or a folder that cannot be read or written.

    Args:
        error: The error that occurred.
        text: The requirement and what was found instead, without a full stop.
        remedy: A sentence on what the user can do. It is left out if the machine failed, for example by a full disk.
        kind: Class of the returned error unless the machine failed.
    """
    if is_of_machine(error):
        return MachineError(f"{text}. Free space on that disk or repair it, then try again.")
    return kind(f"{text}. {remedy}")


def reason(error: Exception) -> str:
    """Return the operating system's message of a file error, or the class and text of any other error."""
    return getattr(error, "strerror", None) or one_line(error)


def one_line(error: BaseException) -> str:
    """Return an error's class, text and notes without line breaks, for a table or a log."""
    text = " ".join(" ".join((str(error), *getattr(error, "__notes__", ()))).split())
    text = displayable(text, LONGEST_ERROR)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
