"""Measure the seconds of all rows again, on a machine that does nothing else: python seconds.py PART OF_HOW_MANY.

The rows were made by several processes at once over many hours, so their seconds did not compare. Each row draws
COUNT images by its own plan on one thread, and has the result written over what was there.
"""

import json
import sys
from dataclasses import asdict
from pathlib import Path

import torch

from fpdm.compare.results_cache import draw
from fpdm.data.labels import balanced_labels
from fpdm.files import write_atomically
from fpdm.runs.run import load_run
from fpdm.sampling.plan import Plan

COUNT = 60
HERE = Path(__file__).parent

torch.set_num_threads(1)
part, parts = map(int, sys.argv[1:])
runs = {}
rows = [path for path in sorted((HERE / "compare" / "rows").glob("*.json")) if "-choice-" not in path.name]
for path in rows[part::parts]:
    row = json.loads(path.read_text(encoding="utf-8"))
    name = Path(row["result"]["run"]).name
    if name not in runs:
        runs[name] = load_run(HERE / "runs" / name)
    plan = Plan(**row["asked"]["plan"])
    assert asdict(plan) == row["asked"]["plan"]
    drawn = draw(runs[name], plan, balanced_labels(range(COUNT), 10), seed=0, batch_size=COUNT)
    row["result"]["seconds"] = drawn.seconds
    write_atomically(path, json.dumps(row, indent=1))
