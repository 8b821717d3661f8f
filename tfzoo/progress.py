"""Lines beside progress bars."""
import sys

from tqdm import tqdm


def tell(line):
    """Print a line to stderr, above any bar; where that is a log on a full disk, the work is worth more than the line.

    Args:
        line: str.
    """
    try:
        tqdm.write(line, file=sys.stderr)
    except OSError:
        return
