"""Appendix C: the search for the threshold of an adaptive allocation."""

from __future__ import annotations

from typing import Any

from fpdm.reproduce.bench import Bench, Cell
from fpdm.reproduce.models import FPDM, Training
from fpdm.reproduce.scale import Scale
from fpdm.reproduce.study import Claim, Measurements, Page, Study, Table, texts, verdict
from fpdm.sampling.plan import Plan

ITERATIONS = (3, 5, 8)
BUDGET = 280


class AppendixC(Study):
    """Iterate until each sample has converged, to a threshold that spends the budget (paper appendix C)."""

    name = "appendixC"
    title = "Appendix C: the threshold of an adaptive allocation"

    def cells(self, scale: Scale) -> list[Cell]:
        training = Training(FPDM, scale.seeds[0])
        return [
            Cell(training, Plan(BUDGET, i, allocation=allocation), scale.fewer_images)
            for i in ITERATIONS
            for allocation in ("constant", "adaptive")
        ]

    def examined(self, scale: Scale) -> list[Training]:
        return [Training(FPDM, scale.seeds[0])]

    def examine(self, bench: Bench) -> dict[str, Any]:
        run, found = bench.run(Training(FPDM, bench.scale.seeds[0])), {}
        for iterations in ITERATIONS:
            probed = run.sampler(Plan(BUDGET, iterations, allocation="adaptive")).probed
            assert probed is not None
            found[str(iterations)] = {"probes": probed.probes, "off": 1 - probed.passes / BUDGET}
        return found

    def page(self, scale: Scale, found: Measurements) -> Page:
        rows = []
        for i in ITERATIONS:
            spent = [one.passes for one in found.where(FPDM, iterations=i, allocation="adaptive")]
            distances = [found.distance(FPDM, iterations=i, allocation=name) for name in ("constant", "adaptive")]
            probed = found.findings.get(str(i))
            search = [str(probed["probes"]), f"{probed['off']:.1%}"] if probed else ["–", "–"]
            rows.append([str(i), *search, f"{spent[0]:.1f}" if spent else "–", *texts(distances)])
        columns = ["mean iterations", "probes", "off the budget", "passes spent", "constant", "adaptive"]
        table = Table(f"The search at {BUDGET} block passes with DDIM, and the Fréchet distance", columns, rows)
        text, paper = "the threshold is found within 2 % of the budget in at most 10 probes", "appendix C"
        if len(found.findings) < len(ITERATIONS):
            return Page([table], [Claim(text, paper, "–", "not measured")])
        worst = max(one["off"] for one in found.findings.values())
        most = max(one["probes"] for one in found.findings.values())
        claim = Claim(text, paper, f"within {worst:.1%} in at most {most}", verdict(holds=worst <= 0.02 and most <= 10))
        return Page([table], [claim])
