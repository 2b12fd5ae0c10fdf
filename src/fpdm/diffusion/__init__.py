"""The diffusion process: noise schedule, conversions and training objective. Knows nothing of networks."""

from fpdm.diffusion.objective import Loss, Objective
from fpdm.diffusion.schedule import Posterior, Schedule, Signal, log_variance, posterior

__all__ = ["Loss", "Objective", "Posterior", "Schedule", "Signal", "log_variance", "posterior"]
