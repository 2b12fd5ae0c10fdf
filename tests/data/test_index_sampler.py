"""The order of a run against whole epochs written out."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fpdm.data.index_sampler import indices


def written_out(n, seed, epochs):
    """Epochs one after the other; the stream of orders is number 3."""
    order = []
    for epoch in range(epochs):
        counter, key = np.array([0, 0, 0, epoch], np.uint64), np.array([seed, 3], np.uint64)
        words = np.random.Philox(key=key, counter=counter).random_raw(n).tolist()
        order += sorted(range(n), key=words.__getitem__)
    return order


@given(n=st.integers(1, 12), seed=st.integers(0, 2**64 - 1), first=st.integers(0, 40), count=st.integers(0, 40))
def test_any_window_is_that_part_of_the_epochs(n, seed, first, count):
    expected = written_out(n, seed, -(-(first + count) // n))[first : first + count]
    assert indices(n, seed=seed, first=first, count=count) == expected


def test_the_order_is_the_same_with_every_version_of_numpy():
    """A resumed run continues in this order, whatever was installed when it began."""
    assert indices(10, seed=0, first=0, count=20) == [5, 4, 6, 7, 9, 0, 1, 2, 3, 8, 9, 6, 3, 5, 2, 4, 1, 0, 8, 7]
    assert indices(7, seed=2**64 - 1, first=5, count=9) == [5, 4, 4, 2, 5, 6, 0, 3, 1]


def test_every_epoch_sees_every_image_once_and_in_another_order():
    n, epochs = 50, 20
    orders = [indices(n, seed=0, first=epoch * n, count=n) for epoch in range(epochs)]
    assert all(sorted(order) == list(range(n)) for order in orders)
    assert len({tuple(order) for order in orders}) == epochs
    assert indices(n, seed=1, first=0, count=n) != orders[0]


@pytest.mark.parametrize("changes", [{"n": 0}, {"first": -1}, {"count": -1}])
def test_nonsense_is_named(changes):
    (name, value), arguments = *changes.items(), {"n": 3, "first": 0, "count": 1} | changes
    with pytest.raises(ValueError, match=f"{name} is {value}"):
        indices(arguments.pop("n"), seed=0, **arguments)
