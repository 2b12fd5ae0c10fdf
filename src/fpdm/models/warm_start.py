"""Warm start of a model from the weights of another, above all of an FPDM from a DiT."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from fpdm.models.block import DiTBlock
from fpdm.models.transformer import DiffusionTransformer

# Fields that determine the shape or the meaning of the copied weights.
_ALIKE = ("width", "heads", "mlp_ratio", "patch_size", "in_channels", "learn_variance")
_ALIKE += ("frequency_shift", "norm_eps", "mlp_norm_eps")


@torch.no_grad()
def start_from(model: DiffusionTransformer, source: DiffusionTransformer, block: int | None = None) -> None:
    """Copy the weights of `source` into `model`, which may have another middle.

    If all names and shapes are equal, everything is copied. Otherwise, embeddings and head are copied, the first blocks
    of `source` become the pre blocks and its last ones the post blocks, and the k blocks of the middle become the means
    of k equal parts of the blocks between them, or copies of k blocks from `block` on. The injection keeps its
    initialisation: the "linear" one, (z + u) / 2, passes the hidden state almost unchanged to blocks that know such
    states; the "mlp" one does not. If the numbers of classes differ, only the row for "no class" is copied.

    Args:
        model: Newly initialised model.
        source: Model of the same width, of any depth.
        block: Index of the first block of `source` to copy into the middle; None for the mean.

    Raises:
        ValueError: The architectures do not fit (the message names every field), or there are too few blocks.
    """
    theirs = source.state_dict()
    if _sizes(theirs) == _sizes(model.state_dict()):
        _check(model, source)
        model.load_state_dict(theirs)
        return
    _check(model, source)
    blocks, pre, post = source.blocks(), len(model.pre), len(model.post)
    middle = model.middle.listed()
    between = blocks[pre : len(blocks) - post]
    if len(between) < len(middle) or len(blocks) < pre + post:
        raise ValueError(
            f"the model to start from has {len(blocks)} blocks; expected at least {pre + len(middle) + post}, for "
            f"{pre} pre, {len(middle)} middle and {post} post blocks"
        )
    if block is not None and block + len(middle) > len(blocks):
        raise ValueError(
            f"init_block is {block}; expected at most {len(blocks) - len(middle)}, because the model to start from has "
            f"{len(blocks)} blocks and the middle needs {len(middle)} of them"
        )
    for part in ("x_embedder", "t_embedder", "head"):
        getattr(model, part).load_state_dict(getattr(source, part).state_dict())
    labels, their_labels = model.y_embedder.embedding_table.weight, source.y_embedder.embedding_table.weight
    if labels.shape == their_labels.shape:
        labels.copy_(their_labels)  # (K + 1, D)
    else:
        labels[-1].copy_(their_labels[-1])  # (D,)
    for own, their in zip([*model.pre, *model.post], [*blocks[:pre], *blocks[len(blocks) - post :]], strict=True):
        own.load_state_dict(their.state_dict())
    for place, own in enumerate(middle):
        if block is None:
            ends = [len(between) * end // len(middle) for end in (place, place + 1)]
            own.load_state_dict(_mean(between[slice(*ends)]))
        else:
            own.load_state_dict(blocks[block + place].state_dict())


def _check(model: DiffusionTransformer, source: DiffusionTransformer) -> None:
    wrong = [
        f"{name} is {getattr(source.shape, name)}, here {getattr(model.shape, name)}"
        for name in _ALIKE
        if getattr(source.shape, name) != getattr(model.shape, name)
    ]
    if wrong:
        raise ValueError(f"the model to start from does not fit: {'; '.join(wrong)}")


def _mean(blocks: Sequence[DiTBlock]) -> dict[str, Tensor]:
    states = [block.state_dict() for block in blocks]
    return {name: torch.stack([state[name] for state in states]).mean(0) for name in states[0]}


def _sizes(weights: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in weights.items()}
