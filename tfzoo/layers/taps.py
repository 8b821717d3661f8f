"""Intermediates that a caller asks for by name: `block_03`, `block_03/attention/probabilities`."""


class Taps:
    """Take note of the intermediates of some names.

    Args:
        names: iterable of str, "/" between the names of parts.

    Attributes:
        found: dict of name -> tensor, what was noted so far.
    """

    def __init__(self, names=(), found=None, prefix=""):
        self.names, self.found, self.prefix = frozenset(names), {} if found is None else found, prefix

    def __bool__(self):
        return bool(self.names)

    def below(self, part):
        """Return the Taps of the names that begin with a part, which note into the same `found`."""
        if not self.names:
            return self
        inside = f"{part}/"
        return Taps((name[len(inside):] for name in self.names if name.startswith(inside)), self.found,
                    self.prefix + inside)

    def wants(self, name):
        """Return whether a name of this part was asked for."""
        return name in self.names

    def note(self, name, value):
        """Keep a value where its name was asked for; returns the value."""
        if name in self.names:
            self.found[self.prefix + name] = value
        return value


NO_TAPS = Taps()
