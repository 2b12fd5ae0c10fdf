"""Settings for all tests."""

import os

# Worker processes share the cores; more threads than cores only slow each other down. Before torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")
