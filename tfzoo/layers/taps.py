"""Intermediate results that callers request by name, such as `block_03` or `block_03/attention/probabilities`."""


class Taps:
    """Record intermediate results by name.

    Args:
        names: iterable of str, names to record; nested parts are joined by "/".

    Attributes:
        found: dict of name -> tensor, the results recorded so far.
    """

    def __init__(self, names=(), found=None, prefix=""):
        self.names, self.found, self.prefix = frozenset(names), {} if found is None else found, prefix

    def __bool__(self):
        return bool(self.names)

    def below(self, part):
        """Return Taps for the names below `part`, which record into the same `found`."""
        if not self.names:
            return self
        inside = f"{part}/"
        return Taps((name[len(inside):] for name in self.names if name.startswith(inside)), self.found,
                    self.prefix + inside)

    def wants(self, name):
        """Return whether `name` is requested."""
        return name in self.names

    def note(self, name, value):
        """Record a value if its name is requested; return the value."""
        if name in self.names:
            self.found[self.prefix + name] = value
        return value


NO_TAPS = Taps()
