"""Every block of code in the pages runs, in the order in which it stands, or says what it needs that is not here.

A page runs in a folder of its own that has the runs, images and files which it speaks of, all of them tiny. What would
take long or need a network is made short by `SHORTER`. README.md is run by `test_readme.py`, and a command that stands
there too is not run again. The records in results/ name the commands that made them, which took hours.
"""

from __future__ import annotations

import re
import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest

from fpdm import FPDMPipeline
from tests.autoencoders import tiny
from tests.evaluation.scripts import Small, saved
from tests.importing import foreign_checkpoints
from tests.pages import ROOT, Block, blocks, make_photos, run, shortened
from tests.trained import train_fpdm_and_dit

README = ROOT / "README.md"
BROWSER = "examples/browser/README.md"  # run by test_browser_example.py
PAGES = {
    str(page.relative_to(ROOT)): blocks(page)
    for folder in ("docs/*.md", "examples/*/README.md", "src/fpdm/shipped/*/README.md")
    for page in sorted(ROOT.glob(folder))
}
LANGUAGES = {"sh", "python", "{eval-rst}"}
AWAY = r"\b(GPUs?|cluster|ImageNet|hub|Docker)\b"
"""What a test cannot have."""

_TUNING = "--candidates 8 --first-images 4 --num-images 36 --samplers ddim unipc --iterations 1 2 --grids trailing"
_FEW = "--extractor features.pt --num-images 8 --piece-size 4 --budget 20"
_TINY = "--width 16 --heads 2 --batch-size 4"
_LAUNCHED = {r"accelerate launch --num_processes 8": "accelerate launch --cpu --num_processes 2 --main_process_port 0"}
SHORTER: dict[str, dict[str, str]] = {
    "docs/tuning.md": {
        r"--budget 140": "--budget 20",
        r"--budget 560?\b": "--budget 30",
        r"fashion-mnist": "digits",
        r"^(fpdm tune \w+)": rf"\1 {_TUNING}",
    },
    "docs/evaluation.md": {
        r"^(fpdm reference .*)--out": r"\1--extractor features.pt --out",
        r"--size 256": "--size 8",
        r"fashion-mnist": "digits",
        r"evaluate fpdm-xl": f"evaluate fpdm-xl {_FEW}",
        r"torchrun --nproc_per_node 8": "torchrun --standalone --nproc_per_node 2",
        **_LAUNCHED,
    },
    "docs/importing.md": {
        r"^fpdm import": "fpdm import --heads 3 --autoencoder autoencoder",
        r"--budget 560": "--budget 20 --num-images 2",
        r"--data photographs": f"--data photographs --size 8 --channels 1 --patch-size 4 --steps 1 {_TINY}",
    },
    # One process runs all pages, and accelerate knows one precision for each.
    "docs/full-size.md": {r"--dry-run": f"--dry-run {_TINY} --mixed-precision no", **_LAUNCHED},
    "docs/pipeline.md": {r"pipe\.push_to_hub.*": ""},  # it needs an account, as it says
    "docs/export.md": {r"pip install .*": "true"},
    "examples/boards/README.md": {
        r"examples/boards/boards\.py": str(ROOT / "examples" / "boards" / "boards.py"),
        r"make boards": "make boards --count 40",
        r"--width 64 --macs 1e14": f"{_TINY} --steps 2",
        r"(judge|solve) (\S+)": r"\1 \2 --count 8 --budgets 28 --samplers ddim",
        r"--clues 18": "--clues 35",
    },
    "src/fpdm/shipped/fpdm-fashion/README.md": {r"--num-images 64": "--num-images 3"},
}
"""Expressions and what replaces them, by page."""
MADE = {
    "docs/tuning.md": ["run/tuning/search-20.png", "run/tuning/search-30.png", "saved/sampling.json"],
    "docs/evaluation.md": ["photographs.npz", "fashion.npz", "distance/result.json"],
    "docs/importing.md": [
        "dit-xl-diffusers/README.md",
        "fpdm-xl/README.md",
        "images/grid.png",
        "warm-started/recipe.json",
    ],
    "docs/full-size.md": [],
    "docs/pipeline.md": ["digits-model/model_index.json", "unipc/grid.png"],
    "docs/export.md": ["fashion-int8/model.json"],  # the other stands in README.md
    "examples/boards/README.md": ["fpdm.json", "dit-4.json", "fpdm-solved.json"],
    "src/fpdm/shipped/fpdm-fashion/README.md": ["images/grid.png"],
}
"""What is there when a page has run."""


def steps(page: str) -> list[tuple[str, str]]:
    """Return the language and the text of every step that is to be run, shortened."""
    known = {line for block in blocks(README) for line in block.lines}
    return [
        (block.language, shortened(line, SHORTER.get(page, {})))
        for block in PAGES[page]
        if not block.needs and block.language in ("sh", "python")
        for line in block.lines
        if line not in known
    ]


def test_pages_are_run_or_marked() -> None:
    assert {page for page in PAGES if steps(page)} - {BROWSER} == SHORTER.keys() == MADE.keys()


@pytest.mark.parametrize("page", PAGES)
def test_blocks_are_found_and_say_what_they_need(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    fences = re.findall(r"^```(.+)$", text, re.MULTILINE)
    assert {*fences} <= LANGUAGES
    assert len(fences) - fences.count("{eval-rst}") == len(PAGES[page])
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    assert not re.search(r"^    (fpdm|python3?|pip|make|accelerate|torchrun|docker|npm) ", prose, re.MULTILINE)
    marks = re.findall(r"^\*Needs .*", text, re.MULTILINE)
    assert len(marks) == sum(bool(block.needs) for block in PAGES[page])
    assert [block.needs for block in PAGES[page] if block.needs and not re.search(AWAY, block.needs)] == []


@pytest.mark.parametrize("page", SHORTER)
def test_every_replacement_is_used(page: str) -> None:
    lines = [line for block in PAGES[page] if not block.needs for line in block.lines]
    assert [one for one in SHORTER[page] if not any(re.search(one, line) for line in lines)] == []


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with everything that a page speaks of."""
    shelf = tmp_path_factory.mktemp("shelf")
    make_photos(shelf / "photographs")
    runs = train_fpdm_and_dit(shelf / "quickstart")
    for name in ("run", "fpdm-xl"):
        shutil.copytree(runs["fpdm"], shelf / name)
    for name, model in (("saved", "fpdm"), ("dit", "dit")):
        FPDMPipeline.from_pretrained(runs[model]).save_pretrained(shelf / name)
    saved(Small(), shelf / "features.pt")
    tiny(shelf / "autoencoder", channels=3)
    foreign_checkpoints.save(shelf / "DiT-XL-2-256x256.pt", foreign_checkpoints.dit())
    checkpoint = foreign_checkpoints.training_checkpoint(foreign_checkpoints.fpdm(), foreign_checkpoints.namespace())
    foreign_checkpoints.save(shelf / "0400000.pt", checkpoint)
    foreign_checkpoints.diffusers_model().save_pretrained(shelf / "facebook" / "DiT-XL-2-256")
    return shelf


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*images for features")  # few, to be quick
@pytest.mark.parametrize("page", SHORTER)
def test_every_command_runs(page: str, shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if page == "docs/export.md" and find_spec("onnx") is None:
        pytest.skip("onnx is not installed")
    here = tmp_path / "here"
    shutil.copytree(shelf, here)
    if page == "docs/importing.md":
        shutil.rmtree(here / "fpdm-xl")  # it is made there
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(here)
    run(page, steps(page))
    assert [name for name in MADE[page] if not (here / name).is_file()] == []


def test_this_file_sees_what_is_neither_run_nor_marked(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# A\n\n```sh\nfpdm demo  # a\n```\n\n*Needs a GPU.*\n\n```sh\n# one\nfpdm a \\\n    --b\n```\n")
    assert blocks(page) == [Block("sh", "fpdm demo  # a\n", ""), Block("sh", "# one\nfpdm a \\\n    --b\n", "a GPU")]
    assert [block.lines for block in blocks(page)] == [["fpdm demo"], ["fpdm a --b"]]
