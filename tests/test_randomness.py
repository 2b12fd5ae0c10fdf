"""Random numbers that depend on who they are for, and on nothing else."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kstest

from fpdm.randomness import Stream, generator, normal

SHAPE = (2, 4, 4)


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 2**64 - 1),
    stream=st.sampled_from(Stream),
    step=st.integers(0, 2**40),
    indices=st.lists(st.integers(0, 2**40), min_size=1, max_size=12),
    size=st.integers(1, 5),
)
def test_batches_and_order_make_no_difference(seed, stream, step, indices, size):
    together = normal(SHAPE, seed=seed, stream=stream, indices=indices, step=step)  # (B, C, H, W)
    assert together.shape == (len(indices), *SHAPE)
    assert together.dtype == torch.float32
    batches = [indices[i : i + size] for i in range(0, len(indices), size)]
    apart = [normal(SHAPE, seed=seed, stream=stream, indices=batch, step=step) for batch in batches]
    assert torch.equal(torch.cat(apart), together)
    backwards = normal(SHAPE, seed=seed, stream=stream, indices=indices[::-1], step=step)  # (B, C, H, W)
    assert torch.equal(backwards.flip(0), together)


def test_each_sample_may_have_a_seed_of_its_own():
    seeds, indices = [3, 2**64 - 1, 3], [0, 5, 7]
    together = normal(SHAPE, seed=seeds, stream=Stream.SAMPLE, indices=indices, step=2)  # (B, C, H, W)
    for noise, seed, index in zip(together, seeds, indices, strict=True):
        alone = normal(SHAPE, seed=seed, stream=Stream.SAMPLE, indices=[index], step=2)  # (1, C, H, W)
        assert torch.equal(noise, alone[0])
    with pytest.raises(ValueError, match="zip"):
        normal(SHAPE, seed=seeds, stream=Stream.SAMPLE, indices=[0])


def test_every_seed_stream_index_and_step_has_numbers_of_its_own():
    """No two sequences share a number, so none is another one shifted."""
    numbers, whose = [], list(itertools.product((0, 1, 2**63, 2**64 - 1), Stream, (0, 1, 2, 2**40), (0, 1, 2, 2**40)))
    for seed, stream, index, step in whose:
        numbers.append(generator(seed, stream, index, step).integers(2**63, size=500))
    assert len(np.unique(np.concatenate(numbers))) == 500 * len(whose)


def test_moments():
    noise = normal((1000,), seed=3, stream=Stream.SAMPLE, indices=range(200)).numpy()  # (B, N)
    assert abs(noise.mean()) < 4 / np.sqrt(noise.size)
    assert noise.var() == pytest.approx(1.0, abs=4 * np.sqrt(2 / noise.size))
    assert kstest(noise.ravel(), "norm").pvalue > 1e-3
    correlation = np.corrcoef(noise)[~np.eye(200, dtype=bool)]  # (B * (B - 1),): between samples
    assert correlation.std() == pytest.approx(1 / np.sqrt(1000), rel=0.03)
    assert np.abs(correlation).max() < 0.18
    # One place in all samples: what a batch sees.
    assert np.abs(noise.mean(0)).max() < 5.5 / np.sqrt(200)


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_refuses_seeds(seed):
    with pytest.raises(ValueError, match=rf"seed is {seed}; expected an integer from 0 to 2\^64 - 1"):
        normal(SHAPE, seed=seed, stream=Stream.TRAIN, indices=[0])
