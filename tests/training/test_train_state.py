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


@pytest.mark.parametrize(
    ("file", "name", "value", "says"),
    [
        ("optimizer.safetensors", "weight/exp_avg", torch.zeros(3), r"weight/exp_avg is \(3,\), expected \(2, 3\)"),
        ("optimizer.safetensors", "weight/exp_avg", torch.zeros(2, 3, dtype=torch.complex64), "is complex64; expected"),
        ("optimizer.safetensors", "other/exp_avg", torch.zeros(2, 3), "other/exp_avg is unknown"),
        ("ema/diffusion_pytorch_model.safetensors", "bias", torch.zeros(2, dtype=torch.int64), "bias is int64"),
        ("model/diffusion_pytorch_model.safetensors", "bias", torch.zeros(2, dtype=torch.float8_e5m2), "float8_e5m2"),
    ],
)
def test_tensors_that_do_not_fit_change_nothing(
    tmp_path: Path, file: str, name: str, value: torch.Tensor, says: str
) -> None:
    one, other = trained(0, 3), trained(1, 1)
    tensors = one.tensors()
    tensors[file][name] = value
    found = checkpoint.verify(checkpoint.save(tmp_path, 1, tensors, {}, one.values()))
    before = other.tensors()
    with pytest.raises(CheckpointError, match=says):
        other.load(found)
    after = other.tensors()
    assert all(torch.equal(after[file][name], before[file][name]) for file in before for name in before[file])


def test_a_state_without_its_values_is_refused(tmp_path: Path) -> None:
    one = trained(0, 1)
    for step, values, says in ((1, {}, "lacks ema_updates"), (2, {"ema_updates": "many"}, "ema_updates is 'many'")):
        with pytest.raises(CheckpointError, match=says):
            one.load(checkpoint.verify(checkpoint.save(tmp_path, step, one.tensors(), {}, values)))
