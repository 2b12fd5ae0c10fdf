from .layouts import Claims as Claims
from .layouts import Converted as Converted
from .layouts import convert as convert
from .source import Source as Source
from .source import read_source as read_source
from .write import Imported as Imported
from .write import import_model as import_model
