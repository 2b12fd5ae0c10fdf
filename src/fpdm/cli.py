"""The command line: `fpdm train`, `fpdm sample`, `fpdm compare`, ...

A command is the function in the module of `fpdm.commands` that has its name; see `fpdm.commands.describe` for a short
one. Only the module of the command that is called is imported. Every error leaves through `main`.
"""

from __future__ import annotations

import errno
import functools
import io
import keyword
import os
import shlex
import sys
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TextIO

from fpdm import __version__
from fpdm.errors import FPDMError, Interrupted, RunError, did_you_mean, printable, shorten

OK, MISTAKE, FAILED = 0, 2, 3
LINE = 200  # characters of a message, at most


class Entry(NamedTuple):
    """Summary of a command, and examples of its use: what each does, and its command line."""

    summary: str
    examples: Mapping[str, str]

    def epilogue(self) -> str:
        """Return the end of the command's help."""
        return "Examples:\n\n" + "\n\n".join(f"# {what}\n{line}" for what, line in self.examples.items())


COMMANDS = {
    "prepare": Entry(
        "Encode images into a latent cache to train on; resumable and parallel.",
        {
            "A folder of photographs, encoded by the autoencoder of Stable Diffusion": (
                "fpdm prepare photographs --autoencoder stabilityai/sd-vae-ft-ema --out latents"
            ),
            "Fashion-MNIST, by an autoencoder of your own": (
                "fpdm prepare fashion-mnist --autoencoder autoencoder --out latents"
            ),
            "ImageNet in tar shards, on four GPUs": (
                "accelerate launch --num_processes 4 -m fpdm prepare imagenet-shards \\\n"
                "    --autoencoder stabilityai/sd-vae-ft-ema --size 256 --out latents"
            ),
        },
    ),
    "train": Entry(
        "Train a model; the same command resumes an interrupted run.",
        {
            "Two minutes on handwritten digits": "fpdm train digits --out run --seconds 120",
            "Your own images, one folder per class if there are classes": (
                "fpdm train --data photographs --minutes 30 --out run"
            ),
            "The baseline, a DiT of 28 blocks, on the same images": "fpdm train digits --model dit --out run/dit",
            "What a run would need, before it starts": "fpdm train imagenet-256 --dry-run",
            "On the latents that fpdm prepare has written": "fpdm train --data latents --out run",
        },
    ),
    "train-autoencoder": Entry(
        "Train a small autoencoder for latent diffusion, where no published one suits.",
        {
            "Half an hour on Fashion-MNIST": (
                "fpdm train-autoencoder fashion-mnist --pad 2 --out autoencoder --seconds 1800"
            ),
            "Your own images of 64 x 64 pixels": (
                "fpdm train-autoencoder photographs --size 64 --out autoencoder --seconds 3600"
            ),
        },
    ),
    "import": Entry(
        "Import a DiT or FPDM checkpoint: DiT's own, the FPDM authors' or diffusers'.",
        {
            "The DiT-XL/2 of its authors": "fpdm import DiT-XL-2-256x256.pt --out dit-xl",
            "The same, from the hub": "fpdm import facebook/DiT-XL-2-256 --out dit-xl",
            "A training checkpoint of the FPDM authors' code, with its raw weights": (
                "fpdm import 0100000.pt --weights model --out fpdm-authors"
            ),
        },
    ),
    "sample": Entry(
        "Generate images with a trained model under a budget of block passes.",
        {
            "64 images, of every class in turn": "fpdm sample run --budget 140 --out images",
            "The model that comes with the package": "fpdm sample fpdm-fashion --out images",
            "16 images of one class, with classifier-free guidance": (
                "fpdm sample run --class 7 --num-images 16 --guidance 2 --budget 280 --out sevens"
            ),
            "Few iterations early and many late, with a sampler of second order": (
                "fpdm sample run --allocation increasing --sampler dpmsolver++ --out images"
            ),
        },
    ),
    "tune": Entry(
        "Search the best plan of a model for a budget, and keep it beside the model.",
        {
            "For 140 block passes": "fpdm tune run --budget 140",
            "For two budgets, between which plans are interpolated": "fpdm tune run --budget 140 --budget 560",
            "A model without a record of its images, in a third of the time": (
                "fpdm tune saved --data fashion-mnist --candidates 24 --num-images 540"
            ),
        },
    ),
    "compare": Entry(
        "Compare runs at the same budgets, from the same noise, and report which is better.",
        {
            "An FPDM and a DiT at three budgets": ("fpdm compare run/fpdm run/dit --budgets 140 280 560 --out report"),
            "With two samplers, on more images": (
                "fpdm compare run/fpdm run/dit --samplers ddim dpmsolver++ \\\n    --num-images 5000 --out report"
            ),
            "The page of a finished comparison again": "fpdm compare --redraw report",
        },
    ),
    "reference": Entry(
        "Compute reference statistics from images, for fpdm evaluate.",
        {
            "Of a folder of images": "fpdm reference photographs --size 256 --out reference.npz",
            "Of the test images of Fashion-MNIST": ("fpdm reference fashion-mnist --split test --out reference.npz"),
        },
    ),
    "evaluate": Entry(
        "Measure the FID of a run against reference statistics.",
        {
            "FID of 50,000 images": "fpdm evaluate run --reference reference.npz --budget 560 --out fid",
            "A first idea, of 5,000 images": (
                "fpdm evaluate run --reference reference.npz --num-images 5000 --out fid-5k"
            ),
            "On four GPUs": (
                "accelerate launch --num_processes 4 -m fpdm evaluate run \\\n    --reference reference.npz --out fid"
            ),
        },
    ),
    "reproduce": Entry(
        "Reproduce the paper's tables and figures at a small size.",
        {
            "One table": "fpdm reproduce table1 --out reproduction",
            "Everything": "fpdm reproduce all --out reproduction",
            "A trial of the code in minutes": "fpdm reproduce table1 figure5 --quick --out trial",
        },
    ),
    "inspect": Entry(
        "Show what a model predicts over timesteps and iterations, where it converges, and what its images resemble.",
        {
            "Eight images, of all classes in turn": "fpdm inspect run --out inspection",
            "The model that comes with the package, beside its training images": (
                "fpdm inspect fpdm-fashion --data fashion-mnist --out inspection"
            ),
            "30 iterations of each solve, from a cold start": (
                "fpdm inspect run --columns 30 --no-reuse --out inspection"
            ),
        },
    ),
    "describe": Entry(
        "Show a model's cost by part, what it was trained on, and the plans that it takes.",
        {
            "The FPDM of the paper": "fpdm describe fpdm-xl/2",
            "Its baseline": "fpdm describe dit-xl/2",
            "With more iterations at each timestep": "fpdm describe fpdm-xl/2 --iterations 26",
            "A run of yours, and what it was trained on": "fpdm describe run",
        },
    ),
    "demo": Entry(
        "Open a page on this machine that shows what a budget does.",
        {
            "The model that comes with the package": "fpdm demo",
            "A model of your own": "fpdm demo run",
            "Two models, from the same noise": "fpdm demo run/fpdm --against run/dit",
        },
    ),
    "export": Entry(
        "Export a model as ONNX graphs whose depth is still a choice, for any runtime.",
        {
            "The model that comes with the package": "fpdm export fpdm-fashion --budget 140 --out fashion-onnx",
            "With weights of 8 bits, a third of the size": "fpdm export run --weights int8 --out run-onnx",
        },
    ),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0 done, 2 the user's mistake, 3 the run cannot go on, 128 + signal."""
    words = [*(sys.argv[1:] if argv is None else argv)]
    with warnings.catch_warnings(), _Streams() as streams:
        warnings.simplefilter("always", RuntimeWarning)
        warnings.showwarning = functools.partial(_show_warning, set())
        try:
            _run(words)
            streams.check()
            _leave_process_group()
            return OK
        except KeyboardInterrupt:
            _tell("stopped")
            return 130
        except Exception as error:
            if "--debug" in words:
                raise
            code = _report(error)
            if code > 128:  # by a signal, which all processes leave at
                _leave_process_group()
            return code


class _Stream(io.FileIO):
    """A standard stream that stops nothing when it cannot be written to: the work goes on, and the end says so."""

    error: OSError | None = None

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError as error:  # a full disk, a pipe that was closed, a terminal that is gone
            self.error = error
            return len(data)


class _Streams:
    """Standard streams that may be closed, full or in no encoding; those that a caller has replaced stay."""

    def __enter__(self) -> _Streams:
        for number in range(3):  # a file of ours that took a closed stream's number would get what libraries print
            try:
                os.fstat(number)
            except OSError:
                os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
        self._before = sys.stdout, sys.stderr
        self._output = _Stream(1, "w", closefd=False)
        if sys.stdout is None or sys.stdout is sys.__stdout__:
            sys.stdout = _text(self._output, sys.stdout)
        if sys.stderr is None or sys.stderr is sys.__stderr__:
            sys.stderr = _text(_Stream(2, "w", closefd=False), sys.stderr)
        return self

    def __exit__(self, *_: object) -> None:
        sys.stdout.flush()
        sys.stdout, sys.stderr = self._before

    def check(self) -> None:
        """Write out what is still in memory.

        Raises:
            RunError: It cannot be written, though not because its reader has seen enough, as `| head` does.
        """
        sys.stdout.flush()
        if self._output.error is not None and not isinstance(self._output.error, BrokenPipeError):
            raise RunError(f"the standard output cannot be written: {self._output.error.strerror}")


def _text(stream: _Stream, like: TextIO | None) -> TextIO:
    encoding = "utf-8" if like is None else like.encoding
    return io.TextIOWrapper(io.BufferedWriter(stream), encoding, errors="backslashreplace", line_buffering=True)


def _run(words: list[str]) -> None:
    rest = [word for word in words if word != "--debug"]
    for word in rest:
        if not word.isascii() and any(
            "\ud800" <= one <= "\udfff" for one in word
        ):  # bytes that Python could not decode
            raise ValueError(f"{word!r} is no text in UTF-8; give the file or folder another name, or a link to it")
    try:
        os.getcwd()
    except FileNotFoundError:
        raise ValueError("the working folder is gone; change to another one") from None
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
        json = bound.arguments.get("json")
        print(result.to_json() if json else "\n".join(map(printable, result.to_text().split("\n"))))


def application() -> Any:
    """Make the cyclopts application, without importing any command."""
    from cyclopts import App, Group
    from rich.console import Console

    examples = "\n".join(next(iter(entry.examples.values())) for entry in COMMANDS.values())
    app = App(
        name="fpdm",
        help="Fixed Point Diffusion Models: train them, sample them under a budget, compare them with DiT.",
        help_epilogue=f"Examples:\n\n{examples}\n\nfpdm COMMAND --help explains every option.",
        help_format="plaintext",
        group_arguments=Group("Arguments", sort_key=-2),
        version=f"fpdm {__version__}",
        console=Console(),
    )
    for position, (name, entry) in enumerate(COMMANDS.items()):
        function = f"{name.replace('-', '_')}{'_' if keyword.iskeyword(name) else ''}"
        path = f"fpdm.commands.{function}:{function}"
        app.command(path, name=name, help=entry.summary, sort_key=position, help_epilogue=entry.epilogue())
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
            _tell(message)
        return error.exit_code
    if isinstance(error, ValueError):
        _tell(message)
        return MISTAKE
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        _tell(f"cannot write{f' {error.filename}' if error.filename else ''}: {error.strerror}")
        return FAILED
    if isinstance(error, OSError) and error.filename is not None:
        _tell(f"{os.fsdecode(error.filename)}: {error.strerror}")
        return MISTAKE
    if isinstance(error, OSError) and error.strerror and error.errno != errno.ENOMEM:
        _tell(f"the system says: {error.strerror}")
        return FAILED
    short = ("out of memory", "not enough memory", "allocate memory")  # CUDA and MPS, the CPU, the system
    if isinstance(error, MemoryError) or any(word in message.lower() for word in short):
        _tell(f"out of memory: use a smaller batch or a smaller model{f' ({message})' if message else ''}")
        return FAILED
    _tell(f"{type(error).__name__}: {message}", " (--debug shows where; this is a fault of fpdm's)")
    return FAILED


def _tell(message: str, ending: str = "") -> None:
    """Print one line on stderr, short enough to be read, in which nothing is left for a terminal to interpret."""
    text = printable(f"fpdm: {message}")
    print(shorten(text, LINE - len(ending)) + ending, file=sys.stderr)


def _show_warning(shown: set[str], message: Warning | str, *_: Any, **__: Any) -> None:
    text = " ".join(str(message).split())
    if text not in shown:
        shown.add(text)
        _tell(f"warning: {text}")


def _no_command(words: list[str]) -> str:
    see = f"expected {', '.join(COMMANDS)}; see fpdm --help"
    if not words:
        return f"a command is missing; {see}"
    return f"there is no command {words[0]!r}{did_you_mean(words[0], COMMANDS) or f'; {see}'}"


if __name__ == "__main__":
    sys.exit(main())
