"""The command line: `fpdm train / sample / compare / describe`.

Nothing heavy is imported before the arguments are read, and every error leaves through `main`.
"""

from __future__ import annotations

import argparse
import difflib
import errno
import json
import os
import re
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

OK, MISTAKE, FAILED = 0, 2, 3


class Parser(argparse.ArgumentParser):
    """An argument parser whose mistakes are one line each, with the nearest known word."""

    def error(self, message: str) -> NoReturn:
        """Leave as a user's mistake."""
        choice = re.search(r"invalid choice: '(.*?)' \(choose from (.*)\)", message)
        near = difflib.get_close_matches(choice[1], re.findall(r"[\w-]+", choice[2]), 1) if choice else []
        raise ValueError(message + (f"; did you mean {near[0]}?" if near else ""))

    def parse(self, argv: Sequence[str] | None) -> argparse.Namespace:
        """All arguments, unknown ones refused."""
        found, unknown = self.parse_known_args(argv)
        if unknown:
            parser = getattr(found, "parser", self)
            known = [option for action in parser._actions for option in action.option_strings]
            near = difflib.get_close_matches(unknown[0].split("=")[0], known, 1)
            hint = f"; did you mean {near[0]}?" if near else f"; see {parser.prog} --help"
            raise ValueError(f"unknown argument {unknown[0]}{hint}")
        return found


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0 done, 2 the user's mistake, 3 the run cannot go on, 128 + signal."""
    debug = "--debug" in (sys.argv[1:] if argv is None else argv)
    try:
        arguments = _parser().parse(argv)
        with warnings.catch_warnings():
            warnings.simplefilter("always", RuntimeWarning)
            warnings.showwarning = _show_warning
            arguments.run(arguments)
        return OK
    except SystemExit as leaving:  # --help, --version
        return int(leaving.code or 0)
    except BrokenPipeError:  # `| head` has seen enough
        sys.stderr.close()
        return OK
    except KeyboardInterrupt:
        print("fpdm: stopped", file=sys.stderr)
        return 130
    except Exception as error:
        if debug:
            raise
        return _report(error)


def _report(error: Exception) -> int:
    from fpdm.errors import FPDMError

    message = " ".join(str(error).split())
    if isinstance(error, FPDMError):
        print(f"fpdm: {message}", file=sys.stderr)
        return error.exit_code
    if isinstance(error, ValueError):
        print(f"fpdm: {message}", file=sys.stderr)
        return MISTAKE
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        print(f"fpdm: cannot write: {message}", file=sys.stderr)
        return FAILED
    if isinstance(error, OSError) and error.filename is not None:
        print(f"fpdm: {error.filename}: {error.strerror}", file=sys.stderr)
        return MISTAKE
    short = ("out of memory", "not enough memory", "allocate memory")  # CUDA and MPS, the CPU, the system
    if isinstance(error, (MemoryError, RuntimeError)) and (not message or any(word in message for word in short)):
        print(f"fpdm: out of memory: use a smaller batch ({message[:120]})", file=sys.stderr)
        return FAILED
    print(f"fpdm: {type(error).__name__}: {message} (--debug shows where; this is a fault of fpdm's)", file=sys.stderr)
    return FAILED


def _show_warning(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    print(f"fpdm: warning: {message}", file=sys.stderr)


def _parser() -> Parser:
    from fpdm import __version__

    parser = Parser(
        prog="fpdm",
        description="Fixed Point Diffusion Models: train them, sample them under a budget, compare them with DiT.",
        epilog="example: fpdm train digits --out run --seconds 120 && fpdm sample run --budget 140 --out images",
    )
    parser.add_argument("--debug", action="store_true", help="show where an error comes from")
    parser.add_argument("--version", action="version", version=f"fpdm {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=Parser)
    _add_train(commands)
    _add_sample(commands)
    _add_compare(commands)
    _add_describe(commands)
    return parser


def _command(commands: Any, name: str, run: Callable[[argparse.Namespace], None], help: str, example: str) -> Parser:
    parser = commands.add_parser(
        name,
        help=help,
        description=help[0].upper() + help[1:] + ".",
        epilog=f"example: {example}",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--debug", action="store_true", help="show where an error comes from")
    parser.set_defaults(run=run, parser=parser)
    return parser


def _add_train(commands: Any) -> None:
    parser = _command(
        commands,
        "train",
        _train,
        "train a model; the same command resumes an interrupted run",
        "fpdm train digits --out run --seconds 120",
    )
    parser.add_argument("recipe", help="digits or fashion-mnist")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    parser.add_argument(
        "--model",
        default="fpdm",
        help="fpdm, fpdm-everywhere, fpdm-elastic, dit (28 blocks), dit-N or shared-N (N blocks)",
    )
    parser.add_argument("--data-root", type=Path, help="folder with the data set's own files, where it has some")
    suppress = argparse.SUPPRESS  # what is not given is the recipe's
    parser.add_argument(
        "--steps", type=int, default=suppress, help="optimiser steps (the recipe's if left out; 0: no limit)"
    )
    parser.add_argument("--seconds", type=float, default=suppress, help="seconds of training instead of steps")
    parser.add_argument(
        "--macs", type=float, default=suppress, help="multiply-accumulates of training instead of steps"
    )
    parser.add_argument("--batch-size", type=int, default=suppress, help="images per step")
    parser.add_argument("--learning-rate", type=float, default=suppress, help="of AdamW, after the warm-up")
    parser.add_argument("--gradient", default=suppress, help="stochastic (S-JFB), jfb, multistep, unrolled or implicit")
    parser.add_argument("--no-grad-iters", type=int, default=suppress, help="N: iterations without gradient at most")
    parser.add_argument("--grad-iters", type=int, default=suppress, help="M: iterations with gradient at most")
    parser.add_argument("--seed", type=int, default=suppress, help="everything random is a function of it")
    parser.add_argument(
        "--checkpoint-every", type=int, default=suppress, help="steps between checkpoints (0: at the end only)"
    )


_TRAIN_FIELDS = (
    "steps",
    "seconds",
    "macs",
    "batch_size",
    "learning_rate",
    "gradient",
    "no_grad_iters",
    "grad_iters",
    "seed",
    "checkpoint_every",
)


def _train(arguments: argparse.Namespace) -> None:
    changes = {name: getattr(arguments, name) for name in _TRAIN_FIELDS if hasattr(arguments, name)}
    if changes.keys() & {"seconds", "macs"} and "steps" not in changes:
        changes["steps"] = 0
    _writable(arguments.out)
    from fpdm.data import load
    from fpdm.experiments.recipes import recipe
    from fpdm.training import Trainer

    plan = recipe(arguments.recipe, arguments.model, **changes)
    trainer = Trainer(plan, load(plan.data, "train", root=arguments.data_root), arguments.out)
    done = trainer.train()
    if not trainer.accelerator.is_main_process:
        return
    if done.step == trainer.resumed_at:
        print(f"nothing left to do: {arguments.out} is trained ({done.step} steps)")
        return
    skipped = f", {done.skipped} skipped for want of a finite gradient" if done.skipped else ""
    print(f"trained {plan.name}: {done.step} steps in {done.seconds:.0f} s{skipped}; the run is in {arguments.out}")


def _add_sample(commands: Any) -> None:
    parser = _command(
        commands,
        "sample",
        _sample,
        "draw images from a run under a budget of block passes",
        "fpdm sample run --budget 140 --iterations 5 --num-images 64 --out images",
    )
    parser.add_argument(
        "run_folder", metavar="RUN", type=Path, help="folder made by fpdm train; it may still be training"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for the images")
    parser.add_argument("--budget", type=int, default=140, help="block passes per image; DiT-XL spends 28 per step")
    parser.add_argument(
        "--iterations", type=int, default=argparse.SUPPRESS,
        help="fixed-point iterations per step; fewer mean more steps (default: 5, or a DiT's only answer)",
    )  # fmt: skip
    parser.add_argument("--num-images", type=int, default=64, help="how many")
    parser.add_argument("--seed", type=int, default=0, help="image i is a function of the seed and i alone")
    parser.add_argument(
        "--batch-size", type=int, default=64, help="images at once; changes nothing but speed and memory"
    )
    parser.add_argument(
        "--class", dest="label", type=int, default=argparse.SUPPRESS, help="draw this class only (default: all in turn)"
    )
    parser.add_argument("--sampler", default="ddim", help="ddim, ddpm, second-order, dpmsolver++ or unipc")
    parser.add_argument("--grid", default="trailing", help="timesteps: trailing, linspace or phi^P, such as phi^1.5")
    parser.add_argument(
        "--allocation", default="constant", help="of iterations: constant, increasing, decreasing or adaptive"
    )
    parser.add_argument(
        "--no-reuse", dest="reuse", action="store_false", help="start each solve afresh, not from the last solution"
    )
    parser.add_argument("--guidance", type=float, default=1.0, help="scale of classifier-free guidance; 1 is none")
    parser.add_argument("--solver", default="picard", help="of the fixed points: picard or anderson")


def _sample(arguments: argparse.Namespace) -> None:
    _writable(arguments.out)
    from fpdm.experiments.sample import sample_to_folder
    from fpdm.generate import Plan
    from fpdm.training import load_run

    run = load_run(arguments.run_folder)
    adjustable = len(run.model.cost().middle.iterations) > 1
    plan = Plan(
        arguments.budget, getattr(arguments, "iterations", 5 if adjustable else 0), arguments.sampler, arguments.grid,
        arguments.allocation, arguments.reuse, arguments.guidance, arguments.solver,
    )  # fmt: skip
    label = getattr(arguments, "label", None)
    summary = sample_to_folder(
        run,
        plan,
        arguments.num_images,
        arguments.out,
        seed=arguments.seed,
        batch_size=arguments.batch_size,
        label=label,
    )
    print(summary)


def _add_compare(commands: Any) -> None:
    parser = _command(
        commands,
        "compare",
        _compare,
        "sample several runs at the same budgets from the same noise, and measure which is better",
        "fpdm compare run/fpdm run/dit --budgets 140 280 560 --out report",
    )
    parser.add_argument(
        "runs", metavar="RUN", type=Path, nargs="+", help="folders made by fpdm train, on the same data"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for pictures and figures")
    parser.add_argument("--budgets", type=int, nargs="+", default=[140, 280, 560], help="block passes per image")
    parser.add_argument(
        "--iterations", type=int, default=5, help="fixed-point iterations per step, where there is a choice"
    )
    parser.add_argument("--num-images", type=int, default=1000, help="images per model and budget")
    parser.add_argument("--sampler", default="ddim", help="of all: ddim, ddpm, second-order, dpmsolver++ or unipc")
    parser.add_argument(
        "--grid",
        nargs="+",
        default=["trailing"],
        help="timesteps: trailing, linspace or phi^P; of several, each model takes its best on validation images",
    )
    parser.add_argument("--allocation", default="constant", help="constant, increasing, decreasing or adaptive")
    parser.add_argument("--no-reuse", dest="reuse", action="store_false", help="start each solve afresh")
    parser.add_argument("--guidance", type=float, default=1.0, help="scale of classifier-free guidance; 1 is none")
    parser.add_argument("--seed", type=int, default=0, help="of the noise, the same for all models")
    parser.add_argument("--data-root", type=Path, help="folder with the data set's own files, where it has some")


def _compare(arguments: argparse.Namespace) -> None:
    _writable(arguments.out)
    from fpdm.experiments.compare import Choices, compare

    result = compare(
        arguments.runs,
        arguments.out,
        budgets=arguments.budgets,
        num_images=arguments.num_images,
        choices=Choices(
            arguments.sampler,
            tuple(arguments.grid),
            arguments.iterations,
            arguments.allocation,
            arguments.reuse,
            arguments.guidance,
        ),
        seed=arguments.seed,
        data_root=arguments.data_root,
    )
    print(result)


def _add_describe(commands: Any) -> None:
    parser = _command(
        commands,
        "describe",
        _describe,
        "show a model's parameters, MACs and block passes by part",
        "fpdm describe fpdm-xl/2 --json",
    )
    parser.add_argument("model", help="fpdm- or dit- and s, b, l or xl with /2, /4 or /8, or digits or fashion")
    parser.add_argument(
        "--iterations", type=int, default=5, help="fixed-point iterations per evaluation, where there is a choice"
    )
    parser.add_argument("--json", action="store_true", help="for a machine to read")


def _describe(arguments: argparse.Namespace) -> None:
    from fpdm.experiments.describe import describe

    described = describe(arguments.model, arguments.iterations)
    print(json.dumps(described.to_dict(), indent=1) if arguments.json else described.to_text())


def _writable(folder: Path) -> None:
    """Check that the folder can be made and written to, before anything long begins and without making it."""
    nearest = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    if not nearest.is_dir():
        raise ValueError(f"--out {folder}: {nearest} is a file; expected a folder")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise ValueError(f"--out {folder}: {nearest} cannot be written to")


if __name__ == "__main__":
    sys.exit(main())
