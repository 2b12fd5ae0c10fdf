"""`fpdm describe`: what a model costs."""

from __future__ import annotations

from dataclasses import dataclass

from tyro.conf import Positional

from fpdm.commands.options import Command
from fpdm.models.description import Description, describe


@dataclass(frozen=True, kw_only=True)
class Describe(Command):
    """Show a model's parameters, MACs and block passes by part.

    Attributes:
        model: fpdm- or dit- and s, b, l or xl with /2, /4 or /8, or digits or fashion.
        iterations: Fixed-point iterations per evaluation, where there is a choice.
    """

    model: Positional[str]
    iterations: int = 5

    def execute(self) -> Description:
        """Describe it."""
        return describe(self.model, self.iterations)
