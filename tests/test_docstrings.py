"""Everything public has a docstring; an override may inherit its own (ruff's D102 does not know of inheritance)."""

import importlib
import inspect
import pkgutil

import pytest

import fpdm

MODULES = [m.name for m in pkgutil.walk_packages(fpdm.__path__, "fpdm.") if not m.name.endswith("__main__")]


def is_public_method(name: str, value: object) -> bool:
    """Return whether an entry of a class's namespace is a public function or property."""
    return name[0] != "_" and (inspect.isfunction(value) or isinstance(value, staticmethod | classmethod | property))


@pytest.mark.parametrize("name", MODULES)
def test_every_public_method_has_or_inherits_a_docstring(name):
    module = importlib.import_module(name)
    classes = [c for n, c in vars(module).items() if inspect.isclass(c) and c.__module__ == name and n[0] != "_"]
    methods = [(c, method) for c in classes for method, value in vars(c).items() if is_public_method(method, value)]
    assert not [f"{c.__name__}.{method}" for c, method in methods if not inspect.getdoc(getattr(c, method))]
