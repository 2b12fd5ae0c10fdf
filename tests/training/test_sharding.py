"""Without processes: what is not sharded stays as it is. Two processes that shard are in `test_processes`."""

import pytest
import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from torch import nn

from fpdm.training.sharding import check_sharding, gather_full, is_sharded, load_sharded, shard_like


def test_full_tensors_stay_as_they_are() -> None:
    tensor, like = torch.arange(3.0), torch.zeros(2, dtype=torch.float64)
    assert gather_full(tensor) is tensor
    assert shard_like(tensor, like) is tensor
    assert not is_sharded(nn.Linear(2, 2))


def test_values_are_copied_in_place_without_a_gradient() -> None:
    layer = nn.Linear(2, 1)
    before = layer.weight
    load_sharded(dict(layer.named_parameters()), {"weight": torch.tensor([[1.0, 2.0]]), "bias": torch.tensor([3.0])})
    assert layer.weight is before
    assert layer.weight.tolist() == [[1.0, 2.0]]
    assert layer.bias.tolist() == [3.0]


def test_flattened_weights_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    accelerator = Accelerator(cpu=True)
    check_sharding(accelerator)
    monkeypatch.setattr(Accelerator, "distributed_type", DistributedType.FSDP)
    monkeypatch.setattr(Accelerator, "state", type("State", (), {"fsdp_plugin": None}), raising=False)
    accelerator.state = type("State", (), {"fsdp_plugin": type("Plugin", (), {"fsdp_version": 1})})
    with pytest.raises(ValueError, match=r"fsdp_version is 1, .*; expected 2"):
        check_sharding(accelerator)
