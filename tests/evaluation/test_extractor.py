"""The extractors: what they compute, that they are functions of their data, what they see, and their cache."""

import hashlib
import itertools
import json
import warnings
from dataclasses import replace

import numpy as np
import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fpdm.data.images import ImageSet, to_float
from fpdm.data.sources import named as sources
from fpdm.data.sources.named import load
from fpdm.evaluation.extractor import _key, train_extractor
from fpdm.evaluation.features import Features
from fpdm.evaluation.frechet import GaussianStatistics, frechet_distance
from fpdm.evaluation.networks import AutoencoderNetwork, ClassifierNetwork, ExtractorSettings, _moved
from tests.evaluation.features import noise

QUICK = ExtractorSettings(widths=(8, 16), stem_stride=1, steps=200, batch_size=32)


def without_classes(data):
    return replace(data, labels=torch.zeros_like(data.labels), num_classes=0)


@pytest.fixture(scope="module")
def train():
    return load("digits", "train")


@pytest.fixture(scope="module")
def held_out():
    return load("digits", "validation")


@pytest.fixture(scope="module")
def classifier(train, held_out, tmp_path_factory):
    return train_extractor(train, held_out, settings=QUICK, cache=tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def autoencoder(train, held_out, tmp_path_factory):
    data = without_classes(train), without_classes(held_out)
    return train_extractor(*data, settings=QUICK, cache=tmp_path_factory.mktemp("cache"))


@pytest.fixture(params=["classifier", "autoencoder"])
def quick(request):
    return request.getfixturevalue(request.param)


@pytest.fixture(params=[10, 0])
def splits(request, train, held_out):
    """Training and held-out images, with classes and without."""
    return (train, held_out) if request.param else (without_classes(train), without_classes(held_out))


def same(a, b):
    mine, others = a.network.state_dict(), b.network.state_dict()
    return mine.keys() == others.keys() and all(torch.equal(mine[key], others[key]) for key in mine)


def body(network, images):
    """The convolutions of QUICK written out in float64, from their weights."""
    w = {key: value.double() for key, value in network.state_dict().items()}
    x = images.double() * 2 / 255 - 1  # (N, 1, 8, 8)
    for place, stride in ((0, 1), (3, 2)):
        x = F.conv2d(x, w[f"body.{place}.weight"], stride=stride, padding=1)  # (N, C, H, W)
        x = normed(x, w, f"body.{place + 1}").clamp(min=0)  # (N, C, H, W)
    return x, w


def normed(x, w, norm):
    column = (1, -1, 1, 1)
    x = (x - w[f"{norm}.running_mean"].view(column)) / (w[f"{norm}.running_var"].view(column) + 1e-5).sqrt()
    return x * w[f"{norm}.weight"].view(column) + w[f"{norm}.bias"].view(column)  # (N, C, H, W)


def test_a_classifier_s_features_are_what_its_last_layer_sees(classifier, held_out):
    x, w = body(classifier.network, held_out.images)
    expected = x.sum(dim=(2, 3)) / 16  # (N, 16)
    found = classifier.features(held_out.images)
    torch.testing.assert_close(found.values, expected, atol=1e-5, rtol=1e-5)
    assert found.extractor == classifier.identity
    guesses = (expected @ w["head.weight"].T + w["head.bias"]).argmax(dim=1)  # (N,)
    right = sum(int(guess == label) for guess, label in zip(guesses, held_out.labels, strict=True))
    assert classifier.score == right / len(held_out)
    assert right / len(held_out) > 0.7


def test_an_autoencoder_s_features_are_its_bottleneck(autoencoder, held_out):
    x, w = body(autoencoder.network, held_out.images)
    expected = x.flatten(1) @ w["narrow.weight"].T + w["narrow.bias"]  # (N, 16)
    expected = (expected - w["norm.running_mean"]) / (w["norm.running_var"] + 1e-5).sqrt()  # (N, 16)
    found = autoencoder.features(held_out.images)
    torch.testing.assert_close(found.values, expected, atol=1e-4, rtol=1e-4)
    assert found.extractor == autoencoder.identity
    x = (expected @ w["decoder.0.weight"].T + w["decoder.0.bias"]).view(-1, 16, 4, 4)  # (N, 16, 4, 4)
    for place, stride in ((2, 2), (5, 1)):
        x = normed(x, w, f"decoder.{place}").clamp(min=0)  # (N, C, H, W)
        last = f"decoder.{place + 2}"
        x = F.conv_transpose2d(x, w[f"{last}.weight"], w[f"{last}.bias"], stride, padding=1)  # (N, C, H, W)
    error = float((x - (held_out.images.double() * 2 / 255 - 1)).square().mean())
    assert autoencoder.score == pytest.approx(error, rel=1e-4)
    assert error < 0.5 * float(to_float(held_out.images).var(dim=0).mean())  # of what the mean image leaves


def test_an_autoencoder_s_features_are_of_size_one(autoencoder, train):
    values = autoencoder.features(train.images).values  # (N, 16)
    assert float(values.mean(dim=0).abs().max()) < 0.5
    assert 0.7 < float(values.std(dim=0).min()) < float(values.std(dim=0).max()) < 1.4


def test_an_autoencoder_learns_to_restore_and_to_know_again(autoencoder, train):
    """Its loss from its features and its decoder, image by image."""
    network, x = autoencoder.network, to_float(train.images[:5])
    draws = np.random.default_rng(3)
    with torch.no_grad():
        found = network.loss(x, torch.zeros(5).long(), draws)
        a = network.features(x)  # (5, 16)
        b = network.features(_moved(x, np.random.default_rng(3)))  # (5, 16)
        restored = network.decoder(a)  # (5, 1, 8, 8)
    cosines = np.array([[float(torch.cosine_similarity(p, q, dim=0)) for q in b] for p in a])  # (5, 5)
    odds = np.exp(cosines / 0.2)  # (5, 5)
    knowing = -np.mean(np.log(np.diagonal(odds) / odds.sum(axis=1)))
    assert float(found) == pytest.approx(float(F.mse_loss(restored, x)) + 0.03 * knowing, rel=1e-5)


def test_features_do_not_depend_on_batches_or_the_form_of_the_pixels(quick, held_out):
    whole = quick.features(held_out.images).values
    # Another batch size may take other kernels: float32 rounding through three layers, of features with variance 1.
    torch.testing.assert_close(quick.features(held_out.images, batch_size=7).values, whole, atol=1e-5, rtol=1e-5)
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


def test_training_neither_uses_nor_changes_the_process_s_random_numbers(splits, classifier, autoencoder, tmp_path):
    first = classifier if splits[0].num_classes else autoencoder
    torch.manual_seed(99)
    np.random.seed(99)  # noqa: NPY002
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()  # noqa: NPY002
    with torch.no_grad():
        again = train_extractor(*splits, settings=QUICK, cache=tmp_path)
        assert not torch.is_grad_enabled()
    assert same(again, first)
    assert again.identity == first.identity
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1]  # noqa: NPY002


def test_another_seed_is_another_extractor(splits, tmp_path):
    short = replace(QUICK, steps=2)
    one, other = (train_extractor(*splits, settings=replace(short, seed=seed), cache=tmp_path) for seed in (0, 1))
    assert other.identity != one.identity
    with pytest.raises(ValueError, match="use one extractor"):
        frechet_distance(*(GaussianStatistics.of(e.features(splits[1].images)) for e in (one, other)))


def test_fewer_than_two_classes_are_the_autoencoder_s(train, held_out, tmp_path):
    tiny = replace(QUICK, steps=1)
    kinds = {0: AutoencoderNetwork, 1: AutoencoderNetwork, 2: ClassifierNetwork}
    for number, kind in kinds.items():
        data = [replace(part, labels=part.labels % max(number, 1), num_classes=number) for part in (train, held_out)]
        assert isinstance(train_extractor(*data, settings=tiny, cache=tmp_path).network, kind)


def test_without_a_folder_each_kind_has_its_own(splits, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    found = train_extractor(*splits, settings=replace(QUICK, steps=1))
    folder = tmp_path / "fpdm" / ("classifiers" if splits[0].num_classes else "autoencoders")
    assert len(list(folder.glob("*.safetensors"))) == 1
    assert folder.name == f"{found.network.kind}s"


def test_caches_of_recorded_results_are_still_found(train):
    """The key of the default classifier for digits, as it was when results were recorded with it."""
    key = _key(train, load("digits", "test"), ExtractorSettings.for_images(train))
    assert key == "bb5681cee5ce3a5e97d4d294f0e7897016102adb8d12ed3b62493e8ed528c42f"


def test_the_cache_is_taken_only_for_the_same_data_and_settings(train, held_out, tmp_path):
    tiny = replace(QUICK, steps=1)
    pixel, label = train.images.clone(), train.labels.clone()
    pixel[5, 0, 4, 4] ^= 1
    label[5] = (label[5] + 1) % 10
    cases = [
        (train, held_out, tiny),
        (replace(train, images=pixel), held_out, tiny),
        (replace(train, labels=label), held_out, tiny),
        (train, replace(held_out, images=held_out.images[1:], labels=held_out.labels[1:]), tiny),
        (train, held_out, replace(tiny, learning_rate=0.02)),
    ]
    cases += [(without_classes(a), without_classes(b), s) for a, b, s in (cases[0], cases[1], cases[3], cases[4])]
    first = [train_extractor(a, b, settings=s, cache=tmp_path) for a, b, s in cases]
    assert len(list(tmp_path.glob("*.safetensors"))) == len(list(tmp_path.glob("*.json"))) == len(cases)
    written = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        second = [train_extractor(a, b, settings=s, cache=tmp_path) for a, b, s in cases]
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == written
    for a, b in zip(first, second, strict=True):
        assert (a.identity, a.score) == (b.identity, b.score)
        assert torch.equal(a.features(held_out.images).values, b.features(held_out.images).values)


def flip(path):
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)


def of_another_network(weights, about):
    tensors = {
        key: value + 1 for key, value in safetensors.torch.load(weights.read_bytes()).items() if key != "body.0.weight"
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
def test_a_damaged_cache_is_made_again_with_a_word(splits, tmp_path, damage):
    tiny = replace(QUICK, steps=2)
    good = train_extractor(*splits, settings=tiny, cache=tmp_path)
    (weights,), (about,) = tmp_path.glob("*.safetensors"), tmp_path.glob("*.json")
    before = weights.read_bytes(), json.loads(about.read_text())
    DAMAGE[damage](weights, about)
    with pytest.warns(UserWarning, match="is damaged .* trained again"):
        again = train_extractor(*splits, settings=tiny, cache=tmp_path)
    assert same(again, good)
    assert (weights.read_bytes(), json.loads(about.read_text())) == before


def test_a_cache_that_cannot_be_written_is_done_without(train, held_out, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.warns(UserWarning, match="could not be kept"):
        found = train_extractor(train, held_out, settings=replace(QUICK, steps=1), cache=tmp_path / "file")
    assert isinstance(found.features(held_out.images), Features)


def test_the_name_says_what_the_features_are(classifier, autoencoder):
    assert replace(classifier, score=0.974).name == "classifier features, digits, acc .97"
    assert replace(classifier, score=1.0).name == "classifier features, digits, acc 1.00"
    assert replace(autoencoder, score=0.0123).name == "autoencoder features, digits, error .012"
    assert replace(autoencoder, score=1.5).name == "autoencoder features, digits, error 1.500"
    for found in (classifier, autoencoder):
        assert found.identity == f"{found.name}, {found.sha256[:12]}"


def test_splits_of_different_data_are_refused(train, held_out, tmp_path):
    other = ImageSet("photos", torch.zeros(4, 3, 8, 8, dtype=torch.uint8), torch.zeros(4).long(), 10)
    with pytest.raises(ValueError, match=r"'digits' has images of \(1, 8, 8\).*'photos' of \(3, 8, 8\)"):
        train_extractor(train, other, cache=tmp_path)
    with pytest.raises(ValueError, match=r"in 10 classes.*in 0"):
        train_extractor(train, without_classes(held_out), cache=tmp_path)


@pytest.mark.parametrize("classes", [0, 5])
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 64, 64), (3, 33, 20), (1, 1, 1)])
def test_any_shape_and_fewer_images_than_a_batch(classes, shape, tmp_path):
    data = noise(7, shape, classes)
    settings = replace(ExtractorSettings.for_images(data), steps=2)
    found = train_extractor(data, data, settings=settings, cache=tmp_path)
    values = found.features(data.images).values
    assert values.shape == (7, settings.widths[-1])
    statistics = GaussianStatistics.of(found.features(data.images))
    with pytest.warns(UserWarning, match="7 images for features"):
        distance = frechet_distance(statistics, statistics)
    assert np.isfinite(distance)


@pytest.mark.parametrize("classes", [0, 2])
def test_equal_images_have_finite_features(classes, tmp_path):
    """All of one colour: nothing to learn, and no variance to divide by."""
    data = ImageSet(
        "grey", torch.full((6, 1, 8, 8), 128, dtype=torch.uint8), torch.arange(6) % max(classes, 1), classes
    )
    found = train_extractor(data, data, settings=replace(QUICK, steps=20), cache=tmp_path)
    assert np.isfinite(found.score)
    assert found.features(noise(5, (1, 8, 8), 0).images).values.shape == (5, 16)


def grows(distances):
    return all(less < more for less, more in itertools.pairwise(distances))


def damaged(x, kind, level):
    """Images (N, C, H, W) in [-1, 1], blurred, noisy, or with only the share 1 / (1 + level) of them distinct."""
    if kind == "noise":
        return x + level * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    if kind == "blur":
        return torch.from_numpy(gaussian_filter(x.numpy(), (0, 0, level, level), mode="nearest")) if level else x
    return x[torch.arange(len(x)) % int(len(x) / (1 + level))]


LEVELS = {"noise": (0, 0.2, 0.4, 0.8, 1.6), "blur": (0, 0.6, 1, 1.5, 2), "repetition": (0, 1, 4, 9, 19, 49)}


@pytest.mark.parametrize("kind", LEVELS)
def test_more_damage_is_farther_away(quick, train, kind):
    reference = GaussianStatistics.of(quick.features(train.images[500:]))
    x = to_float(train.images[:500])
    distances = [
        frechet_distance(GaussianStatistics.of(quick.features(damaged(x, kind, level))), reference)
        for level in LEVELS[kind]
    ]
    assert grows(distances)
    assert distances[-1] > 5 * distances[0]


@pytest.mark.slow
@pytest.mark.parametrize("classes", [10, 0])
@pytest.mark.parametrize(
    ("name", "accuracy", "error", "linear"), [("digits", 0.96, 0.06, 0.96), ("fashion-mnist", 0.88, 0.07, 0.8)]
)
def test_the_default_extractors_know_their_data_and_see_damage(name, classes, accuracy, error, linear, tmp_path):
    if name == "fashion-mnist" and not sources._DEBIAN.exists():
        pytest.skip("Debian's dataset-fashion-mnist is not installed")
    train, test = (load(name, split) for split in ("train", "test"))
    splits = (train, test) if classes else (without_classes(train), without_classes(test))
    found = train_extractor(*splits, cache=tmp_path)
    assert found.score >= accuracy if classes else found.score <= error
    values = found.features(train.images[:5000]).values  # (N, F)
    scaled = make_pipeline(StandardScaler(), LogisticRegression(max_iter=300)).fit(values, train.labels[:5000])
    assert scaled.score(found.features(test.images).values, test.labels) >= linear
    reference = GaussianStatistics.of(found.features(test.images))
    x = to_float(train.images[:3000])
    for kind, levels in LEVELS.items():
        distances = [
            frechet_distance(GaussianStatistics.of(found.features(damaged(x, kind, level))), reference)
            for level in levels
        ]
        assert grows(distances), kind
        assert distances[-1] > 10 * distances[0], kind
