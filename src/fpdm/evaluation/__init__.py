"""How far generated images are from real ones."""

from fpdm.evaluation.distance import GaussianStatistics, Interval, frechet_distance, frechet_interval, statistics
from fpdm.evaluation.features import Classifier, ClassifierSettings, Extractor, Features, classifier, features

__all__ = [
    "Classifier",
    "ClassifierSettings",
    "Extractor",
    "Features",
    "GaussianStatistics",
    "Interval",
    "classifier",
    "features",
    "frechet_distance",
    "frechet_interval",
    "statistics",
]
