"""Table 4 compares the gradients, each with the settings that its name says."""

from __future__ import annotations

from fpdm.reproduce.table4 import KINDS, Table4
from tests.reproduce.made import SCALE, unmeasured, verdicts


def test_stochastic_has_to_beat_multi_step_and_both_one_step() -> None:
    def distance(values):
        known = {
            Table4().models[kind, n].name: value for kind, value in zip(KINDS, values, strict=False) for n in (6, 12)
        }
        return lambda cell: known.get(cell.training.model.name, 9.0)

    assert verdicts(Table4(), distance([10.0, 2.0, 1.0])) == ["holds"] * 2
    assert verdicts(Table4(), distance([3.0, 2.0, 2.5])) == ["holds in part"] * 2
    assert verdicts(Table4(), distance([1.0, 2.0, 3.0])) == ["does not hold here"] * 2
    assert {claim.verdict for claim in unmeasured(Table4())} == {"not measured"}


def test_each_kind_draws_what_its_name_says() -> None:
    def drawn(kind: int, n: int) -> tuple[set[int], set[int]]:
        train = Table4().models[KINDS[kind], n].training
        N, M = train["no_grad_iters"], train["grad_iters"]
        no_grad = train.get("no_grad_weights", (1,) * (N + 1))
        grad = train.get("grad_weights", (1,) * M)
        return {i for i, w in enumerate(no_grad) if w}, {i + 1 for i, w in enumerate(grad) if w}

    assert drawn(2, 6) == ({*range(7)}, {*range(1, 7)})
    assert drawn(3, 6) == ({*range(7)}, {*range(1, 13)})
    assert drawn(4, 6) == ({6}, {*range(1, 7)})
    assert drawn(5, 12) == ({*range(13)}, {12})
    assert len(Table4().models) == 13
    assert all(cell.training.model.macs(SCALE) == SCALE.ablation_macs for cell in Table4().cells(SCALE))
