import numpy as np
import torch

from fpdm.autoencoder.interface import Pixels
from fpdm.data.labels import balanced_labels
from fpdm.diffusion.schedule import Schedule
from fpdm.models.config import as_dit
from fpdm.models.transformer import DiffusionTransformer
from fpdm.sampling.images import ImageSampler
from fpdm.sampling.plan import Plan
from fpdm.training.samples import few_samples, side_by_side
from tests.training.small import SHAPE

CPU = torch.device("cpu")


def test_samples_are_those_of_an_image_sampler_whatever_the_middle() -> None:
    for shape, passes in ((SHAPE, 7), (as_dit(SHAPE, 5), 5)):  # 5 iterations between 2 outer blocks; 5 blocks
        torch.manual_seed(0)
        model = DiffusionTransformer.from_shape(shape)
        found = few_samples(model, Schedule(), Pixels(), Plan(140), seed=3, device=CPU)
        plan = Plan(20 * passes, 5 if shape is SHAPE else 3)
        made = ImageSampler(model, Schedule(), plan, seed=3, device=CPU)(range(16), balanced_labels(range(16), 3))
        assert found.shape == (16, 1, 4, 4)
        assert torch.equal(found, made.pixels)


def test_the_averaged_weights_are_on_the_left() -> None:
    black, white = torch.zeros(16, 1, 64, 64, dtype=torch.uint8), torch.full((16, 1, 64, 64), 255, dtype=torch.uint8)
    picture = side_by_side(black, white)  # (h, w, 3)
    width = 4 * 64 + 3 * 2
    assert picture.shape == (16 + width, 2 * width + 8, 3)
    assert np.all(picture[16:80, :64] == 0)
    assert np.all(picture[16:, -width:] == 255)
    assert np.any(picture[:16] < 255)  # the names
