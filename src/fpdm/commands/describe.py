"""`fpdm describe`: what a model costs."""

from __future__ import annotations

from fpdm.commands.options import Result
from fpdm.configuration import PositiveInt

MAIN_OPTIONS = ("iterations",)


def describe(model: str, *, iterations: PositiveInt = 5) -> Result:
    """Show a model's parameters, MACs and block passes by part.

    Args:
        model: Name of a preset: fpdm- or dit- with s, b, l or xl, then /2, /4 or /8, such as fpdm-xl/2; or fpdm-digits,
            fpdm-fashion, dit-digits or dit-fashion.
        iterations: Fixed-point iterations per evaluation, for a model that leaves the choice.
    """
    from fpdm.models import description

    return description.describe(model, iterations)
