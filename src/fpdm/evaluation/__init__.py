"""Measures of generated images against real ones, and the features that they are taken in."""

from fpdm.evaluation.bootstrap import Interval
from fpdm.evaluation.evaluator import Evaluator
from fpdm.evaluation.extractor import Extractor, extractor
from fpdm.evaluation.features import Features
from fpdm.evaluation.frechet import GaussianStatistics, frechet_distance, frechet_interval
from fpdm.evaluation.kid import kernel_distance, kernel_interval
from fpdm.evaluation.nearest import Nearest, nearest
from fpdm.evaluation.networks import AutoencoderNetwork, ClassifierNetwork, ExtractorSettings
from fpdm.evaluation.precision_recall import PrecisionRecall, precision_recall
from fpdm.evaluation.pretrained import PretrainedExtractor, pretrained_extractor

__all__ = [
    "AutoencoderNetwork",
    "ClassifierNetwork",
    "Evaluator",
    "Extractor",
    "ExtractorSettings",
    "Features",
    "GaussianStatistics",
    "Interval",
    "Nearest",
    "PrecisionRecall",
    "PretrainedExtractor",
    "extractor",
    "frechet_distance",
    "frechet_interval",
    "kernel_distance",
    "kernel_interval",
    "nearest",
    "precision_recall",
    "pretrained_extractor",
]
