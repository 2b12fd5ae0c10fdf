"""The documentation site, made by `make docs`: the Markdown pages of the repository, and the API from the docstrings.

Its source is the whole repository, so that a relative link means the same here and on GitHub. A link to a page that is
listed below leads to it, a link to any other file downloads it, and a link to a folder leads to its README.
"""

import re
import shutil
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

import fpdm

ROOT = Path(__file__).parents[1]

project = "fpdm"
author = "The fpdm authors"
version = release = fpdm.__version__
root_doc = "README"
include_patterns = ["*.md", "docs/**", "results/**/README.md", "examples/*/README.md", "src/fpdm/shipped/*/README.md"]
exclude_patterns = [".*", "**/.*", "docs/_build", "docs/templates", "results/reproduction/work", "**/node_modules"]
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx.ext.napoleon"]

CONTENTS = {
    "Use it": {
        "Start here": "README",
        "Installation": "docs/installation",
        "Your own images": "docs/own-images",
        "The pipeline": "docs/pipeline",
        "Which knob when": "docs/knobs",
        "Plans and tuning": "docs/tuning",
        "Export to ONNX": "docs/export",
        "What goes wrong": "docs/faults",
    },
    "What it is": {
        "From the paper to the code": "docs/method",
        "The paper, reproduced": "docs/reproduction",
        "Which model to take": "docs/choosing",
        "Evaluation": "docs/evaluation",
        "Performance": "docs/performance",
    },
    "Large models": {"Full size": "docs/full-size", "Foreign checkpoints": "docs/importing"},
    "For developers": {"API": "docs/api", "Contributing": "CONTRIBUTING", "Changelog": "CHANGELOG"},
    "Records": {
        "Quickstart": "results/quickstart/README",
        "Fashion-MNIST": "results/fashion-mnist/README",
        "Fashion-MNIST in latents": "results/fashion-latents/README",
        "Self-guidance": "results/self-guidance/README",
        "Search for a plan": "results/tuning/README",
        "Warm starts": "results/warm-start/README",
        "Own folders": "results/own-folders/README",
        "Photos": "results/photos/README",
        "Boards": "results/boards/README",
        "Full size on a CPU": "results/full-size/README",
        "Reproduction": "results/reproduction/README",
    },
}
"""The navigation: captions, and the pages below each, by short titles."""

RECORD = """
```{note}
This is a record. The commands on this page made its figures; they take from minutes to days, and no test repeats them.
```
"""
"""What stands below the title of a page of results/."""

myst_heading_anchors = 4
default_role = "code"
templates_path = [str(ROOT / "docs" / "templates")]
autodoc_typehints_format = "short"
autodoc_member_order = "bysource"
autosummary_ignore_module_all = False
napoleon_numpy_docstring = False
napoleon_custom_sections = [("Attributes", "params_style")]
python_maximum_signature_line_length = 110

html_theme = "furo"
html_title = f"fpdm {version}"
html_copy_source = html_show_sourcelink = html_show_copyright = False


def _contents() -> str:
    text = ""
    for caption, pages in CONTENTS.items():
        lines = [f"{title} <{'self' if page == root_doc else f'/{page}'}>" for title, page in pages.items()]
        text += "\n".join(["", "```{toctree}", ":hidden:", f":caption: {caption}", "", *lines, "```", ""])
    return text


def _read(app: Sphinx, page: str, source: list[str]) -> None:
    folder = (ROOT / page).parent

    def lead(link: re.Match[str]) -> str:
        place = folder / link["place"]
        if not place.is_dir():
            return link[0]
        return f"[{link['text']}]({link['place']}/README.md)" if (place / "README.md").exists() else link["text"]

    source[0] = re.sub(r"(?<!!)\[(?P<text>[^\[\]]*)\]\((?P<place>[^()\s#:]+)\)", lead, source[0])
    if page.startswith(("results", "examples", "src")):
        app.env.metadata[page]["orphan"] = "other pages lead to it"  # of docs/, the navigation has all
    if page.startswith("results"):
        source[0] = re.sub(r"^# .*\n", lambda title: title[0] + RECORD, source[0], count=1, flags=re.MULTILINE)
    if page == root_doc:
        source[0] += _contents()


def _for_all_readers(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: object) -> None:
    """Add what Sphinx and its theme leave out: a level of each heading, and what is wide can be scrolled by keys."""
    tree = context.get("furo_navigation_tree", "")
    context["furo_navigation_tree"] = tree.replace('role="heading"', 'role="heading" aria-level="2"')
    context["body"] = re.sub(r'<(?=pre>|div class="table-wrapper )(\w+)', r'<\1 tabindex="0"', context.get("body", ""))


def _finish(app: Sphinx, error: Exception | None) -> None:
    if error is None:
        shutil.copy(app.outdir / f"{root_doc}.html", app.outdir / "index.html")


def setup(app: Sphinx) -> None:
    """Connect what this site adds to Sphinx."""
    app.connect("source-read", _read)
    app.connect("html-page-context", _for_all_readers, priority=900)  # after the theme
    app.connect("build-finished", _finish)
