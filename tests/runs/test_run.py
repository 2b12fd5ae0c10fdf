"""A run whose latents are decoded when it is sampled."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from fpdm.autoencoder.config import AutoencoderConfig
from fpdm.autoencoder.vae import VAE
from fpdm.data.config import DataConfig
from fpdm.data.images import to_uint8
from fpdm.diffusion.schedule import Schedule
from fpdm.models.config import TransformerConfig
from fpdm.models.transformer import DiffusionTransformer
from fpdm.runs.progress import Progress
from fpdm.runs.recipe import Recipe
from fpdm.runs.run import Run, load_run
from fpdm.runs.train_config import TrainConfig
from fpdm.sampling.images import ImageSampler
from fpdm.sampling.plan import Plan
from tests.autoencoders import tiny

SHAPE = TransformerConfig(
    image_size=4, in_channels=4, patch_size=2, width=16, heads=2, num_classes=3, learn_variance=False
)
PLAN = Plan(8, 2)


class Listening(VAE):
    """Remembers what it decodes."""

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        self.decoded = latents
        return super().decode(latents)


def latent_run(autoencoder: AutoencoderConfig, *, moved: str = "") -> Run:
    recipe = Recipe("latents", DataConfig("digits"), SHAPE, TrainConfig(), Schedule(), autoencoder)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = DiffusionTransformer.from_shape(SHAPE)
        for parameter in model.parameters():  # the head begins at 0, and all samples would be noise
            torch.nn.init.normal_(parameter, std=0.1)
    return Run(recipe, model.eval(), Progress(), "weights", moved)


def test_samples_of_a_latent_run_are_its_latents_decoded(tmp_path: Path) -> None:
    network = tiny(tmp_path, scaling_factor=2.0, pad=1)
    run = latent_run(AutoencoderConfig(str(tmp_path)))
    listening = Listening(network, run.autoencoder.config)
    device = torch.device("cpu")
    ImageSampler(run.model, run.recipe.schedule, PLAN, device=device, autoencoder=listening)([0, 1, 2], [0, 1, 2])
    made = run.sampler(PLAN, device=device)([0, 1, 2], [0, 1, 2])
    latents = listening.decoded  # (3, 4, 4, 4)
    assert latents.shape == (3, 4, 4, 4)
    assert latents.abs().max() > 1.0  # not clipped as pixels are
    with torch.no_grad():
        images = network.decode(latents / 2.0).sample[:, :, 1:-1, 1:-1]  # (3, 1, 6, 6)
    assert torch.equal(made.pixels, to_uint8(images))
    assert run.image_shape == (1, 6, 6)


def test_the_compute_of_decoding_is_counted(tmp_path: Path) -> None:
    tiny(tmp_path)
    run = latent_run(AutoencoderConfig(str(tmp_path)))
    made = run.sampler(PLAN)([0], [0])
    cost = run.model.cost()
    steps = len(run.sampler(PLAN).timesteps)
    network = run.autoencoder
    assert isinstance(network, VAE)
    counted = 0

    def count(layer: torch.nn.Conv2d, _: object, out: torch.Tensor) -> None:
        nonlocal counted
        counted += out.shape[2] * out.shape[3] * layer.weight.numel()

    hooks = [
        layer.register_forward_hook(count) for layer in network.model.modules() if isinstance(layer, torch.nn.Conv2d)
    ]
    network.decode(torch.zeros(1, 4, 4, 4))
    assert hooks
    assert made.macs == pytest.approx(steps * cost.evaluation_macs(PLAN.iterations) + counted)


def test_latents_without_an_autoencoder_are_refused() -> None:
    run = latent_run(AutoencoderConfig())
    with pytest.raises(ValueError, match="makes 4 channels; expected"):
        run.sampler(PLAN)


def test_an_autoencoder_that_moved_is_found_where_it_is_said_to_be(tmp_path: Path) -> None:
    tiny(tmp_path / "before")
    config = AutoencoderConfig(str(tmp_path / "before")).load().config
    (tmp_path / "before").rename(tmp_path / "after")
    with pytest.raises(ValueError, match="if it has moved, say where it is with --autoencoder"):
        _ = latent_run(config).autoencoder
    assert latent_run(config, moved=str(tmp_path / "after")).autoencoder.sha256 == config.sha256


def test_an_autoencoder_of_other_latents_is_refused(tmp_path: Path) -> None:
    tiny(tmp_path, latent_channels=3)
    with pytest.raises(ValueError, match="has latents of 3 channels; the model makes 4"):
        latent_run(AutoencoderConfig(str(tmp_path))).sampler(PLAN)


RECORDED = sorted(Path(__file__).parents[2].glob("results/**/checkpoints"))


@pytest.mark.parametrize("checkpoints", RECORDED, ids=lambda path: str(path.parent.relative_to(path.parents[3])))
def test_recorded_runs_load(checkpoints: Path) -> None:
    run = load_run(checkpoints.parent)
    assert run.progress.step > 0
    assert all(torch.isfinite(parameter).all() for parameter in run.model.parameters())
