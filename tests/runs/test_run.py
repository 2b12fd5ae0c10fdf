"""A run whose latents are decoded when it is sampled."""

from __future__ import annotations

import json
import shutil
import warnings
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

from fpdm.autoencoder.config import AutoencoderConfig
from fpdm.autoencoder.vae import VAE
from fpdm.data.config import DataConfig
from fpdm.data.images import to_uint8
from fpdm.diffusion.schedule import Schedule
from fpdm.errors import CheckpointError
from fpdm.models.config import TransformerConfig
from fpdm.models.transformer import DiffusionTransformer
from fpdm.runs import checkpoint
from fpdm.runs.data_card import DataCard
from fpdm.runs.layout import EMA
from fpdm.runs.pipeline_files import PipelineConfig, id2label, write_pipeline
from fpdm.runs.progress import Progress
from fpdm.runs.recipe import Recipe
from fpdm.runs.run import Run, load_run, read_classes
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


def _saved(out: Path, step: int, **changes: object) -> Path:
    """Write a checkpoint of a tiny model as a training would, with some of it replaced behind right hashes."""
    run = latent_run(AutoencoderConfig())
    weights = {name: value.detach() for name, value in run.model.named_parameters()}
    weights |= {name: value for name, value in changes.items() if isinstance(value, torch.Tensor)}
    files = {"recipe.json": changes.get("recipe", run.recipe.to_json())}
    state = {**asdict(Progress(step=step)), **changes.get("state", {})}  # type: ignore[dict-item]
    return checkpoint.save(out / "checkpoints", step, {EMA: weights}, files, state)  # type: ignore[dict-item]


def _unlist(path: Path) -> None:
    manifest = json.loads((path / "manifest.json").read_text())
    del manifest["files"][EMA]
    (path / "manifest.json").write_text(json.dumps(manifest))


WRONG: dict[str, tuple[dict[str, object], str]] = {
    "complex": ({"head.linear.bias": torch.zeros(16, dtype=torch.complex64)}, "complex64; expected floating-point"),
    "float8": ({"head.linear.bias": torch.zeros(16).to(torch.float8_e5m2)}, "float8_e5m2; expected floating-point"),
    "another shape": ({"head.linear.bias": torch.zeros(3)}, "does not fit this model"),
    "recipe is no JSON": ({"recipe": "["}, r"recipe\.json is not JSON"),
    "deep recipe": ({"recipe": "[" * 50_000}, r"recipe\.json is not JSON of ours"),
    "another recipe": ({"recipe": '{"name": 3}'}, "name is 3; expected a text"),
    "progress is a text": ({"state": {"macs": "many"}}, "macs is 'many'; expected a number"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_checkpoint_of_wrong_content_behind_right_hashes_is_skipped(tmp_path: Path, name: str) -> None:
    changes, says = WRONG[name]
    _saved(tmp_path, 1)
    _saved(tmp_path, 2, **changes)
    with pytest.warns(RuntimeWarning, match=f"{says}.*; trying the one before"):
        assert load_run(tmp_path).progress.step == 1
    shutil.rmtree(tmp_path / "checkpoints" / "step-000000001")
    with pytest.raises(CheckpointError, match=rf"the only checkpoint in .* cannot be used: .*{says}") as error:
        load_run(tmp_path)
    assert "\n" not in str(error.value)


def test_averaged_weights_that_no_manifest_lists_are_not_read(tmp_path: Path) -> None:
    _saved(tmp_path, 1)
    _unlist(_saved(tmp_path, 2))
    with pytest.warns(RuntimeWarning, match="its manifest does not list ema/.*; trying the one before"):
        assert load_run(tmp_path).progress.step == 1


@pytest.mark.parametrize(
    ("dropout", "classes", "guidance", "warned"),
    [(0.0, 3, 4.0, True), (0.0, 3, 0.5, True), (0.0, 3, 1.0, False), (0.1, 3, 4.0, False)],
)
def test_guidance_by_a_class_that_was_never_trained_is_warned_of(
    dropout: float, classes: int, guidance: float, warned: bool
) -> None:
    recipe = replace(latent_run(AutoencoderConfig()).recipe, model=replace(SHAPE, in_channels=1, num_classes=classes))
    recipe = replace(recipe, train=replace(recipe.train, label_dropout=dropout))
    run = Run(recipe, DiffusionTransformer.from_shape(recipe.model).eval(), Progress(), "weights")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        run.sampler(replace(PLAN, guidance=guidance))
    assert any("was trained with label dropout 0" in str(one.message) for one in said) == warned


def test_classes_are_those_of_the_data_card_the_data_set_or_the_index(tmp_path: Path) -> None:
    run = latent_run(AutoencoderConfig())
    ten = replace(run.recipe, model=replace(SHAPE, num_classes=10))
    assert read_classes(None, ten) == (tuple("0123456789"), ())  # whose names are their numbers
    assert read_classes(None, replace(ten, data=DataConfig("fashion-mnist"))).numbers == tuple(range(10))
    assert read_classes(None, run.recipe) == ((), ())  # of ten digits it has three
    assert read_classes(None, replace(ten, model=replace(SHAPE, num_classes=0))) == ((), ())
    unknown = replace(run.recipe, data=DataConfig("unknown"))
    assert read_classes(tmp_path, unknown) == ((), ())
    for names, numbers in (("abc", (0, 1, 2)), ("a31", ())):
        write_pipeline(tmp_path, PipelineConfig("x", Schedule(), id2label(names), AutoencoderConfig()))
        assert read_classes(tmp_path, unknown) == (tuple(names), numbers)
    card = DataCard("folder", 1, 0, 0, ("cat", "dog", "owl"), "", (3, 5, 6))
    (tmp_path / "data.json").write_text(json.dumps(asdict(card)))
    assert read_classes(tmp_path, unknown) == (("cat", "dog", "owl"), (3, 5, 6))
    (tmp_path / "data.json").write_text("{")
    with pytest.raises(ValueError, match=r"data\.json"):
        read_classes(tmp_path, unknown)
