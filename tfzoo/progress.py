"""Print lines without disturbing progress bars."""
import sys

from tqdm import tqdm


def tell(line):
    """Print a line to stderr, above any progress bar; ignore write errors, for example if a log's disk is full.

    Args:
        line: str.
    """
    try:
        tqdm.write(line, file=sys.stderr)
    except OSError:
        return
