"""Two processes on one machine, as `torchrun` starts them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from fpdm.training import Trainer
from fpdm.training.rows import read_rows
from tests.training.small import data, recipe, saved

SETTINGS = {"steps": 4, "batch_size": 12, "validate_every": 2, "sample_every": 2, "tracker": "tensorboard"}
PROGRAM = """
import json, sys
from pathlib import Path
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from fpdm.training import Trainer
from tests.training.small import data, recipe

settings, out = json.loads(sys.argv[1]), Path(sys.argv[2])
trainer, exchanged = Trainer(recipe(**settings), data(), out, validation=data(4)), []

def counting(state, bucket):
    exchanged.append(trainer.progress.step)
    return allreduce_hook(state, bucket)

trainer.net.register_comm_hook(None, counting)
trainer.train()
if trainer.accelerator.is_main_process:
    (out / "exchanged").write_text(json.dumps(exchanged))
"""


def two_processes(out: Path, **settings: object) -> list[int]:
    """Train; for each exchange of gradients, the step that it happened in."""
    program = out.with_suffix(".py")
    program.write_text(PROGRAM)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    paths = os.pathsep.join([str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "ACCELERATE_USE_CPU": "1", "PYTHONPATH": paths}
    subprocess.run([*launcher, str(program), json.dumps(settings), str(out)], check=True, env=environment, timeout=300)
    return json.loads((out / "exchanged").read_text())


@pytest.mark.slow
def test_two_processes_do_what_one_does_and_one_of_them_shows_it(tmp_path: Path) -> None:
    exchanged = {}
    Trainer(recipe(**SETTINGS), data(), tmp_path / "one", validation=data(4)).train()
    for accumulate in (1, 3):
        out = tmp_path / f"two-{accumulate}"
        exchanged[accumulate] = two_processes(out, **SETTINGS, accumulate=accumulate)
        one, two = saved(tmp_path / "one", 4), saved(out, 4)
        assert one.keys() == two.keys()
        for name, value in one.items():
            if not name.startswith("optimizer"):
                torch.testing.assert_close(two[name], value, rtol=1e-2, atol=1e-4, msg=name)
        rows = read_rows(out / "metrics.jsonl")
        assert [row["macs"] for row in rows] == [row["macs"] for row in read_rows(tmp_path / "one" / "metrics.jsonl")]
        assert [row["step"] for row in read_rows(out / "validation.jsonl")] == [2, 4]
        assert len(list((out / "samples").iterdir())) == 2
        assert len(list((out / "tensorboard").iterdir())) == 1
    # Micro-batches are added up before anything is exchanged.
    assert exchanged[1] == exchanged[3]
    assert set(exchanged[1]) == {0, 1, 2, 3}
