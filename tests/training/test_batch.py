import math

import torch

from fpdm.diffusion.schedule import Schedule
from fpdm.training.batch import Batch, make_batch
from tests.training.small import data


def test_data_does_not_depend_on_how_it_is_cut_into_batches() -> None:
    def batch(first: int, count: int) -> Batch:
        return make_batch(
            data(), seed=3, first=first, count=count, schedule=Schedule(), num_classes=3, label_dropout=0.3
        )

    whole = batch(10, 32)
    for sizes in ([1] * 32, [3] * 10 + [2], [8] * 4):
        first, parts = 10, []
        for size in sizes:
            parts.append(batch(first, size))
            first += size
        for field, together in zip(Batch._fields, whole, strict=True):
            assert torch.equal(torch.cat([getattr(part, field) for part in parts]), together), field


def test_data_has_the_distributions_it_should() -> None:
    n = 6000
    batch = make_batch(data(), seed=0, first=0, count=n, schedule=Schedule(), num_classes=3, label_dropout=0.1)
    assert abs((batch.y == 3).double().mean().item() - 0.1) < 4 * math.sqrt(0.1 * 0.9 / n)
    assert abs(batch.t.double().mean().item() - 499.5) < 4 * 1000 / math.sqrt(12 * n)
    assert batch.t.min() == 0
    assert batch.t.max() == 999
    assert abs(batch.eps.double().mean().item()) < 4 / math.sqrt(16 * n)
    assert abs(batch.eps.double().std().item() - 1.0) < 0.02


def test_mirroring_turns_half_of_the_images_and_nothing_else() -> None:
    plain, flipped = (
        make_batch(data(), seed=0, first=0, count=400, schedule=Schedule(), num_classes=3, label_dropout=0.1, flip=flip)
        for flip in (False, True)
    )
    for name in ("eps", "t", "y"):
        assert torch.equal(getattr(plain, name), getattr(flipped, name)), name
    turned = (flipped.x0 == plain.x0.flip(-1)).flatten(1).all(1)  # (B,)
    left = (flipped.x0 == plain.x0).flatten(1).all(1)  # (B,)
    assert bool((turned | left).all())
    assert abs(turned.double().mean().item() - 0.5) < 4 * math.sqrt(0.25 / 400)
