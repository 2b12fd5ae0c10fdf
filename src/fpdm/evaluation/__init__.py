"""How far generated images are from real ones, and whether they are new."""

from fpdm.evaluation.bootstrap import Interval
from fpdm.evaluation.distance import GaussianStatistics, frechet_distance, frechet_interval
from fpdm.evaluation.extractor import Extractor, extractor
from fpdm.evaluation.features import Features
from fpdm.evaluation.kernel import kernel_distance, kernel_interval
from fpdm.evaluation.manifold import PrecisionRecall, precision_recall
from fpdm.evaluation.nearest import Nearest, nearest
from fpdm.evaluation.networks import AutoencoderNetwork, ClassifierNetwork, ExtractorSettings
from fpdm.evaluation.pretrained import PretrainedExtractor, pretrained_extractor
from fpdm.evaluation.reference import Reference, read_reference, write_reference

__all__ = [
    "AutoencoderNetwork",
    "ClassifierNetwork",
    "Extractor",
    "ExtractorSettings",
    "Features",
    "GaussianStatistics",
    "Interval",
    "Nearest",
    "PrecisionRecall",
    "PretrainedExtractor",
    "Reference",
    "extractor",
    "frechet_distance",
    "frechet_interval",
    "kernel_distance",
    "kernel_interval",
    "nearest",
    "precision_recall",
    "pretrained_extractor",
    "read_reference",
    "write_reference",
]
