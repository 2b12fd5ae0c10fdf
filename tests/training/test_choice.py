"""How training on a folder of images is chosen, on machines of any speed."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fpdm.data.config import DataConfig
from fpdm.data.folder_summary import Span
from fpdm.data.survey import Survey
from fpdm.models.cost import model_cost
from fpdm.runs.progress import Progress
from fpdm.runs.recipe import Recipe
from fpdm.runs.recipes import make_recipe
from fpdm.training.autoencoder.config import AutoencoderShape
from fpdm.training.choice import BATCHES, Choice, batch_for, candidate_sizes, choose


class Machine:
    """A machine that makes so many images per second of the smallest network, and of the autoencoder at 64 pixels."""

    machine = "a machine"

    def __init__(self, images: float = 100.0, encoded: float = 80.0) -> None:
        self.images, self.encoded = images, encoded

    def images_per_second(self, recipe: Recipe) -> float:
        return self.images * (128 / recipe.model.width) ** 2 * 64 / recipe.model.tokens

    def autoencoder_images_per_second(self, shape: AutoencoderShape, image: tuple[int, int, int]) -> float:
        return self.encoded * (64 / image[1]) ** 2


def folder(**changes: Any) -> Survey:
    values = Survey(Path("photos"), 1000, 200, 0, Span(500, 700.0, 900), True, 0.75, False, 0, (), ())
    return replace(values, **changes)


def base(model: str = "fpdm", **changes: Any) -> Recipe:
    found = make_recipe("folder", model, data=DataConfig("photos"))
    for part in ("data", "model", "train"):
        old = getattr(found, part)
        new = replace(old, **{name: value for name, value in changes.items() if hasattr(old, name)})
        found = replace(found, **{part: new})
    return found


def chosen(
    seconds: float = 600.0, *, found: Survey | None = None, speed: Machine | None = None, **given: Any
) -> Choice:
    return choose(base(**given), found or folder(), seconds, speed or Machine(), given=frozenset(given))


@pytest.mark.parametrize("images", [1, 7, 19])
def test_too_few_images_are_refused_with_what_would_do(images: int) -> None:
    with pytest.raises(ValueError, match=rf"photos has {images} images.* expected 20 or more.* add images"):
        chosen(found=folder(images=images))
    assert chosen(found=folder(images=20)).recipe


def test_more_time_never_means_smaller_images_nor_fewer_tokens_of_fewer_channels() -> None:
    sizes = [chosen(seconds).recipe.data.size for seconds in (1, 10, 60, 300, 1200, 5000, 20_000, 200_000)]
    assert sizes == sorted(sizes)
    assert sizes[0] == 32
    assert sizes[-1] == 256


def test_a_slow_machine_gets_what_a_fast_one_gets_in_less_time() -> None:
    slow, fast = chosen(1000, speed=Machine(10, 8)), chosen(100, speed=Machine(100, 80))
    assert slow.recipe.data == fast.recipe.data
    assert slow.recipe.model == fast.recipe.model
    assert slow.steps == fast.steps


def test_small_images_are_learned_as_pixels_and_larger_ones_as_latents() -> None:
    small = chosen(found=folder(side=Span(28, 28.0, 28), mixed=False))
    assert (small.recipe.data.size, small.stages, small.autoencoder_seconds) == (28, (), 0.0)
    assert small.recipe.train.seconds == 600
    large = chosen()
    assert large.recipe.data.size == 64
    assert 0 < large.autoencoder_seconds <= 0.25 * 600
    assert large.recipe.train.seconds + large.autoencoder_seconds == 600
    shape = AutoencoderShape(stage_channels=large.stages).latent_shape((3, 64, 64))
    assert (large.recipe.model.in_channels, large.recipe.model.image_size) == (shape[0], shape[1])


@pytest.mark.parametrize(
    ("side", "sizes"), [(7, [8]), (28, [28]), (33, [32]), (64, [32, 64]), (300, [32, 64, 128, 256])]
)
def test_images_are_hardly_enlarged(side: float, sizes: list[int]) -> None:
    assert candidate_sizes(side) == sizes


def test_any_side_gives_sizes_near_it() -> None:
    for side in range(1, 2000):
        sizes = candidate_sizes(side)
        assert sizes == sorted({*sizes})
        assert max(sizes) <= max(side + 4, 4)
        assert all(chosen(found=folder(side=Span(side, side, side))).recipe for _ in [0] if side % 97 == 0)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("size", 96),
        ("size", 50),
        ("channels", 1),
        ("conditional", False),
        ("flip", True),
        ("patch_size", 4),
        ("width", 64),
        ("heads", 2),
        ("batch_size", 24),
        ("learning_rate", 0.003),
        ("warmup", 7),
        ("decay", 0.1),
        ("validate_every", 11),
        ("sample_every", 13),
        ("log_every", 3),
        ("checkpoint_every", 17),
    ],
)
def test_what_is_given_is_taken(name: str, value: Any) -> None:
    found = chosen(found=folder(classes=(500, 500), names=("a", "b")), **{name: value}).recipe
    values = {**vars(found.data), **vars(found.model), **vars(found.train)}
    assert values[name] == value
    if name == "sample_every":
        assert found.train.sample_after == 0


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="image_size 32 is not divisible by patch_size 3"):
        chosen(size=64, patch_size=3)
    with pytest.raises(ValueError, match="latents of images of 33 x 33 pixels need an even size; give --size 34"):
        choose(base(size=33), folder(), 600, Machine(), given={"size"}, space="latents")


def test_pixels_and_latents_may_be_asked_for() -> None:
    assert choose(base(), folder(), 600, Machine(), space="pixels").stages == ()
    small = folder(side=Span(28, 28.0, 28))
    assert choose(base(), small, 600, Machine(), space="latents").recipe.model.image_size == 14


def test_grey_images_and_classes_that_are_too_small() -> None:
    assert chosen(found=folder(grey=True)).recipe.data.channels == 1
    assert chosen(found=folder(classes=(9, 3), names=("a", "b"))).recipe.data.conditional
    small = chosen(found=folder(classes=(9, 2), names=("a", "b")))
    assert not small.recipe.data.conditional
    assert "not learned: 1 class with fewer than 3 images: b" in small.text
    three = chosen(found=folder(classes=(9, 2, 9), names=("a", "b", "c"))).text
    assert "fewer than 3 images: b; move it elsewhere to learn the other 2" in " ".join(three.split())


def test_batches_are_powers_of_two_that_grow_with_the_training() -> None:
    batches = [batch_for(seen) for seen in (0, 1e3, 1e4, 1e5, 2e5, 1e6, 1e9)]
    assert batches == sorted(batches)
    assert {batches[0], batches[-1]} == {*BATCHES}
    assert all(batch & (batch - 1) == 0 for batch in batches)


def test_the_block_says_what_is_done_to_the_images_and_what_to_expect() -> None:
    small = folder(side=Span(64, 64.0, 64), mixed=False, transparent=200, looked_at=200)
    text = " ".join(chosen(60, found=small).text.split())
    assert "32 x 32 pixels, in colour, shrunk from 64, white where they are transparent; 64 pixels take" in text
    assert "(--size 64)" in text
    assert "for recognisable images" in text
    assert "cropped" not in text
    assert "cropped to squares (the middle 75%)" in chosen().text
    assert "the middle" not in chosen(found=folder(kept=0.97)).text
    assert "enlarged from 7" in chosen(found=folder(side=Span(7, 7.0, 7))).text
    assert "hardly any that is not among the 50" in " ".join(chosen(found=folder(images=50)).text.split())
    assert max(len(line) for line in chosen().text.splitlines()) <= 110


def test_a_larger_size_is_chosen_once_it_has_the_time_that_was_said() -> None:
    text = " ".join(chosen(60).text.split())
    (minutes,) = re.findall(r"64 pixels take (\d+) min or more here", text)
    assert chosen(60 * (int(minutes) - 1)).recipe.data.size == 32
    assert chosen(60 * (int(minutes) + 1)).recipe.data.size == 64


def test_steps_are_those_that_fit_into_the_time() -> None:
    found = chosen(600, speed=Machine(50, 80))
    seen = 50 * (128 / found.recipe.model.width) ** 2 * 64 / found.recipe.model.tokens * found.recipe.train.seconds
    assert found.steps == int(seen / found.recipe.train.batch_size)
    assert found.recipe.train.steps == 0
    ends = Progress(step=10**6, seconds=found.recipe.train.seconds)
    assert found.recipe.train.rate(ends) == 0  # the rate has fallen to zero when the time is over


def evaluations(found: Choice, images: int) -> int:
    """Evaluations of the network for all that a run shows, where a training step of an image takes three."""
    train, validated = found.recipe.train, min(128, round(0.15 * images)) * 10
    sheets, at = 1, train.sample_after
    while at <= train.seconds:
        sheets, at = sheets + 1, 2 * at
    return validated * (1 + found.steps // train.validate_every) + sheets * 2 * 16 * 20


@pytest.mark.parametrize("images", [60, 1000])
@pytest.mark.parametrize("speed", [10, 100, 1000])
@pytest.mark.parametrize("minutes", [2, 4, 10, 30])
def test_minutes_are_enough_for_what_is_shown_beside_the_steps(minutes: int, speed: float, images: int) -> None:
    small = folder(side=Span(28, 28.0, 28), images=images)
    whole, asked, spent = 60.0 * minutes, 54.0 * minutes, 20.0
    found = choose(base(), small, asked, Machine(speed), whole=whole, spent=spent)
    rate = Machine(speed).images_per_second(found.recipe)
    needed = spent + found.seconds + evaluations(found, images) / 3 / rate
    assert found.seconds <= asked
    assert needed <= 1.05 * whole or found.seconds == asked / 2
    assert "the rest for reading, samples and validation" in " ".join(found.text.split())
    assert choose(base(), small, asked, Machine(speed)).seconds == asked  # of steps alone
    # Asked for the same again, it is the same; for more, it goes on.
    assert found.changed(base(), {"minutes"}, asked - found.left_out) == found
    longer = found.changed(base(), {"minutes"}, 2 * asked - found.left_out)
    assert longer.seconds == asked + found.seconds
    assert longer.left_out == pytest.approx(found.left_out)


def test_the_first_samples_come_after_a_minute_unless_they_take_long() -> None:
    found = folder(side=Span(28, 28.0, 28))
    assert chosen(found=found).recipe.train.sample_after == 60
    slow = chosen(found=found, speed=Machine(10)).recipe.train
    assert slow.sample_after == pytest.approx(10 * 2 * 16 * 20 / 3 / (10 * 64 / 49), rel=0.01)
    assert slow.validate_every > chosen(found=found, speed=Machine(1)).steps  # at the end alone


def test_a_fast_machine_gets_a_wider_model() -> None:
    widths = [chosen(600, speed=Machine(images, 10 * images)).recipe.model.width for images in (10, 1e3, 1e5)]
    assert widths == sorted(widths)
    assert widths[0] == 128 < widths[-1]
    wide = chosen(600, speed=Machine(1e5, 1e6)).recipe
    assert wide.model.width % wide.model.heads == 0
    assert wide.train.learning_rate < 1e-3
    assert model_cost(wide.model)


def test_a_recorded_choice_is_read_again_and_may_be_extended(tmp_path: Path) -> None:
    first = chosen()
    assert Choice.read(tmp_path / "choice.json") is None
    (tmp_path / "choice.json").write_text(first.to_json())
    read = Choice.read(tmp_path / "choice.json")
    assert read == first
    assert first.changed(base(), frozenset(), 600.0) == first
    longer = first.changed(base(log_every=7), frozenset({"log_every"}), 900.0)
    assert longer.recipe.train == replace(first.recipe.train, seconds=first.recipe.train.seconds + 300, log_every=7)
    with pytest.raises(ValueError, match=r"started otherwise \(data\.flip: False -> True\); choose another folder"):
        first.changed(base(flip=True), frozenset({"flip"}), 900.0)
    (tmp_path / "choice.json").write_text("{}")
    with pytest.raises(ValueError, match=r"choice\.json"):
        Choice.read(tmp_path / "choice.json")
