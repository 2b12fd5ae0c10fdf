"""`fpdm reproduce`: the paper's tables and figures, at a small size."""

from __future__ import annotations

import sys
from pathlib import Path

from fpdm.commands.options import Result
from fpdm.configuration import Workers
from fpdm.reproduce.scale import FULL, QUICK, REPRODUCTION

MAIN_OPTIONS = ("out", "quick", "pictures", "autoencoder", "data_root", "workers")


def reproduce(
    names: tuple[str, ...],
    *,
    out: Path,
    quick: bool = False,
    autoencoder: str = "",
    data_root: Path | None = None,
    pictures: Path | None = None,
    workers: Workers | None = None,
    line: str = "",
) -> Result:
    """Reproduce the paper's tables and figures at a small size.

    The same command continues an interrupted reproduction, and makes nothing twice.

    Args:
        names: all, or some of table1, table2, table3, table4, table5, figure1, figure3, figure4, figure5, figure6,
            figure7, samples, baselines, appendixC, solvers, limits and self-guidance.
        out: Folder for tables, figures and the runs behind them.
        quick: Try the code in minutes, on tiny models of digits. The figures mean nothing.
        autoencoder: Folder of the autoencoder of the latents (default: train one first, 30 minutes).
        data_root: Folder with the files of Fashion-MNIST.
        pictures: A folder of colour pictures, for the rows of table2 that ask for one.
        workers: Number of trainings and measurements at once, one thread each (default: one per core).
        line: The command line, recorded beside the results.
    """
    if quick and autoencoder:
        raise ValueError(
            f"--autoencoder is {autoencoder}, but --quick takes digits as pixels, without one; leave one of the two out"
        )
    REPRODUCTION.check(out)
    from fpdm.reproduce.reproduction import reproduce as run

    if quick:
        print("a quick trial of the code: its figures mean nothing", file=sys.stderr)
    return run(
        names,
        out,
        QUICK if quick else FULL,
        autoencoder=autoencoder,
        root=data_root,
        pictures=pictures,
        workers=workers or 0,
        command=line,
    )
