"""Every command of README.md runs, in the order in which it stands, beginning in a folder that has photos.

What would take long or need a network is shortened by `SHORTER`; everything else runs as it is written. The
installation itself is tried by `make package`, in environments of its own. The other pages are run by
`test_page_commands.py`.
"""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.pages import BIN, ROOT, blocks, make_photos, run, shortened

README = ROOT / "README.md"
QUICK = "--num-images 60 --choosing-images 20 --grids trailing --iterations 2 --allocations constant"
SHORTER = {
    r"--num-images \d+": "--num-images 3",
    r"--seconds \d+": "--seconds 2",
    r"--minutes \d+": "--minutes 1",
    r"git clone --depth 1 REPOSITORY fpdm": f"git clone --quiet --depth 1 'file://{ROOT}' fpdm",
    # The environment of this test stands for the new one.
    r"python3 -m venv \.venv && .*": f"mkdir .venv && ln -s '{BIN}' .venv/bin && touch .venv/runtime && mv ../photos .",
    r"pip install .*": "true",
    r"make quickstart": f"make quickstart SECONDS_EACH=2 COMPARE='--budgets 56 {QUICK}'",
    r"--budgets 140 280": f"--budgets 56 {QUICK}",
}
"""Expressions and what replaces them in shell."""


def steps() -> list[tuple[str, str]]:
    """Return the language and the text of every step, shortened."""
    return [
        (block.language, shortened(text, SHORTER if block.language == "sh" else {}))
        for block in blocks(README)
        for text in block.lines
    ]


def test_all_blocks_are_shell_or_python_and_every_replacement_is_used() -> None:
    assert {*re.findall(r"^```(.*)$", README.read_text(encoding="utf-8"), re.MULTILINE)} == {"sh", "python", ""}
    assert [block for block in blocks(README) if block.needs] == []
    shell = "\n".join(block.text for block in blocks(README) if block.language == "sh")
    assert all(re.search(expression, shell) for expression in SHORTER)
    assert {re.match(r"[a-z]+", text)[0] for kind, text in steps() if kind == "sh"} == {  # type: ignore[index]
        "git",
        "mkdir",
        "true",
        "fpdm",
        "make",
    }


@pytest.mark.slow
def test_every_command_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_photos(tmp_path / "photos")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    exported = find_spec("onnx") is not None  # the extra that README installs before
    run("README", [step for step in steps() if exported or not step[1].startswith("fpdm export ")])
    samples = ("clothes", "digits", "sharper-digits", "photos-samples")
    reports = ("quickstart/compare", "comparison")
    made = [*(f"{name}/grid.png" for name in samples), *(f"{name}/report.html" for name in reports)]
    made += ["sneaker.png", "latent-model/recipe.json"]
    assert [name for name in made if not (tmp_path / "fpdm" / name).is_file()] == []
