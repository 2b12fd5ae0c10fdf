"""examples/browser draws in Chromium what PyTorch draws."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from fpdm.diffusion.schedule import Schedule
from fpdm.randomness import Stream, normal
from fpdm.runs.pretrained import load_model
from fpdm.sampling.allocation import ALLOCATIONS
from fpdm.sampling.budget import Budget
from fpdm.sampling.plan import Plan
from fpdm.sampling.timesteps import trailing
from tests.axe import LOCK, violations_in_all_looks
from tests.browser import served, visit
from tests.pages import blocks, run

EXAMPLE = Path(__file__).parents[1] / "examples" / "browser"


def node(script: str) -> object:
    """What a script of Node prints as JSON, with the modules of the page at hand."""
    if shutil.which("node") is None:
        pytest.skip("there is no Node")
    head = f'import * as noise from "{EXAMPLE}/src/noise.js"; import * as sampler from "{EXAMPLE}/src/sampler.js";\n'
    command = ["node", "--input-type=module", "-e", f"{head}console.log(JSON.stringify({script}))"]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


@pytest.mark.parametrize("folder", [EXAMPLE, LOCK], ids=lambda folder: folder.name)
def test_locks_name_no_registry(folder: Path) -> None:
    text = (folder / "package-lock.json").read_text()
    assert {*re.findall(r"https?://([^/\"]+)", text)} <= {"registry.npmjs.org", "github.com", "opencollective.com"}
    assert "sha512-" in text


def test_seeds_mean_the_same_noise() -> None:
    for seed, index, step in ((0, 0, 0), (2**53 - 1, 2**40, 7)):
        found = node(f'Array.from(noise.normal(20000, "{seed}", "{index}", {step}))')
        expected = normal((20000,), seed=seed, stream=Stream.SAMPLE, indices=[index], step=step)
        np.testing.assert_allclose(np.float32(found), expected[0], atol=1e-6)  # the tail's logarithm is another's


@pytest.mark.parametrize("allocation", ALLOCATIONS)
def test_budgets_are_spent_in_the_same_way(allocation: str) -> None:
    cost = load_model("fpdm-fashion").model.cost()
    record = {
        "schedule": {"num_timesteps": 1000},
        "cost": {"passes_outside": 2, "passes_per_application": 1, "applications": None},
    }
    record["cost"] |= {"macs_outside": 0, "macs_per_application": 0, "decoding_macs": 0}
    cases = [(budget, count) for budget in (14, 28, 111, 140, 555) for count in (1, 2, 5, 12) if budget >= count + 2]
    settings = [{"budget": budget, "iterations": count, "allocation": allocation} for budget, count in cases]
    found = node(f"{json.dumps(settings)}.map((one) => sampler.plan({json.dumps(record)}, one))")
    for (passes, count), one in zip(cases, found, strict=True):  # type: ignore[call-overload]
        budget = Budget.of(passes, cost)
        steps = budget.steps(count)
        table = ALLOCATIONS[allocation].table(budget, steps)
        assert (tuple(one["timesteps"]), tuple(one["table"])) == (trailing(Schedule(), steps), table)
        assert one["passes"] == budget.cost(table)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page, built in a folder of its own as its README says."""
    pytest.importorskip("onnxruntime")
    if shutil.which("npm") is None:
        pytest.skip("there is no npm")
    folder = tmp_path_factory.mktemp("browser") / "page"
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("node_modules", "dist", "model"))
    *made, last = [line for block in blocks(EXAMPLE / "README.md") for line in block.lines]
    assert "http.server --directory dist" in last  # as `served` does
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        run("examples/browser", [("sh", line) for line in made])
    return folder / "dist"


@pytest.mark.slow
@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)])
def test_the_page_draws_what_pytorch_draws(page: Path, width: int, dark: bool) -> None:
    with served(page) as address, visit(address, width=width, dark=dark) as found:
        view = found.page
        view.wait_for_function("document.getElementById('status').textContent === 'Ready.'")
        view.select_option("#label", "9")
        view.fill("#seed", "3")
        for name, value in (("budget", 84), ("iterations", 4)):
            view.evaluate(
                f"const one = document.getElementById('{name}'); one.value = {value};"
                "one.dispatchEvent(new Event('input', {bubbles: true}))"
            )
        assert "14 steps x 4 iterations, 84 block passes" in view.inner_text("#plan")
        view.select_option("#allocation", "increasing")
        assert "14 steps x 2 to 6 iterations, 84 block passes" in view.inner_text("#plan")
        view.click("#go")
        view.wait_for_function("document.getElementById('status').textContent === 'Done.'")
        drawn = np.float32(view.evaluate("Array.from(window.lastImage)"))
        assert "84 block passes" in view.inner_text("#history li")
        view.evaluate("document.getElementById('budget').value = 560")
        view.click("#go")
        view.click("#stop")
        view.wait_for_function("document.getElementById('status').textContent === 'Stopped.'")
        assert view.evaluate("document.documentElement.scrollWidth") <= width  # nothing sticks out
        assert (found.complaints, found.elsewhere) == ([], [])
        assert violations_in_all_looks(view) == []
    plan = Plan(budget=84, iterations=4, allocation="increasing")
    sampler = load_model("fpdm-fashion").sampler(plan, seed=3, device=torch.device("cpu"))
    *_, last = sampler.trajectory([0], [9])
    np.testing.assert_allclose(drawn, sampler.decode(last.x).numpy().ravel(), atol=1e-3)
