"""Convert the weights of recorded runs to half precision, together with the manifests of their checkpoints.

    python results/to_half_precision.py results/*/runs/*

A run loads as before: its float16 weights are cast to float32. Runs that are converted already stay as they are.
"""

import hashlib
import json
import sys
from pathlib import Path

from safetensors.torch import load_file, save_file

for run in map(Path, sys.argv[1:]):
    for manifest in run.glob("checkpoints/*/manifest.json"):
        listing = json.loads(manifest.read_text(encoding="utf-8"))
        for name, entry in listing["files"].items():
            if name.endswith(".safetensors"):
                path = manifest.parent / name
                save_file({key: value.half() for key, value in load_file(path).items()}, path, {"format": "pt"})
                content = path.read_bytes()
                entry.update(bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
        manifest.write_text(json.dumps(listing, indent=1), encoding="utf-8")
