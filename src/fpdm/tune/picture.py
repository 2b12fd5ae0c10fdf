"""The picture of a search: the distance of every plan over the number of images that it was judged by."""

from __future__ import annotations

from collections.abc import Sequence

from fpdm.drawing.plots import Curve, Curves, Panel
from fpdm.sampling.plan import Plan
from fpdm.tune.halving import Round

FOUND, UNTUNED = "found", "untuned"


def search_plot(rounds: Sequence[Round], untuned: Plan, found: Plan) -> Curves:
    """Return the plot of a search: a line for each plan, which ends where the plan was dropped.

    Args:
        rounds: The rounds of the search.
        untuned: The plan of the model without tuning.
        found: The plan that was found.
    """
    lines: dict[Plan, list[tuple[int, float]]] = {}
    for one in rounds:
        for trial in one.trials:
            lines.setdefault(trial.plan, []).append((one.images, 1e3 * trial.distance))
    samplers = list(dict.fromkeys(plan.sampler for plan in lines))
    special = {untuned: UNTUNED, found: FOUND}  # in this order: both may be the same
    ordered = sorted(lines, key=lambda plan: (plan in special, plan == found))  # those on top come last
    curves = [
        Curve(special.get(plan, plan.sampler), [images for images, _ in lines[plan]], [y for _, y in lines[plan]])
        for plan in ordered
    ]
    names = [*samplers, UNTUNED, FOUND]
    labels = [*samplers, f"untuned: {untuned.in_words()}", f"found: {found.in_words()}"]
    panel = Panel("images that a plan is judged by", curves, title=f"{found.budget:,} block passes")
    return Curves([panel], names, labels, "kernel distance × 1000 to the validation images", logarithmic=True)
