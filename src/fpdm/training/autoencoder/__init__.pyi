from .config import AutoencoderRecipe as AutoencoderRecipe
from .config import AutoencoderShape as AutoencoderShape
from .config import AutoencoderTrainConfig as AutoencoderTrainConfig
from .trainer import AutoencoderTrainer as AutoencoderTrainer
