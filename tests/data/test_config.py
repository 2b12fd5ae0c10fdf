"""Descriptions of images: what only image files allow is refused of a data set that is given by name."""

from __future__ import annotations

from typing import Any

import pytest

from fpdm.data.config import DataConfig


@pytest.mark.parametrize("options", [{"size": 8}, {"channels": 1}, {"crop": "adm"}], ids=str)
def test_options_of_image_files_are_refused_for_a_name(options: dict[str, Any]) -> None:
    (name,) = options
    with pytest.raises(ValueError, match=f"--{name} is for image files; the images of digits are taken as they are"):
        DataConfig("digits", **options).check_options(DataConfig("digits"))
    DataConfig("digits", **options).check_options(DataConfig("digits", **options))
    DataConfig("photographs", **options).check_options(DataConfig("photographs"))


def test_flips_and_classes_are_of_every_data_set() -> None:
    DataConfig("digits", flip=True, conditional=False).check_options(DataConfig("digits"))
