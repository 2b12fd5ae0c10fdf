"""Everything public has a docstring; an override may inherit its own (ruff's D102 does not know of inheritance)."""

import ast
import importlib
import inspect
import pkgutil
import re
from pathlib import Path

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


FRAGMENT = re.compile(r"(As `|Of |Those |The same[,.]|What |How (?!to\b)|Where |Whose )")
"""Beginnings of sentences that are only half of one, or a riddle: a docstring says what the thing does or is."""


@pytest.mark.parametrize("path", sorted(Path(fpdm.__file__).parent.rglob("*.py")), ids=lambda path: path.stem)
def test_docstrings_begin_with_a_whole_sentence(path):
    documented = (ast.FunctionDef, ast.ClassDef, ast.Module)
    nodes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, documented)]
    first_lines = [(ast.get_docstring(node) or "").partition("\n")[0] for node in nodes]
    assert not [line for line in first_lines if FRAGMENT.match(line)]
