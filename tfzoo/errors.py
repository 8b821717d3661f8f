"""The errors that a user or an operator mends, beside Python's own for missing and unreadable files."""


class ConfigError(ValueError):
    """Report a setting that is unknown, out of range or contradicts another (exit code 1)."""


class DataError(ValueError):
    """Report data that cannot be used: the file, the line, what was got, what is allowed (exit code 65)."""


class Diverged(ArithmeticError):
    """Report losses or gradients that are not finite, too many in a row (exit code 70)."""


class Interrupted(Exception):
    """Report a run that was told to stop and has saved its state (exit code 75)."""


class OutOfMemory(MemoryError):
    """Report a batch that the memory cannot hold, with what takes the memory and the flags that lower it (70)."""


class LostWorker(Exception):
    """Report that another worker of the cluster is gone; all are to be started again (75)."""
