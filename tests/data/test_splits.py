"""Splits: of each class alike, sharing nothing, and the same for ever."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_digits

from fpdm.data.images import ImageSet
from fpdm.data.sources.named import load
from fpdm.data.splits import split_folder, stratified


def counted(counts, num_classes):
    """Images whose pixels are their places, the classes in turns."""
    labels = torch.tensor([label for turn in range(max(counts)) for label, n in enumerate(counts) if turn < n])
    places = torch.arange(len(labels))
    images = torch.stack([places // 256, places % 256], dim=1).to(torch.uint8)[:, None, None]  # (N, 1, 1, 2)
    return ImageSet("x", images, labels, num_classes)


def places(data):
    values = data.images[:, 0, 0].int()  # (N, 2)
    return (values[:, 0] * 256 + values[:, 1]).tolist()


@given(st.lists(st.integers(3, 60), min_size=1, max_size=6))
def test_each_class_is_split_alike_and_no_part_goes_without(counts):
    data = counted(counts, len(counts) if len(counts) > 1 else 0)
    splits = split_folder(data)
    parts = [splits.train, splits.validation, splits.test]
    assert sorted(place for part in parts for place in places(part)) == list(range(len(data)))
    for part, share in zip(parts, (0.60, 0.15, 0.25), strict=True):
        assert part.num_classes == data.num_classes
        assert torch.equal(part.labels, data.labels[places(part)])
        of_class = part.labels.bincount(minlength=len(counts)).numpy()  # (K,)
        assert of_class.min() >= 1
        assert np.abs(of_class - share * np.array(counts)).max() <= 1.0


def test_the_digits_are_split_by_the_same_rule():
    original = load_digits()
    images = np.floor(original.images * 255 / 16 + 0.5).astype(np.uint8)[:, None]  # (N, 1, H, W)
    splits = split_folder(ImageSet("all", torch.from_numpy(images), torch.from_numpy(original.target), 10))
    for name in ("train", "validation", "test"):
        assert torch.equal(getattr(splits, name).images, load("digits", name).images)


@pytest.mark.parametrize(
    ("counts", "num_classes", "message"),
    [
        ([5, 2], 2, r"^'x' has fewer than 3 images of 1 class: 1 \(2\); add images, .* --no-conditional$"),
        ([5], 2, r"'x' has fewer than 3 images of 1 class: 1 \(0\)"),
        ([1, 3, 1, 2, 2], 5, r"of 4 classes: 0 \(1\), 2 \(1\), 3 \(2\) and 1 more; add"),
        ([1], 0, "'x' has 1 image; expected 3 or more, one each for train, validation, test; add images$"),
    ],
)
def test_a_split_says_how_many_images_it_needs(counts, num_classes, message):
    with pytest.raises(ValueError, match=message):
        split_folder(counted(counts, num_classes))


def test_a_split_is_a_function_of_the_labels_alone():
    labels = np.arange(40) % 3
    found = stratified(labels, "train")
    assert found == sorted(found) == stratified(labels.copy(), "train")
    assert stratified(np.array([], int), "train") == []
    # A class is divided alike whoever else is there.
    alone = stratified(np.zeros(14, int), "train")
    assert [place // 3 for place in found if labels[place] == 0] == alone


def test_places_that_are_given_are_taken():
    data = counted([4, 4], 2)
    splits = split_folder(data, {"train": [7, 0], "validation": [1], "test": [2, 3]})
    assert [places(part) for part in (splits.train, splits.validation, splits.test)] == [[7, 0], [1], [2, 3]]
    with pytest.raises(ValueError, match="'x' has no image to train on of 1 class: 1; add images"):
        split_folder(data, {"train": [0, 2], "validation": [1], "test": [3]})
    with pytest.raises(ValueError, match="no image of the validation split of 'x' can be read; add images"):
        split_folder(data, {"train": [0, 1], "validation": [], "test": [3]})


@pytest.mark.parametrize("counts", [[1] * 20 + [9], [1] * 7, [2, 1, 1], [1, 1, 1]])
def test_small_classes_are_no_matter_where_none_is_learned(counts):
    data = counted(counts, len(counts))
    splits = split_folder(data, conditional=False)
    parts = [splits.train, splits.validation, splits.test]
    assert sorted(place for part in parts for place in places(part)) == list(range(len(data)))
    assert all(len(part) for part in parts)
    assert len(splits.train) >= len(data) // 2
    assert len(splits.validation) >= 0.075 * len(data)
    assert len(splits.test) >= 0.125 * len(data)
    with pytest.raises(ValueError, match=r"fewer than 3 images .* ant \(1\)|fewer than 3 images .* ant \(2\)"):
        split_folder(data, names=["ant", *map(str, range(1, len(counts)))])
