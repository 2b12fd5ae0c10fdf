"""A whole search on barely trained runs: what is written, who takes it, what goes on, what is refused."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fpdm import FPDMPipeline, cli
from fpdm.runs.run import load_run
from fpdm.sampling.plan import Plan
from fpdm.tune import images as images_module
from fpdm.tune.tune import tune
from tests.trained import train_fpdm_and_dit
from tests.tune.made import QUICK

pytestmark = pytest.mark.filterwarnings("ignore:.*images for features")  # few, to be quick


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return train_fpdm_and_dit(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _own_cache(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))


@pytest.fixture
def run(trained: dict[str, Path], tmp_path: Path) -> Path:
    return shutil.copytree(trained["fpdm"], tmp_path / "run")


def test_what_is_found_is_the_default_for_its_budget(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--samplers", "ddim", "unipc", "--iterations", "1", "2", "--grids", "trailing", "phi^1.5"]
    words += ["--allocations", "constant", "--candidates", "8", "--first-images", "4", "--num-images", "36"]
    assert cli.main(["tune", str(run), "--budget", "20", "--budget", "30", *words]) == 0
    out, err = capsys.readouterr()
    assert "tuning for 20 block passes: at most " in err
    assert "tuning for 30 block passes: at most " in err
    record = json.loads((run / "tuning" / "tune.json").read_text())
    assert next(iter(record)) == "fpdm"  # its version, as in every file
    assert "version" not in record
    found = {one["found"]["budget"]: one for one in record["budgets"]}
    assert [*found] == [20, 30]
    for budget, one in found.items():
        assert one["found_distance"] <= one["untuned_distance"]
        last = one["rounds"][-1]["trials"]
        assert one["found_distance"] == min(trial["distance"] for trial in last) == last[0]["distance"]
        assert one["passes"] <= one["images"] * budget
        assert (run / "tuning" / f"search-{budget}.png").stat().st_size
        assert f"{budget} block passes: " in out
    stored = load_run(run).sampling
    assert [tuned.plan.budget for tuned in stored.tuned] == [20, 30]
    plan = stored.tuned[0].plan
    assert cli.main(["sample", str(run), "--budget", "20", "--num-images", "2", "--out", str(run.parent / "a")]) == 0
    assert f"the plan is tuned for 20 block passes: {plan.in_words()}" in capsys.readouterr().out
    sampled = json.loads((run.parent / "a" / "sampling.json").read_text())
    assert sampled["plan"] == json.loads(json.dumps(plan.values()))
    pipe: Any = FPDMPipeline.from_pretrained(run)
    pipe.set_progress_bar_config(disable=True)
    assert pipe(num_images=1, seed=0, budget=20).plan == plan
    between = pipe(num_images=1, seed=0, budget=25)
    assert between.plan_origin == "between those tuned for 20 and 30 block passes"


def test_a_search_goes_on_and_a_repeated_one_draws_nothing(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[int] = []
    real = images_module.draw

    def interrupted(run, plan, labels, **how):
        drawn.append(len(labels))
        if len(drawn) == 9:
            raise KeyboardInterrupt
        return real(run, plan, labels, **how)

    monkeypatch.setattr(images_module, "draw", interrupted)
    with pytest.raises(KeyboardInterrupt):
        tune(run, QUICK)
    assert not load_run(run).sampling.tuned
    first = tune(run, QUICK)
    images = first.budgets[0].images
    assert sum(drawn) == images + drawn[8]  # those of the interrupted call are drawn again
    again = tune(run, QUICK)
    assert sum(drawn) == images + drawn[8]
    assert again == first
    assert tune(run, replace(QUICK, seed=1)).budgets[0].rounds != first.budgets[0].rounds


def test_a_model_without_a_run_needs_to_be_told_its_images(trained: dict[str, Path], tmp_path: Path) -> None:
    FPDMPipeline.from_pretrained(trained["dit"]).save_pretrained(tmp_path / "saved")
    with pytest.raises(ValueError, match=r"the images that .*saved was trained on are not known; say which"):
        tune(tmp_path / "saved", QUICK)
    found = tune(tmp_path / "saved", QUICK, tmp_path / "out", data="digits")
    assert found.data == "digits"
    assert found.budgets[0].untuned == Plan(20)
    again = FPDMPipeline.from_pretrained(tmp_path / "saved")
    assert again.sampling.tuned[0].plan == found.budgets[0].found
    with pytest.raises(ValueError, match=r"fashion-mnist has images of \(1, 28, 28\), but .* makes \(1, 8, 8\)"):
        tune(tmp_path / "saved", QUICK, tmp_path / "out", data="fashion-mnist")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["X", "--budget", "2"], "a budget of 2 block passes is below one step"),
        (["X", "--budget", "0"], "budgets is 0"),
        (["X", "--budget", "20", "--num-images", "100"], "num_images is 100; expected at least 9 times"),
        (["X", "--budget", "20", "--num-images", "1000000000000"], "a row of 1,000,000,000,000 images needs"),
        (["X", "--budget", "20", "--out", "X/checkpoints"], "lies in the run's checkpoints"),
        (["X", "--budget", "20", "--out", "X"], "was made by fpdm train"),
        (["fpdm-fashion", "--budget", "20"], "comes with the package; expected a folder of your own"),
        (["owner/model", "--budget", "20"], "is no folder; expected a folder of your own"),
        (["X", "--budget", "20", "--samplers", "ddmi"], "expected one of ddim, ddpm"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_drawn(
    run: Path, words: list[str], says: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images_module, "draw", lambda *_, **__: pytest.fail("went on"))
    before = (run / "sampling.json").read_text()
    assert cli.main(["tune", *(word.replace("X", str(run)) for word in words)]) == 2
    assert says in capsys.readouterr().err
    assert (run / "sampling.json").read_text() == before
    assert not (run / "tuning").exists()
