"""The graphs of a model, in PyTorch, are the model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fpdm.autoencoder.config import AutoencoderConfig
from fpdm.autoencoder.interface import Pixels
from fpdm.export.graphs import applications, evaluate, graphs_of
from fpdm.fixed_point.solve import Stop, solve
from fpdm.fixed_point.solvers import Picard
from fpdm.models.config import TransformerConfig, as_dit
from tests import autoencoders
from tests.pipelines import SHAPE, network

SHAPES = {
    "paper": SHAPE,
    "elastic": replace(SHAPE, timestep_everywhere=True, injection="linear", middle_blocks=2),
    "variance": replace(SHAPE, learn_variance=True, in_channels=4, patch_size=2),
    "unconditional": replace(SHAPE, num_classes=0, pre_blocks=0),
    "dit": as_dit(SHAPE, 5),
    "shared": as_dit(SHAPE, 5, shared=True),
    "shallow": as_dit(SHAPE, 2),
}


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("batch", [1, 8])
def test_graphs_predict_what_the_model_does(name: str, batch: int) -> None:
    model = network(SHAPES[name])
    shape = model.shape
    graphs = graphs_of(model, Pixels())
    x = torch.randn(batch, shape.in_channels, 8, 8)  # (B, C, H, W)
    t, y = torch.linspace(0, 999, batch), torch.arange(batch) % (shape.num_classes + 1)  # (B,)
    fixed = applications(model)
    for count in (1, 5) if fixed is None else (fixed,):
        with torch.no_grad():
            found = evaluate(graphs, x, t, y, count)
            expected = model(x, t, y, solver=lambda f, z0, n=count: solve(f, z0, solver=Picard(), stop=Stop(n)))
        whole = expected.value if expected.variance is None else torch.cat([expected.value, expected.variance], 1)
        torch.testing.assert_close(found, whole)


def test_a_stack_says_how_often_it_is_applied() -> None:
    counts = {name: applications(network(shape)) for name, shape in SHAPES.items()}
    assert counts == {
        **{"paper": None, "elastic": None, "variance": None, "unconditional": None},
        **{"dit": 1, "shared": 3, "shallow": 0},
    }
    assert "iterate" not in {graph.name for graph in graphs_of(network(SHAPES["shallow"]), Pixels())}


@pytest.mark.parametrize("pad", [0, 1])
def test_the_decoder_is_the_autoencoders(tmp_path: Path, pad: int) -> None:
    autoencoders.tiny(tmp_path, pad=pad, shift_factor=0.2)
    autoencoder = AutoencoderConfig(str(tmp_path)).load()
    shape = TransformerConfig(image_size=4, in_channels=4, patch_size=2, width=16, heads=2, num_classes=0)
    decode = graphs_of(network(shape), autoencoder)[-1]
    latents = torch.randn(3, 4, 4, 6)  # (B, c, h, w)
    with torch.no_grad():
        torch.testing.assert_close(decode.module(latents), autoencoder.decode(latents))
