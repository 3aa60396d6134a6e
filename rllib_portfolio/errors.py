"""The two errors that a user of the package can cause.

ValueError
├── ConfigError   a setting, flag, path or checkpoint that cannot be used
└── DataError     a price table that cannot be used

Every text reads `<name> must <rule>, got <value> (<where>). <what to do>`; the command line prints it as one line.
"""


class ConfigError(ValueError):
    """A setting, a flag, a path or a checkpoint that cannot be used as given."""


class DataError(ValueError):
    """A price table that cannot be used as given: names file, column, date or row, and the remedy."""
