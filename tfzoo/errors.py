"""The two errors that are a user's to mend, beside Python's own for missing and unreadable files."""


class ConfigError(ValueError):
    """Report a setting that is unknown, out of range or contradicts another (exit code 1)."""


class DataError(ValueError):
    """Report data that cannot be used: the file, the line, what was got, what is allowed (exit code 65)."""
