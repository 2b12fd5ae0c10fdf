"""Two barely trained runs compared: what is chosen on what, what is kept, and what a reader gets."""

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

from fpdm.compare import comparison as compare_module
from fpdm.compare import inputs as inputs_module
from fpdm.compare import results_cache as rows_module
from fpdm.compare.comparison import compare, redraw
from fpdm.compare.results import Comparison, Result
from fpdm.compare.settings import Settings
from fpdm.data.config import DataConfig
from fpdm.data.loading import load_dataset
from fpdm.evaluation.evaluator import Evaluator
from fpdm.runs.data_card import DataCard
from fpdm.runs.recipes import make_recipe
from fpdm.runs.sampling_file import write_sampling
from fpdm.sampling.defaults import SamplingDefaults
from fpdm.sampling.plan import Plan
from fpdm.training.trainer import Trainer

pytestmark = pytest.mark.filterwarnings("ignore:.*images for features")  # few, to be quick

QUICK = Settings(
    budgets=(8, 14),
    iterations=(1, 2),
    allocations=("constant",),
    num_images=(20,),
    choosing_images=12,
    batch_size=20,
)
DATA = load_dataset(DataConfig("digits"))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    root = tmp_path_factory.mktemp("runs")
    for model, name in (("fpdm", "fpdm"), ("dit-4", "dit")):
        plan = make_recipe("digits", model, steps=2, batch_size=2, no_grad_iters=0, grad_iters=1, sample_every=0)
        Trainer(plan, DATA.splits.train, root / name).train()
    return [root / "fpdm", root / "dit"]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _own_cache(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))


@pytest.fixture(scope="module")
def first(runs: list[Path], cache: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Comparison]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(cache))
        out = tmp_path_factory.mktemp("out")
        return out, compare(runs, out, replace(QUICK, sweep=(1, 3)), command="fpdm compare a b")


def keys(rows: tuple[Result, ...]) -> list[tuple[str, int]]:
    return [(row.model, row.budget) for row in rows]


def test_rows_are_complete(first: tuple[Path, Comparison]) -> None:
    out, found = first
    assert keys(found.rows) == [(m, b) for b in (8, 14) for m in ("fpdm-digits", "dit-4-digits")]
    for row in found.rows:
        assert row.passes <= row.budget
        assert row.distance_low <= row.distance <= row.distance_high
        assert row.kid_low <= row.kid <= row.kid_high
        assert row.distance > row.distance_floor >= 0.0  # two steps of training make no digits
        assert row.kid > row.kid_floor
        assert 0.0 <= row.precision <= 1.0
        assert 0.0 <= row.recall <= 1.0
        assert row.novelty > 0.0
        assert row.images == 20
    # The FPDM chooses among 2 numbers of iterations with and without reuse, and 3 grids; the DiT gets as many grids.
    assert {row.candidates for row in found.rows if row.budget == 14} == {6}
    named = "model parameters sampler grid budget iterations steps allocation reuse passes macs seconds distance "
    named += "distance_low distance_high kid images seed choosing_distance"
    written = json.loads((out / "compare.json").read_text())
    assert all(set(named.split()) <= row.keys() for row in written["rows"])
    assert written == json.loads(found.to_json())


def test_the_sweep_changes_the_iterations_only(first: tuple[Path, Comparison]) -> None:
    _, found = first
    assert [(r.budget, r.iterations, r.steps) for r in found.sweep] == [(8, 1, 2), (8, 3, 1), (14, 1, 4), (14, 3, 2)]
    chosen = {row.budget: row for row in found.rows if row.model == "fpdm-digits"}
    for row in found.sweep:
        best = chosen[row.budget]
        assert (row.model, row.allocation) == ("fpdm-digits", "constant")
        assert (row.grid, row.reuse, row.sampler) == (best.grid, best.reuse, best.sampler)


def test_the_sweep_follows_the_chosen_plan(runs: list[Path], tmp_path: Path) -> None:
    found = compare([runs[0]], tmp_path, replace(QUICK, budgets=(8,), reuse="never", grids=("phi^1.5",), sweep=(1,)))
    assert [(row.reuse, row.grid) for row in found.sweep] == [(False, found.rows[0].grid)]
    assert found.rows[0].grid != "trailing"


def test_a_report_is_written(first: tuple[Path, Comparison]) -> None:
    out, found = first
    text = (out / "report.html").read_text(encoding="utf-8")
    assert "fpdm compare a b" in text
    assert found.features in text
    assert list(out.glob("*.png"))


def test_a_report_is_redrawn_from_what_is_kept_without_a_model(
    first: tuple[Path, Comparison], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, found = first
    for name in ("compare.json", "images.png"):
        shutil.copy(out / name, tmp_path / name)
    monkeypatch.setattr(inputs_module, "load_run", lambda *_, **__: pytest.fail("a model is loaded"))
    assert redraw(tmp_path).rows == found.rows
    drawn = {path.name for path in out.iterdir() if path.is_file()}
    assert {path.name for path in tmp_path.iterdir()} == drawn > {"report.html", "distance.png"}
    for name in drawn:
        assert (tmp_path / name).read_bytes() == (out / name).read_bytes(), name
    (tmp_path / "images.png").unlink()
    with pytest.raises(ValueError, match=r"there is no images\.png"):
        redraw(tmp_path)


def test_the_images_of_rows_are_in_their_files(first: tuple[Path, Comparison]) -> None:
    out, found = first
    assert {path.suffix for path in (out / "rows").iterdir()} == {".json"}
    assert found.images is not None
    kinds = [row.kind for row in found.images.rows]
    assert kinds == ["samples"] * 4 + ["real"] + ["nearest"] * 2


def test_the_table_says_what_it_measures(first: tuple[Path, Comparison]) -> None:
    _, found = first
    text = found.to_text()
    assert "not FID" in text
    assert "450 test images of digits" in text
    assert text.count("dit-4-digits") == 2


def test_a_second_time_nothing_is_drawn(
    first: tuple[Path, Comparison], runs: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, found = first

    def never(*_: object, **__: object) -> None:
        raise AssertionError("a row that is there was drawn again")

    monkeypatch.setattr(rows_module, "draw", never)
    again = compare(runs, out, replace(QUICK, sweep=(1, 3)), command="fpdm compare a b", overwrite=True)
    assert again.rows == found.rows
    assert again.sweep == found.sweep
    with pytest.raises(ValueError, match=r"comparison with other runs and budgets and sweep; .* --overwrite"):
        compare(runs[:1], out, replace(QUICK, budgets=(14,)))
    fewer = compare(runs[:1], out, replace(QUICK, budgets=(14,)), overwrite=True)
    assert fewer.rows == tuple(row for row in found.rows if (row.model, row.budget) == ("fpdm-digits", 14))
    with pytest.raises(AssertionError, match="drawn again"):
        compare(runs, out, replace(QUICK, seed=1), overwrite=True)
    with pytest.raises(AssertionError, match="drawn again"):
        compare(runs, out, replace(QUICK, num_images=(21,)), overwrite=True)


def test_an_interrupted_comparison_goes_on(
    first: tuple[Path, Comparison], runs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[int] = []
    real = rows_module.draw

    def counted(run, plan, labels, *, seed, batch_size):
        drawn.append(seed)
        if len(drawn) == 9:
            raise KeyboardInterrupt
        return real(run, plan, labels, seed=seed, batch_size=batch_size)

    monkeypatch.setattr(rows_module, "draw", counted)
    with pytest.raises(KeyboardInterrupt):
        compare(runs, tmp_path, QUICK)
    damaged = next(path for path in (tmp_path / "rows").glob("*.json") if "choice" not in path.name)
    damaged.write_text("{")
    before = len(drawn)
    again = compare(runs, tmp_path, QUICK)
    _, found = first
    same = [replace(row, seconds=0.0) for row in found.rows]
    assert [replace(row, seconds=0.0) for row in again.rows] == same
    whole: list[int] = []
    monkeypatch.setattr(rows_module, "draw", lambda *a, seed, **k: (whole.append(seed), real(*a, seed=seed, **k))[1])
    compare(runs, tmp_path / "whole", QUICK)
    assert len(drawn) - before < len(whole)


def test_plans_are_chosen_on_other_images_and_noise_than_are_reported(
    runs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the validation split replaced by noise the choice may change, the way of judging a plan must not."""
    seeds: list[tuple[int, int]] = []
    real = rows_module.draw

    def spied(run, plan, labels, *, seed, batch_size):
        seeds.append((len(labels), seed))
        return real(run, plan, labels, seed=seed, batch_size=batch_size)

    monkeypatch.setattr(rows_module, "draw", spied)
    measured: list[int] = []
    chosen: list[int] = []
    measure, choose = Evaluator.measure, Evaluator.choosing_distance
    monkeypatch.setattr(
        Evaluator,
        "measure",
        lambda self, images, *, seed: (measured.append(len(images)), measure(self, images, seed=seed))[1],
    )
    monkeypatch.setattr(
        Evaluator, "choosing_distance", lambda self, images: (chosen.append(len(images)), choose(self, images))[1]
    )
    compare(runs, tmp_path, replace(QUICK, budgets=(14,), seed=5))
    assert set(seeds) == {(12, 6), (20, 5)}
    assert chosen == [12] * 12
    assert measured == [20] * 2


def test_unconditional_data_and_runs(tmp_path: Path, runs: list[Path]) -> None:
    config = DataConfig("digits", conditional=False)
    plan = make_recipe(
        "digits", "fpdm", data=config, steps=1, batch_size=2, no_grad_iters=0, grad_iters=1, sample_every=0
    )
    data = load_dataset(config).splits.train
    Trainer(plan.fitted(data), data, tmp_path / "run").train()
    one = replace(QUICK, budgets=(8,))
    found = compare([tmp_path / "run"], tmp_path / "out", one)
    assert "autoencoder" in found.features
    assert len(found.rows) == 1
    # Beside a conditional run it is judged by that one's classes.
    assert "classifier" in compare([tmp_path / "run", runs[1]], tmp_path / "both", one).features


@pytest.mark.parametrize("folders", [("one", "two"), ("a/run", "b/run")])
def test_runs_of_one_recipe_are_told_apart_by_their_folders(
    folders: tuple[str, str], runs: list[Path], tmp_path: Path
) -> None:
    copies = [shutil.copytree(runs[0], tmp_path / folder) for folder in folders]
    found = compare(copies, tmp_path / "out", replace(QUICK, budgets=(8,), iterations=(1,), reuse="always"))
    assert [row.model for row in found.rows] == [*folders]  # and not the folders above, which they share


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"budgets": ()}, "budgets is empty"),
        ({"budgets": (0,)}, "budgets is 0; expected an integer of at least 1"),
        ({"budgets": (2,)}, "expected at least 3"),
        ({"iterations": (0,)}, "iterations is 0"),
        ({"num_images": (11,)}, "num_images is 11; expected an integer of at least 12"),
        ({"num_images": (20, 20, 20)}, "one for each budget"),
        ({"reuse": "maybe"}, "reuse is 'maybe'; expected one of choose, always, never"),
        ({"samplers": ("ddmi",)}, "ddmi"),
        ({"grids": ("trailing", "phi")}, "phi"),
        ({"allocations": ("constant", "even")}, "even"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_mistakes_are_named_before_anything_is_drawn(
    changes: dict[str, object],
    message: str,
    runs: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(compare_module, "load_dataset", lambda *_, **__: pytest.fail("went on"))
    with pytest.raises(ValueError, match=message):
        compare(runs, tmp_path / "out", replace(QUICK, **changes))
    assert not (tmp_path / "out").exists()


def test_runs_on_different_data_do_not_compare(runs: list[Path], tmp_path: Path) -> None:
    plan = replace(make_recipe("digits", "fpdm", steps=1, batch_size=2, sample_every=0), data=DataConfig("elsewhere"))
    Trainer(plan, DATA.splits.train, tmp_path / "other").train()
    with pytest.raises(ValueError, match=r"trained on different data \(digits; elsewhere, 3 x 32 x 32\)"):
        compare([runs[0], tmp_path / "other"], tmp_path / "out", QUICK)


def test_other_images_than_the_run_was_trained_on_are_refused(runs: list[Path], tmp_path: Path) -> None:
    recorded = tmp_path / "run"
    shutil.copytree(runs[0], recorded)
    record = DataCard.of("digits", DATA)
    (recorded / "data.json").write_text(json.dumps(asdict(replace(record, sha256="0" * 64))))
    with pytest.raises(ValueError, match="was trained on other images than digits has now"):
        compare([recorded], tmp_path / "out", QUICK)
    (recorded / "data.json").write_text(json.dumps(asdict(record)))
    compare([recorded], tmp_path / "out", replace(QUICK, budgets=(8,), iterations=(1,), reuse="always"))


class _CheckedError(Exception):
    """All that compare checks before it measures is as it should be."""


def test_images_are_known_by_their_hash_wherever_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def checked(*_: object) -> None:
        raise _CheckedError

    monkeypatch.setattr(compare_module, "check_measurable", checked)
    photos, job = tmp_path / "photos", tmp_path / "job"
    for place in range(16):
        path = photos / "ab"[place % 2] / f"{place}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (15 * place, 0, 0)).save(path)
    shutil.copytree(photos, job)
    folders = [tmp_path / name for name in ("here", "there", "unconditional")]
    for folder, images in zip(folders, (photos, job, photos), strict=True):
        config = DataConfig(str(images), size=8, conditional=folder.name != "unconditional")
        data = load_dataset(config)
        plan = make_recipe("folder", "fpdm", data=config, steps=1, batch_size=2, sample_every=0)
        plan = replace(plan, model=replace(plan.model, width=16, heads=2, patch_size=4))
        plan = replace(plan, name=folder.name).fitted(data.splits.train, data.sha256)
        Trainer(plan, data.splits.train, folder).train()

    def compared(**how: str) -> None:
        with pytest.raises(_CheckedError):
            compare(folders, tmp_path / "out", QUICK, **how)  # type: ignore[arg-type]

    compared()
    photos.rename(tmp_path / "moved")
    compared()  # by the images of the second
    job.rename(tmp_path / "other")
    with pytest.raises(ValueError, match=f"are not in {photos} or {job}; say where they are with --data"):
        compare(folders, tmp_path / "out", QUICK)
    compared(data=str(tmp_path / "moved"))
    Image.new("RGB", (8, 8)).save(tmp_path / "other" / "a" / "8.png")
    with pytest.raises(
        ValueError, match=r"was trained on other images than .*other has now \(sha256 \w{12}, now \w{12}"
    ):
        compare(folders, tmp_path / "out", QUICK, data=str(tmp_path / "other"))
    with pytest.raises(ValueError, match="unconditional was trained on other images"):
        compare([folders[2], folders[0]], tmp_path / "out", QUICK, data=str(tmp_path / "other"))


def test_a_comparison_in_stages_ends_with_the_full_protocol(
    runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The page is there after each stage, and the last is what `full` gives at once."""
    settings = replace(QUICK, num_images=(60,), choosing_images=12)
    found = compare(runs, tmp_path / "stages", settings, full=False)
    assert found.is_full
    assert (found.stages[0].name, found.stages[-1].name) == ("first look", "full protocol")
    assert found.stages[0].plans == 1
    said = capsys.readouterr().err
    assert "first look: " in said
    assert str(tmp_path / "stages" / "report.html") in said
    full = compare(runs, tmp_path / "full", settings)
    assert [replace(row, seconds=0.0) for row in found.rows] == [replace(row, seconds=0.0) for row in full.rows]
    assert not full.stages
    assert "Answers so far" in (tmp_path / "stages" / "report.html").read_text(encoding="utf-8")
    assert "Answers so far" not in (tmp_path / "full" / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(("weights", "expected"), [((0.0,), 0.0), ((0.0, 1.0), 2.0)])
def test_stored_self_guidance_is_taken_only_where_a_comparison_has_it(
    runs: list[Path], tmp_path: Path, weights: tuple[float, ...], expected: float
) -> None:
    folder = shutil.copytree(next(run for run in runs if "fpdm" in run.name), tmp_path / "run")
    write_sampling(folder, SamplingDefaults(Plan(14, 1, self_guidance=2.0, weak_depth=1)))
    settings = replace(QUICK, budgets=(14,), num_images=(60,), self_guidance=weights)
    found = compare([folder], tmp_path / "out", settings, full=False, minutes=1e-9)
    assert not found.is_full
    assert [row.self_guidance for row in found.rows] == [expected]


def test_the_first_look_takes_the_plans_that_are_stored_and_time_may_be_up_after_it(
    runs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    real = rows_module.draw

    def slow(*where, **how):
        clock[0] += 40.0
        return real(*where, **how)

    monkeypatch.setattr(compare_module, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    monkeypatch.setattr(rows_module, "draw", slow)
    found = compare(runs, tmp_path, replace(QUICK, budgets=(14,), num_images=(60,)), full=False, minutes=2.0)
    assert not found.is_full
    assert [(row.iterations, row.reuse, row.candidates) for row in found.rows if "fpdm" in row.model] == [(1, True, 1)]
    assert found.settings["num_images"] == (60,)
    assert "an answer on the way to it (first look" in (tmp_path / "report.html").read_text(encoding="utf-8")
    monkeypatch.setattr(rows_module, "draw", real)
    assert compare(runs, tmp_path, replace(QUICK, budgets=(14,), num_images=(60,)), full=False).is_full
