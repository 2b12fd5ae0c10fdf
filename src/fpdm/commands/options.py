"""Command-line options from the signature of a function, with cyclopts.

A parameter before the `*` is an argument, one after it an option; the help is its line under `Args:`. A configuration
becomes a group of options, one for each field, and checks its own values. Those of the other options are checked here,
against their annotations. The parameters `line` and `given` are no options: they are the command line, and the options
in it by name.

This module adds what cyclopts lacks: fields whose defaults come from an instance rather than from the class, defaults
that depend on other options (those of `fpdm train` are the recipe's), and errors in one line of our form.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
import sys
import textwrap
import time
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple, Protocol

import docstring_parser
from cyclopts import App, Argument, CycloptsError, Group, Parameter, Token, convert
from cyclopts.exceptions import CoercionError, MissingArgumentError, UnknownOptionError, UnusedCliTokensError

from fpdm.configuration import bare, check
from fpdm.errors import did_you_mean

QUIET: Any = {"print_error": False, "exit_on_error": False}
MANNERS: Any = {"show_default": False, "consume_multiple": True, "negative_iterable": (), "allow_repeating": True}
EXPECTED = {int: "an integer", float: "a number", tuple[int, ...]: "integers", tuple[float, ...]: "numbers"}
COMMON = {"json": "Print the result as JSON, and nothing else, on stdout.", "debug": "Show the traceback of an error."}
MAIN = Group("Main options", sort_key=0)
OTHERS = Group("Other options", sort_key=1000)

# What DiT, diffusers, EDM and others call it. Of a command that has several of ours, the first counts.
OTHER_WORDS = {
    "out": "output output-dir output-path outdir out-dir o logdir log-dir results-dir save-dir save-path "
    "resume resume-from resume-from-checkpoint",
    "data": "dataset dataset-path data-path data-dir data-folder train-data-dir train-dir image-folder images",
    "IMAGES": "dataset dataset-path data data-path data-dir data-folder image-folder input",
    "DATA": "dataset dataset-path data-path data-dir data-folder train-data-dir train-dir image-folder images input",
    "RUN": "checkpoint ckpt ckpt-path checkpoint-path model model-path pretrained weights resume load run",
    "CHECKPOINT": "ckpt ckpt-path checkpoint-path model model-path pretrained input",
    "init-from": "checkpoint ckpt ckpt-path checkpoint-path pretrained pretrained-model-name-or-path init teacher load",
    "RECIPE": "config config-path cfg-path",
    "learning-rate": "lr rate",
    "warmup": "lr-warmup-steps warmup-steps warmup-iters lr-warmup",
    "decay": "lr-scheduler lr-schedule lr-decay",
    "mixed-precision": "fp16 bf16 amp half dtype precision",
    "dry-run": "dry dryrun plan estimate",
    "steps": "epochs n-epochs num-epochs num-train-epochs max-epochs num-steps max-steps max-train-steps train-steps",
    "size": "resolution image-size img-size res image-resolution",
    "batch-size": "batch bs train-batch-size global-batch-size eval-batch-size batch-gpu per-gpu-batch-size",
    "accumulate": "gradient-accumulation-steps grad-accum grad-accum-steps accum-iter",
    "activation-checkpointing": "gradient-checkpointing grad-checkpointing grad-checkpoint checkpointing",
    "clip-norm": "max-grad-norm grad-clip clip-grad clip-grad-norm gradient-clip-val",
    "weight-decay": "wd adam-weight-decay",
    "ema-decay": "ema ema-rate ema-beta use-ema",
    "label-dropout": "class-dropout-prob cfg-dropout cond-drop-prob dropout uncond-prob",
    "weighting": "snr-gamma min-snr-gamma loss-weighting",
    "workers": "num-workers dataloader-num-workers jobs num-threads threads nproc",
    "checkpoint-every": "save-every ckpt-every save-steps save-interval checkpointing-steps checkpoint-interval",
    "keep": "checkpoints-total-limit save-total-limit",
    "log-every": "log-interval log-freq logging-steps log-every-n-steps print-freq",
    "validate-every": "eval-every eval-steps eval-freq validation-steps val-every",
    "sample-every": "sample-interval sample-steps sample-freq",
    "tracker": "report-to logger wandb use-wandb tensorboard",
    "seconds": "time max-time max-seconds",
    "minutes": "hours duration",
    "flip": "horizontal-flip random-flip random-horizontal-flip hflip mirror xflip",
    "crop": "center-crop random-crop",
    "no-conditional": "uncond unconditional",
    "model": "depth layers num-layers num-blocks n-layers blocks arch architecture",
    "layers": "num-layers n-layers layers-per-block",
    "width": "hidden-size hidden-dim dim d-model model-dim embed-dim model-channels",
    "heads": "num-heads n-heads attention-heads num-attention-heads",
    "channels": "in-channels num-channels",
    "num-timesteps": "diffusion-steps num-train-timesteps num-diffusion-steps timesteps",
    "prediction": "prediction-type objective parameterization predict",
    "zero-terminal-snr": "zero-snr rescale-betas-zero-snr",
    "guidance": "cfg cfg-scale guidance-scale scale w",
    "sampler": "scheduler sampling-method method",
    "budget": "steps num-steps num-inference-steps num-sampling-steps sampling-steps ddim-steps timesteps nfe",
    "iterations": "iters num-iterations max-iters fp-iters",
    "num-images": "num-samples n-samples num-fid-samples samples images num n count max-samples",
    "class": "classes class-labels class-label class-idx class-cond label labels",
    "autoencoder": "vae vae-path ae first-stage first-stage-model",
    "reference": "ref ref-path reference-stats fid-stats fid-statistics-file dataset-stats stats",
    "overwrite": "force overwrite-output-dir f",
    "seed": "random-seed manual-seed global-seed s",
    "name": "run-name exp-name experiment tag",
}


class Result(Protocol):
    """Interface of the result of a command."""

    def to_text(self) -> str:
        """Describe the result to people."""
        ...

    def to_json(self) -> str:
        """Encode the result as JSON."""
        ...


class Fields(NamedTuple):
    """Annotation of a configuration.

    Attributes:
        without: Its fields that are not options.
        also: Second names of those that are.
        repeatable: Those that may be given several times, each adding values; of others the last counts.
    """

    without: tuple[str, ...] = ()
    also: Mapping[str, str] = {}
    repeatable: tuple[str, ...] = ()


ONE_OF_SEVERAL = {
    "budgets": "budget",
    "samplers": "sampler",
    "grids": "grid",
    "allocations": "allocation",
    "weak_depths": "weak-depth",
}
"""Second names of the options of commands that choose from several plans: those that fpdm sample has for one."""


def add_options(app: App, words: Sequence[str], line: str) -> None:
    """Give the command that `words` begin with its options.

    Of its parameters, `line` becomes the command line, `given` the options that are given, by name, and `started` the
    time by `time.monotonic` at which the command began.

    If the command's module has a function `defaults`, it maps the given options to defaults that depend on them. Its
    `MAIN_OPTIONS` are the options that its help shows first.
    """
    called, rest = app[words[0]], [word for word in words if word not in app.help_flags]
    command: Any = called.default_command
    paragraphs = _documentation(command).split("\n\nArgs:")[0].split("\n\n")
    called.help = "\n\n".join(" ".join(one.split()) for one in paragraphs)  # lines as long as the terminal's
    module = sys.modules[command.__module__]
    values: dict[str, Any] = {"line": line, "started": time.monotonic()}
    defaults, first = getattr(module, "defaults", None), getattr(module, "MAIN_OPTIONS", ())
    if defaults is not None:
        required = [name for name, one in inspect.signature(command).parameters.items() if one.default is one.empty]
        called.default_command, given = _flat(command, {**dict.fromkeys(required), **defaults({})}, first), {}
        try:
            given = app.parse_args(rest, **QUIET)[1].arguments
        except CycloptsError:
            if len(rest) == len(words):  # else help is printed in spite of the mistake
                raise
        values |= defaults(given)
    called.default_command = _flat(command, values, first)


def _flat(command: Callable[..., Any], values: Mapping[str, Any], first: Sequence[str]) -> Callable[..., Any]:
    """Replace each configuration among the parameters by its fields, and add the options of all commands."""
    own, helps = inspect.signature(command, eval_str=True).parameters, _descriptions(command)
    defaults = {name: values.get(name, one.default) for name, one in own.items()}
    options, groups = [], {}
    for name, one in own.items():
        if fields := _fields(one.annotation):
            kind = typing.get_args(one.annotation)[0]
            hints, inner = typing.get_type_hints(kind), _descriptions(kind)
            group = Group(name.replace("_", " ").capitalize(), help=helps[name], sort_key=1 + len(groups))
            groups[name] = [field.name for field in dataclasses.fields(kind) if field.name not in fields.without]
            for key in groups[name]:
                default = getattr(defaults[name], key, one.empty)
                where, also, adds = MAIN if key in first else group, fields.also.get(key, ""), key in fields.repeatable
                options.append(_option(key, hints[key], default, inner[key], where, also, adds=adds))
        elif name not in ("line", "given", "started"):
            where = "Arguments" if one.kind is not one.KEYWORD_ONLY else MAIN if name in first else OTHERS
            options.append(_option(name, one.annotation, defaults[name], helps[name], where))
    options += [_option(name, bool, False, text, OTHERS) for name, text in COMMON.items()]
    places = {name: place for place, name in enumerate(first)}
    options.sort(key=lambda one: (one.kind, places.get(one.name, len(places))))

    def run(*args: Any, **given: Any) -> Any:
        given.update(zip(own, args, strict=False))
        all_given = dict(given)
        for name in own.keys() & given.keys():
            if isinstance(given[name], (int, float)):
                check(name, given[name], own[name].annotation)
        for name, keys in groups.items():
            given[name] = dataclasses.replace(defaults[name], **{key: given.pop(key) for key in keys if key in given})
        if "given" in own:
            given["given"] = all_given
        return command(**{name: given.get(name, default) for name, default in defaults.items()})

    run.__signature__ = inspect.Signature(options)  # type: ignore[attr-defined]
    run.__annotations__ = {one.name: one.annotation for one in options}
    return run


def plan_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of the options that are fields of a `Plan`, without the budget, which may have another unit."""
    from fpdm.sampling.plan import Plan

    return {one.name: given[one.name] for one in dataclasses.fields(Plan) if one.name in given and one.name != "budget"}


def _fields(hint: Any) -> Fields | None:
    """Return the note of a configuration's annotation; None for any other parameter."""
    return next((one for one in getattr(hint, "__metadata__", ()) if isinstance(one, Fields)), None)


def _option(
    name: str, hint: Any, default: Any, text: str, group: Group | str, also: str = "", *, adds: bool = False
) -> inspect.Parameter:
    if default not in (inspect.Parameter.empty, None, ""):  # else the text says what happens
        shown = ("no", "yes")[default] if isinstance(default, bool) else default
        text += f" (default: {' '.join(map(str, default)) or 'none' if isinstance(default, tuple) else shown})"
    alias: Any = f"--{also}" if also else ()
    note = Parameter(alias=alias, group=group, help=text, converter=_convert_all if adds else _convert, **MANNERS)
    hint = bare(hint)  # without its bounds, of which cyclopts would speak in words of its own
    hint = hint | None if default is None else hint  # cyclopts checks defaults where pydantic is there
    kind = inspect.Parameter.POSITIONAL_ONLY if group == "Arguments" else inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(name, kind, default=default, annotation=Annotated[hint, note])


def _convert(hint: Any, tokens: Sequence[Token]) -> Any:
    if tokens[0].keyword:  # of an option that is repeated, the last occurrence counts
        tokens = tokens[max(place for place, token in enumerate(tokens) if token.index == 0) :]
    return _convert_all(hint, tokens)


def _convert_all(hint: Any, tokens: Sequence[Token]) -> Any:
    given = [token.value for token in tokens]
    if hint in (Path, Path | None) and not all(one.strip() for one in given):  # "" would be the working folder
        raise CoercionError(msg=f"{tokens[0].keyword or 'argument'} is empty; expected a path")
    try:
        if hint in (int, tuple[int, ...]):  # which cyclopts would round "1.5" to
            [int(value) for value in given]
        return convert(hint, tokens)
    except (ValueError, CoercionError):
        value, choices = given if len(given) > 1 else given[0], _choices(hint)
        expected = EXPECTED.get(hint) or f"one of {', '.join(choices)}{did_you_mean(given[0], choices)}"
        raise CoercionError(msg=f"{tokens[0].keyword} is {value!r}; expected {expected}") from None


def _choices(hint: Any) -> list[str]:
    """List the values of a `Literal`, or of a tuple of them."""
    inner = typing.get_args(hint)
    return _choices(inner[0]) if typing.get_origin(hint) is tuple else list(map(str, inner))


def _documentation(what: Any) -> str:
    """Return a docstring, from the source where Python was told to drop it (-OO)."""
    if sys.flags.optimize < 2:
        return inspect.cleandoc(what.__doc__ or "")
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(what))).body
    return ast.get_docstring(definition) or ""  # type: ignore[arg-type]  # a function or a class


def _descriptions(what: Any) -> dict[str, str]:
    found = docstring_parser.parse(_documentation(what)).params
    return {one.arg_name: " ".join((one.description or "").split()) for one in found}


def _suggestion(word: str, known: Mapping[str, str]) -> str:
    """Suggest the option that other programs give this name, or that is a slip of the finger away.

    Args:
        word: What was given.
        known: What each option and each argument is for.
    """
    name = word.lstrip("-").replace("_", "-").lower()
    if ours := [one if one.isupper() else f"--{one}" for one, others in OTHER_WORDS.items() if name in others.split()]:
        # If the command has none of them, what is near would mean something else.
        return next((f"; did you mean {one} ({known[one]})?" for one in ours if one in known), "")
    if (plain := f"--{name.removeprefix('no-')}") in known:
        return f"; did you mean {plain}?"
    near = [one for one in known if one[:3] == word[:3] or one[3:] == word[2:] or sorted(one) == sorted(word)]
    return did_you_mean(word, near, cutoff=0.83)


def _purpose(argument: Argument) -> str:
    """Return the first sentence of an option's help."""
    return re.split(r"\.(?= \(| [A-Z]|$)", argument.parameter.help or "")[0]


def explain(error: CycloptsError) -> str:
    """Say in one line what is wrong with the command line."""
    see, argument = f"; see {' '.join(['fpdm', *(error.command_chain or ())])} --help", error.argument
    if isinstance(error, UnknownOptionError):
        word = error.token.keyword or error.token.value
        known = {name: _purpose(one) for one in error.argument_collection for name in one.names}
        return f"unknown argument {word}{_suggestion(word, known) or see}"
    if isinstance(error, UnusedCliTokensError) and error.unused_tokens:
        return f"unexpected argument {error.unused_tokens[0]!r}{see}"
    if isinstance(error, CoercionError) and error.target_type is bool and error.token is not None:
        return f"{error.token.keyword} takes no value, but has {error.token.value!r}; leave the value out"
    if isinstance(error, MissingArgumentError) and argument is not None:
        return (
            f"{error.keyword} has no value"
            if error.keyword
            else f"{argument.name} is missing ({_purpose(argument)}){see}"
        )
    return " ".join(str(error).split())
