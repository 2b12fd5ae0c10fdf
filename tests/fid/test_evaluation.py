"""A barely trained run evaluated: against plain oracles, interrupted and resumed, by one process and by two."""

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from fpdm import cli
from fpdm.data.sources.named import load
from fpdm.errors import Interrupted
from fpdm.evaluation.pretrained import PUBLISHED, pretrained_extractor
from fpdm.fid import evaluation as module
from fpdm.fid.evaluation import RESULT, SAMPLES, Evaluation, evaluate, labels_of
from fpdm.fid.feature_shards import FeatureShards
from fpdm.fid.settings import EvaluationSettings
from fpdm.models.config import TransformerConfig
from fpdm.runs.recipes import make_recipe
from fpdm.runs.run import Run, load_run
from fpdm.runs.samples import check_claim, claim
from fpdm.sampling.plan import Plan
from fpdm.training.trainer import Trainer
from tests.evaluation.scripts import Small, saved
from tests.oracle.frechet import frechet
from tests.oracle.kernel import kernel_distance
from tests.oracle.manifold import covered

SHAPE = TransformerConfig(
    image_size=8, in_channels=1, patch_size=4, width=16, heads=2, num_classes=10, learn_variance=False
)
PLAN = Plan(budget=6, iterations=1)
N = 22


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run, an extractor, and a reference of real digits."""
    root = tmp_path_factory.mktemp("evaluate")
    trained = replace(make_recipe("digits", "fpdm", steps=2, batch_size=4), model=SHAPE)
    Trainer(trained, load("digits", "train"), root / "run").train()
    saved(Small(), root / "small.pt")
    words = ["reference", "digits", "--split", "test", "--extractor", root / "small.pt", "--out", root / "ref.npz"]
    assert cli.main([str(word) for word in words]) == 0
    return root


@pytest.fixture(scope="module")
def run(root: Path) -> Run:
    return load_run(root / "run")


def settings(root: Path, **changes: Any) -> EvaluationSettings:
    small = EvaluationSettings(N, extractor=str(root / "small.pt"), batch_size=4, piece_size=6)
    return replace(small, **changes)


@pytest.fixture(scope="module")
def whole(root: Path, run: Run) -> Evaluation:
    """An evaluation that nothing interrupted."""
    found = evaluate(run, PLAN, root / "ref.npz", root / "whole", settings(root, npz=True))
    assert found is not None
    return found


def figures(folder: Path) -> dict[str, Any]:
    """The result, without what differs from run to run."""
    values = json.loads((folder / RESULT).read_text())
    return {key: value for key, value in values.items() if key not in ("seconds", "out", "checksum")}


def test_the_figures_are_those_of_the_images_alone(root: Path, run: Run, whole: Evaluation) -> None:
    sampler = run.sampler(PLAN)
    labels = labels_of(range(N), "random", 0, sampler)
    images = torch.cat([sampler([i], [label]).pixels for i, label in enumerate(labels)])  # (N, 1, 8, 8)
    with np.load(root / "whole" / SAMPLES) as file:
        stored = file["arr_0"]  # (N, 8, 8, 3)
    assert (stored.shape, stored.dtype) == ((N, 8, 8, 3), np.uint8)
    # Another batch may round a pixel the other way.
    assert np.abs(stored[..., 1].astype(int) - images[:, 0].numpy()).max() <= 1
    with torch.no_grad():
        made, real = (
            Small()(pixels.expand(-1, 3, -1, -1)).double().numpy()
            for pixels in (torch.from_numpy(stored).permute(0, 3, 1, 2), load("digits", "test").images)
        )
    assert whole.distance == pytest.approx(frechet(made, real), rel=1e-4)
    assert whole.kernel == pytest.approx(kernel_distance(made, real), rel=1e-4)
    assert whole.precision == pytest.approx(covered(made, real, 3), abs=1e-9)
    assert whole.recall == pytest.approx(covered(real, made, 3), abs=1e-9)
    assert whole.passes == pytest.approx(6.0)
    assert whole.name == "Fréchet distance in small.pt features"


def test_the_protocol_stands_beside_the_figures(root: Path, whole: Evaluation) -> None:
    text = whole.to_text()
    for part in (
        *("22 of 1 x 8 x 8", "random", "seed 0", "6 block passes", "2 steps", "ddim", "guidance 1", "fpdm-digits"),
        *("small.pt", "ref.npz", "digits (test)", whole.protocol.weights_sha256[:12], "torch"),
    ):
        assert part in text
    assert "FID" not in text
    assert "KID" not in text
    assert json.loads(whole.to_json())["protocol"]["plan"]["budget"] == 6


def test_nothing_but_the_result_is_left(root: Path, whole: Evaluation) -> None:
    assert {path.name for path in whole.out.iterdir()} - {".lock"} == {RESULT, SAMPLES, "sampling.json", ".fpdm.json"}


def test_an_interrupted_evaluation_goes_on(
    root: Path, run: Run, whole: Evaluation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save, saves = FeatureShards.save, []

    def dying(self: FeatureShards, piece: range, *rest: Any) -> None:
        if len(saves) == 2:
            raise KeyboardInterrupt
        saves.append(piece)
        save(self, piece, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(FeatureShards, "save", dying)
        with pytest.raises(KeyboardInterrupt):
            evaluate(run, PLAN, root / "ref.npz", tmp_path / "out", settings(root, npz=True))
    first = sorted((tmp_path / "out" / "pieces").iterdir())[0]
    first.write_bytes(first.read_bytes()[:-7])
    drawn: list[int] = []
    with monkeypatch.context() as patch:
        patch.setattr(module, "labels_of", lambda indices, *rest: drawn.extend(indices) or labels_of(indices, *rest))
        evaluate(run, PLAN, root / "ref.npz", tmp_path / "out", settings(root, npz=True))
    assert drawn == [*range(6), *range(12, N)]  # the truncated piece, and those that were missing
    assert figures(tmp_path / "out") == figures(root / "whole")
    assert (tmp_path / "out" / SAMPLES).read_bytes()[200:2000] == (root / "whole" / SAMPLES).read_bytes()[200:2000]


def test_a_result_of_another_version_is_taken_as_it_is(
    root: Path, run: Run, whole: Evaluation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(whole.out, tmp_path / "out")
    values = json.loads((tmp_path / "out" / RESULT).read_text())
    values["protocol"]["versions"]["fpdm"] = "0.0.1"
    del values["checksum"]  # which that version did not write
    (tmp_path / "out" / RESULT).write_text(json.dumps(values))
    monkeypatch.setattr(module, "labels_of", None)  # nothing is drawn
    found = evaluate(run, PLAN, root / "ref.npz", tmp_path / "out", settings(root, npz=True))
    assert found is not None
    assert (found.distance, found.protocol.versions["fpdm"]) == (whole.distance, "0.0.1")


def test_a_result_that_was_changed_is_measured_again(root: Path, run: Run, whole: Evaluation, tmp_path: Path) -> None:
    shutil.copytree(whole.out, tmp_path / "out")
    values = json.loads((tmp_path / "out" / RESULT).read_text())
    (tmp_path / "out" / RESULT).write_text(json.dumps({**values, "distance": values["distance"] / 2}))
    with pytest.warns(RuntimeWarning, match=r"result.json was changed since it was written; measuring again"):
        found = evaluate(run, PLAN, root / "ref.npz", tmp_path / "out", settings(root, npz=True))
    assert found is not None
    assert found.distance == whole.distance


def test_a_signal_leaves_what_the_same_call_goes_on_with(
    root: Path, run: Run, whole: Evaluation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[int] = []

    def drawing(indices: Any, *rest: Any) -> list[int]:
        if len(drawn) == 6:
            os.kill(os.getpid(), signal.SIGUSR1)
        drawn.extend(indices)
        return labels_of(indices, *rest)

    monkeypatch.setattr(module, "labels_of", drawing)
    with pytest.raises(Interrupted, match="stopped by SIGUSR1"):
        evaluate(run, PLAN, root / "ref.npz", tmp_path, settings(root))
    assert drawn == [*range(12)]
    evaluate(run, PLAN, root / "ref.npz", tmp_path, settings(root))
    assert drawn == [*range(N)]
    assert figures(tmp_path) == figures(root / "whole")


def test_a_folder_that_nothing_was_drawn_into_serves_other_settings(
    root: Path, run: Run, whole: Evaluation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refusing(*_: Any, **__: Any) -> None:
        raise ValueError("refused")

    with monkeypatch.context() as patch:
        patch.setattr(module, "extract_features", refusing)
        with pytest.raises(ValueError, match="refused"):
            evaluate(run, PLAN, root / "ref.npz", tmp_path, settings(root, seed=1))
    evaluate(run, PLAN, root / "ref.npz", tmp_path, settings(root))
    assert figures(tmp_path) == figures(root / "whole")


def test_an_image_binds_the_folder_to_its_settings(tmp_path: Path) -> None:
    claim(tmp_path, {"seed": 1})
    with pytest.raises(ValueError, match="another seed"):
        check_claim(tmp_path, {"seed": 2})
    claim(tmp_path, {"seed": 2})
    (tmp_path / "pieces").mkdir()
    (tmp_path / "pieces" / "0.safetensors").touch()
    claim(tmp_path, {"seed": 2})
    with pytest.raises(ValueError, match="another seed"):
        claim(tmp_path, {"seed": 1})


def test_a_finished_evaluation_is_shown_and_not_made_again(
    root: Path, run: Run, whole: Evaluation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "extract_features", lambda *_, **__: pytest.fail("drawn again"))
    assert evaluate(run, PLAN, root / "ref.npz", root / "whole", settings(root, npz=True)) == whole


def test_a_renamed_run_reference_or_extractor_is_the_same(
    root: Path, run: Run, whole: Evaluation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(whole.out, tmp_path / "out")
    reference, network = tmp_path / "moved.npz", tmp_path / "moved.pt"
    shutil.copy(root / "ref.npz", reference)
    shutil.copy(root / "small.pt", network)
    renamed = replace(run, recipe=replace(run.recipe, name="other"))
    given = settings(root, npz=True, extractor=str(network))
    with monkeypatch.context() as patch:
        patch.setattr(module, "extract_features", lambda *_, **__: pytest.fail("drawn again"))
        found = evaluate(renamed, PLAN, reference, tmp_path / "out", given)
        assert found is not None
        assert (found.distance, found.protocol.reference) == (whole.distance, "moved.npz")
    # An unfinished one goes on with what was drawn under the other names.
    evaluate(run, PLAN, root / "ref.npz", tmp_path / "kept", settings(root, keep=True))
    (tmp_path / "kept" / RESULT).unlink()
    with monkeypatch.context() as patch:
        patch.setattr(module, "labels_of", lambda *_: pytest.fail("drawn again"))
        again = evaluate(renamed, PLAN, reference, tmp_path / "kept", replace(given, npz=False))
    assert again is not None
    assert again.distance == whole.distance
    saved(Small(), network)  # other weights
    with pytest.raises(ValueError, match=r"but the extractor is moved\.pt"):
        evaluate(renamed, PLAN, reference, tmp_path / "out", given)


def test_kept_features_serve_another_reference(
    root: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other.npz"
    words = ["reference", "digits", "--split", "train", "--extractor", root / "small.pt", "--out", other]
    assert cli.main([str(word) for word in [*words, "--features", 0]]) == 0
    first = evaluate(run, PLAN, root / "ref.npz", tmp_path / "out", settings(root, keep=True))
    monkeypatch.setattr(module, "labels_of", lambda *_: pytest.fail("drawn again"))
    with pytest.raises(ValueError, match=r"evaluation with another reference .* replace it with --overwrite"):
        evaluate(run, PLAN, other, tmp_path / "out", settings(root, keep=True))
    second = evaluate(run, PLAN, other, tmp_path / "out", settings(root, keep=True), overwrite=True)
    assert first is not None
    assert second is not None
    assert first.distance != second.distance
    assert (second.kernel, second.precision, second.recall) == (None, None, None)  # it has no features


def test_adms_file_with_fids_weights_makes_it_a_fid(
    root: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A small network stands for Inception, because its weights cannot be had everywhere."""
    small = pretrained_extractor(str(root / "small.pt"))
    inception = replace(small, name="Inception", sha256=PUBLISHED + small.sha256[8:])
    monkeypatch.setattr(module, "pretrained_extractor", lambda *_, **__: inception)
    images = load("digits", "test").images[:40].expand(-1, 3, -1, -1)  # (M, 3, 8, 8)
    with torch.no_grad():
        real = Small()(images).double().numpy()  # (M, 6)
    arrays = {"mu": real.mean(0), "sigma": np.cov(real, rowvar=False)}
    np.savez(tmp_path / "adm.npz", images.permute(0, 2, 3, 1).numpy(), **arrays)
    found = evaluate(run, PLAN, tmp_path / "adm.npz", tmp_path / "out", settings(root, npz=True, manifold_images=30))
    assert found is not None
    with np.load(tmp_path / "out" / SAMPLES) as file, torch.no_grad():
        made = Small()(torch.from_numpy(file["arr_0"]).permute(0, 3, 1, 2)).double().numpy()  # (N, 6)
    assert found.name == "FID"
    assert found.distance == pytest.approx(frechet(made, real), rel=1e-4)
    assert found.kernel is None
    assert found.protocol.manifold_images == (N, 30)
    assert found.recall == pytest.approx(covered(real[:30], made, 3), abs=1e-9)
    assert "its origin is not in the file" in found.to_text()


def test_other_samples_in_the_folder_are_refused(root: Path, run: Run, whole: Evaluation) -> None:
    for plan, changes in ((PLAN, {"seed": 1}), (PLAN, {"labels": "balanced"}), (replace(PLAN, budget=9), {})):
        with pytest.raises(ValueError, match="made with another"):
            evaluate(run, plan, root / "ref.npz", root / "whole", settings(root, **changes))


def test_fewer_images_than_features_are_measured_with_a_warning(root: Path, run: Run, tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="3 images for features of 6 dimensions"):
        found = evaluate(run, PLAN, root / "ref.npz", tmp_path, settings(root, num_images=3))
    assert found is not None
    assert np.isfinite(found.distance)
    assert found.precision is None  # 3 images have no third neighbour


def test_random_labels_are_uniform_and_each_images_own(run: Run) -> None:
    sampler = run.sampler(PLAN)
    labels = labels_of(range(2000), "random", 0, sampler)
    assert labels_of([1500, 3], "random", 0, sampler) == [labels[1500], labels[3]]
    assert chisquare(np.bincount(labels, minlength=10)).pvalue > 0.01
    assert labels_of(range(12), "balanced", 0, sampler) == [*range(10), 0, 1]


@pytest.mark.parametrize(
    "changes",
    [
        *({"num_images": 1}, {"labels": "all"}, {"batch_size": 0}, {"piece_size": 0}, {"manifold_images": 3}),
        *({"seed": -1}, {"seed": 2**63}),
    ],
)
def test_settings_out_of_range_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(changes))):
        EvaluationSettings(**changes)


@pytest.mark.slow
def test_two_processes_find_what_one_does(root: Path, whole: Evaluation, tmp_path: Path) -> None:
    out = tmp_path / "two"
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    words: list[object] = ["-m", "fpdm", "evaluate", root / "run", "--reference", root / "ref.npz", "--out", out]
    words += ["--budget", 6, "--iterations", 1, "--num-images", N, "--batch-size", 4, "--piece-size", 6, "--npz"]
    words += ["--extractor", root / "small.pt", "--json"]
    done = subprocess.run(
        [*launcher, *map(str, words)],
        check=True,
        env={**os.environ, "ACCELERATE_USE_CPU": "1"},
        timeout=300,
        stdout=subprocess.PIPE,
    )
    printed = json.loads(done.stdout)  # by one of them only
    assert printed["distance"] == whole.distance
    assert figures(out) == figures(root / "whole")
    with np.load(out / SAMPLES) as two, np.load(root / "whole" / SAMPLES) as one:
        np.testing.assert_array_equal(two["arr_0"], one["arr_0"])
