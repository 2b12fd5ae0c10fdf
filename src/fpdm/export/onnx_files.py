"""ONNX files: written from PyTorch modules, with weights of 32 or 8 bits, and run by onnxruntime."""

from __future__ import annotations

import logging
import os
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from fpdm.export.graphs import Graph

WeightFormat = Literal["float32", "int8"]
_LARGEST = 2**30  # bytes of weights in the file of the graph itself; Protocol Buffers end at 2 GiB
# onnxruntime from 1.29 on sends usage data unless this is set before it is imported, which only happens below.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

_MULTIPLICATIONS = ["MatMul", "Gemm"]  # whose weights become int8; onnxruntime convolves int8 on few machines


def check_installed() -> None:
    """Check that the libraries are installed.

    Raises:
        ValueError: One is missing.
    """
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ValueError(
            f"export to ONNX needs {error.name}, which is not installed: pip install 'fpdm[onnx]'"
        ) from error


def write_graph(graph: Graph, folder: Path, weights: WeightFormat = "float32") -> Path:
    """Write a graph as an ONNX file; of more than 1 GiB, the weights go into a file beside it.

    Args:
        graph: The graph.
        folder: Where to write.
        weights: "int8" keeps the weights of matrix products in 8 bits, one scale for each output, and computes them in
            8 bits; convolutions stay as they are.

    Returns:
        The file.
    """
    from onnxscript import ir, optimizer

    size = sum(tensor.numel() * tensor.element_size() for tensor in graph.module.state_dict().values())
    path, external = folder / f"{graph.name}.onnx", size > _LARGEST
    axes = tuple({axis: torch.export.Dim.DYNAMIC for axis in one} for one in graph.dynamic)
    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            graph.module.eval(),
            graph.example,
            input_names=graph.inputs,
            output_names=graph.outputs,
            dynamic_shapes=axes,
            dynamo=True,
            verbose=False,
        )
        assert program is not None
        # Slices and transposes of weights are constants too, of any size.
        optimizer.fold_constants(program.model, input_size_limit=2**31, output_size_limit=2**31)
        optimizer.optimize(program.model)
        _tidy(program.model, graph)
        ir.save(program.model, path, external_data=f"{path.name}.data" if external else None)
        if weights == "int8":
            _quantise(path, external)
    return path


def _tidy(model: Any, graph: Graph) -> None:
    """Name the axes whose length may change as the graph does, and forget where on this machine the code was."""
    names: dict[str, str] = {}
    for value, axes in zip(model.graph.inputs, graph.dynamic, strict=True):
        names |= {str(value.shape[axis]): name for axis, name in axes.items()}
    symbol = re.compile("|".join(map(re.escape, names)))
    for value in (*model.graph.inputs, *model.graph.outputs):
        sizes = [
            one if isinstance(one, int) else symbol.sub(lambda found: names[found[0]], str(one)) for one in value.shape
        ]
        value.shape = type(value.shape)(sizes)
    for node in model.graph.all_nodes():
        node.metadata_props.clear()
        for value in node.outputs:
            value.metadata_props.clear()
    for value in (*model.graph.inputs, *model.graph.initializers.values()):
        value.metadata_props.clear()
    model.metadata_props.clear()
    model.graph.metadata_props.clear()


def _quantise(path: Path, external: bool) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    whole = path.with_suffix(".float32.onnx")
    path.replace(whole)
    quantize_dynamic(
        whole,
        path,
        op_types_to_quantize=_MULTIPLICATIONS,
        per_channel=True,
        weight_type=QuantType.QInt8,
        use_external_data_format=external,
    )
    whole.unlink()


class Session:
    """A graph in onnxruntime, on the CPU.

    Args:
        path: Its file.
    """

    def __init__(self, path: Path) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors
        options.intra_op_num_threads = 1  # the others would wait for work by spinning
        self._session: Any = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.inputs = tuple(one.name for one in self._session.get_inputs())
        self.outputs = tuple(one.name for one in self._session.get_outputs())

    def __call__(self, values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Run the graph on its inputs among some values by name; returns its outputs by name."""
        given = {name: values[name] for name in self.inputs}
        return dict(zip(self.outputs, self._session.run(None, given), strict=True))


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence what the exporter and the quantiser say about themselves."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
