"""An allocation of one's own: all iterations that a budget leaves go to the cleanest steps."""

import sys
from pathlib import Path

from fpdm import Plan, load_run
from fpdm.sampling.allocation import Allocation
from fpdm.sampling.images import ImageSampler


class LastSteps(Allocation):
    def table(self, budget, steps):  # iterations of each step, noisiest first
        least, total = budget.allowed.start, budget.iterations(steps)
        first = (steps - 5) * [least]
        return (*first, *((total - sum(first) + k) // 5 for k in range(5)))


run = load_run(Path(sys.argv[1]))
sampler = ImageSampler(run.model, run.recipe.schedule, Plan(budget=140, iterations=5), allocation=LastSteps())
images = sampler(indices=range(10), labels=10 * [0])
print(f"iterations by step: {sampler.table}; {images.passes:g} block passes for each of {len(images.pixels)} images")
