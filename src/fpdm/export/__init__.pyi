from .export import Exported as Exported
from .export import export_model as export_model
from .graphs import Graph as Graph
from .graphs import graphs_of as graphs_of
