"""Settings for all tests."""

import os

# Worker processes share the cores; more threads than cores only slow each other down. Before torch is imported.
os.environ["OMP_NUM_THREADS"] = "1"

from hypothesis import settings

# The same examples in every run: a failure in CI can be seen at home.
settings.register_profile("fpdm", derandomize=True, deadline=None)
settings.load_profile("fpdm")
