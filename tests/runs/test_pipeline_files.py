"""The files that make a folder a pipeline of diffusers."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from diffusers import DDIMScheduler

from fpdm.autoencoder.config import AutoencoderConfig
from fpdm.diffusion.schedule import Schedule
from fpdm.errors import CheckpointError
from fpdm.runs import checkpoint
from fpdm.runs.layout import EMA, WEIGHTS
from fpdm.runs.pipeline_files import PipelineConfig, class_names, id2label, publish, read_index, read_network
from tests import pipelines

CONFIG = PipelineConfig("tiny", Schedule(), {"0": "cat", "1": "dog", "2": "5"}, AutoencoderConfig())


def saved(out: Path, step: int, scale: float = 1.0) -> Path:
    """The checkpoint of a step."""
    model = pipelines.network()
    weights = {name: scale * value for name, value in model.state_dict().items()}
    return checkpoint.save(out, step, {EMA: weights}, {"ema/config.json": model.to_json_string()}, {})


def test_names_of_classes_by_number_and_back() -> None:
    assert id2label(("cat", "dog")) == {"0": "cat", "1": "dog"}
    assert class_names({"1": "dog", "0": "cat"}, 2) == ("cat", "dog")
    assert class_names({"0": "cat"}, 2) == class_names({}, 2) == class_names({"0": "cat"}, 0) == ()


def test_the_newest_checkpoint_is_published_and_the_one_before_is_left_as_it_is(tmp_path: Path) -> None:
    for step, scale in ((1, 1.0), (2, 2.0)):
        folder = saved(tmp_path / "checkpoints", step, scale)
        publish(tmp_path, folder, CONFIG)
        publish(tmp_path, folder, CONFIG)
    network = read_network(tmp_path)
    expected = pipelines.network().state_dict()
    for name, value in network.model.state_dict().items():
        assert torch.equal(value, 2 * expected[name])
    assert network.model.config["iterations"] == 4
    for step in (1, 2):
        hashes = checkpoint.verify(checkpoint.folder(tmp_path / "checkpoints", step)).hashes
        assert (hashes[EMA] == network.sha256) == (step == 2)
    assert not [path for path in tmp_path.rglob(".*") if path.is_file()]
    assert read_index(tmp_path) == CONFIG
    scheduler = DDIMScheduler.from_pretrained(tmp_path, subfolder="scheduler")
    assert scheduler.config.prediction_type == "v_prediction"
    assert float(scheduler.alphas_cumprod[-1]) == pytest.approx(0.0, abs=1e-9)


def test_weights_are_copied_where_there_are_no_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    folder = saved(tmp_path / "checkpoints", 1)
    publish(tmp_path, folder, CONFIG)
    assert (tmp_path / "transformer" / WEIGHTS).read_bytes() == (folder / EMA).read_bytes()
    assert not (tmp_path / "transformer" / WEIGHTS).samefile(folder / EMA)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"_class_name": "DiTPipeline"}, "is a DiTPipeline; expected a FPDMPipeline"),
        ({"_class_name": None}, "is a None; expected a FPDMPipeline"),
        ({"_class_name": []}, "expected a FPDMPipeline"),
        ({"schedule": {"num_timesteps": 0}}, "num_timesteps"),
        ({"schedule": {"bets": 0}}, "bets"),
        ({"schedule": None}, "schedule"),
        ({"id2label": {"0": 1}}, "id2label"),
        ({"id2label": ["cat"]}, "id2label"),
        ({"autoencoder": {"pad": 3}}, "pad is 3 without an autoencoder"),
        ({"name": 3}, "name"),
    ],
)
def test_a_damaged_or_foreign_index_is_refused_by_what_is_wrong(tmp_path: Path, change: dict, says: str) -> None:
    publish(tmp_path, saved(tmp_path / "checkpoints", 1), CONFIG)
    path = tmp_path / "model_index.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(ValueError, match=says) as raised:
        read_index(tmp_path)
    assert str(tmp_path) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_damaged_or_foreign_network_is_refused_by_what_is_wrong(tmp_path: Path) -> None:
    publish(tmp_path, saved(tmp_path / "checkpoints", 1), CONFIG)
    config = tmp_path / "transformer" / "config.json"
    values = json.loads(config.read_text())
    for change, says in (
        ({"_class_name": "DiTTransformer2DModel"}, "is a DiTTransformer2DModel; expected one of ours"),
        ({"width": 15}, "width"),
        ({"widht": 16}, "widht"),
        ({"iterations": 0}, "iterations is 0"),
        ({"width": 2**22}, "a model of .* parameters needs"),
        ({"iterations": "many"}, "iterations is 'many'"),
    ):
        config.write_text(json.dumps({**values, **change}))
        with pytest.raises(ValueError, match=says):
            read_network(tmp_path)
    config.write_text(json.dumps({**values, "width": 24}))
    with pytest.raises(CheckpointError, match="does not fit this model"):
        read_network(tmp_path)
    config.write_text(json.dumps({name: value for name, value in values.items() if name != "iterations"}))
    assert read_network(tmp_path).model.config["iterations"] == 5  # as folders of earlier versions
    (tmp_path / "transformer" / WEIGHTS).unlink()
    with pytest.raises(ValueError, match=r"has no config\.json and"):
        read_network(tmp_path)
