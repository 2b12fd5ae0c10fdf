"""Table 2 asks the same on every data set, with and without classes."""

from __future__ import annotations

from fpdm.data.config import DataConfig
from fpdm.reproduce.scale import FULL, QUICK
from fpdm.reproduce.table2 import Table2
from tests.reproduce.made import page, unmeasured, verdicts


def test_fpdm_has_to_be_better_and_apart_on_each() -> None:
    def distance(cell):
        name = cell.training.model.name
        return 1.0 if name.startswith("FPDM") else {"digits": 2.0, "pictures": 1.01}.get(name.split()[-1], 0.5)

    assert verdicts(Table2(), distance) == ["holds", "does not hold here", "holds in part"]
    assert page(Table2(), distance).tables[0].rows[0] == ["digits", "2 (1.98 to 2.02)", "1 (0.99 to 1.01)"]
    assert {claim.verdict for claim in unmeasured(Table2())} == {"not measured"}


def test_data_and_classes_reach_the_recipes() -> None:
    cells = Table2().cells(FULL)
    models = {cell.training.model.name: cell.training.model for cell in cells}
    assert len(models) == len(cells) == 8
    assert len({cell.training.folder for cell in cells}) == 8
    assert models["FPDM on digits"].data == "digits"
    recipe = models["FPDM on fashion-mnist without classes"].recipe(QUICK, 0, DataConfig("digits"))
    assert (recipe.data.conditional, recipe.model.num_classes) == (False, 0)
    assert models["DiT-28 on a folder of colour pictures"].data == "pictures"
