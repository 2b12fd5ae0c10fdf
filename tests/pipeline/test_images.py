"""Which images a call makes, and what is said if its arguments disagree."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch

from fpdm.pipeline.images import choose_images, draw_seeds, find_label
from tests.pipelines import CLASSES

NAMES = tuple(CLASSES.values())


def chosen(
    class_labels: Any = None, generator: Any = None, num_images: Any = None, indices: Any = None
) -> tuple[list[int], list[int]]:
    return choose_images(class_labels, generator, num_images, indices, classes=NAMES, num_classes=3)


def generators(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


@pytest.mark.parametrize(
    ("given", "indices", "labels"),
    [
        ({}, [0], [0]),
        ({"num_images": 4}, [0, 1, 2, 3], [0, 1, 2, 0]),
        ({"indices": [7, 2]}, [7, 2], [1, 2]),
        ({"indices": range(2, 4)}, [2, 3], [2, 0]),
        ({"indices": np.array([5])}, [5], [2]),
        ({"class_labels": "dog"}, [0], [1]),
        ({"class_labels": "dog", "num_images": 2}, [0, 1], [1, 1]),
        ({"class_labels": ["cat", 1, "domestic cat", "5", "cat, domestic cat"]}, [0, 1, 2, 3, 4], [0, 1, 0, 2, 0]),
        ({"class_labels": 2}, [0], [2]),
        ({"class_labels": torch.tensor(2)}, [0], [2]),
        ({"class_labels": torch.tensor([2, 0])}, [0, 1], [2, 0]),
        ({"class_labels": np.int64(1), "indices": [9]}, [9], [1]),
        ({"class_labels": (1,), "indices": iter([9])}, [9], [1]),
        ({"generator": generators(0)[0]}, [0], [0]),
        # Each of several generators gives the image 0 of its seed; the classes are still taken in turn.
        ({"generator": generators(5, 6)}, [0, 0], [0, 1]),
        ({"generator": generators(5, 6), "class_labels": "dog"}, [0, 0], [1, 1]),
    ],
)
def test_images_are_told_apart_by_indices_and_labels(given: Any, indices: list[int], labels: list[int]) -> None:
    assert chosen(**given) == (indices, labels)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"class_labels": [0, 1], "num_images": 3}, "class_labels says 2, num_images says 3"),
        ({"generator": generators(1, 2), "num_images": 3}, "generator says 2, num_images says 3"),
        ({"class_labels": []}, "the number of images is 0; expected at least 1"),
        ({"num_images": 0}, "the number of images is 0"),
        ({"num_images": -1}, "the number of images is -1"),
        ({"num_images": 1.5}, "num_images has 1.5; expected integers"),
        ({"generator": []}, "the number of images is 0"),
        ({"generator": generators(1), "indices": [3]}, "expected one generator or a seed"),
        ({"indices": ["a"]}, "indices has 'a'; expected integers"),
        ({"class_labels": "bird"}, "there is no class 'bird'"),
        ({"class_labels": "dogg"}, "did you mean dog?"),
        ({"class_labels": ""}, "there is no class ''"),
        ({"class_labels": 3}, "there is no class '3'; expected a number from 0 to 2"),
        ({"class_labels": -1}, "there is no class '-1'"),
        ({"class_labels": 1.0}, "class_labels has 1.0; expected names or integers"),
        ({"class_labels": True}, "class_labels has True"),
        ({"class_labels": [None]}, "class_labels has None"),
        ({"class_labels": torch.zeros(2, 1)}, "class_labels has the shape (2, 1)"),
        ({"class_labels": torch.zeros(2)}, "class_labels has 0.0"),
    ],
)
def test_what_is_wrong_or_contradicts_itself_is_refused(given: Any, says: str) -> None:
    with pytest.raises(ValueError, match=re.escape(says)):
        chosen(**given)


def test_a_number_is_that_of_a_class_even_if_another_has_it_as_its_name() -> None:
    classes = ("1", "0")
    assert find_label(1, classes, 2) == 1
    assert find_label("1", classes, 2) == 0


def test_a_model_without_classes_takes_none() -> None:
    assert choose_images(None, None, 3, None, classes=(), num_classes=0) == ([0, 1, 2], [0, 0, 0])
    with pytest.raises(ValueError, match="the model was trained without classes"):
        choose_images(0, None, None, None, classes=(), num_classes=0)


def test_a_fresh_generator_gives_its_seed_and_then_other_ones() -> None:
    (first,) = generators(41)
    seeds = [draw_seeds(first, None, 2) for _ in range(3)]
    assert seeds[0] == [41, 41]
    assert len({seed for (seed, _) in seeds}) == 3
    (again,) = generators(41)
    assert [draw_seeds(again, None, 2) for _ in range(3)] == seeds
    # One that drew something before is no longer at its seed.
    (used,) = generators(41)
    torch.randn(1, generator=used)
    assert draw_seeds(used, None, 1) != [41]
    assert draw_seeds(generators(5, 6), None, 2) == [5, 6]


def test_without_a_generator_the_seed_is_drawn_from_pytorch() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        drawn = [draw_seeds(None, None, 1) for _ in range(2)]
        torch.manual_seed(3)
        assert [draw_seeds(None, None, 1) for _ in range(2)] == drawn
    assert drawn[0] != drawn[1]


def test_a_seed_takes_the_place_of_a_generator() -> None:
    assert draw_seeds(None, 7, 2) == draw_seeds(None, np.int64(7), 2) == [7, 7]  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="seed and generator are both given"):
        draw_seeds(generators(1)[0], 7, 1)
    with pytest.raises(ValueError, match=r"seed has 0\.5; expected integers"):
        draw_seeds(None, 0.5, 1)  # type: ignore[arg-type]


@pytest.mark.parametrize("generator", [0, [0], np.random.default_rng(0), "cpu", [generators(0)[0], None]])
def test_what_is_no_generator_is_refused(generator: Any) -> None:
    for refused in (lambda: chosen(generator=generator), lambda: draw_seeds(generator, None, 1)):
        with pytest.raises(ValueError, match=r"generator is .*; expected a torch.Generator, or a list.*seed=0"):
            refused()
