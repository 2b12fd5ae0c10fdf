"""The page of `fpdm demo`, served for a test."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from fpdm.demo.page import launch, make_page


@contextlib.contextmanager
def shown(*pipes: Any) -> Iterator[str]:
    """Serve the page of one or two models; yields its address."""
    page = make_page(*pipes)
    address = launch(page, block=False)
    try:
        yield address
    finally:
        page.close()


def wait_for(view: Any, state: str) -> None:
    """Wait until the page says that it is in a state."""
    view.wait_for_function(f"document.querySelector('#state input, #state textarea').value === '{state}'")


def slide(view: Any, name: str, value: float) -> None:
    """Move a slider by its number."""
    box = view.locator(f"#{name} input[type=number]")
    box.fill(str(value))
    box.press("Enter")
    box.blur()
