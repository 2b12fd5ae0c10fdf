"""Table 4: stochastic, multi-step and one-step Jacobian-free backpropagation."""

from __future__ import annotations

from collections.abc import Mapping

from fpdm.reproduce.bench import Cell
from fpdm.reproduce.models import Model, ablation, stochastic
from fpdm.reproduce.scale import Scale
from fpdm.reproduce.study import Claim, Distances, Measurements, Page, Study, Table, chosen_cells, texts, verdict

BUDGET = 280
PAPER = {6: (567.6, 48.2, 43.2), 12: (567.6, 79.9, 61.5)}
KINDS = (
    "JFB, one step with gradient",
    "multi-step: n = N, m = M",
    "stochastic: n up to N, m up to M",
    "stochastic, m up to 12 whatever N",
    "n = N, m up to M",
    "n up to N, m = M",
    "exact implicit gradient",
    "exact implicit gradient, learning rate 0.001",  # where the rate of the others makes it diverge
)
EXACT = (
    "The exact implicit gradient has as many training steps as S-JFB with the same N and M, but both of its solves go "
    "on to a tolerance, so that they take several times the compute."
)


class Table4(Study):
    """The gradient of the fixed point (paper Table 4), with the two cells that it leaves out and the exact gradient."""

    name = "table4"
    title = "Table 4: the gradient of the fixed point"

    @property
    def models(self) -> dict[tuple[str, int], Model]:
        """The models by kind and N."""
        found = {}
        for n in PAPER:
            fixed_n, fixed_m = (0.0,) * n + (1.0,), (0.0,) * (n - 1) + (1.0,)
            changes = (
                {"gradient": "jfb", "no_grad_iters": n},
                {"gradient": "multistep", "no_grad_iters": n, "grad_iters": n},
                {"no_grad_iters": n, "grad_iters": n},
                {"no_grad_iters": n, "grad_iters": 12},
                {"no_grad_iters": n, "grad_iters": n, "no_grad_weights": fixed_n},
                {"no_grad_iters": n, "grad_iters": n, "grad_weights": fixed_m},
                {"gradient": "implicit", "no_grad_iters": n, "grad_iters": n},
                {"gradient": "implicit", "no_grad_iters": n, "grad_iters": n, "learning_rate": 1e-3},
            )
            for kind, change in zip(KINDS, changes, strict=True):
                if n == 6 or kind not in (KINDS[3], *KINDS[6:]):  # at 12 the same as another cell, or as at 6
                    found[kind, n] = stochastic(n) if kind == KINDS[2] else ablation(f"{kind}, N = {n}", **change)
        return dict(sorted(found.items(), key=lambda one: one[0][0] in KINDS[6:]))  # the slowest trainings last

    def cells(self, scale: Scale) -> list[Cell]:
        return chosen_cells(self.models.values(), scale, [BUDGET])

    def page(self, scale: Scale, found: Measurements) -> Page:
        models = self.models
        known = {key: found.distance(model) for key, model in models.items()}
        rows = [[kind, *texts([known.get((kind, n)) for n in PAPER])] for kind in KINDS]
        table = Table(
            f"Fréchet distance at {BUDGET} block passes, equal training compute",
            ["gradient", *(f"N = {n}" for n in PAPER)],
            rows,
        )
        return Page([table], [self._claim(n, known) for n in PAPER], notes=[EXACT])

    def _claim(self, n: int, known: Mapping[tuple[str, int], Distances | None]) -> Claim:
        text = f"S-JFB is better than multi-step JFB, and both far better than one step, at N = {n}"
        paper = "one step {}, multi-step {}, stochastic {}".format(*PAPER[n])
        three = [known.get((kind, n)) for kind in KINDS[:3]]
        if not all(three):
            return Claim(text, paper, "–", "not measured")
        one, multi, stochastic = (d.mean for d in three)  # type: ignore[union-attr]
        ours = f"one step {one:.3g}, multi-step {multi:.3g}, stochastic {stochastic:.3g}"
        holds = stochastic <= multi < one / 2
        return Claim(text, paper, ours, verdict(holds=holds, in_part=max(stochastic, multi) < one))
