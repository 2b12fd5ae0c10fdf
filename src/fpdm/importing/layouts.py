"""Layouts of foreign checkpoints, and the conversion to a model of ours with the same outputs.

Three layouts are supported: the FPDM authors', DiT's (that of the original release and of the FPDM authors), and the
`DiTTransformer2DModel` of diffusers. They differ from ours in names, in how the projections of attention are split, and
in what a checkpoint does not say, such as the number of heads.
"""

from __future__ import annotations

import abc
import re
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from fpdm.diffusion.schedule import Schedule
from fpdm.importing.foreign import ForeignCheckpoint
from fpdm.models.config import TransformerConfig, as_dit, preset
from fpdm.models.embeddings import sincos_positions
from fpdm.models.transformer import DiffusionTransformer

T = TypeVar("T")

HEADS = {shape.width: shape.heads for shape in (preset(f"dit-{size}/2") for size in ("s", "b", "l", "xl"))}
"""Number of attention heads by width, for the sizes of DiT."""


@dataclass(frozen=True)
class Hints:
    """Facts about a checkpoint that the checkpoint itself does not state; None picks the usual value.

    Attributes:
        heads: Number of attention heads.
        timestep_everywhere: Whether the pre and post blocks and the head of an FPDM see the timestep.
        prediction: What the network predicts, "v" or "epsilon".
        zero_terminal_snr: Whether the schedule is rescaled to end in pure noise.
    """

    heads: int | None = None
    timestep_everywhere: bool | None = None
    prediction: str | None = None
    zero_terminal_snr: bool | None = None


@dataclass(frozen=True)
class Converted:
    """Foreign weights converted to a model of ours.

    Attributes:
        layout: Description of the original layout.
        shape: Architecture of the model.
        schedule: Noise schedule, which also says what the model predicts.
        weights: Weights by our names, in float32.
        notes: Changes made by the conversion, one sentence each.
    """

    layout: str
    shape: TransformerConfig
    schedule: Schedule
    weights: dict[str, Tensor]
    notes: tuple[str, ...]


class Layout(abc.ABC):
    """Layout of one kind of checkpoint."""

    title: str
    embedder: str  # name of the patch embedder
    head: str  # name of the last linear layer
    labels: str  # name of the label embedding
    notes: tuple[str, ...] = ()

    @abc.abstractmethod
    def shape(self, foreign: ForeignCheckpoint, sizes: Sizes, hints: Hints) -> TransformerConfig:
        """Return the architecture of our model with these weights.

        Raises:
            ValueError: The checkpoint does not say enough, or no model of ours fits.
        """

    @abc.abstractmethod
    def modules(self, shape: TransformerConfig) -> dict[str, tuple[str, ...]]:
        """Map our modules to theirs; several of theirs are concatenated along the outputs of ours."""

    def schedule(self, foreign: ForeignCheckpoint, hints: Hints) -> Schedule:
        """Return the noise schedule; by default that of DiT."""
        return _schedule(foreign.args, hints, name=foreign.name, prediction="epsilon")

    def leftover(self, foreign: ForeignCheckpoint, shape: TransformerConfig) -> set[str]:
        """Return the names of expected tensors that are not converted.

        Raises:
            ValueError: One of them does not have the expected value.
        """
        return _check_positions(foreign, "pos_embed", shape)


class Sizes(NamedTuple):
    """Sizes that the shapes of the tensors reveal."""

    width: int
    channels: int
    patch: int
    out: int
    rows: int


class DiT(Layout):
    """Layout of the original DiT code."""

    title = "DiT"
    embedder, head, labels = "x_embedder.proj", "final_layer.linear", "y_embedder.embedding_table"

    def shape(self, foreign: ForeignCheckpoint, sizes: Sizes, hints: Hints) -> TransformerConfig:
        depth = _count(foreign.tensors, "blocks")
        if hints.timestep_everywhere is False:
            raise ValueError(
                "timestep_everywhere is false, but a DiT always sees the timestep everywhere; leave it out"
            )
        shape = replace(_common(foreign, self, sizes, hints), pre_blocks=1, post_blocks=min(depth - 1, 1))
        return as_dit(shape, depth)

    def modules(self, shape: TransformerConfig) -> dict[str, tuple[str, ...]]:
        return _outer_modules() | _map_blocks(_stack_of_map_blocks(shape), (f"blocks.{i}" for i in range(10**6)))


class AuthorsFPDM(Layout):
    """Layout of the FPDM authors' code."""

    title = "the authors' FPDM"
    embedder, head, labels = DiT.embedder, DiT.head, DiT.labels

    def shape(self, foreign: ForeignCheckpoint, sizes: Sizes, hints: Hints) -> TransformerConfig:
        said = foreign.args.get("fixed_point_pre_post_timestep_conditioning")
        everywhere = _first_known("timestep_everywhere", said, hints.timestep_everywhere, False)
        return replace(
            _common(foreign, self, sizes, hints),
            pre_blocks=_count(foreign.tensors, "blocks_pre"),
            post_blocks=_count(foreign.tensors, "blocks_post"),
            timestep_everywhere=everywhere,
        )

    def modules(self, shape: TransformerConfig) -> dict[str, tuple[str, ...]]:
        pre, post = range(shape.pre_blocks), range(shape.post_blocks)
        injection = {  # W0, W1 and W2
            "project": "block_pre_projection",
            "fc1": "block_fixed_point_projection_fc1",
            "fc2": "block_fixed_point_projection_fc2",
        }
        return {
            **_outer_modules(),
            **_map_blocks((f"pre.{i}" for i in pre), (f"blocks_pre.{i}" for i in pre)),
            **_map_blocks(["middle.cell.0"], ["block_fixed_point"]),
            **_map_blocks((f"post.{i}" for i in post), (f"blocks_post.{i}" for i in post)),
            **{f"middle.injection.{ours}": (theirs,) for ours, theirs in injection.items()},
        }

    def schedule(self, foreign: ForeignCheckpoint, hints: Hints) -> Schedule:
        """Return the noise schedule; by default that of the paper (Sec. 4.1)."""
        return _schedule(foreign.args, hints, name=foreign.name, prediction="v")


class Diffusers(Layout):
    """Layout of diffusers' `DiTTransformer2DModel`.

    It differs from the original DiT in the frequencies of the timestep embedding and in the eps of the second norm, and
    each of its blocks has its own embedder of timestep and label, where ours share one.
    """

    title = "diffusers' DiTTransformer2DModel"
    embedder, head = "pos_embed.proj", "proj_out_2"
    labels = "transformer_blocks.0.norm1.emb.class_embedder.embedding_table"
    notes = (
        "The DiT of diffusers is kept as it is: timestep frequencies with a shift of 1, and eps 1e-5 in the second "
        "norm of each block (unless its configuration says otherwise). The original release has a shift of 0 and eps "
        "1e-6; import that one to get its exact outputs.",
    )

    _FORM: Mapping[str, Any] = {
        "activation_fn": "gelu-approximate",
        "norm_type": "ada_norm_zero",
        "norm_elementwise_affine": False,
        "attention_bias": True,
    }
    _DEFAULTS: Mapping[str, Any] = {**_FORM, "num_attention_heads": 16, "sample_size": 32, "norm_eps": 1e-5}

    def shape(self, foreign: ForeignCheckpoint, sizes: Sizes, hints: Hints) -> TransformerConfig:
        if not foreign.config:
            raise ValueError(f"{foreign.file} needs the config.json beside it; give the folder {foreign.file.parent}")
        config = {**self._DEFAULTS, **foreign.config}
        other = [f"{key} {config[key]!r}, not {value!r}" for key, value in self._FORM.items() if config[key] != value]
        if other:
            raise ValueError(f"{foreign.name} has {'; '.join(other)}; fpdm has no such model")
        depth = _count(foreign.tensors, "transformer_blocks")
        has = {
            "num_layers": depth,
            "num_embeds_ada_norm": sizes.rows - 1,
            "patch_size": sizes.patch,
            "in_channels": sizes.channels,
            "attention_head_dim": sizes.width / config["num_attention_heads"],
        }
        wrong = [f"{key} {config[key]}, not {value:g}" for key, value in has.items() if config.get(key, value) != value]
        if wrong:
            raise ValueError(f"the config.json of {foreign.name} does not fit its weights: {'; '.join(wrong)}")
        shape = TransformerConfig(
            image_size=config["sample_size"],
            in_channels=sizes.channels,
            patch_size=sizes.patch,
            width=sizes.width,
            heads=_first_known("heads", config["num_attention_heads"], hints.heads, None),
            post_blocks=min(depth - 1, 1),
            num_classes=sizes.rows - 1,
            learn_variance=_learns_variance(foreign, self, sizes),
            frequency_shift=1.0,
            mlp_norm_eps=float(config["norm_eps"]),
        )
        return as_dit(shape, depth)

    def modules(self, shape: TransformerConfig) -> dict[str, tuple[str, ...]]:
        """Map our modules to theirs: queries, keys and values are separate, and the first block has the embedders."""
        emb = "transformer_blocks.0.norm1.emb"
        found = {
            "x_embedder.proj": (self.embedder,),
            "t_embedder.mlp.0": (f"{emb}.timestep_embedder.linear_1",),
            "t_embedder.mlp.2": (f"{emb}.timestep_embedder.linear_2",),
            "y_embedder.embedding_table": (self.labels,),
            "head.adaLN_modulation.1": ("proj_out_1",),
            "head.linear": (self.head,),
        }
        for i, ours in enumerate(_stack_of_map_blocks(shape)):
            block = f"transformer_blocks.{i}"
            found |= {
                f"{ours}.attn.qkv": tuple(f"{block}.attn1.to_{part}" for part in "qkv"),
                f"{ours}.attn.proj": (f"{block}.attn1.to_out.0",),
                f"{ours}.mlp.fc1": (f"{block}.ff.net.0.proj",),
                f"{ours}.mlp.fc2": (f"{block}.ff.net.2",),
                f"{ours}.adaLN_modulation.1": (f"{block}.norm1.linear",),
            }
        return found

    def schedule(self, foreign: ForeignCheckpoint, hints: Hints) -> Schedule:
        """Return the noise schedule of the pipeline's scheduler, if there is one."""
        said = foreign.scheduler
        if said.get("beta_schedule", "linear") != "linear" or said.get("trained_betas") is not None:
            raise ValueError(f"the betas of {foreign.name}'s scheduler are not linear; fpdm has no such schedule")
        base = _schedule(said, hints, name=foreign.name, prediction="epsilon")
        numbers = {"num_train_timesteps": "num_timesteps", "beta_start": "beta_start", "beta_end": "beta_end"}
        return replace(base, **{ours: said[theirs] for theirs, ours in numbers.items() if theirs in said})

    def leftover(self, foreign: ForeignCheckpoint, shape: TransformerConfig) -> set[str]:
        """Return the embedders of all blocks but the first, after checking that they equal the first's."""
        first = "transformer_blocks.0.norm1.emb."
        copies = set()
        for name in foreign.tensors:
            found = re.fullmatch(r"transformer_blocks\.(\d+)\.norm1\.emb\.(.+)", name)
            if found and found[1] != "0" and first + found[2] in foreign.tensors:
                copies.add(name)
                if not torch.equal(foreign.tensors[name], foreign.tensors[first + found[2]]):
                    raise ValueError(
                        f"{name} differs from {first}{found[2]}; fpdm has one embedder for all blocks, so it cannot "
                        "import this model"
                    )
        return copies | _check_positions(foreign, "pos_embed.pos_embed", shape)


LAYOUTS: dict[str, Layout] = {"block_fixed_point.": AuthorsFPDM(), "transformer_blocks.": Diffusers(), "blocks.": DiT()}
"""Layouts by the prefix of a name that occurs only in them."""


def convert(foreign: ForeignCheckpoint, hints: Hints) -> Converted:
    """Convert a foreign checkpoint to a model of ours.

    Args:
        foreign: The checkpoint.
        hints: What the checkpoint does not say itself.

    Raises:
        ValueError: The layout is unknown; names, shapes or positions do not fit (the message names the first ones);
            a weight is NaN or inf; or the model needs something that the checkpoint does not say or fpdm lacks.
    """
    found = [one for start, one in LAYOUTS.items() if any(name.startswith(start) for name in foreign.tensors)]
    if not found:
        raise ValueError(
            f"{foreign.file} is neither a DiT nor an FPDM; expected names that begin with {', '.join(LAYOUTS)} (it has "
            f"{', '.join(sorted(foreign.tensors)[:3])}, ...)"
        )
    try:
        return _converted(foreign, hints, found[0])
    except (TypeError, ZeroDivisionError) as error:  # a value in the configuration is not a usable number
        raise ValueError(f"the configuration beside {foreign.file} cannot be used: {error}") from error


def _converted(foreign: ForeignCheckpoint, hints: Hints, layout: Layout) -> Converted:
    _check_diffusion(foreign)
    shape = layout.shape(foreign, _sizes(foreign, layout), hints)
    schedule = layout.schedule(foreign, hints)
    names = _names(shape, layout.modules(shape))
    leftover = layout.leftover(foreign, shape)
    notes = list(layout.notes)
    tensors = dict(foreign.tensors)
    if not shape.num_classes:
        # Trained without classes and label dropout: only the first of the two rows was trained.
        tensors[f"{layout.labels}.weight"] = tensors[f"{layout.labels}.weight"][:1]
        notes.append("The model is unconditional: the embedding of its only class serves as that of no class.")
    _check(foreign, tensors, names, leftover, shape, layout)
    kinds = {str(value.dtype).removeprefix("torch.") for value in tensors.values()}
    if kinds != {"float32"}:
        notes.append(f"The weights were converted from {' and '.join(sorted(kinds))} to float32.")
    weights = {ours: torch.cat([tensors[one] for one in theirs]).float() for ours, theirs in names.items()}
    return Converted(layout.title, shape, schedule, weights, tuple(notes))


# Arguments that only codes of flow matching have: SiT's, REPA's and others'.
_FLOW_ARGS = ("path_type", "proj_coeff", "enc_type", "flow", "flow_matching", "rectified_flow", "use_flow_sigmas")
_FLOW_PREDICTIONS = ("velocity", "flow", "flow_prediction")
_PREDICTIONS = {"v": "v", "v_prediction": "v", "epsilon": "epsilon", "eps": "epsilon", "noise": "epsilon"}


def _check_diffusion(foreign: ForeignCheckpoint) -> None:
    """Raise if the model was trained by flow matching, whose velocity is not the v of diffusion."""
    said = {**foreign.args, **foreign.scheduler}
    signs = [f"its {key} is {said[key]!r}" for key in _FLOW_ARGS if said.get(key)]
    signs += [
        f"its {key} is {said[key]!r}" for key in ("prediction", "prediction_type") if said.get(key) in _FLOW_PREDICTIONS
    ]
    names = (Path(foreign.name).name, str(said.get("model", "")), str(said.get("_class_name", "")))
    signs += [f"its name is {name}" for name in names if re.match(r"SiT-|REPA-|FlowMatch", name)]
    if signs:
        raise ValueError(
            f"{foreign.name} was trained by flow matching ({signs[0]}), which fpdm does not support; expected a "
            "diffusion model, which predicts epsilon or v"
        )


def _sizes(foreign: ForeignCheckpoint, layout: Layout) -> Sizes:
    found = {}
    for module, ndim in ((layout.embedder, 4), (layout.head, 2), (layout.labels, 2)):
        name = f"{module}.weight"
        if name not in foreign.tensors:
            raise ValueError(f"{foreign.file} does not fit {layout.title}: {name} is missing")
        if foreign.tensors[name].ndim != ndim or not foreign.tensors[name].numel():
            raise ValueError(f"{foreign.file} does not fit {layout.title}: {name} is {_size(foreign.tensors[name])}")
        found[module] = foreign.tensors[name].shape
    width, channels, patch, _ = found[layout.embedder]
    return Sizes(width, channels, patch, found[layout.head][0], found[layout.labels][0])


def _common(foreign: ForeignCheckpoint, layout: Layout, sizes: Sizes, hints: Hints) -> TransformerConfig:
    """Read the fields that checkpoints of DiT and of the FPDM authors state in the same way."""
    positions = foreign.tensors.get("pos_embed")
    if positions is None:
        raise ValueError(f"{foreign.file} does not fit {layout.title}: pos_embed is missing")
    side = int(positions.shape[-2] ** 0.5) if positions.ndim >= 2 else 0
    fc1 = next((value for name, value in foreign.tensors.items() if name.endswith("mlp.fc1.weight")), None)
    if fc1 is None or fc1.ndim != 2 or not side:
        raise ValueError(
            f"{foreign.file} does not fit {layout.title}: it has no two-dimensional mlp.fc1.weight, or no positions"
        )
    _check_args(foreign, sizes)
    heads = HEADS.get(sizes.width) if hints.heads is None else hints.heads
    if heads is None:
        raise ValueError(
            f"the weights of {foreign.name} (width {sizes.width}) do not say how many heads it has; give --heads"
        )
    return TransformerConfig(
        image_size=side * sizes.patch,
        in_channels=sizes.channels,
        patch_size=sizes.patch,
        width=sizes.width,
        heads=heads,
        num_classes=0 if foreign.args.get("unsupervised") else sizes.rows - 1,
        learn_variance=_learns_variance(foreign, layout, sizes),
        mlp_ratio=fc1.shape[0] / sizes.width,
    )


def _check_args(foreign: ForeignCheckpoint, sizes: Sizes) -> None:
    """Check the size of the model against the training arguments, to detect missing blocks."""
    args, tensors, wrong = foreign.args, foreign.tensors, []
    if "block_fixed_point.mlp.fc1.weight" in tensors:
        for part in ("pre", "post"):
            said, found = args.get(f"fixed_point_{part}_depth"), _count(tensors, f"blocks_{part}")
            wrong += [f"{found} {part} blocks, not {said}"] if said not in (None, found) else []
    known = re.fullmatch(r"DiT-(S|B|L|XL)/(\d+)", str(args.get("model")))
    if known:
        expected, depth = preset(f"dit-{known[1].lower()}/2"), _count(tensors, "blocks")
        blocks = expected.pre_blocks + expected.middle_blocks + expected.post_blocks
        wrong += [f"{depth} blocks, not {blocks}"] if depth not in (0, blocks) else []
        size, want = (sizes.width, sizes.patch), (expected.width, int(known[2]))
        wrong += [f"width and patch size {size}, not {want}"] if size != want else []
    if wrong:
        raise ValueError(f"{foreign.file} is incomplete: it has {'; '.join(wrong)} as its arguments say")


def _learns_variance(foreign: ForeignCheckpoint, layout: Layout, sizes: Sizes) -> bool:
    plain = sizes.channels * sizes.patch**2
    if sizes.out not in (plain, 2 * plain):
        raise ValueError(
            f"{foreign.file}: {layout.head} returns {sizes.out} values per token; expected {plain}, or {2 * plain} "
            "with a learned variance"
        )
    return sizes.out == 2 * plain


def _schedule(said: Mapping[str, Any], hints: Hints, *, name: str, prediction: str) -> Schedule:
    """Return the schedule that a checkpoint says, that a hint says, or that is usual; what is assumed is told."""
    theirs = said.get("prediction", said.get("prediction_type"))
    if theirs is not None and theirs not in _PREDICTIONS:
        raise ValueError(f"{name} predicts {theirs!r}; expected epsilon or v_prediction, which fpdm can sample")
    if said.get("predict_xstart"):  # an argument of OpenAI's code
        raise ValueError(f"{name} predicts the image itself; expected epsilon or v_prediction, which fpdm can sample")
    if "predict_v" in said:  # an argument of the FPDM authors' code
        theirs = "v" if said["predict_v"] else "epsilon"
    if theirs is None and hints.prediction is None:
        warnings.warn(
            f"{name} does not say what it predicts: {prediction} is assumed; give --prediction if it is "
            f"{'epsilon' if prediction == 'v' else 'v'}",
            RuntimeWarning,
            stacklevel=5,
        )
    kind = _first_known("prediction", _PREDICTIONS.get(theirs or ""), hints.prediction, prediction)
    zero = said.get("zero_terminal_snr", said.get("use_zero_terminal_snr", said.get("rescale_betas_zero_snr")))
    return Schedule(
        prediction=kind,  # type: ignore[arg-type]  # Schedule checks it
        zero_terminal_snr=bool(_first_known("zero_terminal_snr", zero, hints.zero_terminal_snr, kind == "v")),
    )


def _first_known(name: str, said: T | None, hint: T | None, default: T | None) -> Any:
    """Return what the checkpoint says, otherwise the user's hint, otherwise the default."""
    if said is not None and hint is not None and said != hint:
        raise ValueError(f"{name} is {hint}, but the checkpoint says {said}; leave --{name.replace('_', '-')} out")
    return next((value for value in (said, hint) if value is not None), default)


def _outer_modules() -> dict[str, tuple[str, ...]]:
    """Map all modules except blocks and injection."""
    same = ("x_embedder.proj", "t_embedder.mlp.0", "t_embedder.mlp.2", "y_embedder.embedding_table")
    return {
        **{name: (name,) for name in same},
        "head.linear": ("final_layer.linear",),
        "head.adaLN_modulation.1": ("final_layer.adaLN_modulation.1",),
    }


def _stack_of_map_blocks(shape: TransformerConfig) -> list[str]:
    return [
        *(f"pre.{i}" for i in range(shape.pre_blocks)),
        *(f"middle.blocks.{i}" for i in range(shape.middle_blocks)),
        *(f"post.{i}" for i in range(shape.post_blocks)),
    ]


def _map_blocks(ours: Iterable[str], theirs: Iterable[str]) -> dict[str, tuple[str, ...]]:
    inside = ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2", "adaLN_modulation.1")
    return {f"{our}.{name}": (f"{their}.{name}",) for our, their in zip(ours, theirs, strict=False) for name in inside}


def _names(shape: TransformerConfig, modules: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    """Map our parameters to theirs."""
    parts = (name.rpartition(".") for name in _parameters(shape))
    return {f"{module}.{leaf}": tuple(f"{one}.{leaf}" for one in modules[module]) for module, _, leaf in parts}


def _parameters(shape: TransformerConfig) -> dict[str, torch.Size]:
    with torch.device("meta"):  # names and shapes only
        model = DiffusionTransformer.from_shape(shape)
    return {name: value.shape for name, value in model.named_parameters()}


def _check(
    foreign: ForeignCheckpoint,
    tensors: Mapping[str, Tensor],
    names: Mapping[str, tuple[str, ...]],
    leftover: set[str],
    shape: TransformerConfig,
    layout: Layout,
) -> None:
    sizes = _parameters(shape)
    expected = {
        one: torch.Size((sizes[ours][0] // len(theirs), *sizes[ours][1:]))
        for ours, theirs in names.items()
        for one in theirs
    }
    wrong = [f"{name} is missing" for name in expected if name not in tensors]
    wrong += [f"{name} is unknown" for name in tensors if name not in expected and name not in leftover]
    wrong += [
        f"{name} is {_size(tensors[name])}, expected {' x '.join(map(str, size))}"
        for name, size in expected.items()
        if name in tensors and tensors[name].shape != size
    ]
    if not wrong:
        wrong += [f"{name} is NaN or inf" for name in expected if not bool(tensors[name].isfinite().all())]
    if wrong:
        raise ValueError(f"{foreign.file} does not fit {layout.title}: {'; '.join(wrong[:3])} ({len(wrong)} in all)")


def _check_positions(foreign: ForeignCheckpoint, name: str, shape: TransformerConfig) -> set[str]:
    """Check that the positions, if the checkpoint has them, are our fixed ones."""
    if name not in foreign.tensors:
        return set()
    theirs = foreign.tensors[name]
    ours = sincos_positions(shape.width, shape.image_size // shape.patch_size)[None]  # (1, T, D)
    tolerance = max(1e-5, torch.finfo(theirs.dtype).eps) if theirs.is_floating_point() else 0.0
    if theirs.shape != ours.shape or not torch.allclose(theirs.float(), ours, rtol=0, atol=tolerance):
        raise ValueError(
            f"{foreign.file}: {name} ({_size(theirs)}) is not the fixed sine-cosine table of {_size(ours)}; other "
            "positions cannot be imported"
        )
    return {name}


def _count(tensors: Mapping[str, Tensor], prefix: str) -> int:
    """Count the blocks among the names; `_check` finds gaps."""
    return len({found[1] for name in tensors if (found := re.match(rf"{prefix}\.(\d+)\.", name))})


def _size(tensor: Tensor) -> str:
    return " x ".join(map(str, tensor.shape)) or "a scalar"
