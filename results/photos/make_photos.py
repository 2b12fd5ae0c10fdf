"""500 photographs of mixed sizes and modes in five class folders, some of them broken, as people's folders are.

    pip install scikit-image
    python results/photos/make_photos.py photos

Random crops of the photographs that scikit-learn and scikit-image carry in their wheels.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import skimage
import sklearn.datasets
from PIL import Image

EACH = 100
SOURCES = {
    "astronaut": Path(skimage.__file__).parent / "data" / "astronaut.png",
    "cat": Path(skimage.__file__).parent / "data" / "chelsea.png",
    "coffee": Path(skimage.__file__).parent / "data" / "coffee.png",
    "flower": Path(sklearn.datasets.__file__).parent / "images" / "flower.jpg",
    "temple": Path(sklearn.datasets.__file__).parent / "images" / "china.jpg",
}


def save(image: Image.Image, path: Path, place: int) -> None:
    """Write the image in one of eight forms."""
    forms = (
        (lambda i: i, "jpg"),
        (lambda i: i, "png"),
        (lambda i: i.convert("L"), "png"),
        (lambda i: i.convert("P"), "png"),
        (lambda i: i.convert("RGBA"), "png"),
        (lambda i: i.convert("CMYK"), "jpg"),
        (lambda i: Image.fromarray(np.asarray(i.convert("L"), dtype=np.uint16) * 257), "tif"),
        (lambda i: i, "webp"),
    )
    convert, ending = forms[place % len(forms)]
    convert(image).save(f"{path}.{ending}")


def main() -> None:
    root, rng = Path(sys.argv[1]), np.random.default_rng(0)
    for name, source in SOURCES.items():
        folder = root / name
        folder.mkdir(parents=True)
        with Image.open(source) as opened:
            photo = opened.convert("RGB")
        for place in range(EACH):
            side = int(rng.integers(min(photo.size) // 3, min(photo.size) * 2 // 3))
            width, height = side, int(side * rng.uniform(0.7, 1.0))
            left, top = int(rng.integers(photo.width - width)), int(rng.integers(photo.height - height))
            crop = photo.crop((left, top, left + width, top + height))
            save(crop, folder / f"{name} {place:03d}", place)
    whole = (root / "cat" / "cat 000.jpg").read_bytes()
    (root / "cat" / "cut off.jpg").write_bytes(whole[: len(whole) // 2])
    (root / "coffee" / "empty.png").write_bytes(b"")
    (root / "flower" / "notes.png").write_text("these are not pixels")
    (root / "beside the classes.jpg").write_bytes(whole)
    (root / "nothing here").mkdir()


if __name__ == "__main__":
    main()
