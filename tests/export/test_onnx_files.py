"""ONNX files are small, name what they take, and say nothing of the machine that wrote them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from fpdm.autoencoder.interface import Pixels
from fpdm.export import onnx_files
from fpdm.export.graphs import graphs_of
from fpdm.export.onnx_files import Session, check_installed, write_graph
from tests.pipelines import network


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ValueError, match=r"needs onnxruntime, which is not installed: pip install 'fpdm\[onnx\]'"):
        check_installed()


@pytest.mark.slow
def test_onnxruntime_keeps_and_sends_no_usage_data(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    places = dict.fromkeys(("HOME", "TMPDIR", "XDG_CACHE_HOME"), str(tmp_path))
    environment = {name: value for name, value in os.environ.items() if name not in ("ORT_DISABLE_TELEMETRY", "CI")}
    code = """
from fpdm.export.onnx_files import Session
import onnx
x, y = (onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in "xy")
graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["x"], ["y"])], "relu", [x], [y])
made = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
onnx.save(made, "relu.onnx")
Session("relu.onnx")
"""
    path = str(Path(onnx_files.__file__).parents[2])
    subprocess.run(
        [sys.executable, "-c", code], env={**environment, **places, "PYTHONPATH": path}, cwd=tmp_path, check=True
    )
    assert [path.name for path in tmp_path.iterdir()] == ["relu.onnx"]


@pytest.mark.slow
def test_a_graph_takes_any_batch_and_any_number_of_tokens(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    graph = graphs_of(network(), Pixels())[1]
    path = write_graph(graph, tmp_path)
    assert [one.name for one in tmp_path.iterdir()] == ["iterate.onnx"]
    assert str(Path(__file__).parents[2]).encode() not in path.read_bytes()
    assert b"site-packages" not in path.read_bytes()
    session = Session(path)
    assert (session.inputs, session.outputs) == (graph.inputs, graph.outputs)
    for batch, tokens in ((1, 4), (8, 9)):
        z, m, u = torch.randn(batch, tokens, 16), torch.randn(batch, 6, 16), torch.randn(batch, tokens, 32)
        found = session({"z": z.numpy(), "modulations": m.numpy(), "injected": u.numpy()})["z_next"]
        with torch.no_grad():
            np.testing.assert_allclose(found, graph.module(z, m, u), atol=1e-4)


@pytest.mark.slow
def test_int8_is_smaller_and_near(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    from fpdm.runs.pretrained import load_model

    graph = graphs_of(load_model("fpdm-fashion").model, Pixels())[1]
    sizes, found = {}, {}
    known = {name: one.numpy() for name, one in zip(graph.inputs, graph.example, strict=True)}
    for weights in ("float32", "int8"):
        folder = tmp_path / weights
        folder.mkdir()
        path = write_graph(graph, folder, weights)
        assert [*folder.iterdir()] == [path]
        sizes[weights], found[weights] = path.stat().st_size, Session(path)(known)["z_next"]
    assert sizes["int8"] < sizes["float32"] / 3
    difference = np.abs(found["int8"] - found["float32"]).mean() / np.abs(found["float32"]).mean()
    assert 1e-4 < difference < 0.05  # another network, but a near one
