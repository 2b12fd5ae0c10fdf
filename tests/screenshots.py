"""Make the screenshots of the documentation: `python -m tests.screenshots docs/images [PAGE] [SITE]`.

PAGE is the built page of examples/browser (default: its `dist` folder), SITE the folder of `make docs` (default:
docs/_build). Needs Chromium.
"""

from __future__ import annotations

import itertools
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image

from fpdm import FPDMPipeline
from fpdm.compare.comparison import redraw
from tests.browser import served, visit
from tests.demo.visits import shown, wait_for

ROOT = Path(__file__).parents[1]
LOOKS = [(1280, False), (390, True)]  # desktop and phone, light and dark
COLOURS = 96  # of a PNG, which makes it small


def save(view: Any, name: str, out: Path, *, whole: bool = True, colours: int = COLOURS) -> None:
    path = out / f"{name}.png"
    view.screenshot(path=path, full_page=whole)
    with Image.open(path) as image:
        small = image.convert("RGB").quantize(colours)
    small.save(path, optimize=True)


def save_report(out: Path) -> None:
    """The page of a recorded comparison, down to its plot."""
    with tempfile.TemporaryDirectory() as folder:
        for name in ("compare.json", "images.png"):
            shutil.copy(ROOT / "results" / "fashion-mnist" / "compare" / name, folder)
        redraw(Path(folder))
        with served(Path(folder)) as address:
            for width, dark in itertools.product((1280, 390), (False, True)):
                with visit(f"{address}report.html", width=width, height=1250, dark=dark) as found:
                    save(found.page, f"report-{width}-{'dark' if dark else 'light'}", out, whole=False, colours=256)


def main(out: Path, page: Path, site: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    save_report(out)
    with served(site) as address:
        for width, dark in itertools.product((1280, 390), (False, True)):
            with visit(address, width=width, dark=dark) as found:
                save(found.page, f"docs-{width}-{'dark' if dark else 'light'}", out, whole=False)
    with served(page) as address:
        for width, dark in LOOKS:
            with visit(address, width=width, dark=dark) as found:
                view = found.page
                view.wait_for_function("document.getElementById('status').textContent === 'Ready.'")
                view.select_option("#label", "9")
                view.fill("#seed", "3")
                view.click("#go")
                view.wait_for_function("document.getElementById('status').textContent === 'Done.'")
                save(view, f"browser-{width}-{'dark' if dark else 'light'}", out)
    with shown(FPDMPipeline.from_pretrained("fpdm-fashion")) as address:
        for width, dark in LOOKS:
            with visit(address, width=width, dark=dark) as found:
                found.page.click("#draw")
                wait_for(found.page, "done")
                found.page.wait_for_timeout(1000)  # until the pictures are there
                save(found.page, f"demo-{width}-{'dark' if dark else 'light'}", out)


if __name__ == "__main__":
    given = [*map(Path, sys.argv[2:])]
    main(Path(sys.argv[1]), *given, *[ROOT / "examples" / "browser" / "dist", ROOT / "docs" / "_build"][len(given) :])
