from .objective import Loss as Loss
from .objective import Objective as Objective
from .schedule import Posterior as Posterior
from .schedule import Schedule as Schedule
from .schedule import Signal as Signal
from .schedule import log_variance as log_variance
from .schedule import posterior as posterior
