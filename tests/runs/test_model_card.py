"""Model cards."""

from __future__ import annotations

from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from fpdm.runs.model_card import classes_in_words, is_generated, usage
from tests import pipelines


def test_a_card_is_one_that_the_hub_reads(tmp_path: Path) -> None:
    pipe = pipelines.pixels(name="cats | <b>dogs</b>")
    pipe.save_pretrained(tmp_path / "cats")
    card = ModelCard.load(tmp_path / "cats" / "README.md")
    assert card.data.library_name == "diffusers"
    assert card.data.pipeline_tag == "unconditional-image-generation"
    assert "fpdm" in card.data.tags
    rows = {row.split("|")[1].strip(): row.split("|")[2].strip() for row in card.text.splitlines() if row[:2] == "| "}
    assert rows["Images"] == "8 x 8 pixels, grey"
    assert rows["Classes"] == "3: cat, domestic cat, dog, 5"
    assert rows["Network"].startswith(f"{sum(one.numel() for one in pipe.transformer.parameters()):,} parameters")
    assert rows["Iterations in training"] == "4 on average"
    assert "# cats \\| \\<b>dogs\\</b>" in card.text
    assert is_generated(tmp_path / "cats" / "README.md")


def test_the_code_in_a_card_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = 'it\'s a "model"'
    pipelines.pixels().save_pretrained(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    lines = "\n".join(usage(name, ("cat", "dog"), 2))
    code = lines.split("```python\n")[1].split("```")[0]
    found: dict[str, object] = {}
    exec(compile(code, "card", "exec"), found)
    assert found["image"].size == (8, 8)  # type: ignore[attr-defined]


def test_classes_in_words() -> None:
    assert classes_in_words((), 0) == "none"
    assert classes_in_words((), 1000) == "1000"
    assert classes_in_words(("a|b", "`c`"), 2) == "2: a\\|b, \\`c\\`"
    assert classes_in_words(tuple("abcdefghijk"), 11) == "11: a, b, c, d, e, f, g, h, ..."


def test_a_card_of_somebody_else_is_no_generated_one(tmp_path: Path) -> None:
    path = tmp_path / "README.md"
    for content in (b"Mine.", b"", b"\xff\xfe"):
        path.write_bytes(content)
        assert not is_generated(path)
