import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fpdm.runs.train_config import TrainConfig
from fpdm.training.tracker import TENSORBOARD, Tracker, make_accelerator
from fpdm.training.trainer import Trainer
from tests.training.small import data, recipe


class Other:
    """A tracker of accelerate's, as wandb's is."""

    name = "wandb"

    def __init__(self) -> None:
        self.pictures: list[tuple[str, tuple[int, ...], int]] = []
        self.finished = 0

    def log_images(self, values: dict[str, np.ndarray], step: int) -> None:
        self.pictures += [(name, value.shape, step) for name, value in values.items()]

    def finish(self) -> None:
        self.finished += 1


class Accelerator:
    """What a tracker needs of accelerate's."""

    def __init__(self) -> None:
        self.log_with, self.trackers = ["wandb"], []
        self.opened: list[tuple[object, ...]] = []
        self.logged: list[tuple[dict[str, float], int]] = []

    def init_trackers(self, *how: object) -> None:
        self.opened.append(how)
        self.trackers.append(Other())

    def log(self, values: dict[str, float], step: int) -> None:
        self.logged.append((values, step))


def opened(out: Path, tracker: str) -> tuple[Any, ...]:
    """How it was opened, once, whatever was sent."""
    accelerator = Accelerator()
    sender = Tracker(accelerator, recipe(tracker=tracker), out)
    assert not accelerator.opened
    sender.log({"loss": 0.5, "residual": float("nan")}, 3)
    sender.show("samples", np.zeros((4, 6, 3), np.uint8), 3)
    (other,) = accelerator.trackers
    assert accelerator.logged == [({"loss": 0.5}, 3)]
    assert other.pictures == [("samples", (1, 4, 6, 3), 3)]
    sender.close()
    assert (other.finished, accelerator.trackers) == (1, [])
    (how,) = accelerator.opened
    return how


@pytest.mark.parametrize("tracker", ["wandb", "trackio"])
def test_resumed_run_goes_on_with_its_own_curve(tmp_path: Path, tracker: str) -> None:
    runs = [tmp_path / name for name in ("first", "second")]
    for out in runs:
        out.mkdir()
    project, settings, options = opened(runs[0], tracker)
    assert (project, settings["train"]["batch_size"]) == ("fpdm", 5)
    assert options[tracker]["resume"] == "allow"
    assert opened(runs[0], tracker) == (project, settings, options)
    assert opened(runs[1], tracker)[2] != options


def test_resumed_within_a_second_its_events_are_read_in_order(tmp_path: Path) -> None:
    for steps, resumed_at in (((1, 2, 3), 0), ((3, 4), 2)):
        config = TrainConfig(tracker=TENSORBOARD)
        sender = Tracker(make_accelerator(config, tmp_path), recipe(tracker=TENSORBOARD), tmp_path)
        sender.resumed_at = resumed_at
        for step in steps:
            sender.log({"loss": float(resumed_at)}, step)
        sender.close()
        for file in (tmp_path / TENSORBOARD).glob("*[!z]"):  # z sorts behind all names of its second
            file.rename(file.with_name(f"events.out.tfevents.{int(time.time()):010d}.z"))
    events = EventAccumulator(str(tmp_path / TENSORBOARD)).Reload().Scalars("loss")
    assert [(event.step, event.value) for event in events] == [(1, 0), (2, 0), (3, 2), (4, 2)]


def test_missing_library_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fpdm.training.tracker.get_available_trackers", lambda: ["tensorboard"])
    with pytest.raises(ValueError, match="tracker is 'wandb', and its library is not installed; pip install wandb"):
        Trainer(recipe(tracker="wandb"), data(), tmp_path)
    assert make_accelerator(TrainConfig(tracker="none"), tmp_path).log_with == []
