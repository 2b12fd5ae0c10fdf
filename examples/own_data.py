"""Train on images from a source of one's own; here a function draws discs and squares.

Images that do not fit in memory are a subclass of `fpdm.data.dataset.Examples`, of which `ImageSet` is one.
"""

from pathlib import Path

import torch

from fpdm import FPDMPipeline
from fpdm.data.config import UNKNOWN, DataConfig
from fpdm.data.images import ImageSet
from fpdm.runs.recipes import make_recipe
from fpdm.training.trainer import Trainer

y, x = torch.meshgrid(torch.arange(8) - 3.5, torch.arange(8) - 3.5, indexing="ij")  # (8, 8) each
radius, shape = torch.rand(500, 1, 1, 1) * 3 + 0.8, torch.arange(500) % 2  # disc or square
distance = torch.where(shape.view(-1, 1, 1, 1) == 0, (x**2 + y**2).sqrt(), x.abs().maximum(y.abs()))  # (500, 1, 8, 8)
images = ImageSet("shapes", ((radius - distance).clamp(0, 1) * 255).to(torch.uint8), shape, num_classes=2)

recipe = make_recipe("digits", "fpdm", data=DataConfig(UNKNOWN), steps=200, batch_size=64).fitted(images)
Trainer(recipe, images, Path("shapes")).train()  # a run like every other, which is resumed if it is there
FPDMPipeline.from_pretrained("shapes")(1, budget=140).images[0].save("square.png")
