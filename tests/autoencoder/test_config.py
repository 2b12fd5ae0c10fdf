from __future__ import annotations

import json
from pathlib import Path

import pytest

from fpdm.autoencoder.config import AutoencoderConfig
from tests.autoencoders import tiny


def test_an_autoencoder_that_is_none_is_the_users_mistake(tmp_path: Path) -> None:
    tiny(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "norm_num_groups": 0}))
    with pytest.raises(ValueError, match="no autoencoder can be loaded"):
        AutoencoderConfig(str(tmp_path)).load()
