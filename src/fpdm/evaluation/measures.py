"""All measures of a comparison. A new measure is a file beside this one and an entry here."""

from __future__ import annotations

from fpdm.evaluation.frechet import FRECHET
from fpdm.evaluation.kid import KID
from fpdm.evaluation.measure import Measure
from fpdm.evaluation.nearest import NOVELTY
from fpdm.evaluation.precision_recall import PRECISION_RECALL

MEASURES: tuple[Measure, ...] = (FRECHET, KID, PRECISION_RECALL, NOVELTY)
