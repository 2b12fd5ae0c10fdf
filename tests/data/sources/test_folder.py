"""Folders of images against arrays that NumPy made, and everything a folder may hold that is no image."""

import os
import re
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from fpdm.data import loading
from fpdm.data.folder_summary import Span
from fpdm.data.images import ImageSet
from fpdm.data.loading import load_folder
from fpdm.data.sources.folder import scan
from fpdm.errors import printable
from tests.data.image_files import NOISE, ODD, plain, put

RANDOM = np.random.default_rng(3)
GREY = (16, 80, 200)  # a background that no image has


def values(loaded):
    """The first value of each image: which image it is, if each has its own."""
    return loaded.data.images[:, 0, 0, 0].tolist()


def pixels(loaded):
    """The one image of a folder, (H, W, C)."""
    assert len(loaded.data) == 1
    return loaded.data.images[0].permute(1, 2, 0).numpy()


def names(loaded):
    return [str(one.path) for one in loaded.summary.skipped]


# Classes and order


def test_sub_folders_are_classes_in_the_order_of_their_names(tmp_path):
    for value, name in enumerate(["a/1.png", "a/10.png", "a/2/deep/er.png", "a/3.PNG", "a-b/1.png", "b/x.jpg", "b/y"]):
        put(tmp_path / name, plain(30 * value), format="JPEG" if name.endswith("jpg") else "PNG")
    (tmp_path / "aa").mkdir()
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "bad.png").write_text("no image")
    (tmp_path / "b" / "notes.txt").write_text("no image, and not named so")
    put(tmp_path / "b" / ".hidden.png")
    put(tmp_path / ".cache" / "x.png")
    loaded = load_folder(tmp_path, 4)
    assert np.abs(np.array(values(loaded)) - 30 * np.arange(7)).max() <= 1  # JPEG
    assert loaded.data.labels.tolist() == [0, 0, 0, 0, 1, 2, 2]
    assert loaded.data.num_classes == 3
    assert loaded.data.shape == (3, 4, 4)
    summary = loaded.summary
    assert summary.classes == (("a", 4), ("a-b", 1), ("b", 2))
    assert summary.empty == ("aa", "c")
    assert names(loaded) == ["c/bad.png"]
    assert (summary.images, summary.others, summary.enlarged) == (7, 1, 0)


def test_a_flat_folder_has_no_classes(tmp_path):
    for value in (3, 1, 2):
        put(tmp_path / f"{value}.png", plain(value))
    (tmp_path / "nothing in here").mkdir()
    loaded = load_folder(tmp_path, 4, strict=True)
    assert values(loaded) == [1, 2, 3]
    assert loaded.data.num_classes == 0
    assert loaded.data.labels.tolist() == [0, 0, 0]
    assert loaded.summary.classes == loaded.summary.empty == ()


def test_images_without_classes_have_the_label_0():
    images = torch.zeros(2, 1, 2, 2, dtype=torch.uint8)
    assert len(ImageSet("x", images, torch.zeros(2).long(), 0)) == 2
    with pytest.raises(ValueError, match="from 0 to 1; expected 0 to 0"):
        ImageSet("x", images, torch.tensor([0, 1]), 0)
    with pytest.raises(ValueError, match="num_classes of 'x' is -1"):
        ImageSet("x", images, torch.zeros(2).long(), -1)


def test_a_few_images_beside_class_folders_are_skipped_and_reported(tmp_path):
    for value in range(9):
        put(tmp_path / "cats" / f"{value}.png", plain(value))
    put(tmp_path / "loose.png")
    (tmp_path / "README").write_text("no image")
    loaded = load_folder(tmp_path, 4)
    assert values(loaded) == [*range(9)]
    assert [one.reason for one in loaded.summary.skipped] == [
        "not an image in a format that can be read",
        "lies beside the class folders",
    ]
    (tmp_path / "README").unlink()
    with pytest.raises(ValueError, match=r"loose\.png: lies beside the class folders; repair it"):
        load_folder(tmp_path, 4, strict=True)


def test_a_few_images_in_a_sub_folder_are_no_class(tmp_path):
    for value in range(20):
        put(tmp_path / f"{value:02}.png", plain(value))
    put(tmp_path / "thumbnails" / "1.png")
    (tmp_path / "thumbnails" / "2.png").write_text("no image")
    loaded = load_folder(tmp_path, 4)
    assert values(loaded) == [*range(20)]
    assert loaded.data.num_classes == 0
    assert loaded.summary.empty == ()
    assert [(str(path), reason) for path, reason in loaded.summary.skipped] == [
        ("thumbnails/1.png", "lies in a sub-folder, and most images beside it"),
        ("thumbnails/2.png", "not an image in a format that can be read"),
    ]


def test_images_that_cannot_be_read_do_not_decide_the_layout(tmp_path):
    for value in range(3):
        put(tmp_path / "flat" / f"{value}.png", plain(value))
        put(tmp_path / "classes" / "cat" / f"{value}.png", plain(value))
    for name in ("flat/bad/0.png", *(f"classes/{i}.png" for i in range(9))):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    flat, classes = (load_folder(tmp_path / name, 4) for name in ("flat", "classes"))
    assert values(flat) == values(classes) == [0, 1, 2]
    assert (flat.summary.classes, classes.summary.classes) == ((), (("cat", 3),))


def test_a_layout_that_would_leave_out_many_images_is_refused(tmp_path):
    for value in range(8):
        put(tmp_path / f"{value}.png", plain(value))
    for name in ("a", "b", "c", "d"):
        put(tmp_path / name / "0.png")
    with pytest.raises(ValueError, match="8 images and the sub-folders a, b, c and 1 more with 4: are these classes"):
        load_folder(tmp_path, 4)


def test_no_folder_is_gone_through_twice(tmp_path):
    put(tmp_path / "set" / "cats" / "1.png", plain(1))
    put(tmp_path / "set" / "dogs" / "1.png", plain(2))
    put(tmp_path / "outside" / "1.png", plain(3))
    (tmp_path / "set" / "cats" / "loop").symlink_to(tmp_path / "set")
    (tmp_path / "set" / "cats" / "self").symlink_to("self")
    (tmp_path / "set" / "cats" / "nowhere.png").symlink_to("nowhere")
    (tmp_path / "set" / "a").symlink_to("dogs")  # comes first, but the folder counts under its own name
    (tmp_path / "set" / "zebras").symlink_to(tmp_path / "outside")
    (tmp_path / "set" / "dogs" / "2.png").symlink_to(tmp_path / "outside" / "1.png")
    loaded = load_folder(tmp_path / "set", 4)
    assert loaded.summary.classes == (("cats", 1), ("dogs", 2), ("zebras", 1))
    assert values(loaded) == [1, 2, 3, 3]
    assert names(loaded) == ["a", "cats/loop", "cats/nowhere.png", "cats/self"]


# Pixels


def png16(values, transparent=None):
    """A 16-bit grey PNG, by hand."""
    height, width = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 0, 0, 0, 0)), (b"IDAT", zlib.compress(rows))]
    if transparent is not None:
        chunks.insert(1, (b"tRNS", struct.pack(">H", transparent)))
    return b"\x89PNG\r\n\x1a\n" + b"".join(map(chunk, [*chunks, (b"IEND", b"")]))


def chunk(kind_and_data):
    kind, data = kind_and_data
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


# Each level of 8 bits and its neighbours half a level away.
DEEP = np.clip(np.arange(256)[:, None] * 257 + np.arange(-128, 128), 0, 65535).astype(np.uint16)  # (H, W)


def test_16_bits_are_scaled(tmp_path):
    (tmp_path / "a.png").write_bytes(png16(DEEP))
    (tmp_path / "b.pgm").write_bytes(b"P5 256 256 65535\n" + DEEP.astype(">u2").tobytes())
    put(tmp_path / "c.tif", DEEP)
    (tmp_path / "d.png").write_bytes(png16(DEEP, transparent=257))
    loaded = load_folder(tmp_path, 256, channels=1, background=(9, 9, 9), strict=True)
    expected = np.rint(DEEP / 65535 * 255)  # (H, W)
    for place in range(3):
        np.testing.assert_array_equal(loaded.data.images[place, 0].numpy(), expected)
    np.testing.assert_array_equal(loaded.data.images[3, 0].numpy(), np.where(DEEP == 257, 9, expected))


def test_transparency_is_laid_on_the_background(tmp_path):
    alpha = np.linspace(0, 255, 36).round().astype(np.uint8).reshape(6, 6, 1)  # (H, W, 1)
    share = alpha / 255
    put(tmp_path / "a rgba.png", np.concatenate([NOISE, alpha], axis=2))
    put(tmp_path / "b la.png", Image.merge("LA", [Image.fromarray(NOISE[..., 0]), Image.fromarray(alpha[..., 0])]))
    palette = Image.fromarray((np.arange(36, dtype=np.uint8) % 3).reshape(6, 6)).convert("L")
    palette = Image.frombytes("P", (6, 6), palette.tobytes())
    palette.putpalette([255, 0, 0, 0, 255, 0, 10, 20, 30])
    put(tmp_path / "c palette.png", palette, transparency=bytes([255, 0, 51]))
    put(tmp_path / "d palette.gif", palette, transparency=1)
    put(tmp_path / "e rgb.png", Image.fromarray(NOISE), transparency=tuple(NOISE[2, 3].tolist()))
    index = np.arange(36).reshape(6, 6) % 3  # (H, W)
    colours = np.array([[255, 0, 0], [0, 255, 0], [10, 20, 30]])[index]  # (H, W, 3)
    opaque = np.array([1.0, 0.0, 0.2])[index][..., None]  # (H, W, 1)
    keyed = NOISE.copy()
    keyed[2, 3] = GREY
    loaded = load_folder(tmp_path, 6, background=GREY, strict=True)
    for image, expected in zip(
        loaded.data.images.permute(0, 2, 3, 1).numpy(),
        [
            share * NOISE + (1 - share) * GREY,
            share * NOISE[..., :1] + (1 - share) * GREY,
            opaque * colours + (1 - opaque) * GREY,
            np.where(index[..., None] == 1, GREY, colours),
            keyed,
        ],
        strict=True,
    ):
        np.testing.assert_allclose(image, expected, atol=1)
    assert (load_folder(tmp_path, 6).data.images[0, :, 0, 0] == 255).all()  # white by default


def test_every_mode_becomes_rgb(tmp_path):
    bits = NOISE[..., 0] > 127  # (H, W)
    cmyk = RANDOM.integers(0, 256, (6, 6, 4), dtype=np.uint8)  # (H, W, 4)
    inks = Image.frombytes("CMYK", (6, 6), cmyk.tobytes())
    smooth = Image.new("CMYK", (16, 16), (40, 90, 150, 60))
    put(tmp_path / "1 bit.png", Image.fromarray(bits))
    put(tmp_path / "2 cmyk.tif", inks)
    put(tmp_path / "3 grey.bmp", NOISE[..., 1].copy())
    put(tmp_path / "4 first frame.png", NOISE, save_all=True, append_images=[Image.fromarray(255 - NOISE)])
    put(tmp_path / "5 first frame.gif", plain(10), save_all=True, append_images=[Image.fromarray(plain(200))])
    put(tmp_path / "6 lossless.webp", NOISE, lossless=True)
    put(tmp_path / "7 cmyk.jpg", smooth, quality=100)
    put(tmp_path / "8 two pictures.mpo", plain(77), save_all=True, append_images=[Image.fromarray(plain(9))])
    ink = (255 - cmyk[..., :3].astype(float)) * (255 - cmyk[..., 3:]) / 255  # (H, W, 3)
    loaded = load_folder(tmp_path, 6, strict=True)
    for image, expected, tolerance in zip(
        loaded.data.images.permute(0, 2, 3, 1).numpy(),
        [
            np.repeat(bits[..., None] * 255, 3, axis=2),
            ink,
            np.repeat(NOISE[..., 1:2], 3, axis=2),
            NOISE,
            plain(10, 6, 6),
            NOISE,
            plain(0, 6, 6) + (255 - np.array([40, 90, 150])) * (255 - 60) / 255,
            plain(77, 6, 6),
        ],
        [0, 1, 0, 0, 0, 0, 3, 1],
        strict=True,
    ):
        np.testing.assert_allclose(image, expected, atol=tolerance)


def test_grey_is_the_luma_of_the_colours(tmp_path):
    put(tmp_path / "x.png")
    grey = pixels(load_folder(tmp_path, 6, channels=1))  # (H, W, 1)
    np.testing.assert_allclose(grey[..., 0], NOISE @ [0.299, 0.587, 0.114], atol=0.51)


UPRIGHT = {
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
    8: lambda a: np.rot90(a, 1),
}


@pytest.mark.parametrize("ending", ["png", "tif"])
@pytest.mark.parametrize("orientation", UPRIGHT)
def test_images_are_turned_as_their_exif_data_say(tmp_path, orientation, ending):
    stored = RANDOM.integers(0, 256, (4, 9, 3), dtype=np.uint8)  # (H, W, 3)
    exif = Image.Exif()
    exif[0x0112] = orientation
    put(tmp_path / f"x.{ending}", stored, exif=exif)
    loaded = load_folder(tmp_path, 4)
    upright = UPRIGHT[orientation](stored)  # (H, W, 3)
    height, width, _ = upright.shape
    top, left = (height - 4) // 2, (width - 4) // 2
    np.testing.assert_array_equal(pixels(loaded), upright[top : top + 4, left : left + 4])
    assert loaded.summary.width == Span(width, width, width)
    assert loaded.summary.height == Span(height, height, height)


def lanczos(size, target):
    """The weights (target, size) of antialiased Lanczos resizing, as textbooks give them."""
    scale = size / target
    stretch = max(scale, 1.0)
    distance = (np.arange(size) + 0.5 - (np.arange(target)[:, None] + 0.5) * scale) / stretch  # (target, size)
    weights = np.where(np.abs(distance) < 3, np.sinc(distance) * np.sinc(distance / 3), 0)  # (target, size)
    return weights / weights.sum(axis=1, keepdims=True)


@pytest.mark.parametrize(("shape", "size"), [((13, 20), 5), ((20, 12), 12), ((4, 7), 9), ((1, 5), 3)])
def test_the_square_in_the_middle_is_resized_with_antialiasing(tmp_path, shape, size):
    # No value near 0 or 255: what overshoots there is clamped.
    stored = RANDOM.integers(80, 176, (*shape, 3), dtype=np.uint8)  # (H, W, 3)
    put(tmp_path / "x.png", stored)
    loaded = load_folder(tmp_path, size)
    side = min(shape)
    top, left = (shape[0] - side) // 2, (shape[1] - side) // 2
    square = stored[top : top + side, left : left + side]  # (side, side, 3)
    weights = lanczos(side, size)
    expected = np.einsum("ih,hwc,jw->ijc", weights, square, weights)  # (size, size, 3)
    np.testing.assert_allclose(pixels(loaded), expected, atol=1.2)
    assert loaded.summary.enlarged == (side < size)


# What is broken


def bomb(side):
    header = chunk((b"IHDR", struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)))
    return b"\x89PNG\r\n\x1a\n" + header + chunk((b"IDAT", zlib.compress(b"\0"))) + chunk((b"IEND", b""))


def truncated(path, **options):
    noise = RANDOM.integers(0, 256, (40, 40, 3), dtype=np.uint8)  # (H, W, 3)
    content = put(path, noise, **options).read_bytes()
    path.write_bytes(content[: len(content) // 2])


BROKEN = {
    "bomb that warns.png": (lambda path: path.write_bytes(bomb(10_000)), "limit against decompression bombs"),
    "bomb.png": (lambda path: path.write_bytes(bomb(60_000)), "limit against decompression bombs"),
    "cut.jpg": (truncated, "damaged: "),
    "cut.png": (truncated, "damaged: "),
    "cut.tif": (truncated, "damaged: "),
    "cut.webp": (truncated, "damaged: "),
    "empty.png": (lambda path: path.touch(), r"empty \(0 bytes\)"),
    "fifo.png": (os.mkfifo, "not a regular file"),
    "float.tif": (lambda path: put(path, np.zeros((4, 4), np.float32)), "floating-point pixels"),
    "head.png": (lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n"), "not an image in a format"),
    "link.png": (lambda path: path.symlink_to("nowhere"), "leads nowhere"),
    "phone.heic": (lambda path: path.write_bytes(b"\0\0\0\x18ftypheic"), "not an image in a format"),
    "program.png": (lambda path: put(path, format="EPS"), "not an image in a format"),
    "text.png": (lambda path: path.write_text("no image at all"), "not an image in a format"),
    "wide.tif": (lambda path: put(path, np.full((4, 4), 65536, np.int32)), "grey values from 65536 to 65536"),
}


def test_what_is_broken_is_skipped_with_a_reason(tmp_path, recwarn):
    put(tmp_path / "a good one.png", plain(1))
    for name, (make, _) in BROKEN.items():
        make(tmp_path / name)
    for number in range(len(BROKEN)):
        put(tmp_path / f"whole {number}.png", plain(2))
    loaded = load_folder(tmp_path, 4)
    assert values(loaded) == [1] + [2] * len(BROKEN)
    assert names(loaded) == list(BROKEN)
    for (path, reason), (_, expected) in zip(loaded.summary.skipped, BROKEN.values(), strict=True):
        assert re.search(expected, reason), path
    assert not recwarn.list


@pytest.mark.parametrize("name", BROKEN)
def test_strict_makes_the_first_an_error(tmp_path, name):
    put(tmp_path / "a good one.png")
    make, reason = BROKEN[name]
    make(tmp_path / name)
    (tmp_path / "zzz.png").touch()
    with pytest.raises(ValueError, match=f"{tmp_path}/{name}: .*{reason}.*; repair it"):
        load_folder(tmp_path, 4, strict=True)


def test_strict_names_an_empty_class_folder(tmp_path):
    put(tmp_path / "cats" / "1.png")
    (tmp_path / "dogs").mkdir()
    with pytest.raises(ValueError, match="dogs has no image"):
        load_folder(tmp_path, 4, strict=True)


def test_files_that_vanish_or_may_not_be_read(tmp_path, monkeypatch):
    for value, name in enumerate("abcd"):
        put(tmp_path / f"{name}.png", plain(value))

    def scan_then_change(root):
        files = scan(root)
        (tmp_path / "b.png").unlink()
        (tmp_path / "c.png").chmod(0)
        return files

    def guarded(path, *args, opened=Image.open, **kwargs):
        if path.name == "c.png":  # chmod does not keep the superuser out
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, *args, **kwargs)

    monkeypatch.setattr(loading, "scan", scan_then_change)
    monkeypatch.setattr(Image, "open", guarded)
    loaded = load_folder(tmp_path, 4)
    assert values(loaded) == [0, 3]
    assert [reason for _, reason in loaded.summary.skipped] == [
        "vanished while the folder was read",
        "no permission to read it",
    ]


def test_damaged_exif_data_do_not_cost_the_image(tmp_path, recwarn):
    path = put(tmp_path / "x.webp", plain(50), lossless=True, exif=b"Exif\0\0no header of any kind")
    with Image.open(path) as image, pytest.raises(SyntaxError):
        image.getexif()
    path = put(tmp_path / "y.jpg", plain(60), exif=b"Exif\0\0II*\0\x08\0\0\0\x05\0\x12\x01\x03\0\x01")
    with pytest.warns(UserWarning, match="Corrupt EXIF"), Image.open(path) as image:
        image.getexif()
    recwarn.clear()
    np.testing.assert_allclose(values(load_folder(tmp_path, 4)), [50, 60], atol=1)
    assert not recwarn.list


# Names


def test_names_of_any_kind_are_read(tmp_path):
    for value, name in enumerate(sorted(ODD)):
        put(tmp_path / name / name, plain(value))
    loaded = load_folder(tmp_path, 4)
    assert values(loaded) == list(range(len(ODD)))
    assert [name for name, _ in loaded.summary.classes] == [printable(name) for name in sorted(ODD)]
    text = loaded.summary.to_text()
    assert len(text.splitlines()) == len(text.split("\n")) == 4
    text.encode()


@pytest.mark.parametrize("litter", ["__MACOSX", "@eaDir", "#recycle", "lost+found"])
def test_what_systems_put_beside_images_is_no_class(tmp_path, litter):
    for name in ("ant/1.png", "bee/1.png", f"{litter}/1.png", f"ant/{litter}/1.png"):
        put(tmp_path / name, plain(1))
    files = scan(tmp_path)
    assert files.classes == ("ant", "bee")
    assert [path.as_posix() for path in files.paths] == ["ant/1.png", "bee/1.png"]


@pytest.mark.parametrize("name", ["labels.csv", "metadata.jsonl", "dataset.json", "0.cls"])
def test_labels_that_are_not_read_are_worth_a_warning(tmp_path, name):
    put(tmp_path / "0.png", plain(0))
    (tmp_path / name).touch()
    with pytest.warns(RuntimeWarning, match=f"the labels in .*{name} are not read"):
        scan(tmp_path).warn_of_labels()


@pytest.mark.parametrize("name", ["a/labels.csv", "a.txt"])
def test_other_files_are_worth_none(tmp_path, name, recwarn):
    put(tmp_path / "a" / "0.png", plain(0))
    (tmp_path / name).touch()
    scan(tmp_path).warn_of_labels()
    assert not recwarn.list


# Workers, limits, summary


@pytest.fixture
def mixed(tmp_path):
    for place in range(24):
        path = tmp_path / f"class {place % 3}" / f"{place:02}.png"
        shape = (*RANDOM.integers(1, 60, 2), 3)
        put(path, RANDOM.integers(0, 256, shape, dtype=np.uint8))
        if place % 5 == 2:
            path.write_bytes(path.read_bytes()[:40])
    return tmp_path


def test_the_number_of_workers_does_not_matter(mixed):
    first = load_folder(mixed, 8, workers=1)
    assert len(first.data) == 24 - 5
    for workers in (2, 7, None):
        other = load_folder(mixed, 8, workers=workers)
        assert torch.equal(first.data.images, other.data.images)
        assert torch.equal(first.data.labels, other.data.labels)
        assert first.summary == other.summary
    for workers in (1, 7):
        with pytest.raises(ValueError, match=r"class 0/12\.png"):
            load_folder(mixed, 8, workers=workers, strict=True)


def test_folders_without_images_are_refused(tmp_path):
    with pytest.raises(ValueError, match="none cannot be read: No such file"):
        load_folder(tmp_path / "none", 4)
    with pytest.raises(ValueError, match=r"holds no images \(0 skipped, 0 files with other endings\)"):
        load_folder(tmp_path, 4)
    (tmp_path / "x.txt").touch()
    (tmp_path / "y.png").symlink_to("nowhere")
    with pytest.raises(ValueError, match=r"holds no images \(1 skipped, 1 file with other endings\)"):
        load_folder(tmp_path, 4)
    with pytest.raises(ValueError, match=r"x\.txt cannot be read: Not a directory"):
        load_folder(tmp_path / "x.txt", 4)
    (tmp_path / "z.png").touch()
    with pytest.raises(
        ValueError, match=r"no image in .* can be read \(1 tried\); the first: z\.png: empty \(0 bytes\)"
    ):
        load_folder(tmp_path, 4)


def test_a_set_that_is_too_large_is_refused_before_it_is_read(tmp_path):
    for name in "abc":
        put(tmp_path / f"{name}.png")
    assert len(load_folder(tmp_path, 4, max_bytes=3 * 3 * 4 * 4).data) == 3
    (tmp_path / "c.png").write_text("would be skipped if it were read")
    with pytest.raises(ValueError, match=r"3 images of 3 x 4 x 4 would take 1.34e-07 GiB .* use fewer images"):
        load_folder(tmp_path, 4, max_bytes=3 * 3 * 4 * 4 - 1)
    with pytest.raises(ValueError, match=r"would take 8.38 GiB of memory; the limit is 4 GiB"):
        load_folder(tmp_path, 31622)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": 0}, "size is 0"),
        ({"channels": 4}, r"channels is 4; expected 3 \(RGB\) or 1"),
        ({"background": (0, 0, 256)}, "background is .* from 0 to 255"),
        ({"background": (0, 0)}, "background is"),
        ({"workers": 0}, "workers is 0"),
    ],
)
def test_an_argument_that_makes_no_sense_is_refused(tmp_path, changes, message):
    put(tmp_path / "x.png")
    with pytest.raises(ValueError, match=message):
        load_folder(tmp_path, **({"size": 4} | changes))
