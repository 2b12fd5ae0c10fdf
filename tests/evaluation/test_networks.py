"""The networks themselves: their weights, losses and scores, before any training."""

import numpy as np
import pytest
import torch

from fpdm.data.images import ImageSet
from fpdm.data.sources.named import load
from fpdm.evaluation.networks import (
    AutoencoderNetwork,
    ClassifierNetwork,
    ExtractorSettings,
    _moved,
    has_classes,
    network_for,
)
from tests.evaluation.features import noise

SETTINGS = ExtractorSettings(widths=(4, 6), stem_stride=2)


def image_set(shape=(1, 8, 8), classes=3):
    return ImageSet("made", torch.zeros(6, *shape, dtype=torch.uint8), torch.arange(6) % max(classes, 1), classes)


def images(shape=(1, 8, 8), n=5):
    return torch.rand(n, *shape, generator=torch.Generator().manual_seed(0)) * 2 - 1  # (N, C, H, W)


@pytest.mark.parametrize(
    ("classes", "kind"), [(0, AutoencoderNetwork), (1, AutoencoderNetwork), (2, ClassifierNetwork)]
)
def test_two_classes_are_something_to_classify(classes, kind):
    data = image_set(classes=classes)
    assert has_classes(data) == (kind is ClassifierNetwork)
    assert type(network_for(data, SETTINGS)) is kind


@pytest.mark.parametrize("classes", [0, 3])
def test_weights_are_a_function_of_the_seed_and_no_global_random_number_is_drawn(classes):
    before = torch.get_rng_state()
    one, same, other = (
        network_for(image_set(classes=classes), ExtractorSettings(widths=(4, 6), seed=seed)).state_dict()
        for seed in (0, 0, 1)
    )
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["body.0.weight"], other["body.0.weight"])
    assert all(value.isfinite().all() for value in one.values())


def test_a_classifier_is_scored_and_charged_by_its_logits():
    network, x, labels = ClassifierNetwork((1, 8, 8), 3, SETTINGS).eval(), images(), torch.tensor([0, 1, 2, 0, 1])
    with torch.no_grad():
        logits = network(x).double().numpy()  # (N, K)
        loss, scores = float(network.loss(x, labels, np.random.default_rng(0))), network.scores(x, labels)
    odds = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)  # (N, K)
    assert loss == pytest.approx(-np.log(odds[range(5), labels]).mean(), rel=1e-5)
    assert scores.tolist() == (logits.argmax(1) == labels.numpy()).tolist()
    assert (network.features(x) >= 0).all()


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 7, 5), (1, 1, 1)])
def test_an_autoencoder_restores_images_of_any_size(shape):
    network, x = AutoencoderNetwork(shape, SETTINGS).eval(), images(shape)
    with torch.no_grad():
        restored = network.decoder(network.features(x))[..., : shape[1], : shape[2]]  # (N, C, H, W)
        scores = network.scores(x, torch.zeros(5).long())
    assert network.features(x).shape == (5, 6)
    expected = ((restored - x).double() ** 2).mean((1, 2, 3))  # (N,)
    torch.testing.assert_close(scores, expected, rtol=1e-5, atol=1e-7)


def test_scores_as_names_have_them():
    assert (ClassifierNetwork.told(0.984), ClassifierNetwork.told(1.0)) == ("acc .98", "acc 1.00")
    assert AutoencoderNetwork.told(0.0123) == "error .012"


def test_moved_images_have_drawn_out_edges_and_go_everywhere():
    x = torch.rand(2, 3, 17, 16, generator=torch.Generator().manual_seed(0))
    seen = set()
    for seed in range(300):
        found = _moved(x, np.random.default_rng(seed))
        where = [
            (down, right)
            for down in range(-2, 3)
            for right in range(-2, 3)
            if torch.equal(
                found, x[:, :, (torch.arange(17) + down).clamp(0, 16)][..., (torch.arange(16) + right).clamp(0, 15)]
            )
        ]
        assert len(where) == 1
        seen.add(where[0])
    assert len(seen) == 25


@pytest.mark.parametrize(
    "changes",
    [
        {"widths": ()},
        {"widths": (8, 0)},
        {"steps": 0},
        {"batch_size": 1},
        {"seed": -1},
        {"learning_rate": float("nan")},
    ],
)
def test_settings_that_make_no_sense_are_refused(changes):
    with pytest.raises(ValueError, match=rf"{next(iter(changes))}\b.*expected"):
        ExtractorSettings(**changes)


def test_sizes_known_before_have_the_settings_they_had():
    assert ExtractorSettings.for_images(load("digits", "train")) == ExtractorSettings(
        (16, 32, 32), stem_stride=1, steps=400, batch_size=64
    )
    fashion = ImageSet("large", torch.zeros(55_000, 1, 28, 28, dtype=torch.uint8), torch.zeros(55_000).long(), 10)
    assert ExtractorSettings.for_images(fashion) == ExtractorSettings((16, 32, 64), 2, 1500, 128, 0.01, 0)


@pytest.mark.parametrize("side", [1, 8, 16, 17, 28, 32, 33, 64, 65, 128, 256])
@pytest.mark.parametrize("classes", [0, 5])
def test_each_size_has_a_last_map_of_a_few_pixels(side, classes):
    settings = ExtractorSettings.for_images(noise(2, (1, side, side), classes))
    left = -(-side // (settings.stem_stride * 2 ** (len(settings.widths) - 1)))
    assert left <= 4
    assert left >= 3 or side < 17
    assert settings.widths[-1] <= 64
    assert settings.batch_size >= 32


@pytest.mark.parametrize("classes", [0, 5])
def test_few_images_take_few_steps(classes):
    steps = [ExtractorSettings.for_images(noise(n, (1, 20, 20), classes)).steps for n in (5, 300, 1000, 20_000)]
    assert steps == [100, 100, 30 * 1000 // 128, 1500 if classes else 600]
