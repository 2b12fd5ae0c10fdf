"""Which examples are mirrored."""

from __future__ import annotations

import numpy as np

from fpdm.data.dataset import mirrored


def generators(count: int) -> list[np.random.Generator]:
    return [np.random.default_rng(seed) for seed in range(count)]


def test_about_half_of_the_examples_are_mirrored_each_by_its_own_generator() -> None:
    found = mirrored(generators(2000), 2000, flip=True)
    assert (found.dtype, found.shape) == (bool, (2000,))
    assert abs(found.mean() - 0.5) < 4 * 0.5 / 2000**0.5
    assert (mirrored(generators(7)[::-1], 7, flip=True) == found[:7][::-1]).all()


def test_a_generator_gives_one_draw_for_a_mirrored_example_and_none_otherwise() -> None:
    for flip in (True, False):
        draws, fresh = generators(5), generators(5)
        found = mirrored(draws, 5, flip=flip)
        if flip:
            assert found.tolist() == [one.random() < 0.5 for one in fresh]
        assert [one.random() for one in draws] == [one.random() for one in fresh]
        assert found.any() == flip


def test_means_are_not_mirrored() -> None:
    assert not mirrored(None, 50, flip=True).any()
