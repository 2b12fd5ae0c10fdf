"""The diffusion transformer, embed -> pre -> middle -> post -> head, which is both FPDM and DiT."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple

import torch
from accelerate import init_empty_weights
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor

from fpdm.fixed_point.gradients import FixedPointSolver
from fpdm.fixed_point.solve import Solution, Stop, solve
from fpdm.fixed_point.solvers import Picard
from fpdm.models.block import Blocks, DiTBlock, Head
from fpdm.models.config import CHECKPOINTABLE, TransformerConfig
from fpdm.models.cost import ModelCost, model_cost
from fpdm.models.embeddings import LabelEmbedding, PatchEmbedding, TimestepEmbedding, sincos_positions
from fpdm.models.middle import INJECTIONS, BlockStack, FixedPointLayer


@dataclass(frozen=True)
class Prediction:
    """Output of the transformer.

    Attributes:
        value: The predicted v or eps, (B, C, H, W).
        variance: Raw variance channels o, (B, C, H, W); None if the model does not learn its variance.
        solution: Solution of the middle, whose z (B, T, D) the next timestep may start from.
        weak: The value (B, C, H, W) of a weaker answer or of an early exit, if one was asked for and there is one.
    """

    value: Tensor
    variance: Tensor | None
    solution: Solution
    weak: Tensor | None = None


class Start(NamedTuple):
    """Tensors that the middle starts from, and the conditioning.

    Attributes:
        h: Output of the pre blocks, (B, T, D).
        everything: Conditioning of the middle on label and timestep, (B, D).
        outer: Conditioning of the blocks outside the middle and of the head, (B, D).
    """

    h: Tensor
    everything: Tensor
    outer: Tensor


ITERATIONS = 5  # of a call without a solver, if nothing says how many the model was trained with


def _with_fields(init: Callable[..., None]) -> Callable[..., None]:
    """Show the fields of `TransformerConfig` as the arguments of a constructor, whose signature diffusers reads."""
    named = inspect.Parameter.POSITIONAL_OR_KEYWORD
    fields = [inspect.Parameter(one.name, named, default=one.default) for one in dataclasses.fields(TransformerConfig)]
    fields.append(inspect.Parameter("iterations", named, default=ITERATIONS))
    init.__signature__ = inspect.Signature([inspect.Parameter("self", named), *fields])  # type: ignore[attr-defined]
    return init


class DiffusionTransformer(ModelMixin, ConfigMixin):
    """Diffusion transformer with a fixed point (FPDM) or a stack of blocks (DiT) in its middle.

    The arguments are the fields of `TransformerConfig`. `save_pretrained` and `from_pretrained` are diffusers'.

    Args:
        iterations: Fixed-point iterations of a call without a solver, which are those of the training.

    Attributes:
        is_compiled: Whether `compile_iterations` was called.

    Raises:
        ValueError: `iterations` is below 1, or a field is outside its range.
    """

    # What FSDP may gather apart: parts that are only ever called as modules, which a block is not.
    _no_split_modules = ("AdaLN", "Attention", "MLP")

    @register_to_config
    @_with_fields
    def __init__(self, *args: Any, iterations: int = ITERATIONS, **values: Any) -> None:
        super().__init__()
        if not isinstance(iterations, int) or iterations < 1:
            raise ValueError(f"iterations is {iterations!r}; expected an integer of at least 1")
        shape = self.shape = TransformerConfig(*args, **values)
        width = shape.width

        def blocks(count: int) -> Blocks:
            return Blocks(
                count,
                width,
                shape.heads,
                mlp_ratio=shape.mlp_ratio,
                norm_eps=shape.norm_eps,
                mlp_norm_eps=shape.mlp_norm_eps,
            )

        self.x_embedder = PatchEmbedding(shape.in_channels, shape.patch_size, width)
        self.t_embedder = TimestepEmbedding(width, shape.frequency_shift)
        self.y_embedder = LabelEmbedding(shape.num_classes, width)
        self.pre = blocks(shape.pre_blocks)
        if shape.middle_kind == "stack":
            self.middle = BlockStack(blocks(shape.middle_blocks), shape.repeats)
        else:
            self.middle = FixedPointLayer(blocks(shape.middle_blocks), INJECTIONS[shape.injection](width))
        self.post = blocks(shape.post_blocks)
        self.head = Head(width, shape.patch_size, shape.in_channels * (2 if shape.learn_variance else 1))
        self.is_compiled = False
        self.register_buffer("positions", sincos_positions(width, shape.side), persistent=False)
        self.positions: Tensor

    @classmethod
    def from_shape(cls, shape: TransformerConfig, *, iterations: int = ITERATIONS) -> DiffusionTransformer:
        """Create a newly initialised model of this architecture, which iterates so often if called without a solver."""
        return cls(**asdict(shape), iterations=iterations)

    @classmethod
    def without_weights(cls, shape: TransformerConfig, *, iterations: int = ITERATIONS) -> DiffusionTransformer:
        """Create a model whose parameters take no memory, on the meta device, until `take_weights` gives them values.

        Nothing is initialised, which for a large model takes longer than reading its weights.
        """
        with init_empty_weights(include_buffers=False):
            return cls.from_shape(shape, iterations=iterations)

    def take_weights(self, weights: Mapping[str, Tensor]) -> None:
        """Copy the values of all parameters, in float32.

        Raises:
            RuntimeError: A name or a shape is wrong; `checkpoint.check_names` says beforehand which.
        """
        copied = {name: value.to(torch.float32, copy=True) for name, value in weights.items()}
        self.load_state_dict(copied, assign=True)

    def forward(
        self,
        x: Tensor,
        t: Tensor,
        y: Tensor | None = None,
        *,
        solver: FixedPointSolver | None = None,
        z0: Tensor | None = None,
        weak_depth: int | None = None,
        exit_at: float | None = None,
    ) -> Prediction:
        """Predict v or eps (paper Eqs. 1 to 4).

        Args:
            x: Noisy (latent) images, (B, C, H, W).
            t: Timesteps, (B,).
            y: Labels from 0 to K, (B,), where K means "no class"; None means "no class" for all.
            solver: Function `(f, z0) -> Solution`: `solve` with bound arguments in sampling, a bound `Gradient` in
                training. None iterates as often as the model did in training on average (`config.iterations`).
            z0: Initial iterate of the fixed point, (B, T, D), such as the previous timestep's solution. None starts
                from the output of the pre blocks.
            weak_depth: Depth of a weaker answer to give as well: the iterations of the fixed point from a cold start,
                or the blocks of a stack; at 0 the post blocks take what the pre blocks gave. None for no such answer.
            exit_at: Share of the way through the middle, from 0 to below 1, at which to give the answer of an early
                exit as well (`Middle.with_exit`). None for none.

        Returns:
            The prediction, in the dtype of `x`.

        Raises:
            ValueError: The shape of `z0` is not that of this batch's tokens, a stack has too few blocks for
                `weak_depth`, or `exit_at` is given with `weak_depth`.
        """
        if solver is None:
            solver = functools.partial(solve, solver=Picard(), stop=Stop(self.config["iterations"]))
        if y is None:
            y = torch.full((x.shape[0],), self.shape.num_classes, device=x.device)  # (B,)
        h, everything, outer = self.start(x, t, y)
        # The post blocks' modulation comes after the middle, so that its gradients are made before those of the middle.
        if exit_at is not None:
            if weak_depth is not None:
                raise ValueError("exit_at does not go with weak_depth; leave one out")
            solution, state = self.middle.with_exit(h, everything, at=exit_at, solver=solver, z0=z0)
        elif weak_depth is not None:
            solution, state = self.middle.with_weaker(h, everything, depth=weak_depth, solver=solver, z0=z0)
        else:
            solution, state = self.middle(h, everything, solver=solver, z0=z0), None
        if state is None:
            out, weak = self.finish(solution.z, outer).to(x.dtype), None  # (B, C or 2C, H, W)
        else:
            both = torch.cat([solution.z, state])  # (2B, T, D): one batch is never slower than two
            both = self.post(both, tuple(one.repeat(2) for one in self.post.modulations(outer)))  # (2B, T, D)
            both = both.unflatten(0, (2, -1))  # (2, B, T, D)
            out, weak = self._unpatchify(self.head(both, outer).flatten(0, 1)).to(x.dtype).chunk(2)
            weak = weak[:, : self.shape.in_channels]  # (B, C, H, W)
        return self.prediction(out, solution, weak)

    def start(self, x: Tensor, t: Tensor, y: Tensor) -> Start:
        """Apply all that is before the middle to images (B, C, H, W), timesteps (B,) and labels (B,)."""
        label = self.y_embedder(y)  # (B, D)
        everything = label + self.t_embedder(t)  # (B, D)
        outer = everything if self.shape.timestep_everywhere else label  # (B, D)
        h = self.x_embedder(x.to(label.dtype)) + self.positions.to(label.dtype)  # (B, T, D)
        return Start(self.pre(h, self.pre.modulations(outer)), everything, outer)

    def finish(self, z: Tensor, outer: Tensor) -> Tensor:
        """Apply all that is after the middle to `z` (B, T, D): post blocks and head, to (B, C or 2C, H, W)."""
        h = self.post(z, self.post.modulations(outer))  # (B, T, D)
        return self._unpatchify(self.head(h, outer))  # (B, C or 2C, H, W)

    def prediction(self, out: Tensor, solution: Solution, weak: Tensor | None = None) -> Prediction:
        """Split what `finish` returns, (B, C or 2C, H, W), into the value and, if the model learns it, its variance."""
        if not self.shape.learn_variance:
            return Prediction(out, None, solution, weak)
        value, variance = out.chunk(2, dim=1)  # (B, C, H, W) each
        return Prediction(value, variance, solution, weak)

    def _unpatchify(self, patches: Tensor) -> Tensor:
        p, side = self.shape.patch_size, self.shape.side
        grid = patches.view(-1, side, side, p, p, patches.shape[2] // p**2)  # (B, h, w, p, p, C)
        return grid.permute(0, 5, 1, 3, 2, 4).reshape(len(patches), -1, side * p, side * p)  # (B, C, H, W)

    def checkpoint_activations(self, what: Literal["none", "blocks", "iterations", "all"]) -> None:
        """Choose what the backward pass recomputes instead of storing it, which takes less memory and more time.

        Args:
            what: The pre and post blocks, the iterations with gradient, both or neither. Gradients do not change.

        Raises:
            ValueError: `what` is something else.
        """
        if what not in CHECKPOINTABLE:
            raise ValueError(f"what is {what!r}; expected one of {', '.join(CHECKPOINTABLE)}")
        blocks, iterations = what in ("blocks", "all"), what in ("iterations", "all")
        self.pre.recompute = self.post.recompute = blocks
        self.middle.recompute(blocks=blocks, iterations=iterations)

    def compile_iterations(self, *, graphs: bool = False, backend: str = "inductor") -> None:
        """Compile what is applied again and again: an iteration of a fixed point, and all other blocks.

        Each is compiled when it is first called with tensors of a new shape, with gradient or without, and then for any
        number of iterations. The loop stays in Python. Results change by rounding. Weights are then not packed for
        sampling on a CPU.

        Args:
            graphs: Replay iterations without gradient as CUDA graphs, which saves the time to launch their kernels.
            backend: Compiler, as in `torch.compile`.

        Raises:
            ValueError: CUDA graphs are asked for without CUDA, or there is no C++ compiler, which a CPU needs.
        """
        device = self.device.type
        if graphs and device != "cuda":
            raise ValueError(f"graphs are of CUDA, but the model is on {device}; leave them out")
        compilers = (os.environ.get("CXX", "g++"), "g++", "clang++", "cl")
        if backend == "inductor" and device == "cpu" and not any(map(shutil.which, compilers)):
            raise ValueError("compiling needs a C++ compiler, and there is none; install g++, or do not compile")
        self.is_compiled = True
        self.middle.compile_iterations(graphs=graphs, backend=backend)
        for blocks in (self.pre, self.post):
            blocks.compile_each(backend)

    def enable_gradient_checkpointing(self, gradient_checkpointing_func: object = None) -> None:
        """Call `checkpoint_activations("all")`, under the name that diffusers uses.

        Raises:
            ValueError: A checkpointing function is given; only that of PyTorch is supported.
        """
        if gradient_checkpointing_func is not None:
            raise ValueError(f"gradient_checkpointing_func is {gradient_checkpointing_func!r}; expected none")
        self.checkpoint_activations("all")

    def disable_gradient_checkpointing(self) -> None:
        """Call `checkpoint_activations("none")`, under the name that diffusers uses."""
        self.checkpoint_activations("none")

    def blocks(self) -> list[DiTBlock]:
        """Return all blocks, each once, in the order in which they are applied."""
        return [*self.pre, *self.middle.listed(), *self.post]

    def cost(self) -> ModelCost:
        """Count parameters and MACs by part, and block passes, per sample."""
        return model_cost(self.shape)
