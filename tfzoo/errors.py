"""Errors that a user or an operator can fix, besides Python's own for missing and unreadable files."""
import reprlib

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 80


def shown(value, longest=80):
    """Return the repr of a value from a file for a message, shortened to one line, however long or deep it is."""
    text = _SHORT.repr(value)
    return text if len(text) <= longest else text[:longest - 3] + "..."


def reason_of(error, longest=150):
    """Return the first line of another package's error for a message, truncated, control characters escaped."""
    line = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
    line = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in line.strip()[:longest])
    return line[:longest]


class ConfigError(ValueError):
    """Report a setting that is unknown, out of range or in conflict with another (exit code 1)."""


class DataError(ValueError):
    """Report unusable data: the file, the line, what was found, what is expected (exit code 65)."""


class UnknownKind(DataError):
    """Report data that seem intact, but are of a kind that tfzoo does not read."""


class Diverged(ArithmeticError):
    """Report non-finite weights or evaluation loss, or too many non-finite updates in a row (exit code 70)."""


class Interrupted(Exception):
    """Report a run that was asked to stop and has saved its state (exit code 75)."""


class OutOfMemory(MemoryError):
    """Report a batch that does not fit in memory: what uses the memory, and which flags reduce it (exit code 70)."""


class LostWorker(Exception):
    """Report that another worker of the cluster is gone; all must be restarted (exit code 75)."""
