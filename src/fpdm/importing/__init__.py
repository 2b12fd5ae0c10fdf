"""Foreign checkpoints, made into models of ours."""

from fpdm.importing.layouts import Claims, Converted, convert
from fpdm.importing.source import Source, read_source
from fpdm.importing.write import Imported, import_model

__all__ = ["Claims", "Converted", "Imported", "Source", "convert", "import_model", "read_source"]
