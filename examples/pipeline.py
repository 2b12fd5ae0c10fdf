"""Sample a trained model as users of diffusers do: `python examples/pipeline.py quickstart/fpdm`."""

import sys

from fpdm import FPDMPipeline

pipe = FPDMPipeline.from_pretrained(sys.argv[1])  # a run, a saved pipeline, or a name on the hub
result = pipe(num_images=10, budget=140, iterations=5, seed=0)
for number, image in enumerate(result.images):
    image.save(f"pipeline-{number}.png")
print(f"{len(result.timesteps)} steps, {result.passes:g} block passes")
print(f"relative change in the last iteration, by step: {result.residuals.mean(1).round(4)}")
