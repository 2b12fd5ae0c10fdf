"""Sudoku boards as images: a task with a right answer, on which depth can be told from many steps.

    python examples/boards/boards.py make boards
    fpdm train --data boards --size 6 --patch-size 1 --name FPDM --out fpdm
    python examples/boards/boards.py judge fpdm --data boards --budgets 28 140 560 --out fpdm.json
    python examples/boards/boards.py solve fpdm --data boards --clues 18 --budgets 140 560 --out solved.json

A pixel is a cell and its colour the symbol. A model is trained on boards alone, without classes and without any word of
the rules, and asked for new ones (`judge`), or for those that agree with some cells that it is given (`solve`).
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from fpdm import FPDMPipeline, load_run
from fpdm.diffusion.schedule import Schedule

BOXES = {6: (2, 3), 9: (3, 3)}  # height and width of a box by size of the board
COLOURS = np.array(
    [(c >> 2 & 1, c >> 1 & 1, c & 1) for c in (1, 2, 4, 3, 5, 6, 0, 7)] + [(0.5, 0.5, 0.5)]
)  # (9, 3) in [0, 1]: corners of the cube, and its middle; boards of 6 use the first 6
BATCH = 250
ITERATIONS = (1, 2, 3, 5, 8, 12, 26)


def units(size: int) -> np.ndarray:
    """Return the cells of each row, column and box, (3 S, S)."""
    cells = np.arange(size * size).reshape(size, size)
    height, width = BOXES[size]
    boxes = cells.reshape(size // height, height, size // width, width).swapaxes(1, 2).reshape(size, size)
    return np.concatenate([cells, cells.T, boxes])


def broken_units(boards: np.ndarray) -> np.ndarray:
    """Count the rows, columns and boxes of boards (N, S, S) that lack a symbol, (N,)."""
    size = boards.shape[-1]
    found = np.sort(boards.reshape(len(boards), -1)[:, units(size)], axis=-1)  # (N, 3 S, S)
    return (found != np.arange(size)).any(-1).sum(-1)


def random_board(size: int, draw: random.Random) -> np.ndarray:
    """Return a board that keeps all rules, (S, S): cells are filled in order, by symbols in random order."""
    sharing: list[set[int]] = [set() for _ in range(size * size)]  # the earlier cells that share a unit with each cell
    for unit in units(size).tolist():
        for cell in unit:
            sharing[cell] |= {other for other in unit if other < cell}
    board = [0] * (size * size)

    def fill(cell: int) -> bool:
        if cell == len(board):
            return True
        free = [*{*range(size)} - {board[other] for other in sharing[cell]}]
        draw.shuffle(free)
        for symbol in free:
            board[cell] = symbol
            if fill(cell + 1):
                return True
        return False

    fill(0)
    # Exchanging symbols, and rows and columns within a band of boxes, makes other boards as likely as this one.
    height, width = BOXES[size]
    rows = _shuffled_bands(size, height, draw)
    columns = _shuffled_bands(size, width, draw)
    symbols = np.array(draw.sample(range(size), size))
    return symbols[np.array(board).reshape(size, size)][rows][:, columns]


def _shuffled_bands(size: int, thickness: int, draw: random.Random) -> list[int]:
    bands = [draw.sample(range(start, start + thickness), thickness) for start in range(0, size, thickness)]
    draw.shuffle(bands)
    return [line for band in bands for line in band]


def to_images(boards: np.ndarray) -> np.ndarray:
    """Draw boards (N, S, S) as images (N, S, S, 3) uint8."""
    return (COLOURS[boards] * 255).round().astype(np.uint8)


def from_images(images: np.ndarray) -> np.ndarray:
    """Read images (N, S, S, 3) in [0, 1] as boards (N, S, S): the symbol of the nearest colour."""
    size = images.shape[1]
    apart = ((images[..., None, :] - COLOURS[:size]) ** 2).sum(-1)  # (N, S, S, symbols)
    return apart.argmin(-1)


def new_boards(size: int, seed: int, known: set[bytes]) -> Iterator[np.ndarray]:
    """Yield boards (S, S) that are not known, without end, and add them to those."""
    draw = random.Random(seed)
    while True:
        board = random_board(size, draw)
        if (key := board.tobytes()) not in known:
            known.add(key)
            yield board


def make(folder: Path, size: int, count: int, seed: int) -> None:
    """Write `count` different boards as PNG files of S x S pixels."""
    folder.mkdir(parents=True)
    boards = itertools.islice(new_boards(size, seed, set()), count)
    for number, board in enumerate(tqdm(boards, total=count, unit="board", disable=None)):
        Image.fromarray(to_images(board[None])[0]).save(folder / f"{number:06d}.png")


def read(folder: Path) -> np.ndarray:
    """Read the boards of a folder in the order of their names, (N, S, S)."""
    paths = sorted(folder.glob("*.png"))
    if not paths:
        sys.exit(f"{folder} has no boards; make some with: python {Path(__file__).name} make {folder}")
    images = np.stack([np.asarray(Image.open(path).convert("RGB")) for path in tqdm(paths, disable=None)])
    return from_images(images / 255)


@dataclass(frozen=True)
class Way:
    """A way of spending a budget."""

    budget: int
    sampler: str
    iterations: int | None


def draw_boards(
    pipe: FPDMPipeline, way: Way, count: int, seed: int, hold: Callable[..., Any] | None = None
) -> tuple[np.ndarray, float]:
    """Draw boards, (count, S, S), and return them with the block passes of each."""
    boards, passes = [], 0.0
    for start in range(0, count, BATCH):
        indices = range(start, min(start + BATCH, count))
        made = pipe(
            num_images=len(indices),
            indices=indices,
            seed=seed,
            **asdict(way),
            output_type="np",
            callback_on_step_end=hold and (lambda *step, at=indices: hold(*step, at)),
        )
        boards.append(from_images(made.images))
        passes = made.passes
    return np.concatenate(boards), passes


def ways(pipe: FPDMPipeline, budget: int, sampler: str) -> Iterator[Way]:
    """Return the ways in which a model can spend a budget: with each number of iterations that both allow."""
    cost = pipe.transformer.cost()
    if not cost.middle.adjustable:
        yield Way(budget, sampler, None)
        return
    steps = Schedule(**pipe.config.schedule).num_timesteps
    for iterations in ITERATIONS:
        if 1 <= budget // cost.passes(iterations) <= steps:
            yield Way(budget, sampler, iterations)


def wilson(hits: int, count: int, z: float = 1.96) -> tuple[float, float]:
    """Return the 95 % interval of a share (Wilson 1927)."""
    share, weight = hits / count, z * z / count
    middle = (share + weight / 2) / (1 + weight)
    half = z / (1 + weight) * ((share * (1 - share) + weight / 4) / count) ** 0.5
    return max(middle - half, 0.0), min(middle + half, 1.0)


def row(way: Way, boards: np.ndarray, passes: float, **more: object) -> dict[str, Any]:
    """Return what is recorded of boards that were drawn in one way."""
    broken = broken_units(boards)
    valid = int((broken == 0).sum())
    return {
        **asdict(way),
        "passes": passes,
        "boards": len(boards),
        "valid": valid / len(boards),
        "valid_interval": wilson(valid, len(boards)),
        "broken_units": float(broken.mean()),
        "different": len({board.tobytes() for board in boards}),
        **more,
    }


def best_of(
    pipe: FPDMPipeline, budgets: Sequence[int], samplers: Sequence[str], draw: Callable[[Way, int], dict[str, Any]]
) -> list[dict[str, Any]]:
    """Return a row for each budget and sampler, printed as it is done.

    Iterations are chosen on one seed and reported on another. `draw` gets a way and the seed, 0 for the report and 1 to
    choose.
    """
    rows = []
    for budget, sampler in itertools.product(budgets, samplers):
        tried = [draw(way, 1) for way in ways(pipe, budget, sampler)]
        best = min(tried, key=lambda one: (-one["valid"], one["broken_units"]))
        rows.append({**draw(Way(budget, sampler, best["iterations"]), 0), "tried": tried})
        print_row(rows[-1])
    return rows


def judge(pipe: FPDMPipeline, known: np.ndarray, budgets: Sequence[int], samplers: Sequence[str], count: int) -> Any:
    """Draw boards at each budget, and count those that keep the rules and those that were trained on."""
    seen = {board.tobytes() for board in known}

    def drawn(way: Way, seed: int) -> dict[str, Any]:
        boards, passes = draw_boards(pipe, way, count // 4 if seed else count, seed)
        return row(way, boards, passes, copied=sum(board.tobytes() in seen for board in boards))

    return best_of(pipe, budgets, samplers, drawn)


def solve(
    pipe: FPDMPipeline, known: np.ndarray, clues: int, budgets: Sequence[int], samplers: Sequence[str], count: int
) -> Any:
    """Fill new boards of which some cells are given: after each step these have their symbol, as noisy as all.

    A board is valid if all rules hold with the clues in place, also if it is not the board that they were taken from.
    """
    size = known.shape[-1]
    unseen = new_boards(size, 10**6, {board.tobytes() for board in known})
    boards = np.stack([*itertools.islice(unseen, count)])  # (N, S, S)
    draw = np.random.default_rng(0)
    order = np.stack([draw.permutation(size * size) for _ in boards])  # (N, S S)
    given = np.zeros((len(boards), size * size), dtype=bool)
    np.put_along_axis(given, order[:, :clues], values=True, axis=1)
    mask = torch.from_numpy(given.reshape(-1, 1, size, size))  # (N, 1, S, S)
    images = torch.from_numpy(to_images(boards)).permute(0, 3, 1, 2).float() / 127.5 - 1  # (N, 3, S, S)
    eps = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))  # (N, 3, S, S)
    schedule = Schedule(**pipe.config.schedule)

    def tried(way: Way, seed: int) -> dict[str, Any]:
        times = [*pipe(num_images=1, seed=seed, **asdict(way), output_type="latent").timesteps]

        def hold(_: object, index: int, __: int, tensors: dict[str, Tensor], at: Sequence[int]) -> dict[str, Tensor]:
            part = slice(at[0], at[-1] + 1)
            x = tensors["latents"]  # (B, 3, S, S)
            clean, noise, where = images[part].to(x), eps[part].to(x), mask[part].to(x.device)  # (B, 3 or 1, S, S)
            if index + 1 < len(times):  # the level of noise of the next step
                clean = schedule.add_noise(clean, noise, torch.full((len(x),), times[index + 1]))  # (B, 3, S, S)
            return {"latents": torch.where(where, clean, x)}

        found, passes = draw_boards(pipe, way, len(boards), seed, hold)
        filled = np.where(given.reshape(boards.shape), boards, found)
        return row(way, filled, passes, clues=clues)

    return best_of(pipe, budgets, samplers, tried)


def print_row(row: dict[str, Any]) -> None:
    """Print a row as it is done."""
    low, high = row["valid_interval"]
    iterations = f" of {row['iterations']} iterations" if row["iterations"] else ""
    print(
        f"{row['budget']:5} passes, {row['sampler']}{iterations}: {row['valid']:.1%} valid ({low:.1%} to {high:.1%}), "
        f"{row['broken_units']:.2f} units broken",
        flush=True,
    )


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    making = commands.add_parser("make", help="write boards as PNG files")
    making.add_argument("folder", type=Path)
    making.add_argument("--size", type=int, choices=sorted(BOXES), default=6)
    making.add_argument("--count", type=int, default=50_000)
    making.add_argument("--seed", type=int, default=0)
    for name, what in (("judge", "draw boards and count those that keep the rules"), ("solve", "fill boards")):
        judging = commands.add_parser(name, help=what)
        judging.add_argument("run", help="folder of a run")
        judging.add_argument("--data", type=Path, required=True, help="the folder that it was trained on")
        judging.add_argument("--budgets", type=int, nargs="+", default=[28, 56, 140, 280, 560, 1120])
        judging.add_argument("--samplers", nargs="+", default=["ddim", "ddpm"])
        judging.add_argument("--count", type=int, default=1000)
        judging.add_argument("--out", type=Path, required=True)
        if name == "solve":
            judging.add_argument("--clues", type=int, default=18)
    options = parser.parse_args()
    if options.command == "make":
        return make(options.folder, options.size, options.count, options.seed)
    if options.out.exists():
        parser.error(f"{options.out} exists; choose another file")
    pipe = FPDMPipeline.from_pretrained(options.run)
    pipe.set_progress_bar_config(disable=True)
    known, rest = read(options.data), (options.budgets, options.samplers, options.count)
    rows = judge(pipe, known, *rest) if options.command == "judge" else solve(pipe, known, options.clues, *rest)
    run = load_run(Path(options.run))
    record = {
        "name": run.recipe.name,
        "parameters": run.model.cost().total_parameters,
        "training": {"steps": run.progress.step, "macs": run.progress.macs, "seconds": run.progress.seconds},
        "command": " ".join(sys.argv[1:]),
        "rows": rows,
    }
    options.out.write_text(json.dumps(record, indent=1))
    return None


if __name__ == "__main__":
    main()
