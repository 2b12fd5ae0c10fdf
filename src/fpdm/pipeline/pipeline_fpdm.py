"""`FPDMPipeline`: a model as users of diffusers know them."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

import torch
from diffusers.callbacks import MultiPipelineCallbacks, PipelineCallback
from diffusers.models import AutoencoderKL
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from torch import Tensor
from typing_extensions import Self

from fpdm.autoencoder.config import OWN, AutoencoderConfig
from fpdm.autoencoder.interface import Autoencoder, Pixels
from fpdm.autoencoder.vae import VAE
from fpdm.configuration import from_values
from fpdm.data.labels import labels_by_name
from fpdm.diffusion.schedule import Schedule
from fpdm.models.transformer import DiffusionTransformer
from fpdm.pipeline.images import choose_images, draw_seeds, find_label
from fpdm.pipeline.output import OUTPUT_TYPES, FPDMPipelineOutput, OutputType, StepLog, as_output
from fpdm.pipeline.plan import choose_plan, plain
from fpdm.pipeline.upload import upload
from fpdm.runs import layout
from fpdm.runs.model_card import is_generated, model_card
from fpdm.runs.pipeline_files import (
    NETWORK,
    PipelineConfig,
    class_names,
    id2label,
    read_index,
    read_network,
    write_pipeline,
)
from fpdm.runs.pretrained import find_model, is_run, recipe_without_data
from fpdm.runs.recipe import Recipe
from fpdm.runs.run import Run, load_run
from fpdm.runs.sampling_file import read_sampling, write_sampling
from fpdm.sampling.defaults import SamplingDefaults
from fpdm.sampling.images import ImageSampler, sample_shape
from fpdm.sampling.schedulers import OWN_SAMPLERS, default_scheduler

_HUB_OPTIONS = ("cache_dir", "force_download", "local_files_only", "revision", "token")
_NO_MATTER = ("custom_pipeline", "custom_revision", "low_cpu_mem_usage", "mirror", "proxies", "trust_remote_code")
_NO_MATTER += ("use_safetensors", *_HUB_OPTIONS)  # of a folder of ours, which has one kind of files


class FPDMPipeline(DiffusionPipeline):
    """Pipeline that generates images with a fixed-point diffusion model, or with the DiT that it is compared with.

    Everything else is inherited from `diffusers.DiffusionPipeline`: `to`, offloading, progress bars, `components`.

    Args:
        transformer: The network.
        scheduler: The default, a `DDIMScheduler`, stands for our own steps over any timestep grid, chosen by `sampler`
            and `grid`, and a `DDPMScheduler` for our own ancestral ones. Any other scheduler of diffusers makes the
            steps itself.
        vae: Autoencoder of the latents; None for a network of pixels, or to load the one that `autoencoder` names.
        id2label: Names of the classes by their numbers.
        schedule: Noise schedule that the network was trained with, as the fields of `Schedule`; None takes the
            scheduler's.
        autoencoder: Source, hash and padding of the autoencoder, as the fields of `AutoencoderConfig`.
        name: Name of the model.

    Raises:
        ValueError: The autoencoder cannot be loaded or does not fit the network, or a value is wrong.
    """

    model_cpu_offload_seq = "transformer->vae"
    _optional_components: ClassVar[list[str]] = ["vae"]
    _callback_tensor_inputs: ClassVar[list[str]] = ["latents", "denoised"]

    def __init__(
        self,
        transformer: DiffusionTransformer,
        scheduler: SchedulerMixin,
        vae: AutoencoderKL | None = None,
        id2label: dict[str, str] | None = None,
        schedule: dict[str, Any] | None = None,
        autoencoder: dict[str, Any] | None = None,
        name: str = "model",
    ) -> None:
        super().__init__()
        config = from_values(AutoencoderConfig, autoencoder or {}, "autoencoder")
        if schedule is None:
            self._schedule = Schedule.from_scheduler_config(scheduler.config)  # type: ignore[attr-defined]
        else:
            self._schedule = from_values(Schedule, schedule, "schedule")
        if vae is None and config.source:
            vae, config = _load_vae(config)
        self._autoencoder_config = config
        self.register_modules(transformer=transformer, scheduler=scheduler, vae=vae)
        self.register_to_config(
            id2label={str(label): text for label, text in (id2label or {}).items()},
            schedule=asdict(self._schedule),
            autoencoder=asdict(self._autoencoder_config),
            name=name,
        )
        self._image_shape = self._autoencoder().image_shape(sample_shape(transformer))  # raises if they do not fit
        self._num_timesteps, self._interrupt = 0, False
        self._sampling: SamplingDefaults | None = None  # until they are needed
        self._last: tuple[tuple[Any, ...], ImageSampler] | None = None  # the sampler of the last call, and what made it

    @property
    def sampling(self) -> SamplingDefaults:
        """Defaults of a call, from the `sampling.json` of the folder that the pipeline was loaded from.

        Raises:
            ValueError: The file is damaged.
        """
        if self._sampling is None:
            name = self.config.get("_name_or_path")
            folder = Path(name) if name and Path(name).is_dir() else None
            self._sampling = read_sampling(folder, self._recipe)
        return self._sampling

    @sampling.setter
    def sampling(self, defaults: SamplingDefaults) -> None:
        self._sampling = defaults

    @property
    def labels(self) -> dict[str, int]:
        """The label of every class name, where a class may have several."""
        return labels_by_name(self._classes)

    @property
    def num_timesteps(self) -> int:
        """Number of timesteps of the last call."""
        return self._num_timesteps

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """Move the pipeline to another device or dtype, as in diffusers."""
        log = logging.getLogger("diffusers.models.modeling_utils")
        log.addFilter(_is_no_false_alarm)
        try:
            return super().to(*args, **kwargs)
        finally:
            log.removeFilter(_is_no_false_alarm)

    def get_label_ids(self, label: str | Sequence[str]) -> list[int]:
        """Return the labels of classes, given by one name or by several.

        Raises:
            ValueError: There is no such class.
        """
        num_classes = self.transformer.shape.num_classes
        names = [label] if isinstance(label, str) else label
        return [find_label(name, self._classes, num_classes) for name in names]

    def sampler(
        self, guidance_scale: float | None = None, num_inference_steps: int | None = None, **plan: Any
    ) -> ImageSampler:
        """Return the sampler of a call with these arguments, which says how the budget is spent before it is.

        Args:
            guidance_scale: As in a call.
            num_inference_steps: As in a call.
            plan: As in a call: `budget`, `iterations` and so on.

        Raises:
            ValueError: A value is wrong, or values contradict each other.
        """
        return self._image_sampler(plan, guidance_scale, num_inference_steps)[0]

    @torch.no_grad()
    def __call__(
        self,
        class_labels: int | str | Sequence[int | str] | Tensor | None = None,
        guidance_scale: float | None = None,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        num_inference_steps: int | None = None,
        output_type: OutputType = "pil",
        return_dict: bool = True,
        callback_on_step_end: Callable[..., dict[str, Any]] | PipelineCallback | MultiPipelineCallbacks | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
        *,
        budget: int | None = None,
        iterations: int | None = None,
        allocation: str | None = None,
        reuse: bool | None = None,
        sampler: str | None = None,
        grid: str | None = None,
        num_images: int | None = None,
        seed: int | None = None,
        indices: Iterable[int] | None = None,
        **plan: Any,
    ) -> FPDMPipelineOutput | tuple[Any, ...]:
        """Generate images.

        Of `budget`, `iterations` and `num_inference_steps`, two say what the third is. What is left out is as
        `sampling` has it: 140 block passes with 5 iterations per step, unless the model was trained for another number
        or tuned. An image is a function of its seed and index alone, and the same as image `index` of `fpdm sample
        --seed`, in any batch.

        Args:
            class_labels: Class of each image, by name or number. One class by itself is that of all images; None takes
                the classes in turn.
            guidance_scale: Scale of classifier-free guidance on all channels; 1 or less turns it off, as does None.
            generator: Generator whose seed gives the images with the indices from 0; with every call it goes on to
                other images. Of several, each gives one image, of index 0. None uses PyTorch's own.
            num_inference_steps: Number of steps.
            output_type: "pil", "np" or "pt" for images, or "latent" for what the network made.
            return_dict: Return an `FPDMPipelineOutput`; otherwise a tuple with the images alone.
            callback_on_step_end: Function `(pipe, index, timestep, tensors) -> tensors` to call after every step. It
                may replace `tensors["latents"]`, and end the sampling with `pipe._interrupt = True`.
            callback_on_step_end_tensor_inputs: The tensors that the function is given: "latents", and "denoised", the
                estimate of the finished ones.
            budget: Block passes per image. Guidance does not count.
            iterations: Fixed-point iterations per step.
            allocation: How iterations are divided over the steps: "constant", "increasing", "decreasing" or "adaptive".
            reuse: Start each solve from the previous step's solution.
            sampler: Our own sampler: "ddim", "ddpm", "second-order", "dpmsolver++" or "unipc".
            grid: Its timestep grid: "trailing", "linspace" or "phi^P".
            num_images: Number of images (default: one for each label, or one).
            seed: Seed of the images, in place of a generator.
            indices: Index of each image among those of the seed (default: from 0).
            plan: Any other field of `Plan`, such as `solver`.

        Raises:
            ValueError: A value is wrong, values contradict each other, or the scheduler does not fit the model.
            RunError: The samples are not finite.
        """
        if output_type not in OUTPUT_TYPES:
            raise ValueError(f"output_type is {output_type!r}; expected one of {', '.join(OUTPUT_TYPES)}")
        if callback_on_step_end is not None and not callable(callback_on_step_end):
            raise ValueError(f"callback_on_step_end is {callback_on_step_end!r}; expected a function")
        if isinstance(callback_on_step_end, (PipelineCallback, MultiPipelineCallbacks)):
            callback_on_step_end_tensor_inputs = callback_on_step_end.tensor_inputs
        if isinstance(callback_on_step_end_tensor_inputs, str):
            callback_on_step_end_tensor_inputs = [callback_on_step_end_tensor_inputs]
        for name in callback_on_step_end_tensor_inputs:
            if name not in self._callback_tensor_inputs:
                known = " and ".join(self._callback_tensor_inputs)
                raise ValueError(
                    f"there is no tensor {name!r} for callback_on_step_end_tensor_inputs; expected {known}"
                )
        given = {"budget": budget, "iterations": iterations, "allocation": allocation, "reuse": reuse, **plan}
        given |= {"sampler": sampler, "grid": grid}
        num_classes = self.transformer.shape.num_classes
        images = choose_images(
            class_labels, generator, num_images, indices, classes=self._classes, num_classes=num_classes
        )
        source, origin = self._image_sampler(given, guidance_scale, num_inference_steps)
        seeds = draw_seeds(generator, seed, len(images.indices))

        trajectory = source.trajectory(images.indices, images.labels, seeds=seeds, measure=True)
        log, state = StepLog(len(seeds)), None
        self._num_timesteps, self._interrupt = len(source.timesteps), False
        x: Tensor | None = None  # (B, C, H, W): the images after the last step, or what the callback made of them
        with self.progress_bar(total=self._num_timesteps) as bar:  # type: ignore[call-arg]  # its decorator hides them
            while len(log.timesteps) < self._num_timesteps and not self._interrupt:
                state = trajectory.send(x)
                log.add(state)
                x = state.x  # (B, C, H, W)
                if callback_on_step_end is not None:
                    tensors = {"latents": state.x, "denoised": state.x0}
                    wanted = {name: tensors[name] for name in callback_on_step_end_tensor_inputs}
                    changed = callback_on_step_end(self, state.index, state.timestep, wanted)
                    x = _latents_of(changed, x)  # (B, C, H, W)
                bar.update()
        assert x is not None
        assert state is not None
        output = as_output(x if output_type == "latent" else source.decode(x), output_type)
        self.maybe_free_model_hooks()
        if not return_dict:
            return (output,)
        passes, macs = source.spent(state)
        return FPDMPipelineOutput(
            images=output,
            timesteps=tuple(log.timesteps),
            iterations=log.iterations,
            residuals=log.residuals,
            passes=passes,
            macs=macs,
            seeds=seeds,
            indices=images.indices,
            plan=source.plan,
            plan_origin=origin,
        )

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike[str], **kwargs: Any) -> FPDMPipeline:
        """Load a pipeline.

        Args:
            pretrained_model_name_or_path: Folder of a run, written by fpdm train or fpdm import, whose newest
                checkpoint is taken; folder written by `save_pretrained`; name of a model that comes with the package;
                or name on the hub.
            kwargs: As `DiffusionPipeline.from_pretrained` takes them: `torch_dtype`, `vae`, `scheduler`, `revision` and
                so on; and `autoencoder`, path or hub id of a run's autoencoder that has moved.

        Raises:
            ValueError: There is no such model, it is not one of ours, or an argument is not possible.
            CheckpointError: Its weights are damaged.
        """
        name, dtype = os.fspath(pretrained_model_name_or_path), _dtype(kwargs, layout.TRANSFORMER)
        folder = find_model(name, **{key: kwargs[key] for key in _HUB_OPTIONS if key in kwargs})
        if is_run(folder):
            pipe = cls._of_run(folder, kwargs)
        else:
            read_index(folder)  # raises if it is not one of ours
            kwargs.pop("autoencoder", None)
            if not kwargs.keys() & {"transformer", "device_map", "quantization_config", "variant"}:
                # diffusers would leave weights that are missing random.
                kwargs["transformer"] = _cast(read_network(folder).model, dtype)
            pipe = super().from_pretrained(folder, **kwargs)
            pipe.sampling = read_sampling(folder, pipe._recipe)
        pipe.register_to_config(_name_or_path=name)
        return pipe

    @classmethod
    def _of_run(cls, folder: Path, options: dict[str, Any]) -> FPDMPipeline:
        """Make a pipeline of a run's newest checkpoint."""
        run = load_run(folder, autoencoder=options.get("autoencoder", ""))
        known = {"autoencoder", "vae", "scheduler", "transformer", "id2label", "torch_dtype", "dtype", *_NO_MATTER}
        unknown = sorted(options.keys() - known)
        if unknown:
            raise ValueError(
                f"{unknown[0]} is not possible with the folder of a run; load the run without it, save it with "
                "save_pretrained, and load what was saved"
            )
        pipe = cls.from_run(run, **{key: options[key] for key in ("vae", "scheduler") if options.get(key) is not None})
        for part, module in (("transformer", pipe.transformer), ("vae", pipe.vae)):
            if module is not None:
                _cast(module, _dtype(options, part))
        return pipe

    @classmethod
    def from_run(
        cls, run: Run, *, vae: AutoencoderKL | None = None, scheduler: SchedulerMixin | None = None
    ) -> FPDMPipeline:
        """Make a pipeline of a run that is in memory, with which it shares its weights.

        Args:
            run: The run.
            vae: Autoencoder of its latents; None for its own.
            scheduler: Scheduler; None for the default one.

        Raises:
            ValueError: The autoencoder cannot be loaded or does not fit the network.
        """
        schedule, config = run.recipe.schedule, run.recipe.autoencoder
        if vae is None and config.source:
            own = run.autoencoder
            assert isinstance(own, VAE)
            vae = torch.nn.Module.to(own.model, run.model.device)  # type: ignore[assignment]
            config = own.config
        pipe = cls(
            run.model,
            scheduler or default_scheduler(schedule, clip=not config.source),
            vae,
            id2label(run.classes.names),
            asdict(schedule),
            asdict(config),
            run.recipe.name,
        )
        pipe.sampling = run.sampling
        return pipe

    @classmethod
    def load_config(cls, *args: Any, **kwargs: Any) -> Any:
        """Load a pipeline's `model_index.json`, with its classes as those of this package.

        The file names them by the Python files beside it, which diffusers would execute; this class needs none.
        """
        config = super().load_config(*args, **kwargs)
        if isinstance(config, dict):
            own = [DiffusionTransformer.__module__, NETWORK]
            return {**config, "_class_name": cls.__name__, layout.TRANSFORMER: own}
        return config

    def save_pretrained(  # type: ignore[override]  # arguments that come and go with diffusers' versions are in kwargs
        self,
        save_directory: str | os.PathLike[str],
        safe_serialization: bool = True,
        variant: str | None = None,
        max_shard_size: int | str | None = None,
        push_to_hub: bool = False,
        **kwargs: Any,
    ) -> None:
        """Save the pipeline with a model card, in the hub's layout.

        A README.md that is not a generated one is kept.

        Args:
            save_directory: Folder to save to.
            safe_serialization: Has to be True: no file that we write can hold code.
            variant: Name of a variant of the weights, such as "fp16", for their file names.
            max_shard_size: Has to be None: we read the weights from one file.
            push_to_hub: Upload the folder afterwards.
            kwargs: Of the upload: `repo_id` (default: the folder's name), `private`, `token`, `commit_message` and
                `create_pr`.

        Raises:
            ValueError: A format other than one file of safetensors is asked for, or the folder is that of a run.
        """
        folder = Path(save_directory)
        if not safe_serialization:
            raise ValueError("safe_serialization is False; expected True: fpdm writes no pickles")
        if kwargs.pop("use_flashpack", False):
            raise ValueError("use_flashpack is True; expected False: fpdm reads safetensors only")
        if max_shard_size is not None:
            raise ValueError(f"max_shard_size is {max_shard_size}; expected None: fpdm reads weights from one file")
        if folder.is_file():
            raise ValueError(f"{folder} is a file; expected a folder")
        if (folder / layout.CHECKPOINTS).exists():  # whose files of weights are those of its checkpoints
            raise ValueError(f"{folder} is the folder of a run, which is a pipeline already; choose another folder")
        super().save_pretrained(folder, variant=variant)
        write_pipeline(folder, self._pipeline_config(), self.scheduler, vae=self.vae is not None)
        write_sampling(folder, self.sampling)
        if self.vae is not None and self._autoencoder_config.pad:
            padding = json.dumps({"pad": self._autoencoder_config.pad})
            (folder / layout.VAE / OWN).write_text(padding, encoding="utf-8")
        repo_id = kwargs.pop("repo_id", folder.absolute().name)
        readme = folder / layout.README
        if not readme.exists() or is_generated(readme):
            readme.write_text(self._card(repo_id if push_to_hub else folder.absolute().name), encoding="utf-8")
        if push_to_hub:
            upload(folder, repo_id, **kwargs)

    def push_to_hub(
        self,
        repo_id: str,
        commit_message: str | None = None,
        private: bool | None = None,
        token: str | None = None,
        create_pr: bool = False,
        safe_serialization: bool = True,
        variant: str | None = None,
        subfolder: str | None = None,
    ) -> Any:
        """Upload the pipeline to the hub with a model card, unless the repository has a card of its own.

        Args:
            repo_id: Name of the repository, which is created if there is none.
            commit_message: Message of the commit.
            private: Whether to create a private repository.
            token: Token of the hub (default: the one that `hf auth login` stored).
            create_pr: Open a pull request instead of changing the repository.
            safe_serialization: Has to be True: no file that we write can hold code.
            variant: Name of a variant of the weights, such as "fp16", for their file names.
            subfolder: Folder of the repository to upload to.

        Returns:
            What `huggingface_hub.upload_folder` returns.
        """
        with TemporaryDirectory() as name:
            folder = Path(name)
            self.save_pretrained(folder, safe_serialization, variant)
            (folder / layout.README).write_text(self._card(repo_id), encoding="utf-8")
            return upload(
                folder,
                repo_id,
                commit_message=commit_message,
                private=private,
                token=token,
                create_pr=create_pr,
                subfolder=subfolder,
            )

    def enable_sequential_cpu_offload(
        self, gpu_id: int | None = None, device: torch.device | str | None = None
    ) -> None:  # type: ignore[override]
        """Refuse: a fixed point would load its one block again in every iteration.

        Raises:
            ValueError: Always.
        """
        raise ValueError(
            "sequential CPU offload would load the one block of a fixed point again in every iteration; expected "
            "enable_model_cpu_offload, which moves the whole network"
        )

    @property
    def _recipe(self) -> Recipe:
        """A recipe with what is known of the model, which is nothing of its training."""
        shape, name = self.transformer.shape, self.config["name"]
        return recipe_without_data(name, shape, self._schedule, self._autoencoder_config)

    @property
    def _classes(self) -> tuple[str, ...]:
        return class_names(self.config["id2label"], self.transformer.shape.num_classes)

    def _pipeline_config(self) -> PipelineConfig:
        """Return what is saved. It names no folder of this machine: the autoencoder is saved too."""
        autoencoder = AutoencoderConfig()
        if self.vae is not None:
            network = getattr(self.vae, "_orig_mod", self.vae)  # not the wrapper of torch.compile
            autoencoder = VAE.of(network, source=layout.VAE, pad=self._autoencoder_config.pad or 0).config
        return PipelineConfig(self.config["name"], self._schedule, dict(self.config["id2label"]), autoencoder)

    def _card(self, name: str) -> str:
        source = layout.VAE if self.vae is not None else ""
        return str(model_card(self._pipeline_config(), self.transformer, name, self._image_shape, source))

    def _autoencoder(self, device: torch.device | None = None) -> Autoencoder:
        if self.vae is None:
            return Pixels()
        config = self._autoencoder_config
        known = AutoencoderConfig(config.source or layout.VAE, config.sha256 or "not computed", config.pad or 0)
        return VAE(self.vae, known, device=device)

    def _image_sampler(
        self, given: dict[str, Any], guidance_scale: float | None, steps: int | None
    ) -> tuple[ImageSampler, str]:
        """Make the sampler of a call, or take that of the last call: an adaptive allocation is costly to find.

        Returns:
            The sampler, and where its plan comes from.
        """
        scheduler, schedule, device = self.scheduler, self._schedule, self._execution_device
        given = {name: plain(value) for name, value in given.items()}
        guidance_scale, steps = plain(guidance_scale), plain(steps)
        chosen = choose_plan(
            given,
            guidance_scale,
            steps,
            scheduler=scheduler,
            schedule=schedule,
            cost=self.transformer.cost(),
            defaults=self.sampling,
        )
        made_of = (chosen.plan, steps, self.transformer, self.transformer.dtype, self.vae, scheduler, device)
        if self._last is None or any(a is not b and a != b for a, b in zip(self._last[0], made_of, strict=True)):
            sampler = ImageSampler(
                self.transformer,
                schedule,
                chosen.plan,
                device=device,
                autoencoder=self._autoencoder(device),
                scheduler=None if type(scheduler).__name__ in OWN_SAMPLERS else scheduler,
                steps=steps,
            )
            self._last = made_of, sampler
        return self._last[1], chosen.origin


def _is_no_false_alarm(record: logging.LogRecord) -> bool:
    """Whether a record is anything but diffusers' warning of modules to be kept in float32 where there are none."""
    return "should be kept in float32: []" not in record.getMessage()


def _latents_of(changed: Any, x: Tensor) -> Tensor:
    """Return the latents that a callback returns, or those before (B, C, H, W) if it returns none.

    Raises:
        ValueError: It returns something else than tensors by name, or latents of another shape.
    """
    if changed is None:
        return x
    if not isinstance(changed, Mapping):
        raise ValueError(
            f"callback_on_step_end returned a {type(changed).__name__}; expected a dictionary of tensors, such as the "
            "one that it is given"
        )
    latents = changed.get("latents", x)
    if not isinstance(latents, Tensor) or latents.shape != x.shape:
        found = tuple(latents.shape) if isinstance(latents, Tensor) else type(latents).__name__
        raise ValueError(f"callback_on_step_end returned latents of {found}; expected {tuple(x.shape)}")
    return latents


def _load_vae(config: AutoencoderConfig) -> tuple[Any, AutoencoderConfig]:
    """Load the autoencoder that a pipeline records but does not have, with its complete configuration."""
    try:
        loaded = config.load()
    except ValueError as error:
        raise ValueError(f"{error}; if it has moved, load it and give it as vae") from error
    assert isinstance(loaded, VAE)
    return loaded.model, loaded.config


def _dtype(options: dict[str, Any], part: str) -> torch.dtype | None:
    """Return the dtype that the arguments of `from_pretrained` choose for a part of the pipeline."""
    chosen = options.get("dtype") or options.get("torch_dtype")
    found = chosen.get(part, chosen.get("default")) if isinstance(chosen, dict) else chosen
    if found is not None and not isinstance(found, torch.dtype):
        raise ValueError(f"dtype is {found!r}; expected one of PyTorch's, such as torch.float16")
    return found


def _cast(module: Any, dtype: torch.dtype | None) -> Any:
    # Not diffusers' `to`, which warns of modules to be left in float32 though it names none.
    return module if dtype is None else torch.nn.Module.to(module, dtype)
