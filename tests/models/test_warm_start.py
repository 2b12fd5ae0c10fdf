"""A model that begins with another's weights has them where they belong."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from fpdm.models.config import TransformerConfig, as_dit
from fpdm.models.transformer import DiffusionTransformer
from fpdm.models.warm_start import start_from
from tests.models.random_models import random_batch, random_model, run

SHAPE = TransformerConfig(image_size=4, in_channels=3, patch_size=2, width=16, heads=2, num_classes=3)
DIT = as_dit(SHAPE, 8)


def begun(shape: TransformerConfig, source: DiffusionTransformer, block: int | None = None) -> DiffusionTransformer:
    torch.manual_seed(0)
    model = DiffusionTransformer.from_shape(shape)
    start_from(model, source, block)
    return model


def fresh(shape: TransformerConfig) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return DiffusionTransformer.from_shape(shape).state_dict()


def test_an_fpdm_from_a_dit() -> None:
    source = random_model(DIT, torch.float32)
    theirs, got = source.state_dict(), begun(SHAPE, source).state_dict()
    for name, value in got.items():
        part, _, inside = name.partition(".")
        if part in ("x_embedder", "t_embedder", "y_embedder", "head", "pre", "post"):
            want = theirs[name]
        elif inside.startswith("cell.0."):
            leaf = inside.removeprefix("cell.0.")
            want = sum(theirs[f"middle.blocks.{i}.{leaf}"] for i in range(6)) / 6
        else:
            want = fresh(SHAPE)[name]
        torch.testing.assert_close(value, want, rtol=1e-6, atol=1e-7, msg=name)


@pytest.mark.parametrize("block", [0, 3, 7])
def test_a_chosen_block(block: int) -> None:
    source = random_model(DIT, torch.float32)
    got, want = begun(SHAPE, source, block).middle.listed()[0].state_dict(), source.blocks()[block].state_dict()
    assert all(torch.equal(got[name], want[name]) for name in want)


def test_a_middle_of_several_blocks_takes_stretches_in_order() -> None:
    source = random_model(DIT, torch.float32)
    for shape in (replace(SHAPE, middle_blocks=2), as_dit(SHAPE, 4)):
        means = begun(shape, source).middle.listed()
        copies = begun(shape, source, 4).middle.listed()
        for k in range(2):
            name = "attn.qkv.weight"
            stretch = [source.blocks()[1 + 3 * k + i].attn.qkv.weight for i in range(3)]
            torch.testing.assert_close(means[k].state_dict()[name], torch.stack(stretch).mean(0))
            assert torch.equal(copies[k].attn.qkv.weight, source.blocks()[4 + k].attn.qkv.weight)


def test_of_equal_blocks_and_a_linear_injection_that_hands_them_on_the_dit_itself_is_left() -> None:
    """With every middle block alike, Wz = 1 and Wu = 0, the FPDM's iterations are the DiT's blocks."""
    source = random_model(DIT, torch.float64)
    for block in source.blocks()[2:-1]:
        block.load_state_dict(source.blocks()[1].state_dict())
    shape = replace(SHAPE, injection="linear", timestep_everywhere=True)
    model = DiffusionTransformer.from_shape(shape).double()
    start_from(model, source)
    with torch.no_grad():
        for name, value in (("from_z.weight", torch.eye(16)), ("from_x.weight", torch.zeros(16, 16))):
            model.middle.injection.get_parameter(name).copy_(value)  # type: ignore[union-attr, operator]
    batch = random_batch(SHAPE, torch.float64)
    torch.testing.assert_close(run(model, batch, 6).value, run(source, batch, 1).value, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("shape", [SHAPE, DIT, replace(SHAPE, injection="linear", pre_blocks=2)])
def test_a_model_of_the_same_parts_gives_all(shape: TransformerConfig) -> None:
    source = random_model(shape, torch.float32)
    got = begun(replace(shape, timestep_everywhere=True), source).state_dict()
    assert all(torch.equal(got[name], value) for name, value in source.state_dict().items())


def test_other_classes_begin_afresh_but_for_none() -> None:
    source = random_model(DIT, torch.float32)
    shape = replace(SHAPE, num_classes=7)
    table = begun(shape, source).y_embedder.embedding_table.weight
    assert torch.equal(table[7], source.y_embedder.embedding_table.weight[3])
    assert torch.equal(table[:7], fresh(shape)["y_embedder.embedding_table.weight"][:7])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"width": 32, "heads": 4}, "width is 16, here 32; heads is 2, here 4"),
        ({"heads": 4}, "heads is 2, here 4"),
        ({"patch_size": 4}, "patch_size is 2, here 4"),
        ({"learn_variance": False}, "learn_variance is True, here False"),
        ({"frequency_shift": 1.0}, "frequency_shift is 0.0, here 1.0"),
        ({"middle_blocks": 7}, "has 8 blocks; expected at least 9, for 1 pre, 7 middle and 1 post"),
        ({"pre_blocks": 5, "post_blocks": 4}, "has 8 blocks; expected at least 10"),
    ],
)
def test_what_does_not_fit_is_named(change: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        begun(replace(SHAPE, **change), random_model(DIT, torch.float32))


def test_a_block_that_is_not_there() -> None:
    source = random_model(DIT, torch.float32)
    with pytest.raises(ValueError, match="init_block is 8; expected at most 7"):
        begun(SHAPE, source, 8)
    with pytest.raises(ValueError, match="init_block is 7; expected at most 6"):
        begun(replace(SHAPE, middle_blocks=2), source, 7)
