"""The errors that a user or an operator mends, beside Python's own for missing and unreadable files."""
import reprlib

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 80


def shown(value, longest=80):
    """Return a value of a file for a message: as Python writes it, in one line and cut, however long or deep it is."""
    text = _SHORT.repr(value)
    return text if len(text) <= longest else text[:longest - 3] + "..."


def reason_of(error, longest=150):
    """Return the first line of another package's error for a message, cut and without control characters."""
    line = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
    line = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in line.strip()[:longest])
    return line[:longest]


class ConfigError(ValueError):
    """Report a setting that is unknown, out of range or contradicts another (exit code 1)."""


class DataError(ValueError):
    """Report data that cannot be used: the file, the line, what was got, what is allowed (exit code 65)."""


class UnknownKind(DataError):
    """Report data that are whole, as far as can be told, but of a kind that tfzoo does not read."""


class Diverged(ArithmeticError):
    """Report losses or gradients that are not finite, too many in a row (exit code 70)."""


class Interrupted(Exception):
    """Report a run that was told to stop and has saved its state (exit code 75)."""


class OutOfMemory(MemoryError):
    """Report a batch that the memory cannot hold, with what takes the memory and the flags that lower it (70)."""


class LostWorker(Exception):
    """Report that another worker of the cluster is gone; all are to be started again (75)."""
