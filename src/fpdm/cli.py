"""The command line: `fpdm train`, `fpdm sample`, `fpdm compare`, ...

A command is the function in the module of `fpdm.commands` that has its name; see `fpdm.commands.describe` for a short
one. Only the module of the command that is called is imported. Every error leaves through `main`.
"""

from __future__ import annotations

import errno
import io
import keyword
import os
import shlex
import sys
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

from fpdm import __version__
from fpdm.errors import FPDMError, Interrupted, did_you_mean

OK, MISTAKE, FAILED = 0, 2, 3


class Entry(NamedTuple):
    """Summary of a command, and an example of its use."""

    summary: str
    example: str


COMMANDS = {
    "prepare": Entry(
        "Encode images into a latent cache to train on; resumable and parallel.",
        "fpdm prepare photographs --autoencoder stabilityai/sd-vae-ft-ema --out latents",
    ),
    "train": Entry(
        "Train a model; the same command resumes an interrupted run.", "fpdm train digits --out run --seconds 120"
    ),
    "train-autoencoder": Entry(
        "Train a small autoencoder for latent diffusion, where no published one suits.",
        "fpdm train-autoencoder fashion-mnist --pad 2 --out autoencoder --seconds 1800",
    ),
    "import": Entry(
        "Import a DiT or FPDM checkpoint: DiT's own, the FPDM authors' or diffusers'.",
        "fpdm import DiT-XL-2-256x256.pt --out dit-xl",
    ),
    "sample": Entry(
        "Generate images with a trained model under a budget of block passes.",
        "fpdm sample run --budget 140 --out images",
    ),
    "compare": Entry(
        "Compare runs at the same budgets, from the same noise, and report which is better.",
        "fpdm compare run/fpdm run/dit --budgets 140 280 560 --out report",
    ),
    "reference": Entry(
        "Compute reference statistics from images, for fpdm evaluate.",
        "fpdm reference photographs --size 256 --out reference.npz",
    ),
    "evaluate": Entry(
        "Measure the FID of a run against reference statistics.",
        "fpdm evaluate run --reference reference.npz --budget 560 --out fid",
    ),
    "describe": Entry("Show a model's parameters, MACs and block passes by part.", "fpdm describe fpdm-xl/2"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0 done, 2 the user's mistake, 3 the run cannot go on, 128 + signal."""
    words = [*(sys.argv[1:] if argv is None else argv)]
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # for names of files that are in no encoding
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always", RuntimeWarning)
            warnings.showwarning = _show_warning
            try:
                _run(words)
            finally:
                sys.stdout.flush()  # here, where a closed pipe can be answered
        _leave_process_group()
        return OK
    except BrokenPipeError:  # `| head` has seen enough; what is left shall not fail when Python ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except KeyboardInterrupt:
        print("fpdm: stopped", file=sys.stderr)
        return 130
    except Exception as error:
        if "--debug" in words:
            raise
        code = _report(error)
        if code > 128:  # by a signal, which all processes leave at
            _leave_process_group()
        return code


def _run(words: list[str]) -> None:
    rest = [word for word in words if word != "--debug"]
    if not rest or rest[0] not in {*COMMANDS, "-h", "--help", "--version", "--install-completion"}:
        raise ValueError(_no_command(rest))
    if rest[0] in ("-h", "--help") and rest[1:] and rest[1] in COMMANDS:
        rest = [rest[1], rest[0]]  # `fpdm --help train` means the same as `fpdm train --help`
    from cyclopts import CycloptsError

    from fpdm.commands.options import QUIET, add_options, explain

    app = application()
    try:
        for name in COMMANDS if rest[0] == "--install-completion" else {*COMMANDS} & {rest[0]}:
            add_options(app, rest if name == rest[0] else [name], shlex.join(["fpdm", *words]))
        command, bound, _ = app.parse_args(rest, **QUIET)
    except CycloptsError as error:
        raise ValueError(explain(error)) from error
    result = command(*bound.args, **bound.kwargs)
    if result is not None:
        print(result.to_json() if bound.arguments.get("json") else result.to_text())


def application() -> Any:
    """Make the cyclopts application, without importing any command."""
    from cyclopts import App, Group
    from rich.console import Console

    class Page(Console):
        def on_broken_pipe(self) -> None:
            raise  # to `main`, where rich would exit

    examples = "\n".join(entry.example for entry in COMMANDS.values())
    app = App(
        name="fpdm",
        help="Fixed Point Diffusion Models: train them, sample them under a budget, compare them with DiT.",
        help_epilogue=f"Examples:\n\n{examples}\n\nfpdm COMMAND --help explains every option.",
        help_format="plaintext",
        group_arguments=Group("Arguments", sort_key=-2),
        group_parameters=Group("Options", sort_key=-1),
        version=f"fpdm {__version__}",
        console=Page(),
    )
    for position, (name, entry) in enumerate(COMMANDS.items()):
        function = f"{name.replace('-', '_')}{'_' if keyword.iskeyword(name) else ''}"
        path = f"fpdm.commands.{function}:{function}"
        app.command(
            path, name=name, help=entry.summary, sort_key=position, help_epilogue=f"Example:\n\n{entry.example}"
        )
    app.register_install_completion_command(help="Complete commands and options in your shell from now on.")
    return app


def _leave_process_group() -> None:
    """Take leave of the other processes, if there are any.

    Threads of gloo that outlive the interpreter end the process by SIGABRT once in a while. Not to be called where the
    others may still expect something of this one: NCCL would wait for them.
    """
    dist = sys.modules.get("torch.distributed")
    if dist is not None and dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


def _report(error: Exception) -> int:
    message = " ".join(str(error).split())
    if isinstance(error, FPDMError):
        if not isinstance(error, Interrupted) or os.environ.get("RANK", "0") == "0":  # all processes leave together
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


def _no_command(words: list[str]) -> str:
    see = f"expected {', '.join(COMMANDS)}; see fpdm --help"
    if not words:
        return f"a command is missing; {see}"
    return f"there is no command {words[0]!r}{did_you_mean(words[0], COMMANDS) or f'; {see}'}"


if __name__ == "__main__":
    sys.exit(main())
