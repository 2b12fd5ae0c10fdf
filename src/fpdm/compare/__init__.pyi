from .comparison import compare as compare
from .results import Comparison as Comparison
from .results import Result as Result
from .results import Trained as Trained
from .settings import Settings as Settings
