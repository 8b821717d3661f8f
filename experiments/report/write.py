"""Write a report's folder."""
import json

from tfzoo import files, folders
from experiments.report.page import page

NAMES = ("report.html", "report.json")


def check_folder(path):
    """Check the folder of a report before the numbers are computed.

    Args:
        path: str or path; must be new, empty, or contain only a report.

    Returns:
        pathlib.Path.

    Raises:
        ConfigError: if the folder contains something else, or is a file.
        OSError: if the folder is read-only.
    """
    def written_in(folder):
        names = folders.names_in(folder)
        return names if set(names) <= set(NAMES) else None

    return folders.target_folder(files.local_path(path, "--report"), written_in)[0]


def write_report(numbers, folder):
    """Write report.html and report.json.

    Args:
        numbers: dict, from `numbers_of`.
        folder: pathlib.Path, from `check_folder`.

    Raises:
        OSError: if a file cannot be written.
    """
    text = page(numbers).encode("utf-8", "replace")  # a lone surrogate, which JSON may contain, becomes a ?
    folder.mkdir(parents=True, exist_ok=True)
    files.write_atomic(folder / "report.json", json.dumps(numbers, indent=1, allow_nan=False) + "\n")
    files.write_atomic(folder / "report.html", text)
