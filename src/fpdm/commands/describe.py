"""`fpdm describe`: what a model costs, and what it was trained on."""

from __future__ import annotations

import re
from pathlib import Path

from fpdm.commands.options import Result
from fpdm.configuration import PositiveInt
from fpdm.runs.layout import SHIPPED

MAIN_OPTIONS = ("iterations",)
_PRESET = re.compile(r"(fpdm|dit)-\w+(/\d+)?", re.IGNORECASE)  # a mistyped one too, which names those that there are


def describe(model: str, *, iterations: PositiveInt = 5) -> Result:
    """Show a model's cost by part, what it was trained on, and the plans that it takes.

    Args:
        model: Folder of a run or of a model, name on the hub, or name of a model that comes with the package; or name
            of a preset: fpdm- or dit- with s, b, l or xl, then /2, /4 or /8, such as fpdm-xl/2; or fpdm-digits,
            dit-digits or dit-fashion.
        iterations: Fixed-point iterations per evaluation, for a model that leaves the choice.
    """
    if not Path(model).exists() and not (SHIPPED / model).is_dir() and _PRESET.fullmatch(model):
        from fpdm.models import description

        return description.describe(model, iterations)
    from fpdm.runs.description import describe_run
    from fpdm.runs.pretrained import load_model

    return describe_run(load_model(model), iterations)
