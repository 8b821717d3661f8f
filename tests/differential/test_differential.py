"""Comparisons that need no separate environment, on a few cases; python -m tests.differential runs all of them."""
import importlib

import pytest


@pytest.mark.parametrize("part, count", [("data", 2), ("metrics", 10)])
def test_random_cases_have_no_finding(part, count):
    assert importlib.import_module(f"tests.differential.{part}").check(None, count, seed=1) == []
