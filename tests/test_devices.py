"""Which device is chosen, and what is said of one that cannot be used."""

from __future__ import annotations

import pytest
import torch

from fpdm.devices import default_device, device_of


@pytest.mark.parametrize(
    ("cuda", "mps", "chosen"),
    [(True, True, "cuda"), (True, False, "cuda"), (False, True, "mps"), (False, False, "cpu")],
)
def test_the_best_device_that_there_is(monkeypatch: pytest.MonkeyPatch, cuda: bool, mps: bool, chosen: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert default_device() == torch.device(chosen)


def test_a_device_by_name() -> None:
    assert device_of("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", ["", "gpu", "cuda:99", "cpu:x"])
def test_a_device_that_cannot_be_used_is_refused_in_a_line(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name}.*; expected cpu, cuda, cuda:1 or mps") as error:
        device_of(name)
    assert "\n" not in str(error.value)
