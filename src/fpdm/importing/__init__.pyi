from .foreign import ForeignCheckpoint as ForeignCheckpoint
from .foreign import read_foreign_checkpoint as read_foreign_checkpoint
from .layouts import Converted as Converted
from .layouts import Hints as Hints
from .layouts import convert as convert
from .write import Imported as Imported
from .write import import_model as import_model
