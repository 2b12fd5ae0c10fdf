import re
import runpy
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fpdm import __version__
from fpdm.data.config import DataConfig
from fpdm.data.loading import load_dataset
from fpdm.models.config import as_dit
from fpdm.models.transformer import DiffusionTransformer
from fpdm.runs.recipes import make_recipe as full_recipe
from fpdm.runs.train_config import WarmStart
from fpdm.training.run_card import describe_run
from fpdm.training.trainer import Trainer
from tests.training.small import SHAPE, data, recipe


def readme(settings: object = None, **options: object) -> str:
    settings = settings or recipe()
    cost = DiffusionTransformer.from_shape(settings.model).cost()
    return describe_run(settings, cost, data(), None, **{"out": Path("a run"), "machine": "1 x cpu", **options})


def test_it_says_what_the_run_is() -> None:
    text = readme(recipe(steps=1234, macs=5e9))
    count = sum(p.numel() for p in DiffusionTransformer.from_shape(SHAPE).parameters())
    for said in (
        *("# small\n", "digits: 12 of 4 x 4 pixels, grey, 3 classes", f"{count:,} parameters"),
        *("2 block passes and 1 more for each iteration", "1,234 steps or 5e+09 multiply-accumulates"),
        *("seed 0", f"fpdm {__version__}, Python 3", f"torch {torch.__version__}, 1 x cpu"),
    ):
        assert said in text, said
    assert "an evaluation takes 5 block passes |" in readme(replace(recipe(), model=as_dit(SHAPE, 5)))


def test_commands_survive_a_shell() -> None:
    text = readme(recipe(tracker="tensorboard"), command="fpdm train digits --out 'a run'")
    assert "```sh\nfpdm train digits --out 'a run'\n```" in text
    assert "fpdm sample 'a run' --budget" in text
    assert "tensorboard --logdir 'a run'/tensorboard" in text
    assert "tensorboard" not in readme()


@pytest.mark.parametrize("changes", [{}, {"sample_every": 4, "validate_every": 3, "tracker": "tensorboard"}])
def test_it_lists_the_files_that_are_there(tmp_path: Path, changes: dict[str, object]) -> None:
    settings = recipe(**changes)
    Trainer(settings, data(), tmp_path, validation=data(4) if changes else None).train()
    listed = re.findall(r"^- `(.+?)/?`:", (tmp_path / "README.md").read_text(), re.MULTILINE)
    assert {*listed, "README.md"} == {path.name for path in tmp_path.iterdir() if not path.name.startswith(".")}


def test_its_python_goes_on_with_the_run(tmp_path: Path) -> None:
    settings = full_recipe("digits", steps=1, batch_size=2, warmup=0, sample_every=0, validate_every=0, tracker="none")
    settings = replace(settings, model=replace(SHAPE, image_size=8, num_classes=10))
    out = tmp_path / "a 'quoted' run"
    splits = load_dataset(settings.data).splits
    Trainer(settings, splits.train, out, validation=splits.validation).train()
    shown, _ = re.findall(r"```python\n(.*?)```", (out / "README.md").read_text(), re.DOTALL)
    # It is finished: what goes on is a run of two steps.
    (out / "recipe.json").write_text((out / "recipe.json").read_text().replace('"steps": 1,', '"steps": 2,'))
    (tmp_path / "shown.py").write_text(shown)
    runpy.run_path(str(tmp_path / "shown.py"))
    assert (out / "checkpoints" / "step-000000002").exists()


def test_no_name_is_markup() -> None:
    settings = replace(recipe(), name="<script>|a`", data=DataConfig("digits"))
    settings = replace(settings, start=WarmStart("<img src=x>|", init_sha256="0" * 64))
    text = readme(settings, command="fpdm train 'a\n```\n<script>'", out=Path("a```<script>\x1b[31m"))
    outside = re.sub(r"^(`{3,})\w+\n.*?\n\1$", "", text, flags=re.MULTILINE | re.DOTALL)
    assert r"# \<script>\|a\`" in outside
    assert not re.search(r"(?<!\\)<", outside)
    assert all(len(re.findall(r"(?<!\\)\|", line)) == 3 for line in outside.splitlines() if line.startswith("|"))
    assert "\x1b" not in text
