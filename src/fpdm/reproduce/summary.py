"""The whole reproduction on one page: every claim of the paper, and what came of it here."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fpdm.reproduce.pages import TRIAL, StudyRecord, claims_table, read_floors, read_record, state
from fpdm.reproduce.scale import Scale
from fpdm.reproduce.study import Measurements, Page, Study, Verdict

WORDS = """\
*holds*: the paper's order is found and the 95 % intervals do not meet, or a number is reached. *holds in part*: the
order is found, but the intervals meet, or it is found for a part only. *does not hold here*: otherwise. An interval
covers the bootstrap over images of every training seed. Distances are Fréchet distances in the features of a small
classifier that is trained on the same data, so they compare with each other and not with the paper's FID."""


@dataclass(frozen=True)
class Answer:
    """A study, and what came of it.

    Attributes:
        study: The study.
        record: Its record; None if nothing is measured.
        page: Its page, made from the record.
    """

    study: Study
    record: StudyRecord | None
    page: Page

    @property
    def state(self) -> str:
        """A sentence on what is missing; empty if nothing is."""
        return state(self.record) if self.record else "Not measured yet."


def read_answers(out: Path, scale: Scale, studies: Sequence[Study]) -> list[Answer]:
    """Read the records of studies and make their pages.

    Raises:
        ValueError: A record is damaged.
    """
    floors, answers = read_floors(out), []
    for study in studies:
        record = read_record(out, study)
        found = Measurements(record.cells, record.findings, floors) if record else Measurements([], {})
        answers.append(Answer(study, record, study.page(scale, found)))
    return answers


def counted(answers: Sequence[Answer]) -> str:
    """Count the claims by verdict, in a sentence."""
    counts = Counter(claim.verdict for one in answers for claim in one.page.claims)
    said = [f"{count} {_PLURALS[one] if count > 1 else one}" for one in _PLURALS if (count := counts[one])]
    return f"Of {counts.total()} claims, {', '.join(said)}."


_PLURALS: dict[Verdict, str] = {
    "holds": "hold",
    "holds in part": "hold in part",
    "does not hold here": "do not hold here",
    "not measured": "not measured",
}


def summary(scale: Scale, answers: Sequence[Answer], *, links: str = "") -> str:
    """Return the page in Markdown, made from the records of the studies alone.

    Args:
        scale: The scale of the reproduction.
        answers: What came of its studies.
        links: Its folder as seen from the page, with a slash at its end; empty for the folder itself.
    """
    sections = []
    for one in answers:
        study, record = one.study, one.record
        title = f"## [{study.title}]({links}{study.name}/README.md)" if record else f"## {study.title}"
        sections += [title, one.state, claims_table(one.page.claims)]
    parts = [
        "# The paper, reproduced in miniature",
        f"**{TRIAL}**" if scale.name == "quick" else "",
        counted(answers),
        setting(scale),
        WORDS,
        *sections,
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def setting(scale: Scale) -> str:
    """Say how everything was trained and measured."""
    data = "Fashion-MNIST as latents of 8 x 8 x 4" if scale.on_latents else "digits as pixels"
    return (
        f"All models: {data}, width {scale.width}, {scale.heads} heads, batches of {scale.batch_size}, "
        f"{scale.macs:.3g} multiply-accumulates of training ({scale.ablation_macs:.3g} in ablations), learning rate "
        f"{scale.dit_rate:g} for DiT and {scale.fpdm_rate:g} for FPDM, falling to zero over the last fifth; seeds of "
        f"training {', '.join(map(str, scale.seeds))}; {scale.images:,} images a cell in Table 1, "
        f"{scale.fewer_images:,} elsewhere. Sampling plans are chosen on validation images and reported on test images "
        "with fresh noise."
    )


if __name__ == "__main__":
    from fpdm.reproduce.reproduction import STUDIES
    from fpdm.reproduce.scale import FULL

    folder = Path(sys.argv[1])
    found = read_answers(folder, FULL, [*STUDIES.values()])
    sys.stdout.write(summary(FULL, found, links=f"../{folder}/"))
