"""What foreign weights are called, and the model of ours that computes the same with them.

Three layouts are known: the authors' FPDM, DiT's (the original release's and the authors'), and diffusers'
`DiTTransformer2DModel`. They differ from ours in names, in how attention's projections are cut, and in what they leave
for us to know: the number of heads, say.
"""

from __future__ import annotations

import abc
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from fpdm.diffusion.schedule import Schedule
from fpdm.importing.source import Source
from fpdm.models.config import TransformerConfig, as_dit, preset
from fpdm.models.embeddings import sincos_positions
from fpdm.models.transformer import DiffusionTransformer

T = TypeVar("T")

HEADS = {shape.width: shape.heads for shape in (preset(f"dit-{size}/2") for size in ("s", "b", "l", "xl"))}
"""Attention heads by width, of DiT's sizes."""


@dataclass(frozen=True)
class Claims:
    """What the user says of a checkpoint that does not say it itself; None leaves it to what is usual.

    Attributes:
        heads: Attention heads.
        timestep_everywhere: Whether an FPDM's pre and post blocks and head see the timestep.
        prediction: "v" or "epsilon".
        zero_terminal_snr: Whether the schedule is rescaled to end in pure noise.
    """

    heads: int | None = None
    timestep_everywhere: bool | None = None
    prediction: str | None = None
    zero_terminal_snr: bool | None = None


@dataclass(frozen=True)
class Converted:
    """Foreign weights in our terms.

    Attributes:
        layout: What they were, in words.
        shape: The model.
        schedule: Its noise schedule, and what it predicts.
        weights: By our names, in float32.
        notes: What was changed on the way, a sentence each.
    """

    layout: str
    shape: TransformerConfig
    schedule: Schedule
    weights: dict[str, Tensor]
    notes: tuple[str, ...]


class Layout(abc.ABC):
    """The names of one kind of checkpoint."""

    title: str
    embedder: str  # of the patches
    head: str  # the last linear layer
    labels: str
    notes: tuple[str, ...] = ()

    @abc.abstractmethod
    def shape(self, source: Source, sizes: Sizes, claims: Claims) -> TransformerConfig:
        """The shape of our model with these weights.

        Raises:
            ValueError: It cannot be known, or there is none.
        """

    @abc.abstractmethod
    def modules(self, shape: TransformerConfig) -> dict[str, tuple[str, ...]]:
        """Their modules by ours; the outputs of several stand one after another in ours."""

    def schedule(self, source: Source, claims: Claims) -> Schedule:
        """The noise schedule: DiT's unless something says otherwise."""
        return _schedule(source.args, claims, prediction="epsilon")

    def leftover(self, source: Source, shape: TransformerConfig) -> set[str]:
        """Names of tensors that are rightly there and not taken over.

        Raises:
            ValueError: One of them is not what it should be.
        """
        return _check_positions(source, "pos_embed", shape)


class Sizes(NamedTuple):
    """What can be read off the tensors."""

    width: int
    channels: int
    patch: int
    out: int
    rows: int


class DiT(Layout):
    """DiT's own."""

    title = "DiT"
    embedder, head, labels = "x_embedder.proj", "final_layer.linear", "y_embedder.embedding_table"

    def shape(self, source: Source, sizes: Sizes, claims: Claims) -> TransformerConfig:
        """A stack of as many blocks as there are."""
        depth = _count(source.tensors, "blocks")
        if claims.timestep_everywhere is False:
            raise ValueError("timestep_everywhere is false; a DiT always sees the timestep everywhere: leave it out")
        shape = replace(_common(source, self, sizes, claims), pre_blocks=1, post_blocks=min(depth - 1, 1))
        return as_dit(shape, depth)

    def modules(self, shape: TransformerConfig) -> dict[str, tuple[str, ...]]:
        """Block by block."""
        return _outer() | _blocks(_our_blocks(shape), (f"blocks.{i}" for i in range(10**6)))


class AuthorsFPDM(Layout):
    """The FPDM authors'."""

    title = "the authors' FPDM"
    embedder, head, labels = DiT.embedder, DiT.head, DiT.labels

    def shape(self, source: Source, sizes: Sizes, claims: Claims) -> TransformerConfig:
        """One block as the cell, between as many as there are."""
        said = source.args.get("fixed_point_pre_post_timestep_conditioning")
        everywhere = _settled("timestep_everywhere", said, claims.timestep_everywhere, False)
        return replace(
            _common(source, self, sizes, claims),
            pre_blocks=_count(source.tensors, "blocks_pre"),
            post_blocks=_count(source.tensors, "blocks_post"),
            timestep_everywhere=everywhere,
        )

    def modules(self, shape: TransformerConfig) -> dict[str, tuple[str, ...]]:
        """W0, W1 and W2 of the injection have names of their own."""
        pre, post = range(shape.pre_blocks), range(shape.post_blocks)
        injection = {
            "project": "block_pre_projection",
            "fc1": "block_fixed_point_projection_fc1",
            "fc2": "block_fixed_point_projection_fc2",
        }
        return {
            **_outer(),
            **_blocks((f"pre.{i}" for i in pre), (f"blocks_pre.{i}" for i in pre)),
            **_blocks(["middle.cell.0"], ["block_fixed_point"]),
            **_blocks((f"post.{i}" for i in post), (f"blocks_post.{i}" for i in post)),
            **{f"middle.injection.{ours}": (theirs,) for ours, theirs in injection.items()},
        }

    def schedule(self, source: Source, claims: Claims) -> Schedule:
        """The paper's (Sec. 4.1) unless something says otherwise."""
        return _schedule(source.args, claims, prediction="v")


class Diffusers(Layout):
    """diffusers' `DiTTransformer2DModel`.

    Its timesteps have other frequencies than DiT's own, its second norm another eps, and it has an embedder of
    timestep and label in each block; ours is one.
    """

    title = "diffusers' DiTTransformer2DModel"
    embedder, head = "pos_embed.proj", "proj_out_2"
    labels = "transformer_blocks.0.norm1.emb.class_embedder.embedding_table"
    notes = (
        "diffusers' form of DiT is kept: timestep frequencies with a shift of 1, and eps 1e-5 in each block's second "
        "norm (unless its configuration says another). The original release has a shift of 0 and eps 1e-6: import that "
        "to have its exact outputs.",
    )

    _FORM: Mapping[str, Any] = {
        "activation_fn": "gelu-approximate",
        "norm_type": "ada_norm_zero",
        "norm_elementwise_affine": False,
        "attention_bias": True,
    }
    _DEFAULTS: Mapping[str, Any] = {**_FORM, "num_attention_heads": 16, "sample_size": 32, "norm_eps": 1e-5}

    def shape(self, source: Source, sizes: Sizes, claims: Claims) -> TransformerConfig:
        """As the configuration says, which must be there."""
        if not source.config:
            raise ValueError(f"{source.file} needs the config.json beside it; give the folder {source.file.parent}")
        config = {**self._DEFAULTS, **source.config}
        other = [f"{key} {config[key]!r}, not {value!r}" for key, value in self._FORM.items() if config[key] != value]
        if other:
            raise ValueError(f"{source.name} has {'; '.join(other)}: there is no such model here")
        depth = _count(source.tensors, "transformer_blocks")
        has = {
            "num_layers": depth,
            "num_embeds_ada_norm": sizes.rows - 1,
            "patch_size": sizes.patch,
            "in_channels": sizes.channels,
            "attention_head_dim": sizes.width / config["num_attention_heads"],
        }
        wrong = [f"{key} {config[key]}, not {value:g}" for key, value in has.items() if config.get(key, value) != value]
        if wrong:
            raise ValueError(f"the config.json of {source.name} does not fit its weights: it has {'; '.join(wrong)}")
        shape = TransformerConfig(
            image_size=config["sample_size"],
            in_channels=sizes.channels,
            patch_size=sizes.patch,
            width=sizes.width,
            heads=_settled("heads", config["num_attention_heads"], claims.heads, None),
            post_blocks=min(depth - 1, 1),
            num_classes=sizes.rows - 1,
            learn_variance=_learns_variance(source, self, sizes),
            frequency_shift=1.0,
            mlp_norm_eps=float(config["norm_eps"]),
        )
        return as_dit(shape, depth)

    def modules(self, shape: TransformerConfig) -> dict[str, tuple[str, ...]]:
        """Queries, keys and values are three layers there; timestep and label are taken from the first block."""
        emb = "transformer_blocks.0.norm1.emb"
        found = {
            "x_embedder.proj": (self.embedder,),
            "t_embedder.mlp.0": (f"{emb}.timestep_embedder.linear_1",),
            "t_embedder.mlp.2": (f"{emb}.timestep_embedder.linear_2",),
            "y_embedder.embedding_table": (self.labels,),
            "head.adaLN_modulation.1": ("proj_out_1",),
            "head.linear": (self.head,),
        }
        for i, ours in enumerate(_our_blocks(shape)):
            block = f"transformer_blocks.{i}"
            found |= {
                f"{ours}.attn.qkv": tuple(f"{block}.attn1.to_{part}" for part in "qkv"),
                f"{ours}.attn.proj": (f"{block}.attn1.to_out.0",),
                f"{ours}.mlp.fc1": (f"{block}.ff.net.0.proj",),
                f"{ours}.mlp.fc2": (f"{block}.ff.net.2",),
                f"{ours}.adaLN_modulation.1": (f"{block}.norm1.linear",),
            }
        return found

    def schedule(self, source: Source, claims: Claims) -> Schedule:
        """As the pipeline's scheduler says, where there is one."""
        said = source.scheduler
        if said.get("beta_schedule", "linear") != "linear" or said.get("trained_betas") is not None:
            raise ValueError(f"the scheduler of {source.name} has no linear betas; there is no such schedule here")
        kinds = {"epsilon": "epsilon", "v_prediction": "v", None: None}
        if said.get("prediction_type") not in kinds:
            raise ValueError(f"{source.name} predicts {said['prediction_type']!r}; expected epsilon or v_prediction")
        base = _schedule(
            {"prediction": kinds[said.get("prediction_type")], "zero_terminal_snr": said.get("rescale_betas_zero_snr")},
            claims,
            prediction="epsilon",
        )
        numbers = {"num_train_timesteps": "num_timesteps", "beta_start": "beta_start", "beta_end": "beta_end"}
        return replace(base, **{ours: said[theirs] for theirs, ours in numbers.items() if theirs in said})

    def leftover(self, source: Source, shape: TransformerConfig) -> set[str]:
        """The embedders of the blocks after the first, which must be equal to the first's."""
        first = "transformer_blocks.0.norm1.emb."
        copies = set()
        for name in source.tensors:
            found = re.fullmatch(r"transformer_blocks\.(\d+)\.norm1\.emb\.(.+)", name)
            if found and found[1] != "0" and first + found[2] in source.tensors:
                copies.add(name)
                if not torch.equal(source.tensors[name], source.tensors[first + found[2]]):
                    raise ValueError(
                        f"{name} differs from {first}{found[2]}; ours has one embedder for all blocks, so this model "
                        "cannot be imported"
                    )
        return copies | _check_positions(source, "pos_embed.pos_embed", shape)


LAYOUTS: dict[str, Layout] = {"block_fixed_point.": AuthorsFPDM(), "transformer_blocks.": Diffusers(), "blocks.": DiT()}
"""The layouts by how a name of theirs begins."""


def convert(source: Source, claims: Claims) -> Converted:
    """Turn foreign weights into ours.

    Args:
        source: The weights.
        claims: What they do not say themselves.

    Raises:
        ValueError: No known layout; names, shapes or positions that do not fit (the first are named); nan or inf; or
            something of the model that the weights do not say, or that we have not.
    """
    found = [one for start, one in LAYOUTS.items() if any(name.startswith(start) for name in source.tensors)]
    if not found:
        raise ValueError(
            f"{source.file} is no DiT or FPDM: no name in it begins with {', '.join(LAYOUTS)} (it has "
            f"{', '.join(sorted(source.tensors)[:3])}, ...)"
        )
    try:
        return _converted(source, claims, found[0])
    except (TypeError, ZeroDivisionError) as error:  # a number of the configuration is none
        raise ValueError(f"the configuration beside {source.file} cannot be used: {error}") from error


def _converted(source: Source, claims: Claims, layout: Layout) -> Converted:
    if source.args.get("flow"):
        raise ValueError(f"{source.name} was trained by flow matching; expected a diffusion model")
    shape = layout.shape(source, _sizes(source, layout), claims)
    schedule = layout.schedule(source, claims)
    names = _names(shape, layout.modules(shape))
    leftover = layout.leftover(source, shape)
    notes = list(layout.notes)
    tensors = dict(source.tensors)
    if not shape.num_classes:
        # Trained without classes and without label dropout: the first row is what it saw, the second is as initialised.
        tensors[f"{layout.labels}.weight"] = tensors[f"{layout.labels}.weight"][:1]
        notes.append("Unconditional: the row of its only class is the one for no class here.")
    _check(source, tensors, names, leftover, shape, layout)
    kinds = {str(value.dtype).removeprefix("torch.") for value in tensors.values()}
    if kinds != {"float32"}:
        notes.append(f"Weights were {' and '.join(sorted(kinds))}, and are float32 here.")
    weights = {ours: torch.cat([tensors[one] for one in theirs]).float() for ours, theirs in names.items()}
    return Converted(layout.title, shape, schedule, weights, tuple(notes))


def _sizes(source: Source, layout: Layout) -> Sizes:
    found = {}
    for module, ndim in ((layout.embedder, 4), (layout.head, 2), (layout.labels, 2)):
        name = f"{module}.weight"
        if name not in source.tensors:
            raise ValueError(f"{source.file} does not fit {layout.title}: {name} is missing")
        if source.tensors[name].ndim != ndim or not source.tensors[name].numel():
            raise ValueError(f"{source.file} does not fit {layout.title}: {name} is {_size(source.tensors[name])}")
        found[module] = source.tensors[name].shape
    width, channels, patch, _ = found[layout.embedder]
    return Sizes(width, channels, patch, found[layout.head][0], found[layout.labels][0])


def _common(source: Source, layout: Layout, sizes: Sizes, claims: Claims) -> TransformerConfig:
    """What DiT's and the authors' checkpoints say in the same way."""
    positions = source.tensors.get("pos_embed")
    if positions is None:
        raise ValueError(f"{source.file} does not fit {layout.title}: pos_embed is missing")
    side = int(positions.shape[-2] ** 0.5) if positions.ndim >= 2 else 0
    fc1 = next((value for name, value in source.tensors.items() if name.endswith("mlp.fc1.weight")), None)
    if fc1 is None or fc1.ndim != 2 or not side:
        raise ValueError(
            f"{source.file} does not fit {layout.title}: no mlp.fc1.weight of two dimensions, or no positions"
        )
    _check_args(source, sizes)
    heads = HEADS.get(sizes.width) if claims.heads is None else claims.heads
    if heads is None:
        raise ValueError(f"the weights of {source.name} (width {sizes.width}) do not say how many heads; give --heads")
    return TransformerConfig(
        image_size=side * sizes.patch,
        in_channels=sizes.channels,
        patch_size=sizes.patch,
        width=sizes.width,
        heads=heads,
        num_classes=0 if source.args.get("unsupervised") else sizes.rows - 1,
        learn_variance=_learns_variance(source, layout, sizes),
        mlp_ratio=fc1.shape[0] / sizes.width,
    )


def _check_args(source: Source, sizes: Sizes) -> None:
    """Where a training checkpoint says how large its model was, that must be what there is: blocks may be lost."""
    args, tensors, wrong = source.args, source.tensors, []
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
        raise ValueError(f"{source.file} has {'; '.join(wrong)}, as its arguments say: it is not whole")


def _learns_variance(source: Source, layout: Layout, sizes: Sizes) -> bool:
    plain = sizes.channels * sizes.patch**2
    if sizes.out not in (plain, 2 * plain):
        raise ValueError(
            f"{source.file}: {layout.head} gives {sizes.out} values a token; expected {plain}, or {2 * plain} with "
            "learned variance"
        )
    return sizes.out == 2 * plain


def _schedule(said: Mapping[str, Any], claims: Claims, *, prediction: str) -> Schedule:
    theirs = said.get("prediction")
    if "predict_v" in said:  # the authors'
        theirs = "v" if said["predict_v"] else "epsilon"
    kind = _settled("prediction", theirs, claims.prediction, prediction)
    zero = said.get("zero_terminal_snr", said.get("use_zero_terminal_snr"))
    return Schedule(
        prediction=kind,  # type: ignore[arg-type]  # checked there
        zero_terminal_snr=bool(_settled("zero_terminal_snr", zero, claims.zero_terminal_snr, kind == "v")),
    )


def _settled(name: str, said: T | None, claimed: T | None, otherwise: T | None) -> Any:
    """What the checkpoint says, or else the user, or else what is usual."""
    if said is not None and claimed is not None and said != claimed:
        raise ValueError(f"{name} is {claimed}, but the checkpoint's is {said}; leave --{name.replace('_', '-')} out")
    return next((value for value in (said, claimed) if value is not None), otherwise)


def _outer() -> dict[str, tuple[str, ...]]:
    """Everything but blocks and injection, where names differ in one place only."""
    same = ("x_embedder.proj", "t_embedder.mlp.0", "t_embedder.mlp.2", "y_embedder.embedding_table")
    return {
        **{name: (name,) for name in same},
        "head.linear": ("final_layer.linear",),
        "head.adaLN_modulation.1": ("final_layer.adaLN_modulation.1",),
    }


def _our_blocks(shape: TransformerConfig) -> list[str]:
    """Of a stack, in order."""
    return [
        *(f"pre.{i}" for i in range(shape.pre_blocks)),
        *(f"middle.blocks.{i}" for i in range(shape.middle_blocks)),
        *(f"post.{i}" for i in range(shape.post_blocks)),
    ]


def _blocks(ours: Iterable[str], theirs: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Blocks have the same modules inside."""
    inside = ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2", "adaLN_modulation.1")
    return {f"{our}.{name}": (f"{their}.{name}",) for our, their in zip(ours, theirs, strict=False) for name in inside}


def _names(shape: TransformerConfig, modules: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    """Their parameters by ours."""
    parts = (name.rpartition(".") for name in _parameters(shape))
    return {f"{module}.{leaf}": tuple(f"{one}.{leaf}" for one in modules[module]) for module, _, leaf in parts}


def _parameters(shape: TransformerConfig) -> dict[str, torch.Size]:
    with torch.device("meta"):  # names and shapes only
        model = DiffusionTransformer.from_shape(shape)
    return {name: value.shape for name, value in model.named_parameters()}


def _check(
    source: Source,
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
        wrong += [f"{name} holds nan or inf" for name in expected if not bool(tensors[name].isfinite().all())]
    if wrong:
        raise ValueError(f"{source.file} does not fit {layout.title}: {'; '.join(wrong[:3])} ({len(wrong)} in all)")


def _check_positions(source: Source, name: str, shape: TransformerConfig) -> set[str]:
    """The fixed positions, if they are there, must be ours."""
    if name not in source.tensors:
        return set()
    theirs = source.tensors[name]
    ours = sincos_positions(shape.width, shape.image_size // shape.patch_size)[None]  # (1, T, D)
    tolerance = max(1e-5, torch.finfo(theirs.dtype).eps) if theirs.is_floating_point() else 0.0
    if theirs.shape != ours.shape or not torch.allclose(theirs.float(), ours, rtol=0, atol=tolerance):
        raise ValueError(
            f"{source.file}: {name} ({_size(theirs)}) is not the fixed sine-cosine table of {_size(ours)}; learned or "
            "other positions cannot be imported"
        )
    return {name}


def _count(tensors: Mapping[str, Tensor], prefix: str) -> int:
    """How many blocks the names speak of; gaps are found when names are compared."""
    return len({found[1] for name in tensors if (found := re.match(rf"{prefix}\.(\d+)\.", name))})


def _size(tensor: Tensor) -> str:
    return " x ".join(map(str, tensor.shape)) or "a number"
