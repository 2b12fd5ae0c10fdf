"""Compare the plan that `fpdm tune` found with a full grid of plans, on fresh seeds and the test images.

Usage: python grid.py MODEL DATA BUDGET OUT.json [SECONDS]. The grid has every combination of some samplers, iterations,
reuse, timestep grids and allocations that draws different images (no self-guidance), each judged against the validation
images, with another seed than the search. Then its best plans, the tuned plan and the untuned one are judged by other
seeds against the test images. SECONDS limits the grid, whose order is random.
"""

import contextlib
import json
import sys
import time
from dataclasses import replace
from pathlib import Path

from fpdm.compare.inputs import NamedRun
from fpdm.data.loading import load_images
from fpdm.evaluation.evaluator import Evaluator
from fpdm.evaluation.kid import kernel_interval
from fpdm.runs.pretrained import load_model
from fpdm.sampling.defaults import SamplingDefaults
from fpdm.tune.images import PlanImages
from fpdm.tune.settings import TuneSettings
from fpdm.tune.space import Space
from fpdm.tune.tune import data_of

GRID_IMAGES, BEST, FRESH, FRESH_IMAGES = 60, 3, (101, 102), 400

model, data, budget, out = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), Path(sys.argv[4])
seconds = float(sys.argv[5]) if len(sys.argv) > 5 else float("inf")
settings = TuneSettings(
    budgets=(budget,),
    samplers=("ddim", "second-order", "unipc"),
    iterations=(1, 2, 3, 5),
    grids=("trailing", "phi^1.5"),
    self_guidance=(0.0,),
)
run = load_model(model)
dataset = load_images(data_of(run, data))
evaluator = Evaluator(dataset.splits)
space = Space(run, settings.choices, settings.samplers, budget=budget, guidance=1.0, seed=7)
plans = space.plans()
print(len(plans), "plans", flush=True)


def images(seed: int) -> PlanImages:
    """Return what judges plans by images of a seed."""
    folder = model / "grid" / "rows"
    named = NamedRun(run.recipe.name, model, run)
    return PlanImages(
        folder, named, evaluator, dataset.sha256, seed=seed, batch_size=250, step=lambda _: contextlib.nullcontext()
    )


judge, begun, ranked = images(50), time.time(), []
for plan in plans:
    if time.time() - begun > seconds:
        break
    ranked.append((judge.distance(plan, GRID_IMAGES), plan))
ranked.sort(key=lambda one: one[0])
print(len(ranked), "judged", flush=True)
tuned = run.sampling.at(budget).plan
untuned = SamplingDefaults(run.sampling.plan).complete({"budget": budget}, run.model.cost(), 1000).plan
shown = {"tuned": tuned, "untuned": untuned, **{f"grid {k + 1}": plan for k, (_, plan) in enumerate(ranked[:BEST])}}
if tuned.self_guidance:
    shown["tuned without self-guidance"] = replace(tuned, self_guidance=0.0, weak_depth=None)
rows = []
for name, plan in shown.items():
    found = []
    for seed in FRESH:
        features = images(seed).features(plan, FRESH_IMAGES)
        interval = kernel_interval(features, evaluator.real.test, seed=0)
        found.append({"seed": seed, "kernel_distance": interval.value, "low": interval.low, "high": interval.high})
    mean = sum(one["kernel_distance"] for one in found) / len(found)
    rows.append({"name": name, "plan": plan.values(), "words": plan.in_words(), "mean": mean, "seeds": found})
    print(f"{name:30} {1e3 * mean:8.2f}e-3  {plan.in_words()}", flush=True)
    out.write_text(
        json.dumps(
            {
                "model": run.recipe.name, "weights": run.weights, "budget": budget,
                "features": evaluator.extractor.name,
                "grid_plans": len(plans), "grid_judged": len(ranked), "grid_images": GRID_IMAGES,
                "fresh_images": FRESH_IMAGES, "rows": rows,
                "grid": [{"validation_kernel_distance": value, "plan": plan.in_words()} for value, plan in ranked[:20]],
            },
            indent=1,
        )
    )  # fmt: skip
