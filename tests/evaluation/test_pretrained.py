"""Networks that were trained elsewhere: what they are given, what they may return, and that their files run nothing."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from fpdm.evaluation.pretrained import pretrained_extractor
from tests.evaluation.scripts import Infinite, Maps, Small, saved

IMAGES = torch.randint(0, 256, (7, 3, 12, 12), generator=torch.Generator().manual_seed(0)).to(torch.uint8)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(Small(), tmp_path_factory.mktemp("scripts") / "small.pt")


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_features_are_the_networks(small: Path, batch_size: int) -> None:
    found = pretrained_extractor(str(small)).features(IMAGES, batch_size)
    with torch.no_grad():
        expected = Small()(IMAGES).double()  # (N, F)
    torch.testing.assert_close(found.values, expected, rtol=1e-5, atol=1e-6)
    assert found.extractor.startswith("small.pt, ")


def test_grey_images_get_three_equal_channels(small: Path) -> None:
    grey = IMAGES[:, :1]  # (N, 1, H, W)
    extractor = pretrained_extractor(str(small))
    repeated = torch.cat([grey, grey, grey], dim=1)  # (N, 3, H, W)
    assert torch.equal(extractor.features(grey).values, extractor.features(repeated).values)


def test_other_weights_are_another_identity(small: Path, tmp_path: Path) -> None:
    other = saved(Small(seed=1), tmp_path / "small.pt")
    assert pretrained_extractor(str(small)).identity != pretrained_extractor(str(other)).identity


@pytest.mark.parametrize("images", [IMAGES.float(), IMAGES[:0], IMAGES[0], IMAGES[:, :2]])
def test_other_images_are_refused(small: Path, images: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="expected uint8"):
        pretrained_extractor(str(small)).features(images)


@pytest.mark.parametrize(
    ("module", "message"),
    [(Maps(), r"makes \(7, 3, 12, 12\) of 7 images"), (Infinite(), "nan or inf"), (torch.nn.Conv2d(1, 1, 1), "fails")],
)
def test_networks_that_make_no_features_are_refused(tmp_path: Path, module: torch.nn.Module, message: str) -> None:
    extractor = pretrained_extractor(str(saved(module, tmp_path / "other.pt")))
    with pytest.raises(ValueError, match=message):
        extractor.features(IMAGES)


def test_what_is_no_torchscript_is_refused(small: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no extractor"):
        pretrained_extractor(str(tmp_path / "missing.pt"))
    (tmp_path / "text.pt").write_text("no network")
    with pytest.raises(ValueError, match="no TorchScript file"):
        pretrained_extractor(str(tmp_path / "text.pt"))
    with pytest.raises(ValueError, match="leave the weights out"):
        pretrained_extractor(str(small), weights=small)


class Bomb:
    """Unpickling it makes a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


@pytest.mark.slow
def test_inception_is_torch_fidelitys(tmp_path: Path) -> None:
    module = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")
    # The published weights cannot be had everywhere: random ones in their layout.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module.FeatureExtractorInceptionV3, "load_state_dict", lambda *_: None)
        patch.setattr(module, "load_state_dict_from_url", lambda *_, **__: {})
        torch.manual_seed(0)
        theirs = module.FeatureExtractorInceptionV3("inception", ["2048"])
    path = tmp_path / "weights.pth"
    torch.save(theirs.state_dict(), path)  # noqa: TID251  (as it is published)
    ours = pretrained_extractor("inception", weights=path)
    found = ours.features(IMAGES[:3], batch_size=2)
    (expected,) = theirs(IMAGES[:3])  # (N, 2048)
    assert found.values.shape == (3, 2048)
    torch.testing.assert_close(found.values, expected.double(), rtol=1e-4, atol=1e-5)
    assert torch.equal(found.values, ours.features(IMAGES[:3], batch_size=2).values)
    assert float(expected.std()) > 0.0
    assert ours.is_inception
    assert not ours.is_published  # so no FID

    bomb = tmp_path / "bomb.pth"
    bomb.write_bytes(pickle.dumps(Bomb(tmp_path / "ran")))
    half = tmp_path / "half.pth"
    half.write_bytes(path.read_bytes()[:100_000])
    foreign = tmp_path / "foreign.pth"
    torch.save({"weight": torch.from_numpy(np.zeros(3))}, foreign)  # noqa: TID251
    for bad in (bomb, half, foreign):
        with pytest.raises(ValueError, match="no weights of torch-fidelity's Inception") as caught:
            pretrained_extractor("inception", weights=bad)
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "ran").exists()
    assert "TORCH_FORCE_WEIGHTS_ONLY_LOAD" not in os.environ


def test_missing_weights_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"there is no weights file .*none\.pth"):
        pretrained_extractor("inception", weights=tmp_path / "none.pth")
