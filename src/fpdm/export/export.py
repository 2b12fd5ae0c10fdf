"""Export of a run: graphs, and a record with all that a runtime needs besides them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from fpdm.autoencoder.interface import Autoencoder
from fpdm.configuration import Record
from fpdm.errors import RunError
from fpdm.export.graphs import Graph, applications, evaluate, graphs_of
from fpdm.export.onnx_files import Session, WeightFormat, write_graph
from fpdm.files import read_json, sha256_of, temporary_folder, write_json
from fpdm.memory import check_disk
from fpdm.models.cost import BYTES
from fpdm.runs.layout import EXPORT, EXPORTED
from fpdm.runs.run import Run
from fpdm.sampling.images import ImageSampler, sample_shape
from fpdm.sampling.plan import Plan

FORMAT = "fpdm-onnx-1"
_TOLERANCE = 1e-3  # relative, of float32 in another order of summation
_SETTINGS = ("format", "weights", "weights_sha256", "autoencoder_sha256", "plan")  # what makes another export


@dataclass(frozen=True)
class Exported(Record):
    """Summary of an export.

    Attributes:
        out: The folder.
        weights: Format of the weights.
        sizes: Bytes of each graph, its weights included.
        difference: Largest difference to PyTorch's prediction, relative to the largest prediction.
    """

    out: Path
    weights: WeightFormat
    sizes: dict[str, int]
    difference: float

    def to_text(self) -> str:
        """Return the summary in a few lines."""
        total = sum(self.sizes.values())
        sizes = ", ".join(f"{name} {size / 1e6:.2f} MB" for name, size in self.sizes.items())
        return (
            f"{len(self.sizes)} graphs and {EXPORT} in {self.out}: {total / 1e6:.2f} MB with weights of {self.weights} "
            f"({sizes})\nlargest difference to PyTorch: {self.difference:.1e} of the largest value predicted"
        )


def export_model(
    run: Run, plan: Plan, out: Path, *, weights: WeightFormat = "float32", overwrite: bool = False
) -> Exported:
    """Export a run as ONNX graphs with a record of its schedule and a plan.

    Args:
        run: The run.
        plan: How to spend a budget.
        out: Folder to write to.
        weights: Format of the weights.
        overwrite: Replace an earlier export of another model, or with other settings.

    Raises:
        ValueError: The plan does not fit the model, or the folder has another export.
        RunError: The graphs predict something else than the model does.
    """
    device = torch.device("cpu")
    run.model.to(device)  # type: ignore[arg-type]
    run.check_guidance(plan.guidance)
    autoencoder = run.recipe.autoencoder.load(device, source=run.autoencoder_source)
    sampler = ImageSampler(run.model, run.recipe.schedule, plan, device=device, autoencoder=autoencoder)
    check_disk(BYTES * run.model.cost().total_parameters * (1 if weights == "float32" else 0.25), out, "the export")
    if applications(run.model) is not None and sampler.weak and sampler.weak.depth:
        raise ValueError(
            f"weak_depth is {sampler.weak.depth}, but the graphs of a stack of blocks end with all of it; expected 0"
        )
    graphs = graphs_of(run.model, autoencoder)
    record = {"format": FORMAT, "weights": weights, **_describe(run, sampler)}
    with EXPORTED.hold(out):
        _check_earlier(out, record, overwrite)
        for path in (*out.glob("*.onnx"), *out.glob("*.onnx.data"), out / EXPORT):
            path.unlink(missing_ok=True)
        with temporary_folder(out) as folder:
            for graph in graphs:
                write_graph(graph, folder, weights)
            difference = _difference(graphs, folder, autoencoder, applications(run.model))
            if weights == "float32" and not difference <= _TOLERANCE:
                raise RunError(f"the exported graphs differ from the model by {difference:.1e}; expected {_TOLERANCE}")
            files = sorted(folder.iterdir())
            record["graphs"] = {graph.name: _describe_graph(graph, files) for graph in graphs}
            record["difference"] = difference
            for path in files:
                path.replace(out / path.name)
        write_json(out / EXPORT, record)
    return Exported(out, weights, {graph.name: record["graphs"][graph.name]["bytes"] for graph in graphs}, difference)


def _check_earlier(out: Path, record: Mapping[str, Any], overwrite: bool) -> None:
    if overwrite or not (out / EXPORT).exists():
        return
    earlier = read_json(out / EXPORT)
    changed = [key for key in _SETTINGS if earlier.get(key) != record[key]]
    if changed:
        raise ValueError(
            f"{out} holds an export with another {' and '.join(changed[:3])}; choose another folder, or replace it "
            "with --overwrite"
        )


def _describe(run: Run, sampler: ImageSampler) -> dict[str, Any]:
    """Collect what a runtime needs besides the graphs, as JSON values."""
    model, schedule, plan, shape = run.model, run.recipe.schedule, sampler.plan, run.model.shape
    cost = model.cost()
    count = applications(model)
    probed = sampler.probed
    return {
        "name": run.recipe.name,
        "weights_sha256": run.weights,
        "autoencoder_sha256": sampler.autoencoder.sha256,
        "classes": list(run.classes.names),
        "num_classes": shape.num_classes,  # the label of "no class", too
        "sample_shape": list(sample_shape(model)),
        "image_shape": list(sampler.autoencoder.image_shape(sample_shape(model))),
        "learned_variance": shape.learn_variance,
        "clip": sampler.autoencoder.clip,
        "noise": {
            "generator": "numpy.random.Generator(Philox), standard_normal, float32",
            "key": ["seed", 1],
            "counter": [0, 0, "0 for the start, k + 1 for step k", "index of the image"],
        },
        "schedule": {**asdict(schedule), "alphas_bar": schedule.alphas_bar.tolist()},  # from timestep -1
        "cost": {
            "passes_outside": cost.explicit,
            "passes_per_application": shape.middle_blocks,
            "applications": count,  # null: may be chosen, at least 1
            "macs_outside": int(cost.evaluation_macs(0)),
            "macs_per_application": cost.middle.iterate * (1 if count is None else shape.middle_blocks),
            "decoding_macs": sampler.autoencoder.decoding_macs(sample_shape(model)),
        },
        "plan": {
            **plan.values(),
            "reuse": plan.reuse and count is None,  # a stack has no solution to start from
            "timesteps": list(sampler.timesteps),
            # How often "iterate" is applied in each step; of an adaptive allocation, at least.
            "table": list(sampler.table) if count is None else [count] * len(sampler.timesteps),
            **({"weak_depth": sampler.weak.depth} if sampler.weak else {}),
            **({"threshold": probed.allocation.threshold, "cap": probed.allocation.cap} if probed else {}),
        },
    }


def _describe_graph(graph: Graph, files: Sequence[Path]) -> dict[str, Any]:
    own = [path for path in files if path.name.partition(".")[0] == graph.name]
    return {
        "file": f"{graph.name}.onnx",
        "bytes": sum(path.stat().st_size for path in own),
        "sha256": {path.name: sha256_of(path) for path in own},
        "inputs": list(graph.inputs),
        "outputs": list(graph.outputs),
    }


@torch.no_grad()
def _difference(graphs: Sequence[Graph], folder: Path, autoencoder: Autoencoder, count: int | None) -> float:
    """Compare the files with the modules on a batch of three; return the largest relative difference."""
    sessions = {graph.name: Session(folder / f"{graph.name}.onnx") for graph in graphs}
    start = graphs[0].example
    x, t, y = (torch.cat([one, one[:1]]) for one in start)  # (3, ...)
    iterations = 3 if count is None else count
    known = sessions["start"]({"x": x.numpy(), "t": t.numpy(), "y": y.numpy()})
    for _ in range(iterations):
        known["z"] = sessions["iterate"](known)["z_next"]
    pairs = [(sessions["finish"](known)["prediction"], evaluate(graphs, x, t, y, iterations))]
    if "decode" in sessions:
        pairs.append((sessions["decode"]({"latents": x.numpy()})["images"], autoencoder.decode(x)))
    return max(float((torch.from_numpy(ours) - theirs).abs().max() / theirs.abs().max()) for ours, theirs in pairs)
