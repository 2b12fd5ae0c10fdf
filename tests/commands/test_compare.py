"""`fpdm compare`: every setting of a comparison is an option. What it finds is tested where it is made."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any, get_args

import pytest

from fpdm import cli
from fpdm.compare.settings import Settings
from fpdm.sampling.plan import AllocationName
from tests.commands.parsed import option_names, values


def made(*words: str) -> Settings:
    return values("compare", "a", "b", "--out", "c", *words)["comparison"]


def another(value: Any) -> Any:
    """Not this value, but one of its type."""
    if isinstance(value, tuple):
        return tuple(map(another, value)) or (3,)
    names = {"choose": "never", "ddim": "unipc", **dict.fromkeys(get_args(AllocationName), "adaptive")}
    return names.get(value, "phi^2") if isinstance(value, str) else value * 2 + 12


@pytest.mark.parametrize("field", [one.name for one in dataclasses.fields(Settings)])
def test_every_setting_is_an_option(field: str) -> None:
    new = (3, 12) if field == "self_guidance_range" else another(getattr(Settings(), field))
    needed = {"self_guidance": (1.0,)} if field in ("weak_depths", "self_guidance_range") else {}
    for name in option_names("compare")[field]:
        words = [name, *map(str, new if isinstance(new, tuple) else [new])]
        words += [word for _ in needed for word in ("--self-guidance", "1")]
        assert made(*words) == dataclasses.replace(Settings(), **needed, **{field: new})


def test_options_are_called_as_those_of_sample() -> None:
    found = made("--budget", "9", "--grid", "phi^2", "--sampler", "ddpm", "unipc", "--allocation", "constant")
    assert found == Settings((9,), ("ddpm", "unipc"), grids=("phi^2",), allocations=("constant",))


def test_everything_is_passed_on(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Compared:
        def to_text(self) -> str:
            return "a table"

        def to_json(self) -> str:
            return "{}"

    calls, pages = [], list[Path]()

    def compare(*where: object, **how: object) -> Compared:
        calls.append((where, how))
        return Compared()

    monkeypatch.setattr("fpdm.compare.comparison.compare", compare)
    monkeypatch.setattr("fpdm.compare.answer.Compared", lambda comparison, page: pages.append(page) or comparison)
    out = str(tmp_path / "c")
    words = ["compare", "a", "b", "--out", out, "--data", "moved", "--data-root", "d", "--num-images", "40"]
    words += ["--latents", "l", "m", "--autoencoder", "vae", "--overwrite", "--minutes", "3"]
    assert cli.main(words) == 0
    assert capsys.readouterr().out == "a table\n"
    assert calls == [
        (
            ((Path("a"), Path("b")), Path(out), made("--num-images", "40")),
            {
                "data": "moved",
                "data_root": Path("d"),
                "latents": (Path("l"), Path("m")),
                "autoencoder": "vae",
                "command": f"fpdm {' '.join(words)}",
                "overwrite": True,
                "full": False,
                "minutes": 3.0,
            },
        )
    ]
    assert pages == [Path(out) / "report.html"]
    assert cli.main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {}


def test_a_finished_comparison_is_redrawn_without_runs(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Redrawn:
        def __init__(self, folder: Path) -> None:
            self.folder = folder

        def to_text(self) -> str:
            return f"redrawn {self.folder}"

    monkeypatch.setattr("fpdm.compare.comparison.redraw", Redrawn)
    monkeypatch.setattr("fpdm.compare.answer.Compared", lambda comparison, page: comparison)
    assert cli.main(["compare", "--redraw", str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"redrawn {tmp_path}\n"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--out", "X"], "RUNS is missing"),
        (["a"], "--out is missing"),
        (["a", "--out", "X", "--budgets"], "budgets is empty"),
        (["a", "--out", "X", "--budgets", "140", "b"], "--budgets is ['140', 'b']; expected integers"),
        (["a", "--out", "X", "--num-images", "3"], "num_images is 3"),
        (["a", "--out", "X", "--minutes", "-1"], "minutes is -1"),
        (["a", "--out", "X", "--minutes", "3", "--full"], "--minutes is 3 and --full is given; give only one"),
        (["a", "--out", "X", "--reuse", "maybe"], "reuse is 'maybe'"),
        (["a", "--out", "X", "--no-reuse"], "unknown argument --no-reuse; did you mean --reuse?"),
        (["X/none", "--out", "X"], "no run with a checkpoint"),
        (["a", "--redraw", "X"], "leave out the runs and --out"),
        (["--out", "X", "--redraw", "X/other"], "leave out the runs and --out"),
        (["--redraw", "X"], "compare.json"),
    ],
)
def test_mistakes(capsys: pytest.CaptureFixture[str], tmp_path: Path, words: list[str], says: str) -> None:
    words = [f"{tmp_path}{word[1:]}" if word.startswith("X") else word for word in words]
    assert cli.main(["compare", *words]) == 2
    captured = capsys.readouterr()
    assert says in captured.err
    assert captured.err.count("\n") == 1
    assert not captured.out
    assert not [*tmp_path.iterdir()]


def test_a_run_is_compared_with_others_only(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "run")
    words = ["compare", str(tmp_path / "run"), str(tmp_path / "link"), "--out", str(tmp_path / "out")]
    assert cli.main(words) == 2
    assert f"the run {tmp_path / 'link'} is given twice" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
