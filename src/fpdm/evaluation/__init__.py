"""How far generated images are from real ones."""

from fpdm.evaluation.distance import GaussianStatistics, Interval, frechet_distance, frechet_interval
from fpdm.evaluation.features import Classifier, ClassifierNetwork, ClassifierSettings, Features, classifier

__all__ = [
    "Classifier",
    "ClassifierNetwork",
    "ClassifierSettings",
    "Features",
    "GaussianStatistics",
    "Interval",
    "classifier",
    "frechet_distance",
    "frechet_interval",
]
