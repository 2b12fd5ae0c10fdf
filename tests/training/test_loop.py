"""The training loop by itself, over a counter that stands for a network."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import torch

from fpdm.errors import RunError
from fpdm.files import signed
from fpdm.runs.checkpoint import Checkpoint, is_whole, save
from fpdm.runs.layout import RUN
from fpdm.runs.metrics_log import append_row, read_rows
from fpdm.runs.progress import Progress
from fpdm.runs.train_config import TrainConfig
from fpdm.training.loop import (
    MAX_CONSECUTIVE_SKIPS,
    Callback,
    RecipeChanges,
    SavedState,
    StepResult,
    TrainingLoop,
    means,
)


class Counter:
    """Counts its steps in a tensor, and remembers which of them were measured."""

    def __init__(self, *, recipe: str = "{}", bad: Sequence[int] = ()) -> None:
        self.recipe, self.bad = recipe, bad
        self.count = torch.zeros(())
        self.measured: list[int] = []
        self.moved: list[str] = []

    def step(self, progress: Progress, *, measure: bool) -> StepResult:
        if measure:
            self.measured.append(progress.step)
        self.count = self.count + 1
        return StepResult({"loss": float(progress.step)}, 10.0, progress.step not in self.bad, "count 3")

    def summarize(self, window: Sequence[Mapping[str, float]]) -> dict[str, float]:
        return means(window)

    def recipe_json(self) -> str:
        return self.recipe

    def recipe_changes(self, saved: Path) -> RecipeChanges:
        return RecipeChanges([] if saved.read_text() == self.recipe else ["a: 1 -> 2"], self.moved)

    def state(self) -> SavedState:
        return SavedState({"counter.safetensors": {"count": self.count}}, {"note.txt": "hello"}, {"word": "more"})

    def load_state(self, found: Checkpoint) -> None:
        assert found.state["word"] == "more"
        self.count = found.tensors("counter.safetensors")["count"]


class Recorder(Callback):
    """Writes down what it is told of."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def on_train_begin(self, progress: Progress) -> None:
        self.seen.append(f"begin {progress.step}")

    def on_log(self, progress: Progress, figures: Mapping[str, float]) -> None:
        self.seen.append(f"log {progress.step} {figures['loss']:g}")

    def on_step_end(self, progress: Progress) -> None:
        self.seen.append(f"step {progress.step}")

    def on_save(self, progress: Progress) -> None:
        self.seen.append(f"save {progress.step}")

    def on_train_end(self, progress: Progress) -> None:
        self.seen.append(f"end {progress.step}")

    def close(self) -> None:
        self.seen.append("close")


def loop(out: Path, counter: Counter | None = None, *callbacks: Callback, **changes: object) -> TrainingLoop:
    settings = {"steps": 5, "checkpoint_every": 2, "log_every": 3, "warmup": 0, **changes}
    limits = TrainConfig(**settings)  # type: ignore[arg-type]
    return TrainingLoop(
        counter or Counter(),
        limits,
        out,
        kind=RUN,
        name="counter",
        recipe_file="recipe.json",
        shown=("loss",),
        callbacks=callbacks,
    )


def test_callbacks_are_told_in_order(tmp_path: Path) -> None:
    recorder = Recorder()
    loop(tmp_path, None, recorder).run()
    assert recorder.seen == [
        *("begin 0", "step 1", "step 2", "save 2", "log 3 1", "step 3", "step 4", "save 4", "step 5"),
        *("end 5", "save 5", "close"),
    ]


def test_callbacks_are_closed_when_the_run_fails(tmp_path: Path) -> None:
    class Failing(Recorder):
        def on_step_end(self, progress: Progress) -> None:
            raise OSError(28, "No space left on device")

    failing = Failing()
    with pytest.raises(RunError, match=r"cannot save step 1: .*No space left.*; last good checkpoint: none"):
        loop(tmp_path, None, failing).run()
    assert failing.seen[-1] == "close"


def test_resumed_run_has_the_state_the_rows_and_the_window_of_the_first(tmp_path: Path) -> None:
    loop(tmp_path, steps=4).run()  # steps 3 is in the log, and 4 in the window
    (tmp_path / "metrics.jsonl").open("a").write(json.dumps({"step": 6, "loss": 9.0}) + "\n")
    counter, recorder = Counter(), Recorder()
    again = loop(tmp_path, counter, recorder, steps=6)
    assert again.run().step == 6
    assert again.resumed_at == 4
    assert counter.count == 6
    assert recorder.seen[:3] == ["begin 4", "step 5", "log 6 4"]  # the mean over the steps from 3, 4 and 5
    assert [(row["step"], row["loss"]) for row in read_rows(tmp_path / "metrics.jsonl")] == [(3, 1.0), (6, 4.0)]
    newest = tmp_path / "checkpoints" / "step-000000006"
    assert (newest / "note.txt").read_text() == "hello"
    assert (newest / "recipe.json").read_text() == "{}"


def _damage_manifest(out: Path, step: int) -> None:
    path = out / "checkpoints" / f"step-{step:09d}" / "manifest.json"
    values = json.loads(path.read_text())
    path.write_text(json.dumps({**values, "files": {}}))


def test_a_damaged_checkpoint_costs_the_steps_since_the_one_before(tmp_path: Path) -> None:
    loop(tmp_path, log_every=1).run()
    whole = (tmp_path / "metrics.jsonl").read_text().splitlines()
    _damage_manifest(tmp_path, 5)
    counter = Counter()
    again = loop(tmp_path, counter, log_every=1)
    with pytest.warns(RuntimeWarning, match="step-000000005 is damaged: .*; trying the one before"):
        again.run()
    assert (again.resumed_at, counter.count) == (4, 5)
    rows = read_rows(tmp_path / "metrics.jsonl")
    assert rows[:4] == [json.loads(line) for line in whole[:4]]
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5]
    assert is_whole(tmp_path / "checkpoints", 5, {"counter.safetensors"})


def test_a_checkpoint_without_what_is_to_be_restored_is_as_damaged(tmp_path: Path) -> None:
    loop(tmp_path).run()
    path = tmp_path / "checkpoints" / "step-000000005" / "manifest.json"
    values = json.loads(path.read_text())
    del values["files"]["counter.safetensors"]
    path.write_text(json.dumps(values))
    again = loop(tmp_path)
    with pytest.warns(RuntimeWarning, match=r"does not list counter\.safetensors; trying the one before"):
        again.run()
    assert again.resumed_at == 4
    assert is_whole(tmp_path / "checkpoints", 5, {"counter.safetensors"})  # it is not taken for saved already


def test_a_log_that_was_changed_is_not_gone_on_with(tmp_path: Path) -> None:
    loop(tmp_path, log_every=1).run()
    path = tmp_path / "metrics.jsonl"
    content = path.read_text()
    path.write_text(content.replace('"loss": 1.0', '"loss": 7.0'))
    before = {one: one.read_bytes() for one in tmp_path.rglob("*") if one.is_file()}
    with pytest.raises(ValueError, match=r"metrics\.jsonl was changed since the checkpoint was saved"):
        loop(tmp_path, steps=9).run()
    assert {one: one.read_bytes() for one in tmp_path.rglob("*") if one.is_file()} == before
    path.write_text(content + "\n\x00garbage after the checkpoint\n")
    assert loop(tmp_path, steps=6, log_every=1).run().step == 6
    assert path.read_text().startswith(content)
    assert [row["step"] for row in read_rows(path)] == [1, 2, 3, 4, 5, 6]


def test_a_run_of_a_version_that_did_not_hash_its_log_goes_on(tmp_path: Path) -> None:
    loop(tmp_path, log_every=1).run()
    path = tmp_path / "checkpoints" / "step-000000005"
    state = json.loads((path / "state.json").read_text())
    del state["logs"]
    tensors, files = {"counter.safetensors": {"count": torch.tensor(5.0)}}, {"recipe.json": "{}"}
    save(tmp_path / "checkpoints", 5, tensors, files, state)
    with (tmp_path / "metrics.jsonl").open("a") as stream:
        stream.write('{"step": 6}\n\n')
    assert loop(tmp_path, steps=7, log_every=1).run().step == 7
    assert [row["step"] for row in read_rows(tmp_path / "metrics.jsonl")] == [1, 2, 3, 4, 5, 6, 7]


def test_what_is_logged_at_the_end_is_under_the_last_checkpoints_hash(tmp_path: Path) -> None:
    class Last(Callback):
        def on_train_end(self, progress: Progress) -> None:
            if not read_rows(tmp_path / "validation.jsonl"):
                append_row(tmp_path / "validation.jsonl", {"step": progress.step, "loss": 0.5})

    loop(tmp_path, None, Last(), steps=4).run()
    path = tmp_path / "validation.jsonl"
    content = path.read_text()
    loop(tmp_path, None, Last(), steps=4).run()  # which is finished
    assert path.read_text() == content
    path.write_text(content.replace("0.5", "0.4"))
    with pytest.raises(ValueError, match=r"validation\.jsonl was changed"):
        loop(tmp_path, None, Last(), steps=4).run()


def test_other_recipes_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    loop(tmp_path).run()
    with pytest.raises(ValueError, match=r"holds a run of another recipe \(a: 1 -> 2\); choose another folder"):
        loop(tmp_path, Counter(recipe="[]")).run()
    assert (tmp_path / "recipe.json").read_text() == signed("{}")


def test_what_has_moved_is_told_by_the_main_process(tmp_path: Path) -> None:
    loop(tmp_path).run()
    moved = Counter()
    moved.moved = ["data.source: a -> b"]
    with pytest.warns(RuntimeWarning, match="the same content in another place: data.source: a -> b"):
        loop(tmp_path, moved).run()
    other = loop(tmp_path, moved)
    other.is_main = False
    other.resume()


def test_what_an_earlier_call_has_told_of_is_not_told_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    """A finished run writes no new checkpoint, so that only the folder's recipe knows of the new place."""
    loop(tmp_path).run()
    counter = Counter()
    known = {tmp_path / "recipe.json": ["data.source: b -> c"]}
    monkeypatch.setattr(
        counter, "recipe_changes", lambda saved: RecipeChanges([], known.get(saved, ["data.source: a -> c"]))
    )
    loop(tmp_path, counter).run()
    assert [str(one.message) for one in recwarn] == ["the same content in another place: data.source: b -> c"]
    known[tmp_path / "recipe.json"] = []
    loop(tmp_path, counter).run()
    assert len(recwarn) == 1


def test_steps_are_measured_when_they_are_logged_and_in_trouble(tmp_path: Path) -> None:
    counter = Counter(bad=[3, 4])
    done = loop(tmp_path, counter, steps=10, log_every=10).run()
    assert counter.measured == [4, 5, 9]
    assert (done.skipped, done.skipped_in_a_row, done.macs) == (2, 0, 100.0)


def test_divergence_names_the_step_and_what_the_step_says(tmp_path: Path) -> None:
    counter = Counter(bad=range(3, 100))
    last = 3 + MAX_CONSECUTIVE_SKIPS
    with pytest.raises(
        RunError, match=rf"diverged: .* \(step {last}, count 3\); .* last good checkpoint: .*-0000000{last - 1}"
    ):
        loop(tmp_path, counter, steps=100).run()


class OtherProcess:
    """An accelerator of two processes, as one that is not the main one sees it; the main one always sends 2."""

    num_processes, process_index, is_main_process, device = 2, 1, False, torch.device("cpu")

    def __init__(self) -> None:
        self.sent: list[float] = []

    def reduce(self, tensor: torch.Tensor) -> torch.Tensor:
        self.sent += tensor.tolist()
        return tensor + 2.0

    def wait_for_everyone(self) -> None:
        pass


def test_a_training_limited_by_the_clock_goes_by_the_main_processs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its seconds decide the end and the learning rate, so all processes must have the same."""
    monkeypatch.setattr(TrainingLoop, "_any", lambda *_: False)
    other, limits = OtherProcess(), TrainConfig(steps=0, seconds=6.0, log_every=100)
    found = TrainingLoop(
        Counter(),
        limits,
        tmp_path,
        kind=RUN,
        name="",
        recipe_file="recipe.json",
        shown=(),
        accelerator=other,  # type: ignore[arg-type]
    )
    assert found.run() == Progress(3, 6.0, 30.0)
    assert other.sent == [0.0, 0.0, 0.0]
    assert not [*tmp_path.iterdir()]  # the main process writes


def test_the_bar_goes_by_the_nearest_limit_and_shows_finite_metrics(tmp_path: Path) -> None:
    for limits, share in (
        ({"steps": 0, "seconds": 100.0}, 0.2),
        ({"steps": 10}, 0.7),
        ({"steps": 10, "macs": 10.0}, 0.8),
    ):
        found = loop(tmp_path, **limits)
        found.progress = Progress(step=7, seconds=20.0, macs=8.0)
        with found._showing() as bar:
            assert bar.share == pytest.approx(share)
            assert bar.seconds_left is None  # what is done says nothing about this call
    assert found._note({"loss": 0.12345}) == "loss 0.123"
    assert found._note({"loss": math.nan}) == ""
    waits = {"loss": 0.5, "waiting_seconds": 0.5, "seconds_per_step": 2.0}
    assert found._note(waits) == "loss 0.5, 25% waiting for data"
    assert found._note({**waits, "waiting_seconds": 0.01}) == "loss 0.5"


def test_whatever_will_be_written_to_is_tried_before_the_first_step(tmp_path: Path) -> None:
    for name in ("checkpoints", "samples", "tensorboard"):
        out, counter = tmp_path / name, Counter()
        loop(out, steps=2).run()
        path = out / name
        if path.exists():
            path.rename(tmp_path / f"{name}-elsewhere")
        path.write_text("")  # in which nothing can be made, not even by a superuser
        with pytest.raises(ValueError, match=f"{name} cannot be written to: Not a directory; change its permissions"):
            loop(out, counter, steps=4).run()
        assert counter.count == 0
        assert {one.name for one in out.iterdir()} - {".lock", ".fpdm.json"} <= {
            *("checkpoints", "samples", "tensorboard", "recipe.json", "metrics.jsonl")
        }


def test_a_log_that_is_no_file_is_noticed_before_the_first_step(tmp_path: Path) -> None:
    loop(tmp_path, steps=2).run()
    os.mkfifo(tmp_path / "metrics.jsonl")
    with pytest.raises(ValueError, match=r"metrics\.jsonl is a pipe; expected a file"):
        loop(tmp_path, steps=4).run()
