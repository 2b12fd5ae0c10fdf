"""The bench knows what is trained, and travels to other processes without what it has loaded."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from fpdm.models.cost import model_cost
from fpdm.reproduce.bench import Bench, Cell
from fpdm.reproduce.models import FPDM, Model, Training, dit
from fpdm.reproduce.scale import QUICK
from fpdm.sampling.plan import Plan

PICTURES = Model("FPDM", data="pictures")


def test_nothing_is_trained_or_made_before_it_is_asked_for(tmp_path: Path) -> None:
    bench = Bench(tmp_path, QUICK)
    assert not bench.is_trained(Training(FPDM, 0))
    assert bench.macs_done(Training(FPDM, 0)) == 0
    assert bench.config().source == "digits"
    assert not [*tmp_path.iterdir()]


def test_pictures_need_a_folder(tmp_path: Path) -> None:
    bench = Bench(tmp_path, QUICK)
    assert not bench.can_train(PICTURES)
    with pytest.raises(ValueError, match="no folder of pictures; give one with --pictures"):
        bench.config("pictures")
    bench = Bench(tmp_path, QUICK, pictures=tmp_path)
    assert bench.can_train(PICTURES)
    assert bench.config("pictures").source == str(tmp_path)


def test_a_bench_travels_without_its_images(tmp_path: Path) -> None:
    bench = Bench(tmp_path, QUICK)
    bench.real()
    bench.config()
    there = pickle.loads(pickle.dumps(bench))  # noqa: S301  (our own bytes)
    assert (there._real, there._configs) == ({}, bench._configs)


def test_the_cost_of_a_cell_is_its_budget_in_block_passes(tmp_path: Path) -> None:
    bench = Bench(tmp_path, QUICK)
    training = Training(dit(4), 0)
    one = model_cost(bench.recipe(training).model).evaluation_macs(2) / 4  # of a block pass, the head included
    assert Cell(training, Plan(140), 20).macs(bench) == pytest.approx(20 * 140 * one)
    assert Cell(training, Plan(140), 20, chosen=True).macs(bench) > 5 * 20 * 140 * one
