"""What the benchmark compares computes the same, and what it measures with measures right. Nothing is timed here."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from benchmarks import attempts, bits, cold, speed, steps
from benchmarks.live import peak_bytes
from benchmarks.page import page
from benchmarks.steps import (
    Batch,
    Ours,
    Ratio,
    Row,
    Straightforward,
    in_turn,
    renamed,
    sample_with_reuse,
    straightforward_twin,
)
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from fpdm.diffusion.objective import Objective
from fpdm.diffusion.schedule import Schedule
from fpdm.fixed_point.gradients import stochastic_jfb, unrolled
from fpdm.models.config import TransformerConfig, as_dit, preset
from fpdm.models.transformer import DiffusionTransformer
from fpdm.pipeline import FPDMPipeline
from fpdm.sampling.packed import PackedLinear, are_operators_known
from fpdm.sampling.schedulers import default_scheduler
from fpdm.training.memory import training_memory
from tests.oracle.network import random_weights

CPU = torch.device("cpu")
SHAPE = TransformerConfig(
    image_size=12, in_channels=2, patch_size=3, width=24, heads=3, num_classes=4, learn_variance=False
)


def pair(shape: TransformerConfig) -> tuple[Ours, Straightforward]:
    """FPDM and its straightforward twin, no weight zero."""
    model = DiffusionTransformer.from_shape(shape)
    sizes = {name: value.shape for name, value in model.state_dict().items()}
    model.load_state_dict(random_weights(sizes, seed=0, dtype=torch.float32, gain=0.7))
    batch = Batch.random(shape, 3, CPU)
    return Ours(model, batch), Straightforward(straightforward_twin(model), batch)


@pytest.mark.parametrize(("n", "m"), [(0, 1), (0, 3), (2, 2)])
@pytest.mark.parametrize(
    "shape",
    [SHAPE, replace(SHAPE, pre_blocks=2, post_blocks=2), replace(SHAPE, num_classes=0)],
    ids=["paper", "two pre, two post", "unconditional"],
)
def test_the_straightforward_fpdm_is_the_same_function(shape: TransformerConfig, n: int, m: int) -> None:
    ours, plain = pair(shape)
    assert ours.value(n, m).std() > 0.1  # else closeness says nothing
    torch.testing.assert_close(ours.value(n, m), plain.value(n, m), rtol=1e-5, atol=1e-5)
    for subject in (ours, plain):
        subject.loss(n, m).backward()
    theirs = dict(plain.model.named_parameters())
    assert len(theirs) == len(list(ours.model.parameters()))
    for name, parameter in ours.model.named_parameters():
        want = theirs[renamed(name)].grad
        assert parameter.grad is not None
        assert want is not None
        assert want.abs().max() > 0, name
        torch.testing.assert_close(parameter.grad, want, rtol=1e-5, atol=1e-5 * want.abs().max().item(), msg=name)


@pytest.mark.parametrize("iterations", [1, 4])
def test_the_straightforward_fpdm_samples_the_same(iterations: int) -> None:
    ours, plain = pair(replace(SHAPE, learn_variance=True))
    first = ours.sample(iterations)  # (B, T, D)
    torch.testing.assert_close(first, plain.sample(iterations), rtol=1e-5, atol=1e-5)
    again = ours.sample(iterations, first)  # (B, T, D)
    torch.testing.assert_close(again, plain.sample(iterations, first), rtol=1e-5, atol=1e-5)
    assert (again - first).abs().max() > 1e-3  # the start matters
    b = plain.batch
    both, _ = plain.model(b.x, b.t, b.y, n=0, m=iterations, start=first)  # (B, 2C, H, W)
    prediction = ours.model(b.x, b.t, b.y, solver=partial(unrolled(iterations).solve, n=0, m=iterations), z0=first)
    torch.testing.assert_close(torch.cat([prediction.value, prediction.variance], 1), both, rtol=1e-5, atol=1e-5)


def test_peak_bytes_by_hand() -> None:
    x = torch.ones(100)  # 400 bytes, there before

    def chain() -> None:
        a = x + 1  # 400
        b = a * 2  # 800
        del a
        c = b[10:].view(-1, 9)  # still 400: a view
        c += 1  # still 400: in place
        d = torch.cat([b, b])  # 1200
        del b, c
        d.exp()  # 1600
        x.add(1)  # 1200

    assert peak_bytes(chain) == 1600
    assert peak_bytes(lambda: x.view(10, 10).t()) == 0
    assert peak_bytes(lambda: x.mul_(1.0)) == 0
    assert peak_bytes(lambda: [x + 1 for _ in range(5)]) == 2000


def allocated_at_most(run: Callable[[], object], folder: Path) -> int:
    """By the profiler's record of the allocator."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        run()
    record.export_chrome_trace(str(folder / "trace.json"))
    events = json.loads((folder / "trace.json").read_text())["traceEvents"]
    live = peak = 0
    for event in sorted((e for e in events if e["name"] == "[memory]"), key=lambda e: e["ts"]):
        live += event["args"]["Bytes"]
        peak = max(peak, live)
    return peak


def test_peak_bytes_of_a_sampling_step_are_the_allocators(tmp_path: Path) -> None:
    for subject in pair(SHAPE):
        sample_with_reuse(subject, 2)  # what is made once and kept is not a step's
        peak = peak_bytes(lambda s=subject: sample_with_reuse(s, 3))
        assert peak == peak_bytes(lambda s=subject: sample_with_reuse(s, 9)) > 10_000
        assert peak == allocated_at_most(lambda s=subject: sample_with_reuse(s, 3), tmp_path)


def test_steps_are_timed_in_turn() -> None:
    made: list[str] = []
    seconds = in_turn([lambda: made.append("A"), lambda: made.append("B")], 3)
    assert "".join(made) == "ABABABAB"  # a round to warm up, and three
    assert [len(taken) for taken in seconds] == [3, 3]
    assert min(min(taken) for taken in seconds) > 0


def test_ratios_are_of_rounds_and_not_of_medians() -> None:
    fpdm, plain, dit = [1.0, 10.0, 4.0, 8.0, 3.0], [2.0, 10.0, 16.0, 8.0, 12.0], [2.0] * 5
    row = Row.of("x", [fpdm, plain, dit])
    assert (row.fpdm, row.straightforward, row.dit) == (4.0, 10.0, 2.0)
    assert row.over_straightforward == Ratio(0.5, 0.25, 1.0)  # of 0.5 1 0.25 1 0.25
    assert row.over_dit == Ratio(2.0, 1.5, 4.0)  # of 0.5 5 2 4 1.5


def test_the_record_holds_every_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, options = tmp_path / "steps.json", ["--width", "16", "--batch", "1", "--rounds", "1"]
    monkeypatch.setattr(sys, "argv", ["steps", "--out", str(out), *options])
    for name, value in (("DEPTH", 6), ("LIMITS", (1, 3)), ("ITERATIONS", (2,))):
        monkeypatch.setattr(steps, name, value)
    steps.main()
    rows = {row["what"]: row for row in json.loads(out.read_text())["rows"]}
    assert len(rows) == 3 + 3 + 2
    shape = replace(preset("fpdm-fashion"), width=16)
    for name, row in rows.items():
        assert min(row["fpdm"], row["straightforward"], row["dit"]) > 0
        for other, ratio in (("straightforward", row["over_straightforward"]), ("dit", row["over_dit"])):
            assert ratio["low"] == ratio["median"] == ratio["high"], name  # there was one round
            assert ratio["median"] == pytest.approx(row["fpdm"] / row[other], rel=1e-2), name
    for limit in (1, 3):
        for s, model in ((shape, "fpdm"), (as_dit(shape, 6), "dit")):
            network = DiffusionTransformer.from_shape(s)
            want = training_memory(network, Schedule(), Objective(), stochastic_jfb(limit, limit))
            mean = rows[f"saved bytes of a training step, N = M = {limit}, mean over draws"]
            largest = rows[f"saved bytes of a training step, N = M = {limit}, largest draw"]
            assert (mean[model], largest[model]) == pytest.approx((want.mean, want.largest))


def test_the_floor_is_the_matrix_products_of_a_step() -> None:
    cost = DiffusionTransformer.from_shape(SHAPE).cost()
    floor = speed.Floor(SHAPE, batch=2)
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):  # the others are not counted
        floor(blocks=2, iterations=5)
    D, T = SHAPE.width, SHAPE.tokens
    block = T * (12 * D**2 + 2 * T * D)
    assert counter.get_total_flops() == 2 * 2 * (2 * block + 5 * (block + 4 * T * D**2))
    assert cost.middle.iterate == block + 4 * T * D**2  # the same products as in the model


@pytest.mark.skipif(not are_operators_known(), reason="this PyTorch has no oneDNN on x86")
def test_the_packed_floor_has_the_products_of_the_floor() -> None:
    floor, packed = speed.Floor(SHAPE, batch=2), speed.PackedFloor(SHAPE, batch=2)
    for name, buffer in floor.named_buffers():
        packed.get_buffer(name).copy_(buffer)
    packed.packed = {name: PackedLinear(one, None) for name, one in floor.named_buffers() if name != "x"}
    torch.testing.assert_close(packed(2, 3), floor(2, 3), rtol=1e-4, atol=1e-5)


def test_the_rows_of_a_step() -> None:
    shape = replace(speed.preset("fpdm-digits"), width=32, heads=2)
    rows = [*speed.step_rows(speed.Size("small", shape, 2, 1.0, 1.0, 1.0), 1, CPU, compiled=False)]
    names = [row.what for row in rows]
    assert names == [
        "sampling step of 5 iterations, small, over the floor, not compiled",
        "straightforward FPDM over ours, not compiled: sampling step of 5 iterations, small",
    ]
    assert not are_operators_known() or rows[0].note.startswith("plain layers: ")


def test_a_row_says_whether_its_bound_holds() -> None:
    slow, fast = [3.0, 2.0, 2.0], [1.0, 1.0, 1.0]
    assert speed.Row.of("", slow, fast, 1.9, at_most=False).holds
    assert not speed.Row.of("", slow, fast, 1.9).holds
    assert speed.Row.of("", slow, fast, 1.9).best == 2.0


def test_diffusers_dit_has_the_same_output() -> None:
    (row,) = speed.diffusers_rows(1, CPU, compiled=False, batch=1)  # asserts it
    assert "differ" in row.note


def test_the_page_shows_every_row(tmp_path: Path) -> None:
    row = {"what": "a step", "ratio": {"median": 1.0, "low": 0.9, "high": 1.1}, "best": 1.0, "bound": 1.5}
    rows = [{**row, "at_most": True, "note": "n", "holds": True}, {**row, "at_most": False, "note": "", "holds": False}]
    record = {"command": "c", "machine": "m", "threads": 2, "torch": "2", "note": "", "rows": rows}
    (tmp_path / "speed.json").write_text(json.dumps(record))
    lines = page(tmp_path).splitlines()
    assert "| a step; n | 1.000 (0.900 to 1.100) | 1.000 | ≤ 1.5 | holds |" in lines
    assert "| a step | 1.000 (0.900 to 1.100) | 1.000 | ≥ 1.5 | missed |" in lines


def test_every_way_that_was_tried_gives_the_same_answer() -> None:
    shape = replace(speed.preset("fpdm-digits"), width=32, heads=2)
    found = attempts.tried(speed.Size("small", shape, 2, 1.0, 1.0, 1.0), 1, compilers=False)  # which it asserts
    assert set(found) == {"plain", "packed"}


def test_the_page_shows_what_was_tried(tmp_path: Path) -> None:
    ratio = {"median": 1.5, "low": 1.25, "high": 2.0}
    one = {"over_floor": {"plain": ratio, "packed": ratio}, "profile": {"plain": {"aten::addmm": 0.5}}}
    record = {"command": "c", "machine": "m", "threads": 2, "torch": "2", "sizes": {"width 8": one}}
    (tmp_path / "attempts.json").write_text(json.dumps(record))
    lines = page(tmp_path).splitlines()
    assert "| | plain | packed |" in lines
    assert "| width 8 | 1.50 (1.25 to 2.00) | 1.50 (1.25 to 2.00) |" in lines
    assert "- width 8, plain: `aten::addmm` 50%." in lines


def test_the_page_shows_starts_with_fewer_bits(tmp_path: Path) -> None:
    row = {"smallest_limit": 1500, "mebibytes": 2500.4, "seconds": 6.25}
    both = {kind: {str(count): row for count in bits.BITS} for kind in cold.KINDS}
    start = {"seconds": 1.0, "mebibytes": 10.0, "survived": True}
    record = {"command": "c", "machine": "m", "threads": 2, "torch": "2", "limit_ratio": 0.25, "bits": both}
    record |= {"smallest_limit": {"fpdm": 1, "dit": 4}, "without_limit": {"fpdm": start, "dit": start}}
    record |= {"dit_over_fpdm": {"median": 1.5, "low": 1.25, "high": 2.0}}
    (tmp_path / "cold.json").write_text(json.dumps(record))
    assert "| DiT | 8 | 1,500 MiB | 2,500 MiB | 6.2 |" in page(tmp_path).splitlines()
    found = cold.plot(record)
    assert [curve.x for curve in found.panels[0].curves] == [[1500] * 3] * 2


@pytest.mark.parametrize("injection", ["mlp", "linear"])
def test_weights_of_fewer_bits_are_those_of_the_file(tmp_path: Path, injection: str) -> None:
    shape = replace(SHAPE, in_channels=3, width=64, heads=4, injection=injection)  # type: ignore[arg-type]
    model = pair(shape)[0].model if injection == "mlp" else DiffusionTransformer.from_shape(shape)
    folder = tmp_path / "model"
    FPDMPipeline(model, default_scheduler(Schedule(), clip=True)).save_pretrained(folder)
    batch = Batch.random(shape, 3, CPU)
    with torch.no_grad():
        exact = model(batch.x, batch.t, batch.y).value
        errors = {n: (bits.read_model(folder, n)(batch.x, batch.t, batch.y).value - exact) for n in bits.BITS}
    sizes = {n: (error.square().mean() / exact.square().mean()).sqrt().item() for n, error in errors.items()}
    if injection == "mlp":  # else the model's head is zero
        assert sizes[32] < 1e-6 < sizes[16] < 0.05
        assert 1e-3 < sizes[8] < 0.1
    floats = [name for name, one in bits.read_model(folder, 8).named_modules() if type(one) is torch.nn.Linear]
    assert floats == ["t_embedder.mlp.0", "t_embedder.mlp.2"]


def test_a_start_with_fewer_bits_makes_an_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cold, "shape_of", lambda _: replace(SHAPE, in_channels=3))
    folder = cold.save_random("fpdm-s/2", tmp_path)
    for count in (16, 8):
        bits.sample_bits(str(folder), count, str(tmp_path / str(count)))
        assert (tmp_path / str(count) / "000000.png").exists()


def test_the_smallest_limit_is_found_to_three_per_cent() -> None:
    def begin(limit: int) -> cold.Start:
        return cold.Start(1.0, 1.0, limit >= 1000)

    assert 1000 <= cold.smallest_limit(begin) <= 1031
    with pytest.raises(RuntimeError, match="no image with 900 MiB"):
        cold.smallest_limit(begin, 900)


def test_one_command_makes_every_record_that_the_page_shows(tmp_path: Path) -> None:
    text = (RECORDS.parents[1] / "Makefile").read_text(encoding="utf-8")
    (recipe,) = re.findall(r"^bench:.*\n((?:\t.*\n)+)", text, re.MULTILINE)
    made = re.findall(r"--out results/speed/(\w+\.json)", recipe)
    assert set(made) == {path.name for path in RECORDS.glob("*.json")}
    assert made[-1] == "cold.json"
    assert recipe.endswith("$(MAKE) docs/performance.md\n")
    parts = " ".join(re.findall(r"benchmarks.speed --parts ([\w ]+) --out", recipe)).split()
    assert sorted(parts) == sorted(speed.PARTS)  # each once


RECORDS = Path(__file__).parents[1] / "results" / "speed"


@pytest.mark.skipif(not RECORDS.exists(), reason="nothing is recorded")
def test_the_recorded_page_is_that_of_the_records() -> None:
    assert (RECORDS.parents[1] / "docs" / "performance.md").read_text(encoding="utf-8") == page(RECORDS)
