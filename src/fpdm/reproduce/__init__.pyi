from .reproduction import STUDIES as STUDIES
from .reproduction import reproduce as reproduce
from .scale import FULL as FULL
from .scale import QUICK as QUICK
from .scale import Scale as Scale
