"""`fpdm describe`: what a model costs, and what it was trained on."""

from __future__ import annotations

import re
from pathlib import Path

from fpdm.commands.options import Result
from fpdm.configuration import BatchSize, PositiveInt
from fpdm.runs.layout import SHIPPED

MAIN_OPTIONS = ("iterations", "budget")
_PRESET = re.compile(r"(fpdm|dit)-\w+(/\d+)?", re.IGNORECASE)  # a mistyped one too, which names those that there are


def describe(model: str, *, iterations: PositiveInt = 5, budget: str = "", batch_size: BatchSize = 64) -> Result:
    """Show a model's cost by part, what it was trained on, and the plans that it takes.

    With a budget, predict what an image will cost on this machine.

    Args:
        model: Folder of a run or of a model, name on the hub, or name of a model that comes with the package; or name
            of a preset: fpdm- or dit- with s, b, l or xl, then /2, /4 or /8, such as fpdm-xl/2; or fpdm-digits,
            dit-digits or dit-fashion.
        iterations: Fixed-point iterations per evaluation, for a model that leaves the choice.
        budget: Budget whose seconds and memory are predicted, after measuring for a few seconds: block passes (280),
            MACs (30GMAC) or seconds (0.5s) per image.
        batch_size: Images generated at once, for the predicted images per second.
    """
    if not Path(model).exists() and not (SHIPPED / model).is_dir() and _PRESET.fullmatch(model):
        from fpdm.models import description

        if budget:
            raise ValueError(f"{model} has no weights to measure; leave --budget out, or give the folder of a run")
        return description.describe(model, iterations)
    from fpdm.runs.description import describe_run
    from fpdm.runs.pretrained import load_model

    run = load_model(model)
    described = describe_run(run, iterations)
    if not budget:
        return described
    from fpdm.runs.price import predict

    return predict(run, described, budget, batch_size=batch_size)
