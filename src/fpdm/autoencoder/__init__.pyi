from .config import AutoencoderConfig as AutoencoderConfig
from .interface import Autoencoder as Autoencoder
from .interface import LatentDistribution as LatentDistribution
from .interface import Pixels as Pixels
from .vae import VAE as VAE
