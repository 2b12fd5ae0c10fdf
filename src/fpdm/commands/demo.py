"""`fpdm demo`: a web page on this machine."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge, Le

MAIN_OPTIONS = ("against", "host", "port")


def demo(
    run: str = "fpdm-fashion", *, against: str = "", host: str = "127.0.0.1", port: Annotated[int, Ge(0), Le(65535)] = 0
) -> None:
    """Open a page on this machine that shows what a budget does.

    Two ways to spend it, or two models, draw side by side from the same noise. The page loads nothing from elsewhere
    and sends nothing anywhere. It needs gradio: pip install 'fpdm[demo]'.

    Args:
        run: Folder written by fpdm train or fpdm import, folder written by FPDMPipeline.save_pretrained, name of a
            model that comes with the package, or name of such a model on the hub.
        against: A second model to compare it with, of the same images and classes (default: two plans of the first).
        host: Address to listen at. Others can reach the page only if it is not 127.0.0.1.
        port: Port to listen at; 0 for the first free one from 7860.
    """
    from fpdm.demo.page import check_installed, launch, make_page

    check_installed()
    from fpdm.pipeline import FPDMPipeline

    first = FPDMPipeline.from_pretrained(run)
    launch(make_page(first, FPDMPipeline.from_pretrained(against) if against else None), host=host, port=port)
