"""The map of models: who is on the envelope, and that docs/choosing.md says what the records have."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.choosing import Measured, boards, envelope, family, page

ROOT = Path(__file__).parents[1]


def measured(model: str, budget: int, distance: float, macs: float = 0.0) -> Measured:
    return Measured(model, "ddim", budget, float(budget), macs or float(budget), distance, 0.0, 9.0, 0.5)


ROWS = [
    measured("DiT, 4 blocks", 28, 2.0),
    measured("DiT, 4 blocks", 56, 1.0),
    measured("DiT, 4 blocks", 140, 1.2),  # a larger budget made it worse
    measured("DiT, 3 blocks", 140, 1.1),
    measured("FPDM as published", 140, 1.3, macs=40.0),
    measured("FPDM, elastic", 140, 1.4),
    measured("FPDM, elastic", 28, 0.5),
]


def test_the_envelope_is_the_best_dit_that_spends_no_more() -> None:
    assert envelope(ROWS, "passes", 140) == ROWS[1]
    assert envelope(ROWS, "passes", 55) == ROWS[0]
    assert envelope(ROWS, "macs", ROWS[4].macs) == ROWS[0]
    assert (family(ROWS, 140), family(ROWS, 28)) == (ROWS[4], ROWS[6])


def test_records_of_boards_are_read_with_dits_first(tmp_path: Path) -> None:
    (tmp_path / "boards").mkdir()
    rows = [{"budget": 28, "sampler": "ddim", "valid": 0.1}, {"budget": 28, "sampler": "ddpm", "valid": 0.2}]
    training = {"steps": 3}
    for name, parameters in (("FPDM", 1), ("DiT-7", 9), ("DiT-4", 4)):
        record = {"name": name, "parameters": parameters, "training": training, "rows": rows}
        (tmp_path / "boards" / f"{name}.json").write_text(json.dumps(record))
    (tmp_path / "boards" / "FPDM-solved.json").write_text(json.dumps({"rows": rows[:1]}))
    found = boards(tmp_path)
    assert [one.name for one in found] == ["DiT-4", "DiT-7", "FPDM"]
    assert found[0].at(28) == rows[1]
    assert found[0].at(56) is None
    assert (found[2].at(28, solved=True), found[0].at(28, solved=True)) == (rows[0], None)


def test_the_page_is_made_from_the_records() -> None:
    assert (ROOT / "docs" / "choosing.md").read_text(encoding="utf-8") == page(ROOT / "results")
