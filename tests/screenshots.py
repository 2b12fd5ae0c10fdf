"""Make the screenshots of the documentation: `python -m tests.screenshots docs/images [PAGE]`.

PAGE is the built page of examples/browser (default: its `dist` folder). Needs Chromium.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from PIL import Image

from fpdm import FPDMPipeline
from tests.browser import served, visit
from tests.demo.visits import shown, wait_for

LOOKS = [(1280, False), (390, True)]  # desktop and phone, light and dark
COLOURS = 96  # of a PNG, which makes it small


def save(view: Any, name: str, out: Path) -> None:
    path = out / f"{name}.png"
    view.screenshot(path=path, full_page=True)
    with Image.open(path) as image:
        small = image.convert("RGB").quantize(COLOURS)
    small.save(path, optimize=True)


def main(out: Path, page: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
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
    default = Path(__file__).parents[1] / "examples" / "browser" / "dist"
    main(Path(sys.argv[1]), Path(sys.argv[2]) if sys.argv[2:] else default)
