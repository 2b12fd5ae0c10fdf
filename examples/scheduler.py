"""Let a scheduler of diffusers make the steps: `python examples/scheduler.py quickstart/fpdm`."""

import sys

from diffusers import UniPCMultistepScheduler

from fpdm import FPDMPipeline

pipe = FPDMPipeline.from_pretrained(sys.argv[1])
pipe.scheduler = UniPCMultistepScheduler.from_config(pipe.scheduler.config)
result = pipe(num_images=1, num_inference_steps=10, iterations=5, seed=0)
result.images[0].save("scheduler.png")
print(f"{type(pipe.scheduler).__name__}: {len(result.timesteps)} evaluations, {result.passes:g} block passes")
