"""What axe-core finds wrong with a page in Chromium: faults that keep people from using it.

axe-core comes from npm, as `accessibility/package-lock.json` has it.
"""

from __future__ import annotations

import functools
import itertools
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest

LOCK = Path(__file__).parent / "accessibility"
GRAVE = ("serious", "critical")


@functools.cache
def _script() -> str:
    """axe-core; skips the test where there is no npm."""
    if shutil.which("npm") is None:
        pytest.skip("there is no npm, which axe-core comes from")
    with tempfile.TemporaryDirectory() as folder:
        for name in ("package.json", "package-lock.json"):
            shutil.copy(LOCK / name, folder)
        subprocess.run(["npm", "ci", "--no-audit", "--no-fund"], cwd=folder, check=True, capture_output=True)
        return (Path(folder) / "node_modules" / "axe-core" / "axe.min.js").read_text(encoding="utf-8")


def violations_in_all_looks(view: Any) -> list[str]:
    """The grave faults of a page with all its folds open, on a desktop and a phone, light and dark."""
    view.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    found = []
    for width, scheme in itertools.product((1280, 390), ("light", "dark")):
        view.set_viewport_size({"width": width, "height": 900})
        view.emulate_media(color_scheme=scheme)
        found += [f"{width} px, {scheme}: {one}" for one in violations(view)]
    return found


def violations(view: Any) -> list[str]:
    """The grave faults of a page as it is now: the rule, and the first elements that break it."""
    view.evaluate(_script())
    found = view.evaluate("axe.run({resultTypes: ['violations']})")["violations"]
    return [
        f"{one['id']} ({one['impact']}), {len(one['nodes'])} times: {one['help']}: "
        + "; ".join(f"{node['html'][:160]}: {node['failureSummary']}" for node in one["nodes"][:3])
        for one in found
        if one["impact"] in GRAVE
    ]
