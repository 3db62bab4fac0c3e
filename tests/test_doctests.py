"""The examples in docstrings are right."""

import doctest
import importlib
import pkgutil

import pytest

import tomolive

MODULES = [m.name for m in pkgutil.walk_packages(tomolive.__path__, "tomolive.") if "__main__" not in m.name]


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings(name: str) -> None:
    """Each module imports by itself, and every example in it prints what it says."""
    assert doctest.testmod(importlib.import_module(name)).failed == 0
