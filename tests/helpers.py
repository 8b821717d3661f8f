"""Checks that every layer, model and task must pass, and the way to the development data."""
import os
import pathlib

import pytest

CHECKOUT = pathlib.Path(__file__).resolve().parent.parent


def data_dir():
    """Return the folder of development data ($TFZOO_DATA), or skip the test where it is absent."""
    folder = pathlib.Path(os.environ.get("TFZOO_DATA", CHECKOUT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no development data at {folder}: set TFZOO_DATA")
    return folder


def vocab_dir():
    """Return the folder of published vocabularies beside the development data, or skip."""
    folder = data_dir().parent / "vocab"
    if not folder.is_dir():
        pytest.skip(f"no vocabularies at {folder}")
    return folder
