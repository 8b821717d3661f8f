"""The errors that a user or an operator mends, beside Python's own for missing and unreadable files."""


class ConfigError(ValueError):
    """Report a setting that is unknown, out of range or contradicts another (exit code 1)."""


class DataError(ValueError):
    """Report data that cannot be used: the file, the line, what was got, what is allowed (exit code 65)."""


class Diverged(ArithmeticError):
    """Report a loss that is no longer finite (exit code 70)."""


class Interrupted(Exception):
    """Report a run that was told to stop and has saved its state (exit code 75)."""
