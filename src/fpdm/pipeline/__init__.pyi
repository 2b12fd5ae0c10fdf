from .output import FPDMPipelineOutput as FPDMPipelineOutput
from .pipeline_fpdm import FPDMPipeline as FPDMPipeline
