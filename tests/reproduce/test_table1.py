"""Table 1 says who is better where the intervals do not meet, and counts parameters and bytes."""

from __future__ import annotations

from fpdm.reproduce.table1 import Table1
from tests.reproduce.made import page, unmeasured, verdicts

SIZES = {"parameters": 1000, "saved_bytes": 100.0, "saved_bytes_max": 1, "steps": 1, "seconds": 60.0, "macs": 1.0}
SMALL = {**SIZES, "parameters": 130, "saved_bytes": 40.0}


def test_the_lower_distance_wins_if_the_intervals_are_apart() -> None:
    def distance(cell):
        return 1.0 if cell.training.model.name.startswith("FPDM") else {"ddpm": 2.0, "ddim": 1.01}[cell.plan.sampler]

    sizes = {"DiT-28": SIZES, "FPDM": SMALL, "FPDM, timestep everywhere": SMALL}
    assert verdicts(Table1(), distance, **sizes) == ["holds", "holds in part", "holds", "holds"]
    assert verdicts(Table1(), lambda cell: 1 / distance(cell))[:2] == ["does not hold here"] * 2
    sizes["FPDM"] = {**SIZES, "saved_bytes": 99.0}
    assert verdicts(Table1(), distance, **sizes)[2:] == ["does not hold here", "holds in part"]


def test_tables_and_figure_show_every_model() -> None:
    shown = page(Table1(), lambda _: 1.5)
    assert [row[:3] for row in shown.tables[0].rows][:2] == [
        ["DiT-28", "ddpm", "1.5 (1.48 to 1.52)"],
        ["FPDM", "ddpm", "1.5 (1.48 to 1.52)"],
    ]
    assert [*shown.plots] == ["table1-ddpm", "table1-ddim"]


def test_without_measurements_there_is_no_answer() -> None:
    assert {claim.verdict for claim in unmeasured(Table1())} == {"not measured"}
