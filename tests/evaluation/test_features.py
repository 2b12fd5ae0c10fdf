"""The classifier that features come from: what it computes, that it is a function of its data, and its cache."""

import hashlib
import json
import warnings
from dataclasses import replace

import numpy as np
import pytest
import safetensors.torch
import torch
import torch.nn.functional as F

from fpdm.data import ImageSet, load, sources, to_float
from fpdm.evaluation import ClassifierSettings, Features, GaussianStatistics, classifier, frechet_distance

QUICK = ClassifierSettings(widths=(8, 16), stem_stride=1, steps=200, batch_size=32)


@pytest.fixture(scope="module")
def train():
    return load("digits", "train")


@pytest.fixture(scope="module")
def held_out():
    return load("digits", "validation")


@pytest.fixture(scope="module")
def quick(train, held_out, tmp_path_factory):
    return classifier(train, held_out, settings=QUICK, cache=tmp_path_factory.mktemp("classifiers"))


def same(a, b):
    mine, others = a.network.state_dict(), b.network.state_dict()
    return mine.keys() == others.keys() and all(torch.equal(mine[key], others[key]) for key in mine)


def changed(data, **changes):
    return replace(data, **changes)


def test_features_are_what_the_last_layer_sees(quick, held_out):
    """The network written out in float64, from its weights."""
    w = {key: value.double() for key, value in quick.network.state_dict().items()}
    x = held_out.images.double() * 2 / 255 - 1  # (N, 1, 8, 8)
    for place, stride in ((0, 1), (3, 2)):
        x = F.conv2d(x, w[f"body.{place}.weight"], stride=stride, padding=1)  # (N, C, H, W)
        norm, column = f"body.{place + 1}", (1, -1, 1, 1)
        x = (x - w[f"{norm}.running_mean"].view(column)) / (w[f"{norm}.running_var"].view(column) + 1e-5).sqrt()
        x = (x * w[f"{norm}.weight"].view(column) + w[f"{norm}.bias"].view(column)).clamp(min=0)  # (N, C, H, W)
    expected = x.sum(dim=(2, 3)) / 16  # (N, 16)
    found = quick.features(held_out.images)
    torch.testing.assert_close(found.values, expected, atol=1e-5, rtol=1e-5)
    assert found.extractor == quick.identity
    guesses = (expected @ w["head.weight"].T + w["head.bias"]).argmax(dim=1)  # (N,)
    right = sum(int(guess == label) for guess, label in zip(guesses, held_out.labels, strict=True))
    assert quick.accuracy == right / len(held_out)
    assert right / len(held_out) > 0.7


def test_features_do_not_depend_on_batches_or_the_form_of_the_pixels(quick, held_out):
    whole = quick.features(held_out.images).values
    torch.testing.assert_close(quick.features(held_out.images, batch_size=7).values, whole, atol=1e-6, rtol=1e-6)
    x = to_float(held_out.images)
    assert torch.equal(quick.features(x).values, whole)
    # A third of a level away, as a sample is before it is saved; and beyond the range.
    assert torch.equal(quick.features(x + 0.3 / 127.5 * torch.where(x < 0, 1.0, -1.0)).values, whole)
    assert torch.equal(quick.features(torch.where(x == 1, 5.0, x)).values, whole)


def test_images_that_cannot_be_judged_are_refused(quick):
    bad = torch.zeros(4, 1, 8, 8)
    bad[1, 0, 2, 3], bad[3] = float("nan"), float("inf")
    for images, message in (
        (bad, "2 of 4 images hold nan or inf"),
        (torch.zeros(4, 3, 8, 8), r"\(4, 3, 8, 8\); expected at least one of \(1, 8, 8\)"),
        (torch.zeros(4, 1, 16, 16), r"\(4, 1, 16, 16\)"),
        (torch.zeros(1, 8, 8), r"\(1, 8, 8\); expected"),
        (torch.zeros(0, 1, 8, 8), "at least one"),
        (torch.zeros(4, 1, 8, 8, dtype=torch.int64), "torch.int64"),
    ):
        with pytest.raises(ValueError, match=message):
            quick.features(images)
    with pytest.raises(ValueError, match="batch_size is 0"):
        quick.features(torch.zeros(4, 1, 8, 8), batch_size=0)


def test_training_neither_uses_nor_changes_the_process_s_random_numbers(quick, train, held_out, tmp_path):
    torch.manual_seed(99)
    np.random.seed(99)  # noqa: NPY002
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()  # noqa: NPY002
    with torch.no_grad():
        again = classifier(train, held_out, settings=QUICK, cache=tmp_path)
        assert not torch.is_grad_enabled()
    assert same(again, quick)
    assert again.identity == quick.identity
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1]  # noqa: NPY002


def test_another_seed_is_another_classifier(quick, train, held_out, tmp_path):
    other = classifier(train, held_out, settings=replace(QUICK, seed=1), cache=tmp_path)
    assert other.identity != quick.identity
    with pytest.raises(ValueError, match="use one extractor"):
        frechet_distance(*(GaussianStatistics.of(c.features(held_out.images)) for c in (quick, other)))


def test_the_cache_is_taken_only_for_the_same_data_and_settings(train, held_out, tmp_path):
    tiny = replace(QUICK, steps=1)
    pixel, label = train.images.clone(), train.labels.clone()
    pixel[5, 0, 4, 4] ^= 1
    label[5] = (label[5] + 1) % 10
    cases = [
        (train, held_out, tiny),
        (changed(train, images=pixel), held_out, tiny),
        (changed(train, labels=label), held_out, tiny),
        (train, changed(held_out, images=held_out.images[1:], labels=held_out.labels[1:]), tiny),
        (train, held_out, replace(tiny, learning_rate=0.02)),
    ]
    first = [classifier(a, b, settings=s, cache=tmp_path) for a, b, s in cases]
    assert len(list(tmp_path.glob("*.safetensors"))) == len(list(tmp_path.glob("*.json"))) == len(cases)
    written = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        second = [classifier(a, b, settings=s, cache=tmp_path) for a, b, s in cases]
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == written
    for a, b in zip(first, second, strict=True):
        assert (a.identity, a.accuracy) == (b.identity, b.accuracy)
        assert torch.equal(a.features(held_out.images).values, b.features(held_out.images).values)


def flip(path):
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)


def of_another_network(weights, about):
    tensors = {
        key: value + 1 for key, value in safetensors.torch.load(weights.read_bytes()).items() if "head" not in key
    }
    weights.write_bytes(safetensors.torch.save(tensors))
    record = json.loads(about.read_text()) | {"sha256": hashlib.sha256(weights.read_bytes()).hexdigest()}
    about.write_text(json.dumps(record))


DAMAGE = {
    "one bit of the weights": lambda weights, about: flip(weights),
    "half the weights": lambda weights, about: weights.write_bytes(weights.read_bytes()[:500]),
    "no weights": lambda weights, about: weights.unlink(),
    "half the record": lambda weights, about: about.write_bytes(about.read_bytes()[:50]),
    "weights of another network": of_another_network,
    "a record that is a list": lambda weights, about: about.write_text("[]"),
    "a record without its hash": lambda weights, about: about.write_text('{"accuracy": 1.0}'),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_cache_is_made_again_with_a_word(train, held_out, tmp_path, damage):
    tiny = replace(QUICK, steps=2)
    good = classifier(train, held_out, settings=tiny, cache=tmp_path)
    (weights,), (about,) = tmp_path.glob("*.safetensors"), tmp_path.glob("*.json")
    before = weights.read_bytes(), json.loads(about.read_text())
    DAMAGE[damage](weights, about)
    with pytest.warns(UserWarning, match="is damaged .* trained again"):
        again = classifier(train, held_out, settings=tiny, cache=tmp_path)
    assert same(again, good)
    assert (weights.read_bytes(), json.loads(about.read_text())) == before


def test_a_cache_that_cannot_be_written_is_done_without(train, held_out, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.warns(UserWarning, match="could not be kept"):
        found = classifier(train, held_out, settings=replace(QUICK, steps=1), cache=tmp_path / "file")
    assert isinstance(found.features(held_out.images), Features)


def test_the_name_says_what_the_features_are(quick):
    assert replace(quick, accuracy=0.974).name == "classifier features, digits, acc .97"
    assert replace(quick, accuracy=1.0).name == "classifier features, digits, acc 1.00"
    assert quick.sha256[:12] in quick.identity


def test_splits_of_different_data_are_refused(train, tmp_path):
    other = ImageSet("photos", torch.zeros(4, 3, 8, 8, dtype=torch.uint8), torch.zeros(4).long(), 10)
    with pytest.raises(ValueError, match=r"'digits' has images of \(1, 8, 8\).*'photos' of \(3, 8, 8\)"):
        classifier(train, other, cache=tmp_path)


@pytest.mark.parametrize(
    "changes", [{"widths": ()}, {"widths": (8, 0)}, {"steps": 0}, {"seed": -1}, {"learning_rate": float("nan")}]
)
def test_settings_that_make_no_sense_are_refused(changes):
    with pytest.raises(ValueError, match="expected"):
        ClassifierSettings(**changes)


def test_colour_and_other_sizes_work(tmp_path):
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (20, 3, 33, 20), generator=generator, dtype=torch.uint8)
    data = ImageSet("noise", images, torch.arange(20) % 3, 3)
    found = classifier(data, data, settings=ClassifierSettings(steps=2, batch_size=8), cache=tmp_path)
    assert found.features(images).values.shape == (20, 64)


@pytest.mark.parametrize(
    ("name", "least", "dims"),
    [("digits", 0.96, 32), pytest.param("fashion-mnist", 0.88, 64, marks=pytest.mark.slow)],
)
def test_the_default_classifiers_know_their_data_and_see_damage(name, least, dims, tmp_path):
    if name == "fashion-mnist" and not sources._DEBIAN.exists():
        pytest.skip("Debian's dataset-fashion-mnist is not installed")
    train, held_out, test = (load(name, split) for split in ("train", "validation", "test"))
    found = classifier(train, held_out, cache=tmp_path)
    assert found.accuracy >= least
    reference = GaussianStatistics.of(found.features(train.images))
    assert reference.mean.shape == (dims,)
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(test.images.shape, generator=generator)
    # The more noise, the farther away; no noise is nearest.
    distances = [
        frechet_distance(GaussianStatistics.of(found.features(to_float(test.images) + level * noise)), reference)
        for level in (0.0, 0.1, 0.3, 1.0)
    ]
    assert distances == sorted(distances)
    assert distances[-1] > 10 * distances[0]
