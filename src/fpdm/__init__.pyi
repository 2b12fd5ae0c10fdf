from .models import DiffusionTransformer as DiffusionTransformer
from .pipeline import FPDMPipeline as FPDMPipeline
from .runs import load_run as load_run
from .sampling import Plan as Plan

__version__: str
