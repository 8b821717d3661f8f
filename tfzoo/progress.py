"""Print lines without disturbing progress bars."""
import sys

from tqdm import tqdm


def tell(line):
    """Print a line to stderr, above any progress bar; ignore write errors, such as those of a log on a full disk.

    Args:
        line: str.
    """
    try:
        tqdm.write(line, file=sys.stderr)
    except OSError:
        return
