"""Training of small autoencoders, for latent diffusion on images that no published autoencoder suits."""

from fpdm.training.autoencoder.config import AutoencoderRecipe, AutoencoderShape, AutoencoderTrainConfig
from fpdm.training.autoencoder.loop import AutoencoderTrainer

__all__ = ["AutoencoderRecipe", "AutoencoderShape", "AutoencoderTrainConfig", "AutoencoderTrainer"]
