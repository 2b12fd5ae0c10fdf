"""Schedulers of diffusers for our models: which fit a noise schedule, and which timesteps they visit."""

from __future__ import annotations

import copy
import difflib
import inspect
from typing import Any

from fpdm.diffusion.schedule import Schedule

OWN_SAMPLERS = {"DDIMScheduler": "ddim", "DDPMScheduler": "ddpm"}
"""Schedulers that stand for a sampler of ours: theirs step to t - 1000 // steps, whatever their list of timesteps."""

_KEEP_ZERO_SNR = "DDIM, DDPM, EulerDiscrete, EulerAncestralDiscrete, DPMSolverMultistep, UniPCMultistep, LCM or TCD"


def default_scheduler(schedule: Schedule, *, clip: bool) -> Any:
    """Create the scheduler that stands for our own DDIM steps, from whose configuration others are made.

    Args:
        schedule: Noise schedule.
        clip: Whether estimates of x0 are clipped to [-1, 1], as they are for pixels.
    """
    from diffusers import DDIMScheduler

    return DDIMScheduler(**schedule.scheduler_config(), clip_sample=clip)


def scheduler_by_name(name: str, schedule: Schedule, *, clip: bool) -> Any:
    """Create a scheduler of diffusers for a noise schedule.

    Args:
        name: Name of its class, in any case, or a beginning that no other has.
        schedule: Noise schedule.
        clip: Whether estimates of x0 are clipped to [-1, 1].

    Raises:
        ValueError: There is no such scheduler, or it does not fit the noise schedule.
    """
    import diffusers

    known = {one.lower(): one for one in dir(diffusers) if one.endswith("Scheduler")}
    asked = name.lower()
    meant = [known[asked + end] for end in ("", "scheduler") if asked + end in known]
    meant = meant or [one for lower, one in known.items() if asked and lower.startswith(asked)]
    if len(meant) != 1:
        beginnings = {one[: len(asked)]: kind for one, kind in known.items()}
        near = [] if meant else difflib.get_close_matches(asked, beginnings, 1)
        raise ValueError(
            f"there is no scheduler {name!r}; expected "
            + (" or ".join(meant) or "the name of one of diffusers, such as UniPCMultistepScheduler")
            + "".join(f"; did you mean {beginnings[one]}?" for one in near)
        )
    kind = getattr(diffusers, meant[0])
    takes = inspect.signature(kind.__init__).parameters.keys()
    if not {"prediction_type", "beta_start"} <= takes and not hasattr(kind, "_backends"):  # which say what is missing
        raise ValueError(f"{meant[0]} is not for models of this kind; expected {_KEEP_ZERO_SNR}")
    try:
        scheduler = kind.from_config(default_scheduler(schedule, clip=clip).config)
    except (ImportError, TypeError, ValueError) as error:  # it needs another library, other arguments or other betas
        raise ValueError(f"{meant[0]} cannot be used here: {' '.join(str(error).split())}") from error
    if scheduler is None:  # as a class that diffusers has given up
        raise ValueError(f"{meant[0]} is not for models of this kind; expected {_KEEP_ZERO_SNR}")
    check_scheduler(scheduler, schedule)
    return scheduler


def check_scheduler(scheduler: Any, schedule: Schedule) -> None:
    """Check that a scheduler samples a model that was trained with this noise schedule.

    Raises:
        ValueError: It has other noise levels, such as one that drops zero terminal SNR, or takes another prediction.
    """
    name, config = type(scheduler).__name__, scheduler.config
    again = f"make it by {name}.from_config(pipe.scheduler.config)"
    alphas_bar = getattr(scheduler, "alphas_cumprod", None)  # (N,)
    step = inspect.signature(scheduler.step).parameters.values()
    if alphas_bar is None or "prediction_type" not in config or sum(one.default is one.empty for one in step) > 3:
        raise ValueError(
            f"{name} is not for models of this kind, which have a noise schedule and predict v or epsilon; expected "
            f"{_KEEP_ZERO_SNR}"
        )
    ours = schedule.alphas_bar[1:]  # (N,)
    if schedule.zero_terminal_snr and float(alphas_bar[-1]) > 1e-6:
        able = "rescale_betas_zero_snr" in inspect.signature(type(scheduler).__init__).parameters
        raise ValueError(
            f"{name} does not end in pure noise (zero terminal SNR), as the model does; "
            + (again if able else f"expected {_KEEP_ZERO_SNR}")
        )
    if alphas_bar.shape != ours.shape or not bool(((alphas_bar.double().cpu() - ours).abs() < 1e-4).all()):
        raise ValueError(f"{name} has other noise levels than this model was trained with; {again}")
    expected = schedule.scheduler_config()["prediction_type"]
    if config["prediction_type"] != expected:
        raise ValueError(
            f"{name} takes the prediction {config['prediction_type']!r}, but this model predicts {expected!r}; {again}"
        )
    if config.get("final_sigmas_type", "zero") != "zero":
        raise ValueError(
            f"{name} has final_sigmas_type {config['final_sigmas_type']!r}, which leaves noise in the images; expected "
            "'zero'"
        )


def with_steps(scheduler: Any, schedule: Schedule, steps: int) -> Any:
    """Return a copy of a scheduler whose timesteps are set to a number of steps.

    Raises:
        ValueError: It cannot make that many, or begins below the noisiest timestep at zero terminal SNR.
    """
    own, name = copy.deepcopy(scheduler), type(scheduler).__name__
    if not 1 <= steps <= schedule.num_timesteps:
        raise ValueError(
            f"steps is {steps}; expected 1 to {schedule.num_timesteps}, the number of timesteps in training"
        )
    try:
        own.set_timesteps(steps)
    except (ArithmeticError, AssertionError, IndexError, ValueError) as error:
        raise ValueError(f"{name} cannot make {steps} steps: {' '.join(str(error).split())}") from error
    first, last = float(own.timesteps[0]), float(own.timesteps[-1])
    if first < last:
        raise ValueError(f"{name} goes from images to noise; expected one that goes from noise to images")
    if schedule.zero_terminal_snr and round(first) != schedule.num_timesteps - 1:
        spacing = own.config.get("timestep_spacing")
        other = [key for key, value in own.config.items() if key.startswith("use_") and "sigmas" in key and value]
        raise ValueError(
            f"{name} begins at timestep {first:g}, where images are no longer pure noise; expected "
            f"{schedule.num_timesteps - 1}, "
            + (f"as without {other[0]}" if other else f"as with timestep_spacing='trailing' (its is {spacing!r})")
        )
    return own


def with_evaluations(scheduler: Any, schedule: Schedule, evaluations: int) -> Any:
    """Return a copy of a scheduler with as many steps as evaluate the network at most `evaluations` times.

    Schedulers of higher order evaluate it more than once per step.

    Raises:
        ValueError: As `with_steps`, or there are too few evaluations for this scheduler.
    """
    steps = evaluations
    while steps > 0:
        own = with_steps(scheduler, schedule, steps)
        excess = len(own.timesteps) - evaluations
        if excess <= 0:
            return own
        steps -= max(1, excess // 2)  # none takes more than two evaluations per step
    raise ValueError(
        f"{type(scheduler).__name__} cannot sample in {evaluations} evaluations of the network; give a larger budget"
    )
