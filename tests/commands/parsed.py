"""What a command receives from a command line, without running it."""

from __future__ import annotations

import functools
from typing import Any

from cyclopts import App

from fpdm.cli import application
from fpdm.commands.options import QUIET, add_options


def values(name: str, *words: str, line: str = "", app: App | None = None) -> dict[str, Any]:
    """The arguments that the function of the command `name` would be called with."""
    app = app or application()
    command: Any = app[name].default_command
    app[name].default_command = functools.wraps(command)(lambda **given: given)
    add_options(app, [name, *words], line)
    called, bound, _ = app.parse_args([name, *words], **QUIET)
    return called(*bound.args, **bound.kwargs)


def option_names(name: str) -> dict[str, tuple[str, ...]]:
    """All names of each option of a command, by parameter or field."""
    app = application()
    add_options(app, [name], "")
    return {one.field_info.name: one.names for one in app[name].assemble_argument_collection()}
