"""`FPDMPipeline`: images, schedulers, callbacks, precision, and what is saved and loaded."""

from __future__ import annotations

import functools
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate.hooks import AlignDevicesHook, add_hook_to_module
from diffusers import DDPMScheduler, DiffusionPipeline, PNDMScheduler, UniPCMultistepScheduler
from diffusers.callbacks import PipelineCallback
from PIL import Image

from fpdm import FPDMPipeline
from fpdm.data.sources.named import load
from fpdm.diffusion.schedule import Schedule
from fpdm.errors import CheckpointError
from fpdm.fixed_point.solve import Stop, solve
from fpdm.fixed_point.solvers import Picard
from fpdm.randomness import Stream, normal
from fpdm.runs.layout import WEIGHTS
from fpdm.runs.pipeline_files import read_network
from fpdm.runs.pretrained import load_model
from fpdm.runs.recipes import make_recipe
from fpdm.runs.run import load_run
from fpdm.runs.samples import sample_to_folder
from fpdm.sampling.defaults import SamplingDefaults, TunedPlan
from fpdm.sampling.plan import Plan
from fpdm.training.trainer import Trainer
from tests import autoencoders, pipelines

BRIEF: dict[str, Any] = {"budget": 28, "iterations": 5}
ROUNDING = 1e-5  # of sums in another order, which batches of another size may take


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    shape = replace(pipelines.SHAPE, num_classes=10)
    recipe = replace(make_recipe("digits", "fpdm", steps=2, batch_size=4), model=shape)
    Trainer(recipe, load("digits", "train"), out).train()
    return out


def loaded(name: str | Path, **options: Any) -> FPDMPipeline:
    pipe = FPDMPipeline.from_pretrained(name, **options)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def images(pipe: FPDMPipeline, *args: Any, **options: Any) -> np.ndarray:
    """(B, H, W, C)"""
    return pipe(*args, **{**BRIEF, "seed": 4, "output_type": "np", **options}).images  # type: ignore[union-attr]


# Images


@pytest.mark.parametrize("plan", [{}, {"guidance": 2.5}, {"sampler": "ddpm", "allocation": "increasing"}])
def test_an_image_is_that_of_fpdm_sample_alone_and_in_any_batch(
    run: Path, tmp_path: Path, plan: dict[str, Any]
) -> None:
    sample_to_folder(load_run(run), Plan(**BRIEF, **plan), 5, tmp_path / "out", seed=4, batch_size=2)
    files = [np.asarray(Image.open(tmp_path / "out" / f"{index:06d}.png"), dtype=int) for index in range(5)]
    pipe, settings = loaded(run), {**BRIEF, **plan}
    settings["guidance_scale"] = settings.pop("guidance", None)
    generator = torch.Generator().manual_seed(4)
    for batch in (pipe(seed=4, num_images=5, **settings), pipe(generator=generator, num_images=5, **settings)):
        np.testing.assert_allclose(np.stack(batch.images), np.stack(files), atol=1)
    for index in (3, 4):
        (alone,) = pipe(seed=4, indices=[index], **settings).images
        np.testing.assert_allclose(np.asarray(alone), files[index], atol=1)


def test_each_of_several_generators_gives_the_first_image_of_its_seed() -> None:
    pipe = pipelines.pixels()
    generators = [torch.Generator().manual_seed(seed) for seed in (4, 9)]
    both = pipe(["dog", 0], generator=generators, output_type="np", **BRIEF)
    assert (both.seeds, both.indices) == ([4, 9], [0, 0])
    for image, label, seed in zip(both.images, ("dog", "cat"), (4, 9), strict=True):
        np.testing.assert_allclose(images(pipe, label, seed=seed)[0], image, atol=ROUNDING)
    # The same generators go on to other images.
    assert not np.array_equal(pipe(["dog", 0], generator=generators, output_type="np", **BRIEF).images, both.images)


def test_a_class_by_its_name_is_the_class_by_its_number() -> None:
    pipe = pipelines.pixels()
    assert pipe.labels == {"cat, domestic cat": 0, "cat": 0, "domestic cat": 0, "dog": 1, "5": 2}
    assert [*pipe.labels.values()] == [0, 0, 0, 1, 2]
    assert pipe.get_label_ids(["dog", "cat"]) == [1, 0]
    assert pipe.get_label_ids("5") == [2]
    both = images(pipe, ["domestic cat", 1])
    np.testing.assert_allclose(both[0], images(pipe, 0)[0], atol=ROUNDING)
    assert not np.array_equal(images(pipe, "dog"), images(pipe, "cat"))


def test_every_argument_of_the_plan_is_heard() -> None:
    pipe = pipelines.pixels()
    plain = images(pipe)
    for other in (
        *({"reuse": False}, {"allocation": "adaptive"}, {"allocation": "decreasing"}, {"grid": "phi^2"}),
        *({"sampler": "unipc"}, {"guidance_scale": 3.0}, {"solver": "anderson"}, {"iterations": 2}, {"budget": 56}),
    ):
        assert not np.array_equal(images(pipe, **other), plain), other
    np.testing.assert_array_equal(images(pipe, guidance_scale=1.0), plain)  # and not that of a call before
    with pytest.raises(TypeError, match=r"did you mean budget\?"):
        pipe(bugdet=3)


def test_steps_passes_iterations_and_residuals_are_reported() -> None:
    pipe = pipelines.pixels()
    result = pipe([0, 1], num_inference_steps=4, iterations=3, reuse=False, seed=4)
    assert result.timesteps == (999, 749, 499, 249)
    assert result.passes == 4 * (2 + 3)
    assert result.iterations.tolist() == [[3.0, 3.0]] * 4
    assert result.residuals.shape == (4, 2)
    # The first step again, by hand: the last of three iterations, relative to its result.
    x = normal((1, 8, 8), seed=4, stream=Stream.SAMPLE, indices=[0, 1])  # (2, 1, 8, 8)

    def after(iterations: int) -> torch.Tensor:
        solver = functools.partial(solve, solver=Picard(), stop=Stop(iterations))
        with torch.no_grad():
            return pipe.transformer(x, torch.full((2,), 999), torch.tensor([0, 1]), solver=solver).solution.z.flatten(1)

    change = (after(3) - after(2)).norm(dim=1) / after(3).norm(dim=1)  # (2,)
    np.testing.assert_allclose(result.residuals[0], change.numpy(), rtol=1e-3)

    adaptive = pipe(num_images=3, budget=60, iterations=6, allocation="adaptive", seed=4)
    assert adaptive.passes == pytest.approx(2 * len(adaptive.timesteps) + adaptive.iterations.sum(0).mean())
    assert len({*adaptive.iterations.ravel()}) > 1
    dit = pipelines.pixels(dit=True)(seed=4, num_inference_steps=3)
    assert (dit.residuals, dit.passes) == (None, 12.0)
    assert dit.iterations.tolist() == [[2.0]] * 3  # a middle of two blocks


def test_each_type_of_output_is_of_the_same_images(tmp_path: Path) -> None:
    for pipe in (pipelines.pixels(), pipelines.latents(tmp_path / "vae")):
        settings = {**BRIEF, "seed": 4, "num_images": 2}
        pil, array, tensor, latent = (
            pipe(**settings, output_type=kind).images for kind in ("pil", "np", "pt", "latent")
        )
        np.testing.assert_array_equal(np.stack(pil), (array[..., 0] * 255).round())
        np.testing.assert_array_equal(tensor.permute(0, 2, 3, 1).numpy(), array)
        if pipe.vae is None:
            decoded = latent
        else:
            decoded = pipe.vae.decode(latent / pipe.vae.config.scaling_factor).sample.detach()  # (2, 1, 8, 8)
        np.testing.assert_allclose((decoded / 2 + 0.5).clamp(0, 1).numpy(), tensor.numpy(), atol=1e-6)
        (alone,) = pipe(**settings, output_type="pt", return_dict=False)
        np.testing.assert_array_equal(alone.numpy(), tensor.numpy())
    with pytest.raises(ValueError, match="output_type is 'jpg'; expected one of pil, np, pt, latent"):
        pipe(output_type="jpg")  # type: ignore[arg-type]


# Schedulers


def test_a_scheduler_of_diffusers_makes_the_steps_by_assignment() -> None:
    """Against a loop written as diffusers' own are."""
    pipe = pipelines.pixels()
    pipe.scheduler = UniPCMultistepScheduler.from_config(pipe.scheduler.config)
    result = pipe([0, 1], num_inference_steps=6, iterations=3, reuse=False, seed=4, output_type="latent")
    scheduler = UniPCMultistepScheduler.from_config(pipe.scheduler.config)
    scheduler.set_timesteps(6)
    x = normal((1, 8, 8), seed=4, stream=Stream.SAMPLE, indices=[0, 1])  # (2, 1, 8, 8)
    solver = functools.partial(solve, solver=Picard(), stop=Stop(3))
    for t in scheduler.timesteps:
        with torch.no_grad():
            v = pipe.transformer(x, t.expand(2), torch.tensor([0, 1]), solver=solver).value  # (2, 1, 8, 8)
        # Ours clips the estimate of x0, as the network of pixels was trained for; this scheduler does not.
        s = Schedule().signal(t.view(1), torch.float32)
        v = (s.a * x - (s.a * x - s.s * v).clamp(-1, 1)) / s.s  # (2, 1, 8, 8)
        x = scheduler.step(v, t, x).prev_sample  # (2, 1, 8, 8)
    assert result.timesteps == tuple(scheduler.timesteps.tolist())
    np.testing.assert_allclose(result.images.numpy(), x.numpy(), atol=1e-4)
    np.testing.assert_allclose(images(pipe, indices=[1]), images(pipe, num_images=2)[1:], atol=ROUNDING)


def test_a_scheduler_that_stands_for_ours_is_ours() -> None:
    pipe = pipelines.pixels()
    by_name = images(pipe, sampler="ddpm")
    pipe.scheduler = DDPMScheduler.from_config(pipe.scheduler.config)
    np.testing.assert_array_equal(images(pipe), by_name)


def test_a_scheduler_that_does_not_fit_is_refused() -> None:
    pipe = pipelines.pixels()
    ours = pipe.scheduler.config
    for scheduler, says in (
        (PNDMScheduler.from_config(ours), "does not end in pure noise"),
        (UniPCMultistepScheduler(), "does not end in pure noise"),
        (UniPCMultistepScheduler.from_config(ours, prediction_type="epsilon"), "takes the prediction 'epsilon'"),
    ):
        pipe.scheduler = scheduler
        with pytest.raises(ValueError, match=says):
            pipe()
    pipe.scheduler = UniPCMultistepScheduler.from_config(ours)
    with pytest.raises(ValueError, match="grid is 'phi"):
        pipe(grid="phi^2")


# Callbacks


def test_a_callback_sees_every_step_and_may_replace_the_latents() -> None:
    pipe, seen = pipelines.pixels(), []

    def look(given: FPDMPipeline, index: int, timestep: float, tensors: dict[str, torch.Tensor]) -> dict[str, Any]:
        assert given is pipe
        assert given.num_timesteps == 4
        seen.append((index, timestep, *tensors))
        return {}

    names = ("latents", "denoised")
    same = images(pipe, callback_on_step_end=look, callback_on_step_end_tensor_inputs=names)
    np.testing.assert_array_equal(same, images(pipe))
    assert seen == [(index, t, *names) for index, t in enumerate((999, 749, 499, 249))]

    def paint(_: Any, index: int, __: float, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {"latents": torch.full_like(tensors["latents"], 0.5)} if index == 3 else tensors

    assert (images(pipe, callback_on_step_end=paint) == 0.75).all()
    with pytest.raises(ValueError, match=r"no tensor 'prompt'.*expected latents and denoised"):
        pipe(callback_on_step_end=paint, callback_on_step_end_tensor_inputs=["prompt"])
    np.testing.assert_array_equal(  # a name by itself is that of one tensor
        images(pipe, callback_on_step_end=look, callback_on_step_end_tensor_inputs="latents"), same
    )


@pytest.mark.parametrize(
    ("callback", "says"),
    [
        (3, "callback_on_step_end is 3; expected a function"),
        (lambda *_: torch.zeros(1), "callback_on_step_end returned a Tensor; expected a dictionary"),
        (lambda *_: {"latents": torch.zeros(1)}, r"returned latents of \(1,\); expected \(1, 1, 8, 8\)"),
        (lambda *_: {"latents": None}, "returned latents of NoneType; expected"),
    ],
)
def test_a_callback_that_is_none_or_returns_something_else_is_refused(callback: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        images(pipelines.pixels(), callback_on_step_end=callback)


def test_numbers_may_be_those_of_numpy_and_pytorch() -> None:
    pipe = pipelines.pixels()
    as_numbers = images(pipe, 1, guidance_scale=3.0, budget=28, iterations=2)
    given = {"guidance_scale": np.float32(3.0), "budget": np.int64(28), "iterations": torch.tensor(2)}
    np.testing.assert_array_equal(images(pipe, np.int64(1), **given), as_numbers)
    assert len(pipe(seed=0, num_inference_steps=np.int64(3)).timesteps) == 3  # type: ignore[union-attr]


def test_a_callback_may_end_the_sampling() -> None:
    pipe = pipelines.pixels()

    class End(PipelineCallback):
        @property
        def tensor_inputs(self) -> list[str]:
            return ["denoised"]

        def callback_fn(self, pipeline: Any, step_index: int, timesteps: Any, callback_kwargs: Any) -> Any:
            assert [*callback_kwargs] == ["denoised"]
            pipeline._interrupt = step_index == 1
            return callback_kwargs

    result = pipe(seed=4, callback_on_step_end=End(cutoff_step_ratio=1.0), **BRIEF)
    assert result.timesteps == (999, 749)
    assert result.passes == 14
    assert pipe(seed=4, **BRIEF).timesteps == (999, 749, 499, 249)


# Precision, devices and compilation


def test_a_change_of_precision_warns_of_nothing(caplog: pytest.LogCaptureFixture) -> None:
    pipe = pipelines.pixels()
    assert pipe.to(torch.bfloat16) is pipe
    assert pipe.to("cpu", torch.float64).dtype == torch.float64
    assert not caplog.records


def test_half_precision(run: Path) -> None:
    exact = images(loaded(run))
    for pipe in (loaded(run).to(torch.bfloat16), loaded(run, torch_dtype=torch.bfloat16)):
        assert pipe.dtype == pipe.transformer.dtype == torch.bfloat16
        rounded = images(pipe)
        assert rounded.dtype == np.float32
        assert 0 < np.abs(rounded - exact).max() < 0.1


def test_compiled_networks_sample_save_and_load(tmp_path: Path) -> None:
    pipe = pipelines.latents(tmp_path / "vae")
    exact = images(pipe)
    pipe.transformer = torch.compile(pipe.transformer, backend="eager")
    pipe.vae = torch.compile(pipe.vae, backend="eager")
    np.testing.assert_allclose(images(pipe), exact, atol=1e-5)
    pipe.save_pretrained(tmp_path / "saved")
    np.testing.assert_allclose(images(loaded(tmp_path / "saved")), exact, atol=1e-5)


def test_networks_may_be_elsewhere_while_they_do_not_run(tmp_path: Path) -> None:
    """As with `enable_model_cpu_offload`: here they run on the CPU and are on no device at all at other times."""
    exact = images(pipelines.latents(tmp_path / "vae"))
    pipe = pipelines.latents(tmp_path / "vae")
    for network in (pipe.transformer, pipe.vae):
        add_hook_to_module(network, AlignDevicesHook(execution_device="cpu", offload=True, place_submodules=True))
    assert pipe.transformer.device.type == pipe.vae.device.type == "meta"
    np.testing.assert_allclose(images(pipe), exact, atol=1e-5)  # such networks are not packed
    assert pipe.transformer.device.type == "meta"
    with pytest.raises(ValueError, match="expected enable_model_cpu_offload"):
        pipe.enable_sequential_cpu_offload()


# What is saved and loaded


def test_a_saved_pipeline_is_the_same(tmp_path: Path) -> None:
    before = pipelines.pixels()
    before.scheduler = UniPCMultistepScheduler.from_config(before.scheduler.config)
    before.save_pretrained(tmp_path / "saved")
    after = loaded(tmp_path / "saved")
    assert type(after.scheduler) is UniPCMultistepScheduler
    assert after.labels == before.labels
    names = ("schedule", "id2label", "autoencoder", "name")
    assert {name: after.config[name] for name in names} == {name: before.config[name] for name in names}
    np.testing.assert_array_equal(images(after), images(before))
    assert not after.transformer.training
    after.save_pretrained(tmp_path / "saved")  # over the files it came from
    np.testing.assert_array_equal(images(loaded(tmp_path / "saved")), images(before))


def test_weights_in_other_files_are_refused_with_what_to_do(tmp_path: Path) -> None:
    pipe = pipelines.pixels()
    with pytest.raises(ValueError, match="max_shard_size is 1KB; expected None"):
        pipe.save_pretrained(tmp_path / "shards", max_shard_size="1KB")
    assert not (tmp_path / "shards").exists()
    pipe.save_pretrained(tmp_path / "half", variant="fp16")
    for read in (loaded, load_model):
        with pytest.raises(ValueError, match=r"has only the variant 'fp16'.*variant='fp16'"):
            read(tmp_path / "half")
    np.testing.assert_array_equal(images(loaded(tmp_path / "half", variant="fp16")), images(pipe))
    pipe.transformer.save_pretrained(tmp_path / "network", max_shard_size="5KB")
    with pytest.raises(ValueError, match="in several files; save it again without max_shard_size"):
        read_network(tmp_path / "network")
    with pytest.raises(ValueError, match="dtype is 'float16'; expected one of PyTorch's"):
        loaded(tmp_path / "half", variant="fp16", dtype="float16")


@pytest.mark.parametrize("pad", [0, 1])
def test_a_pipeline_of_latents_is_saved_with_its_autoencoder(tmp_path: Path, pad: int) -> None:
    pipe = pipelines.latents(tmp_path / "vae", pad=pad)
    assert pipe().images[0].size == (8 - 2 * pad,) * 2
    pipe.save_pretrained(tmp_path / "saved")
    shutil.rmtree(tmp_path / "vae")
    moved = (tmp_path / "saved").rename(tmp_path / "moved")
    index = json.loads((moved / "model_index.json").read_text())
    assert index["autoencoder"]["source"] == "vae"
    assert str(tmp_path) not in (moved / "model_index.json").read_text()
    after = loaded(moved)
    np.testing.assert_array_equal(images(after), images(pipe))
    after.save_pretrained(moved)
    np.testing.assert_array_equal(images(loaded(moved)), images(pipe))
    half = loaded(moved, dtype=torch.bfloat16)
    assert half.vae.dtype == torch.bfloat16


def test_what_is_left_out_is_as_the_model_has_it_stored(tmp_path: Path) -> None:
    pipe: Any = pipelines.pixels()
    assert pipe(num_images=1, seed=0).plan == Plan(140, 5)
    pipe.sampling = SamplingDefaults(Plan(35, 2, reuse=False), (TunedPlan(Plan(56, 2, "unipc"), 0.1, 100),))
    pipe.save_pretrained(tmp_path / "saved")
    again = loaded(tmp_path / "saved")
    assert again.sampling == pipe.sampling
    output = again(num_images=1, seed=0)
    assert output.plan == Plan(35, 2, "unipc")
    assert output.plan_origin == "tuned for 56 block passes, the nearest budget that was"
    assert again(num_images=1, seed=0, budget=56, sampler="ddim").plan == Plan(56, 2)
    by_steps = again(num_images=1, seed=0, num_inference_steps=3)
    assert (by_steps.plan, by_steps.plan_origin) == (Plan(12, 2, reuse=False), "")


def test_an_autoencoder_that_has_moved_or_does_not_fit(tmp_path: Path) -> None:
    pipe = pipelines.latents(tmp_path / "vae")
    with pytest.raises(ValueError, match=r"nowhere does not exist.*if it has moved, load it and give it as vae"):
        FPDMPipeline(pipe.transformer, pipe.scheduler, autoencoder={"source": str(tmp_path / "nowhere")})
    other = autoencoders.tiny(tmp_path / "other", latent_channels=3)
    with pytest.raises(ValueError, match="has latents of 3 channels; the model makes 4"):
        FPDMPipeline(pipe.transformer, pipe.scheduler, other)


def test_a_run_is_a_pipeline(run: Path, tmp_path: Path) -> None:
    pipe = loaded(run)
    assert pipe.labels == {digit: int(digit) for digit in "0123456789"}
    weights = load_run(run).model.state_dict()
    for name, value in pipe.transformer.state_dict().items():
        assert torch.equal(value, weights[name])
    # Its newest checkpoint is taken, verified by its hash; the files beside it are for diffusers.
    copy = Path(shutil.copytree(run, tmp_path / "copy"))
    shutil.rmtree(copy / "transformer")
    np.testing.assert_array_equal(images(loaded(copy)), images(pipe))
    np.testing.assert_array_equal(
        images(loaded(run, scheduler=DDPMScheduler.from_config(pipe.scheduler.config))), images(pipe, sampler="ddpm")
    )
    with pytest.raises(ValueError, match="device_map is not possible with the folder of a run"):
        loaded(run, device_map="balanced")
    # Its weights are a checkpoint's, so nothing else may be written there.
    with pytest.raises(ValueError, match="is the folder of a run"):
        pipe.save_pretrained(run)
    pipe.save_pretrained(tmp_path / "saved")
    np.testing.assert_array_equal(images(loaded(tmp_path / "saved")), images(pipe))


def test_the_folder_of_a_run_without_its_checkpoints_is_a_pipeline(run: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "copy"))
    shutil.rmtree(copy / "checkpoints")
    np.testing.assert_array_equal(images(loaded(copy)), images(loaded(run)))


SCRIPT = """
import sys
from diffusers import DiffusionPipeline
pipe = DiffusionPipeline.from_pretrained(sys.argv[1], trust_remote_code=True)
pipe.set_progress_bar_config(disable=True)
from fpdm import FPDMPipeline
assert type(pipe) is FPDMPipeline, type(pipe)
pipe("3", budget=28, iterations=5, seed=4).images[0].save(sys.argv[2])
pipe.save_pretrained(sys.argv[3])
"""


def test_diffusers_loads_it_by_the_custom_code_of_its_folder(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    pipe = loaded(run)
    (expected,) = pipe("3", seed=4, **BRIEF).images
    pipe.sampling = SamplingDefaults(Plan(35, 2), (TunedPlan(Plan(56, 2), 0.1, 100),))
    pipe.save_pretrained(tmp_path / "saved")
    for number, folder in enumerate((run, tmp_path / "saved")):
        words = [folder, tmp_path / f"{number}.png", tmp_path / f"again-{number}"]
        subprocess.run([sys.executable, "-c", SCRIPT, *words], check=True, timeout=120)
        assert np.array_equal(np.asarray(Image.open(tmp_path / f"{number}.png")), np.asarray(expected))
        assert (tmp_path / f"again-{number}" / "sampling.json").read_text() == (folder / "sampling.json").read_text()
        assert np.array_equal(
            np.asarray(loaded(tmp_path / f"again-{number}")("3", seed=4, **BRIEF).images[0]), expected
        )


def test_no_code_of_a_folder_is_run_unless_it_is_trusted(tmp_path: Path) -> None:
    pipe = pipelines.pixels()
    pipe.save_pretrained(tmp_path / "saved")
    for path in (tmp_path / "saved").rglob("*.py"):
        path.write_text("raise SystemExit('code was run')")
    np.testing.assert_array_equal(images(loaded(tmp_path / "saved")), images(pipe))
    with pytest.raises(ValueError, match="trust_remote_code"):
        DiffusionPipeline.from_pretrained(tmp_path / "saved")


def test_what_is_damaged_or_foreign_is_refused(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    saved = tmp_path / "saved"
    pipelines.pixels().save_pretrained(saved)
    weights = load_file(saved / "transformer" / WEIGHTS)
    for change, says in (
        ({"head.linear.bias": None}, "head.linear.bias is missing"),
        ({"other": torch.zeros(1)}, "other is unknown"),
        ({"head.linear.bias": torch.full((16,), torch.nan)}, "head.linear.bias holds nan or inf"),
    ):
        changed = {name: value for name, value in {**weights, **change}.items() if value is not None}
        save_file(changed, saved / "transformer" / WEIGHTS, {"format": "pt"})
        with pytest.raises(CheckpointError, match=says):
            loaded(saved)
    index = json.loads((saved / "model_index.json").read_text())
    (saved / "model_index.json").write_text(json.dumps({**index, "_class_name": "DiTPipeline"}))
    with pytest.raises(ValueError, match="saved is a DiTPipeline; expected a FPDMPipeline"):
        loaded(saved)
    with pytest.raises(ValueError, match="there is no model 'nothing'"):
        loaded("nothing")
    with pytest.raises(ValueError, match="safe_serialization is False; expected True"):
        pipelines.pixels().save_pretrained(tmp_path / "unsafe", safe_serialization=False)
    assert not (tmp_path / "unsafe").exists()


def test_a_card_of_the_users_own_is_kept(tmp_path: Path) -> None:
    pipe, card = pipelines.pixels(), tmp_path / "README.md"
    pipe.save_pretrained(tmp_path)
    assert "# tiny" in card.read_text()
    pipe.register_to_config(name="second")
    pipe.save_pretrained(tmp_path)
    assert "# second" in card.read_text()
    card.write_text("My own words.")
    pipe.save_pretrained(tmp_path)
    assert card.read_text() == "My own words."


def test_the_sampler_of_a_call_says_how_it_will_spend_its_budget() -> None:
    pipe = pipelines.pixels()
    sampler = pipe.sampler(2.0, budget=61, iterations=3, allocation="increasing")
    result = pipe(0, 2.0, budget=61, iterations=3, allocation="increasing", seed=0)
    assert (sampler.timesteps, sampler.plan.guidance) == (result.timesteps, 2.0)
    assert [*sampler.table] == result.iterations[:, 0].tolist()
    assert sampler.plan.budget - sampler.unspent == result.passes
