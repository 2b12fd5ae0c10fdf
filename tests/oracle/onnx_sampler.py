"""Sampling from an exported model with numpy and onnxruntime alone, as another runtime would do it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime


class OnnxSampler:
    """Sampler of the folder that `fpdm export` wrote: DDIM and the second-order sampler, plain iteration."""

    def __init__(self, folder: Path) -> None:
        self.record = json.loads((folder / "model.json").read_text())
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.graphs = {
            name: onnxruntime.InferenceSession(folder / graph["file"], options, providers=["CPUExecutionProvider"])
            for name, graph in self.record["graphs"].items()
        }
        self.evaluations = 0  # of "iterate" for the last batch

    def run(self, name: str, known: dict[str, Any]) -> dict[str, Any]:
        session = self.graphs[name]
        given = {one.name: known[one.name] for one in session.get_inputs()}
        return dict(zip((one.name for one in session.get_outputs()), session.run(None, given), strict=True))

    def noise(self, seed: int, index: int) -> np.ndarray:
        bits = np.random.Philox(key=[seed, 1], counter=[0, 0, 0, index])
        return np.random.Generator(bits).standard_normal(self.record["sample_shape"], dtype=np.float32)

    def levels(self, t: int) -> tuple[float, float]:
        bar = self.record["schedule"]["alphas_bar"][t + 1]
        return np.sqrt(bar), np.sqrt(1 - bar)

    def predict(self, x: np.ndarray, t: int, y: np.ndarray, z0: Any, count: int, plan: dict[str, Any]) -> Any:
        """The guided prediction of v, and the solution."""
        guided = plan["guidance"] != 1
        if guided:
            x, y = np.concatenate([x, x]), np.concatenate([y, np.full_like(y, self.record["num_classes"])])
        known = self.run("start", {"x": x, "t": np.full(len(x), t, np.float32), "y": y})
        start = known["z"]
        for _ in range(plan.get("weak_depth", 0)):
            start = self.run("iterate", {**known, "z": start})["z_next"]
        if z0 is not None:
            known["z"] = z0
        for _ in range(count):
            known["z"] = self.run("iterate", known)["z_next"]
            self.evaluations += 1
        value = self.run("finish", known)["prediction"]
        if plan.get("self_guidance"):
            weak = self.run("finish", {**known, "z": start})["prediction"]
            value = value + plan["self_guidance"] * (value - weak)
        value = value[:, : x.shape[1]]  # without the variance
        if self.record["schedule"]["prediction"] == "epsilon":
            a, s = self.levels(t)
            value = (value - s * x) / a
        if guided:
            with_class, without = np.split(value, 2)
            value = without + plan["guidance"] * (with_class - without)
        return value, known["z"]

    def __call__(self, seed: int, indices: list[int], labels: list[int], **changes: Any) -> np.ndarray:
        """Images (B, C, H, W), approximately in [-1, 1]."""
        plan = {**self.record["plan"], **changes}
        x = np.stack([self.noise(seed, index) for index in indices])
        y, z, before, self.evaluations = np.array(labels, np.int64), None, None, 0
        timesteps = [*plan["timesteps"], -1]
        for t, u, count in zip(timesteps, timesteps[1:], plan["table"], strict=False):
            v, solution = self.predict(x.astype(np.float32), t, y, z, count, plan)
            z = solution if plan["reuse"] else None
            (a, s), (a_next, s_next) = self.levels(t), self.levels(u)
            x0 = self.clip(a * x - s * v)
            estimate, angle = x0, np.arctan2(s, a) - np.arctan2(s_next, a_next)
            if plan["sampler"] == "second-order" and before is not None:
                x0 = self.clip(x0 + angle / (2 * before[1]) * (x0 - before[0]))
            before = estimate, angle
            x = a_next * x0 + s_next * (x - a * x0) / s
        x = x.astype(np.float32)
        return self.run("decode", {"latents": x})["images"] if "decode" in self.graphs else x

    def clip(self, x0: np.ndarray) -> np.ndarray:
        bound = self.record["clip"]
        return x0 if bound is None else np.clip(x0, -bound, bound)
