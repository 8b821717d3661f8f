"""Errors that a user or operator can fix, in addition to Python's built-in errors for missing or unreadable files."""
import reprlib

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 80


def shown(value, longest=80):
    """Return the repr of a value for an error message, shortened to one line even if it is long or deeply nested."""
    text = _SHORT.repr(value)
    return text if len(text) <= longest else text[:longest - 3] + "..."


def reason_of(error, longest=150):
    """Return the first line of another package's error, truncated and with control characters escaped."""
    line = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
    line = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in line.strip()[:longest])
    return line[:longest]


class ConfigError(ValueError):
    """Raised if a setting is unknown, out of range or in conflict with another (exit code 1)."""


class DataError(ValueError):
    """Raised for unusable data; the message states the file, line, value and what was expected (exit code 65)."""


class UnknownKind(DataError):
    """Raised for data that looks intact but is of a kind that tfzoo cannot read."""


class Diverged(ArithmeticError):
    """Raised for a non-finite weight or evaluation loss, or too many non-finite updates in a row (exit code 70)."""


class Interrupted(Exception):
    """Raised when a run that was asked to stop has saved its state (exit code 75)."""


class OutOfMemory(MemoryError):
    """Raised if a batch does not fit in memory; the message lists flags that reduce memory usage (exit code 70)."""


class LostWorker(Exception):
    """Raised if another worker in the cluster is lost; all workers must be restarted (exit code 75)."""
