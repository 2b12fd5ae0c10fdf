"""Pixels and diffusers' AutoencoderKL behind one interface."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from fpdm.autoencoder.config import AutoencoderConfig
from fpdm.errors import RunError
from tests.autoencoders import images, tiny

WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.mark.parametrize("place", ["", "vae"])
@torch.no_grad()
def test_latents_are_diffusers_own_scaled_by_the_config(tmp_path: Path, place: str) -> None:
    model = tiny(tmp_path / place, scaling_factor=0.3, shift_factor=0.2)
    found = AutoencoderConfig(str(tmp_path)).load()
    x = images()
    expected = model.encode(x).latent_dist
    posterior = found.encode(x)
    torch.testing.assert_close(posterior.mean, (expected.mean - 0.2) * 0.3)
    torch.testing.assert_close(posterior.std, expected.std * 0.3)
    z = torch.randn(2, 4, 4, 4)
    torch.testing.assert_close(found.decode(z), model.decode(z / 0.3 + 0.2).sample)
    assert found.clip is None


@torch.no_grad()
def test_a_scaling_by_channel_is_heeded(tmp_path: Path) -> None:
    mean, std = [0.1, 0.2, 0.3, 0.4], [1.0, 2.0, 3.0, 4.0]
    model = tiny(tmp_path, latents_mean=mean, latents_std=std)
    found = AutoencoderConfig(str(tmp_path)).load()
    raw = model.encode(images()).latent_dist.mean
    z = found.encode(images()).mean
    torch.testing.assert_close(z, (raw - torch.tensor(mean).view(4, 1, 1)) / torch.tensor(std).view(4, 1, 1) * 0.5)
    torch.testing.assert_close(found.decode(z), model.decode(raw).sample)


def test_a_padded_image_is_black_around_and_comes_back_in_its_size(tmp_path: Path) -> None:
    model = tiny(tmp_path, pad=1)
    found = AutoencoderConfig(str(tmp_path)).load()
    x = images(size=6)
    assert found.config.pad == 1
    assert found.latent_shape((1, 6, 6)) == (4, 4, 4)
    assert found.image_shape((4, 4, 4)) == (1, 6, 6)
    with torch.no_grad():
        whole = F.pad(x, [1] * 4, value=-1.0)  # (B, 1, 8, 8)
        torch.testing.assert_close(found.encode(x).mean, model.encode(whole).latent_dist.mean * 0.5)
        z = found.encode(x).mean
        torch.testing.assert_close(found.decode(z), model.decode(z / 0.5).sample[:, :, 1:-1, 1:-1])


def test_who_loads_an_autoencoder_may_pad_otherwise_than_its_folder_says(tmp_path: Path) -> None:
    tiny(tmp_path, pad=1)
    assert AutoencoderConfig(str(tmp_path), pad=0).load().latent_shape((1, 8, 8)) == (4, 4, 4)


def test_batches_change_next_to_nothing(tmp_path: Path) -> None:
    tiny(tmp_path)
    config = AutoencoderConfig(str(tmp_path))
    x, plain = images(5, size=16), config.load()
    one = config.load(batch_size=1)
    torch.testing.assert_close(one.encode(x).mean, plain.encode(x).mean)
    torch.testing.assert_close(one.decode(plain.encode(x).mean), plain.decode(plain.encode(x).mean))


@torch.no_grad()
def test_large_images_are_cut_into_tiles_if_asked(tmp_path: Path) -> None:
    model = tiny(tmp_path)
    model.enable_tiling()
    config = AutoencoderConfig(str(tmp_path))
    x = images(2, size=16)  # (B, 1, 16, 16), tiles of 8 x 8
    tiled, plain = config.load(tiling=True), config.load()
    z = plain.encode(x).mean  # (B, 4, 8, 8)
    torch.testing.assert_close(tiled.encode(x).mean, model.encode(x).latent_dist.mean * 0.5)
    torch.testing.assert_close(tiled.decode(z), model.decode(z / 0.5).sample)
    assert not torch.allclose(tiled.decode(z), plain.decode(z), atol=1e-3)


def test_it_is_known_by_its_hash_wherever_it_is(tmp_path: Path) -> None:
    tiny(tmp_path / "here")
    tiny(tmp_path / "there")
    tiny(tmp_path / "other", scaling_factor=0.6)
    known = AutoencoderConfig(str(tmp_path / "here")).load().config
    assert len(known.sha256) == 64
    moved = known.load(source=str(tmp_path / "there"))
    assert moved.config == replace(known, source=str(tmp_path / "there"))
    assert known.load(precision="bf16").sha256 == known.sha256
    with pytest.raises(ValueError, match="give the one that made them"):
        known.load(source=str(tmp_path / "other"))


def test_half_precision_is_near_and_float32_outside(tmp_path: Path) -> None:
    tiny(tmp_path)
    config = AutoencoderConfig(str(tmp_path))
    full, half = config.load().encode(images()), config.load(precision="bf16").encode(images())
    assert half.mean.dtype == torch.float32
    assert not torch.equal(half.mean, full.mean)
    torch.testing.assert_close(half.mean, full.mean, rtol=0.1, atol=0.05)
    with pytest.raises(RunError, match="use fp32"):
        config.load(precision="bf16").encode(images() * float("inf"))


def test_images_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    tiny(tmp_path)
    found = AutoencoderConfig(str(tmp_path)).load()
    with pytest.raises(ValueError, match="takes 1 channels; the images have 3"):
        found.latent_shape((3, 8, 8))
    with pytest.raises(ValueError, match="7 x 7 pixels are not divisible by the autoencoder's factor of 2"):
        found.latent_shape((1, 7, 7))
    with pytest.raises(ValueError, match="latents of 4 channels; the model makes 3"):
        found.image_shape((3, 4, 4))


def _with_setting(name: str, value: object) -> object:
    def damage(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, name: value}))

    return damage


def _with_weights_of(dtype: torch.dtype) -> object:
    def damage(folder: Path) -> None:
        weights = load_file(folder / WEIGHTS)
        save_file({key: value.to(dtype) for key, value in weights.items()}, folder / WEIGHTS, {"format": "pt"})

    return damage


def _without_weights(folder: Path) -> None:
    (folder / WEIGHTS).unlink()


def _with_fewer_weights(folder: Path) -> None:
    weights = load_file(folder / WEIGHTS)
    save_file({key: weights[key] for key in list(weights)[1:]}, folder / WEIGHTS, {"format": "pt"})


def _with_other_shapes(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "block_out_channels": [8, 16]}))


def _cut_off(folder: Path) -> None:
    whole = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(whole[:-100])


def _with_a_scale_of(value: object) -> object:
    def damage(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, "scaling_factor": value}))

    return damage


def _with_a_damaged_pad(folder: Path) -> None:
    (folder / "fpdm.json").write_text('{"pad": ')


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (_without_weights, "no autoencoder can be loaded from"),
        (_with_fewer_weights, "is missing"),
        (_with_other_shapes, "no autoencoder can be loaded from|is missing"),
        (_cut_off, "no autoencoder can be loaded from"),
        (_with_a_scale_of(None), "scaling_factor None; expected a number above 0"),
        (_with_a_scale_of(0.0), "scaling_factor 0.0; expected a number above 0"),
        (_with_a_damaged_pad, "fpdm.json is not JSON"),
        (_with_setting("quantization_config", {"quant_method": "bitsandbytes"}), "is quantised; expected its original"),
        (_with_weights_of(torch.int8), "its weights are I8, not floating-point numbers"),
        (_with_weights_of(torch.complex64), "its weights are C64, not floating-point numbers"),
        (lambda folder: (folder / "config.json").write_text("[1]"), "its config.json is not an object"),
        (lambda folder: (folder / "config.json").write_text('{"a": 1, "a": 2}'), "the key 'a' twice"),
    ],
)
def test_a_damaged_autoencoder_is_refused_in_a_line(tmp_path: Path, damage: object, said: str) -> None:
    tiny(tmp_path)
    damage(tmp_path)  # type: ignore[operator]
    with pytest.raises(ValueError, match=said):
        AutoencoderConfig(str(tmp_path)).load()


def test_a_folder_without_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"there is no autoencoder in .*: no config.json; expected the folder of an"):
        AutoencoderConfig(str(tmp_path)).load()
    for name in ("none", str(tmp_path / "none"), "a/b/c", "a/vae.safetensors"):
        with pytest.raises(ValueError, match=r"the autoencoder .* does not exist; expected a folder or a name on the"):
            AutoencoderConfig(name).load()


def _save(kind: str, folder: Path) -> None:
    import diffusers

    small = {
        "AutoencoderTiny": {
            **dict.fromkeys(("encoder_block_out_channels", "decoder_block_out_channels"), (8, 8)),
            **dict.fromkeys(("num_encoder_blocks", "num_decoder_blocks"), (1, 1)),
        },
        "VQModel": {"block_out_channels": (8,), "norm_num_groups": 4},
        "AsymmetricAutoencoderKL": {"norm_num_groups": 8},
        "UNet2DModel": {
            "down_block_types": ("DownBlock2D",),
            "up_block_types": ("UpBlock2D",),
            "block_out_channels": (8,),
            "norm_num_groups": 4,
            "sample_size": 8,
        },
    }
    with torch.random.fork_rng(devices=[]):
        getattr(diffusers, kind)(**small[kind]).save_pretrained(folder)


@pytest.mark.parametrize("kind", ["AutoencoderTiny", "VQModel", "AsymmetricAutoencoderKL", "UNet2DModel"])
@pytest.mark.parametrize("place", ["", "vae"])
def test_another_kind_of_model_is_named(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], kind: str, place: str
) -> None:
    _save(kind, tmp_path / place)
    capfd.readouterr()
    with pytest.raises(ValueError, match=rf"holds a model of the class {kind}, not an AutoencoderKL") as raised:
        AutoencoderConfig(str(tmp_path)).load()
    assert "\n" not in str(raised.value)
    assert capfd.readouterr() == ("", "")


def test_what_does_not_fit_is_told_in_the_message_alone(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    tiny(tmp_path)
    _with_fewer_weights(tmp_path)
    with pytest.raises(ValueError, match="is missing"):
        AutoencoderConfig(str(tmp_path)).load()
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(("source", "pad"), [("x", -1), ("x", 1.5), ("", 2)])
def test_a_pad_out_of_range_is_refused(source: str, pad: int) -> None:
    with pytest.raises(ValueError, match="pad is"):
        AutoencoderConfig(source, pad=pad)


def test_loading_draws_nothing_from_the_process_random_numbers(tmp_path: Path) -> None:
    tiny(tmp_path)
    before = torch.random.get_rng_state()
    AutoencoderConfig(str(tmp_path)).load()
    assert torch.equal(torch.random.get_rng_state(), before)


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    model = tiny(tmp_path)
    with torch.no_grad():
        model.decoder.conv_out.bias[0] = float("nan")
    model.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"decoder.conv_out.bias holds nan or inf"):
        AutoencoderConfig(str(tmp_path)).load()
