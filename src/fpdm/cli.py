"""The command line: `fpdm prepare / train / sample / compare / ...`.

Nothing heavy is imported before a command is known, and every error leaves through `main`. A command is a class in the
module of `fpdm.commands` that has its name; see `fpdm.commands.describe` for a short one.
"""

from __future__ import annotations

import difflib
import errno
import importlib
import io
import keyword
import os
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fpdm import __version__

OK, MISTAKE, FAILED = 0, 2, 3


@dataclass(frozen=True)
class Entry:
    """A command in the help: what it does, and one call of it."""

    summary: str
    example: str


COMMANDS = {
    "prepare": Entry(
        "encode images into a cache of latents, to train on",
        "fpdm prepare photographs --autoencoder stabilityai/sd-vae-ft-ema --out latents",
    ),
    "train": Entry(
        "train a model; the same command resumes an interrupted run", "fpdm train digits --out run --seconds 120"
    ),
    "train-autoencoder": Entry(
        "train a small autoencoder, for latent diffusion where no published one suits",
        "fpdm train-autoencoder fashion-mnist --pad 2 --out autoencoder --seconds 1800",
    ),
    "import": Entry(
        "import a DiT or FPDM checkpoint: the original release's, the authors' or diffusers'",
        "fpdm import DiT-XL-2-256x256.pt --out dit-xl",
    ),
    "sample": Entry(
        "draw images from a run under a budget of block passes", "fpdm sample run --budget 140 --out images"
    ),
    "compare": Entry(
        "sample several runs at the same budgets from the same noise, and measure which is better",
        "fpdm compare run/fpdm run/dit --budgets 140 280 560 --out report",
    ),
    "reference": Entry(
        "make reference statistics from images, to evaluate runs against",
        "fpdm reference photographs --size 256 --out reference.npz",
    ),
    "evaluate": Entry(
        "measure a run's FID: 50,000 samples, by any number of processes, against reference statistics",
        "fpdm evaluate run --reference reference.npz --budget 560 --iterations 8 --out fid",
    ),
    "describe": Entry("show a model's parameters, MACs and block passes by part", "fpdm describe fpdm-xl/2"),
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
    except SystemExit as leaving:  # --help
        return int(leaving.code or 0)
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
    name = next((word for word in words if word != "--debug"), None)
    if name in ("-h", "--help"):
        print(_help())
        return
    if name == "--version":
        print(f"fpdm {__version__}")
        return
    if name not in COMMANDS:
        raise ValueError(_no_command(name))
    words.remove(name)
    entry, kind = COMMANDS[name], command_class(name)
    from fpdm.commands.options import parse

    summary = f"{entry.summary[0].upper()}{entry.summary[1:]}."
    command = parse(kind, words, prog=f"fpdm {name}", summary=summary, example=entry.example)
    result = command.execute()
    if result is not None:
        print(result.to_json() if command.json else result.to_text())


def command_class(name: str) -> Any:
    """The class of a command: `TrainAutoencoder` of `train_autoencoder`; a keyword's module has `_` behind its name."""
    module = f"{name.replace('-', '_')}{'_' if keyword.iskeyword(name) else ''}"
    return getattr(importlib.import_module(f"fpdm.commands.{module}"), name.title().replace("-", ""))


def _leave_process_group() -> None:
    """Take leave of the other processes, if there are any.

    Threads of gloo that outlive the interpreter end the process by SIGABRT once in a while. Not to be called where the
    others may still expect something of this one: NCCL would wait for them.
    """
    dist = sys.modules.get("torch.distributed")
    if dist is not None and dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


def _report(error: Exception) -> int:
    from fpdm.errors import FPDMError, Interrupted

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


def _help() -> str:
    lines = ["usage: fpdm COMMAND [OPTIONS]", ""]
    lines += ["Fixed Point Diffusion Models: train them, sample them under a budget, compare them with DiT.", ""]
    width = max(map(len, COMMANDS)) + 2
    for name, entry in COMMANDS.items():
        lines += [f"  {name:<{width}}{entry.summary}", f"  {'':<{width}}{entry.example}"]
    lines += ["", "  fpdm COMMAND --help    explain every option", "  fpdm --version         say which version this is"]
    return "\n".join([*lines, "  --debug                show where an error comes from"])


def _no_command(name: str | None) -> str:
    expected = f"expected {', '.join(COMMANDS)}"
    if name is None:
        return f"a command is missing; {expected}; see fpdm --help"
    near = difflib.get_close_matches(name, COMMANDS, 1)
    return f"there is no command {name!r}; " + (f"did you mean {near[0]}?" if near else f"{expected}; see fpdm --help")


if __name__ == "__main__":
    sys.exit(main())
