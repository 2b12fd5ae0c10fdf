from .config import AutoencoderConfig as AutoencoderConfig
from .interface import Autoencoder as Autoencoder
from .interface import Pixels as Pixels
from .interface import Posterior as Posterior
from .vae import VAE as VAE
