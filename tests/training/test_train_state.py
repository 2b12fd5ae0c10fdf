from pathlib import Path

import pytest
import torch
from diffusers.training_utils import EMAModel

from fpdm.errors import CheckpointError
from fpdm.runs import checkpoint
from fpdm.training.train_state import TrainState


def trained(seed: int, steps: int) -> TrainState[torch.nn.Linear]:
    torch.manual_seed(seed)
    model = torch.nn.Linear(3, 2)
    state = TrainState(model, torch.optim.AdamW(model.parameters()), EMAModel(model.parameters(), decay=0.9))
    for _ in range(steps):
        model(torch.randn(4, 3)).square().mean().backward()
        state.optimizer.step()
        state.optimizer.zero_grad()
        state.ema.step(model.parameters())
    return state


def save(state: TrainState[torch.nn.Linear], root: Path) -> checkpoint.Checkpoint:
    return checkpoint.verify(checkpoint.save(root, 1, state.tensors(), {}, state.values()))


def test_a_restored_state_goes_on_as_the_saved_one(tmp_path: Path) -> None:
    one, other = trained(0, 3), trained(1, 1)
    other.load(save(one, tmp_path))
    x = torch.ones(4, 3)
    for state in (one, other):
        state.model(x).square().mean().backward()
        state.optimizer.step()
        state.ema.step(state.model.parameters())
    one, other = one.tensors(), other.tensors()
    assert one.keys() == other.keys()
    for file, group in one.items():
        assert group.keys() == other[file].keys()
        assert all(torch.equal(value, other[file][name]) for name, value in group.items()), file
    assert {"weight/exp_avg", "bias/exp_avg_sq"} <= one["optimizer.safetensors"].keys()


def test_averaged_weights_are_kept_beside_the_raw_ones(tmp_path: Path) -> None:
    state = trained(0, 3)
    raw, averaged = state.parameters(averaged=False), state.parameters(averaged=True)
    assert torch.equal(raw["weight"], state.model.weight)
    assert torch.equal(averaged["bias"], state.ema.shadow_params[1])
    assert not torch.equal(raw["weight"], averaged["weight"])


def test_weights_of_another_shape_are_refused(tmp_path: Path) -> None:
    found = save(trained(0, 1), tmp_path)
    model = torch.nn.Linear(4, 2)
    other = TrainState(model, torch.optim.AdamW(model.parameters()), EMAModel(model.parameters()))
    with pytest.raises(CheckpointError, match=r"weight is \(2, 3\), expected \(2, 4\)"):
        other.load(found)
