import functools
from dataclasses import replace

import numpy as np
import pytest
import torch

from fpdm.diffusion.objective import Objective
from fpdm.diffusion.schedule import Schedule
from fpdm.fixed_point.solve import Stop, solve
from fpdm.fixed_point.solvers import Picard
from fpdm.models.config import as_dit
from fpdm.models.transformer import DiffusionTransformer
from fpdm.randomness import Stream, generator
from fpdm.training.validation import LossAt, evaluate_loss, middles
from tests.training.small import SHAPE, data


def network(shape: object = SHAPE) -> DiffusionTransformer:
    """Away from its start, where it predicts 0."""
    model, rng = DiffusionTransformer.from_shape(shape), torch.Generator().manual_seed(0)
    for p in model.parameters():
        p.data += 0.2 * torch.randn(p.shape, generator=rng)
    return model


def evaluated(model: DiffusionTransformer, **options: object) -> list[LossAt]:
    return evaluate_loss(model, Schedule(), Objective(), data(), **options)


def test_it_is_the_mean_of_the_loss_written_out_image_by_image() -> None:
    model, images = network(), data()
    solver = functools.partial(solve, solver=Picard(), stop=Stop(4))
    for t, loss in evaluated(model, timesteps=[0, 310, 999], iterations=4, seed=5):
        abar, losses = Schedule().alphas_bar[t + 1].float(), []
        for i in range(12):
            noise = generator(5, Stream.VALIDATION, i, t).standard_normal((1, 4, 4), dtype=np.float32)
            x0, eps = images.images[i : i + 1] / 127.5 - 1, torch.from_numpy(noise)[None]  # (1, 1, 4, 4)
            x, v = abar.sqrt() * x0 + (1 - abar).sqrt() * eps, abar.sqrt() * eps - (1 - abar).sqrt() * x0
            with torch.no_grad():
                found = model(x, torch.tensor([t]), images.labels[i : i + 1], solver=solver).value  # (1, 1, 4, 4)
            losses.append((found - v).square().mean().item())
        assert loss == pytest.approx(np.mean(losses), rel=1e-5)


def test_batch_size_and_the_process_s_own_randomness_change_nothing() -> None:
    model = network()
    torch.manual_seed(1)
    before = torch.get_rng_state()
    whole = evaluated(model, images=7)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    for (t, loss), (same_t, same) in zip(whole, evaluated(model, images=7, batch_size=3), strict=True):
        assert (same_t, same) == (t, pytest.approx(loss, rel=1e-5))


def test_another_seed_chooses_other_images_and_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    model = network()
    assert evaluated(model, images=3, seed=0) == evaluated(model, images=3, seed=0)
    # With all images it is the noise that differs, and without noise the images.
    assert evaluated(model, images=99, seed=0) != evaluated(model, images=99, seed=1)
    silent = torch.zeros(3, 1, 4, 4)
    monkeypatch.setattr("fpdm.training.validation.normal", lambda *_, **__: silent)
    assert evaluated(model, images=3, seed=0) != evaluated(model, images=3, seed=1)


def test_iterations_count_where_the_middle_leaves_a_choice() -> None:
    fpdm, dit = network(), network(as_dit(SHAPE, 3))
    assert evaluated(fpdm, iterations=1) != evaluated(fpdm, iterations=2)
    assert evaluated(dit, iterations=1) == evaluated(dit, iterations=2)
    three = DiffusionTransformer.from_shape(SHAPE, iterations=3)  # the mean of its training
    three.load_state_dict(fpdm.state_dict())
    assert evaluated(three) == evaluated(fpdm, iterations=3)


def test_labels_are_the_images_own_where_the_model_knows_classes() -> None:
    model, images = network(), data()
    others = replace(images, labels=(images.labels + 1) % 3)
    rows = [evaluate_loss(model, Schedule(), Objective(), given) for given in (images, others)]
    assert rows[0] != rows[1]
    blind = network(replace(SHAPE, num_classes=0))
    rows = [evaluate_loss(blind, Schedule(), Objective(), given) for given in (images, others)]
    assert rows[0] == rows[1]


def test_learned_variance_is_in_the_loss() -> None:
    model = network(replace(SHAPE, learn_variance=True))
    assert all(np.isfinite(loss) for _, loss in evaluated(model))


def test_middles_stand_for_all_timesteps() -> None:
    assert middles(Schedule()) == [50, 150, 250, 350, 450, 550, 650, 750, 850, 950]
    assert middles(Schedule(num_timesteps=3)) == [0, 1, 2]
    assert middles(Schedule(num_timesteps=100), 1) == [50]


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"timesteps": [1000]}, "timestep 1000 is out of range; expected 0 to 999"),
        ({"timesteps": [-1]}, "timestep -1"),
        ({"images": 0}, "images is 0"),
        ({"iterations": 0}, "iterations is 0"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_bad_value_is_named(wrong: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        evaluated(network(), **wrong)
