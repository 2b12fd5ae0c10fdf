"""The report of a comparison: one self-contained page, and its figures beside it.

A section is a function in `SECTIONS`; a figure is a function in the tuple of figures of its section.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from fpdm.compare.report_models import convergence_section, models_section, settings_section, training_section
from fpdm.compare.report_results import answer_section, quality_section, results_section
from fpdm.compare.report_view import LEVEL, REAL, View
from fpdm.compare.results import Comparison
from fpdm.drawing.figures import FigureWriter
from fpdm.drawing.page import Block, Bullets, Code, Group, Page, Paragraph, Section, Table
from fpdm.drawing.sheets import Sheet
from fpdm.drawing.text import listing
from fpdm.evaluation.measures import MEASURES
from fpdm.files import write_atomically
from fpdm.sampling.timesteps import PHI

FILE = "report.html"


def write_report(comparison: Comparison, sheets: Sequence[Sheet], out: Path, strip: Sheet | None = None) -> Path:
    """Write `report.html`, which needs no other file, and its figures and sheets as PNGs beside it.

    Args:
        comparison: The results; at least one model and one row.
        sheets: Images to show, in this order. The PNG of a sheet is named after its title up to a colon.
        out: The folder; created if needed.
        strip: Images to show beside the answer.

    Returns:
        The path of the page.
    """
    assert comparison.models
    assert comparison.rows
    out.mkdir(parents=True, exist_ok=True)
    view, figures = View(comparison, sheets, strip), FigureWriter(out)
    sections = [section(view, figures) for section in SECTIONS]
    page = Page(_title(view), "", [section for section in sections if section.blocks])
    write_atomically(out / FILE, page.html())
    return out / FILE


def samples_section(view: View, figures: FigureWriter) -> Section:
    """Show sheets of samples."""
    return Section("Samples", figures.sheets(view.sheets))


def reading_section(view: View, figures: FigureWriter) -> Section:
    """Explain how to read the report and how to repeat the comparison."""
    comparison = view.comparison
    blocks: list[Block] = [Bullets(_explanations(view))]
    if comparison.command:
        blocks += [Paragraph("This command made the comparison:"), Code(comparison.command)]
    if comparison.versions:
        rows = [[name, version] for name, version in comparison.versions.items()]
        blocks.append(Table("Made with", ["what", "version"], [Group(rows)], words=["version"]))
    return Section("How to read and repeat this", blocks)


SECTIONS: tuple[Callable[[View, FigureWriter], Section], ...] = (
    answer_section,
    quality_section,
    samples_section,
    results_section,
    models_section,
    convergence_section,
    training_section,
    settings_section,
    reading_section,
)
"""The sections of the report, in order. A section without blocks is left out."""


def _title(view: View) -> str:
    what = view.names[0] if len(view.names) == 1 else f"{len(view.names)} models compared"
    data = Path(view.comparison.data)
    return f"{what} on {(data.is_absolute() and data.name) or view.comparison.data}"  # the folders above it say nothing


def _what_was_measured(view: View) -> str:
    images = listing([f"{count:,}" for count in sorted({row.images for row in view.rows})])
    budgets = listing([f"{budget:,}" for budget in view.budgets])
    return (
        f"{images} generated images per result against {view.comparison.reference}, at {budgets} block passes per "
        f"image with {listing(view.samplers)}."
    )


def _explanations(view: View) -> list[tuple[str, str]]:
    samplers = (
        "Samplers",
        "have separate tables. Where the answer shows the best sampler of each model, it was chosen on the validation "
        "images, like the plans.",
    )
    return [
        ("Measured:", _what_was_measured(view)),
        (
            "Distances",
            "are Fréchet distances between Gaussians fitted to the features of the generated images and of "
            f"{view.comparison.reference}. The features are {view.comparison.features}. This is not FID, which uses "
            "Inception features and 50,000 images, so compare the values with one another and with the floor, not with "
            "papers.",
        ),
        (
            "The floor",
            f"is the value of {REAL}, {view.real_count}: about as low as a model can get. With few images the distance "
            "is biased upwards, and so is the floor.",
        ),
        (
            "Intervals",
            f"are {LEVEL} bootstrap intervals over the generated images. They do not cover the training: each model "
            "was trained once, with one seed, and another seed may move a model by more than its interval.",
        ),
        (
            "Plans",
            "(timestep grid, iterations, allocation, reuse) were chosen for each model and budget on validation "
            "images, with other noise than the reported images. The tables say how many were tried. "
            f"{PHI[0].upper()}{PHI[1:]}.",
        ),
        *([samplers] if len(view.samplers) > 1 else []),
        (
            "The same noise and classes",
            "were used for every result: the first image of each model starts from the same noise.",
        ),
        (
            "A block pass",
            "is one transformer block applied once to one image. The cost of a pass differs between models, so the "
            "tables also give multiply-accumulates (MACs), which count everything, guidance included."
            + (f" Seconds were measured on the machine below ({view.seconds_of})." if view.timed else ""),
        ),
        *(measure.explanation for measure in MEASURES if measure.explanation),
    ]
