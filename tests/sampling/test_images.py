"""Drawing in batches: every image once, in order, and costs that add up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch

from fpdm.sampling.images import Images, ImageSampler, SamplingCost, draw_images


def test_draws_every_image_with_its_label_and_adds_up_the_costs() -> None:
    asked: list[tuple[list[int], list[int]]] = []

    def sampler(indices: Sequence[int], labels: Sequence[int]) -> Images:
        asked.append(([*indices], [*labels]))
        pixels = torch.tensor(indices, dtype=torch.uint8).view(-1, 1, 1, 1)  # (B, 1, 1, 1)
        return Images(pixels, passes=10.0 + len(indices), macs=100.0, seconds=0.5)

    kept: list[tuple[list[int], list[int]]] = []
    cost = draw_images(
        cast(ImageSampler, sampler),
        [4, 5, 7, 8, 9],
        [0, 1, 2, 0, 1],
        batch_size=2,
        keep=lambda indices, pixels: kept.append(([*indices], pixels.flatten().tolist())),
    )
    assert asked == [([4, 5], [0, 1]), ([7, 8], [2, 0]), ([9], [1])]
    assert kept == [([4, 5], [4, 5]), ([7, 8], [7, 8]), ([9], [9])]
    assert cost == SamplingCost(images=5, passes=2 * 12 + 2 * 12 + 11, macs=500, seconds=1.5)


def test_no_images_cost_nothing() -> None:
    def never(*_: object) -> Images:
        raise AssertionError

    assert draw_images(cast(ImageSampler, never), [], [], batch_size=2, keep=never) == SamplingCost(0, 0, 0, 0)
