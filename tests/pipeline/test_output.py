"""What a pipeline returns."""

from __future__ import annotations

import numpy as np
import torch

from fpdm.fixed_point.solve import Solution
from fpdm.pipeline.output import StepLog, as_output
from fpdm.sampling.sampler import SampleState


def state(index: int, iters: int | torch.Tensor, residual: torch.Tensor | None) -> SampleState:
    nothing = torch.zeros(1)
    return SampleState(index, 2, 10.0 - index, nothing, nothing, Solution(nothing, iters, residual), 0)


def test_iterations_and_residuals_are_by_step_and_image() -> None:
    log = StepLog(2)
    log.add(state(0, 5, torch.tensor([0.1, 0.2])))
    log.add(state(1, torch.tensor([3, 4]), torch.tensor([0.3, 0.4])))
    assert log.timesteps == [10.0, 9.0]
    assert log.iterations.tolist() == [[5.0, 5.0], [3.0, 4.0]]
    np.testing.assert_allclose(log.residuals, [[0.1, 0.2], [0.3, 0.4]], rtol=1e-6)


def test_of_two_evaluations_the_mean_iterations_and_the_larger_residual_are_taken() -> None:
    """With guidance, the first half of the batch has the class and the second does not."""
    log = StepLog(2)
    log.add(state(0, torch.tensor([3, 4, 5, 8]), torch.tensor([0.1, 0.9, 0.2, 0.3])))
    assert log.iterations.tolist() == [[4.0, 6.0]]
    np.testing.assert_allclose(log.residuals, [[0.2, 0.9]], rtol=1e-6)


def test_a_stack_of_blocks_has_no_residuals() -> None:
    log = StepLog(3)
    log.add(state(0, 4, None))
    assert log.iterations.tolist() == [[4.0, 4.0, 4.0]]
    assert log.residuals is None


def test_each_kind_of_image() -> None:
    images = torch.tensor([[-1.0, 0.0], [0.5, 1.3]]).view(1, 1, 2, 2)
    assert as_output(images, "latent") is images
    expected = np.array([[0.0, 0.5], [0.75, 1.0]])
    np.testing.assert_array_equal(as_output(images, "pt").numpy(), expected[None, None])
    np.testing.assert_array_equal(as_output(images, "np"), expected[None, ..., None])
    (grey,) = as_output(images, "pil")
    assert grey.mode == "L"
    assert np.asarray(grey).tolist() == [[0, 128], [191, 255]]
    (colour,) = as_output(images.repeat(1, 3, 1, 1), "pil")
    assert colour.mode == "RGB"
    assert np.asarray(colour)[1, 0].tolist() == [191, 191, 191]
