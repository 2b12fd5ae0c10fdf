"""Settings of an inspection, and the folder that it writes."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge, Le

from fpdm.configuration import NoiseSeed, configuration
from fpdm.outputs import OutputFolder

RECORD = "inspect.json"
INSPECTED = OutputFolder("inspect", RECORD, frozenset({"run", "plan", "settings"}))


@configuration
class InspectionSettings:
    """Extent of an inspection.

    Attributes:
        num_images: Number of images to sample and to look at.
        seed: Seed of the noise and the labels. Image i is that of fpdm sample with this seed.
        rows: Number of timesteps to show, evenly spread over the steps.
        columns: Number of iterations of a solve to show, whatever the plan spends; of a DiT, number of depths.
    """

    num_images: Annotated[int, Ge(1), Le(64), "1 to 64 images"] = 8
    seed: NoiseSeed = 0
    rows: Annotated[int, Ge(2), Le(50), "2 to 50 timesteps"] = 10
    columns: Annotated[int, Ge(2), Le(100), "2 to 100 iterations"] = 12
