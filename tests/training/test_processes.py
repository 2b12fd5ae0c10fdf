"""Two processes on one machine, as `torchrun` starts them."""

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from fpdm.runs.metrics_log import read_rows
from fpdm.training.trainer import Trainer
from tests.training.small import data, recipe, saved

SETTINGS = {"steps": 4, "batch_size": 12, "validate_every": 2, "sample_every": 2, "tracker": "tensorboard"}
PROGRAM = """
import json, os, signal, sys
from pathlib import Path
import torch
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from fpdm.cli import _report
from fpdm.training import Trainer
from fpdm.training.loop import Callback
from tests.training.small import data, recipe

settings, out, how = json.loads(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
if how == "sharded":
    # accelerate spreads weights over accelerators only; gloo can do it on CPUs too.
    import fpdm.training.trainer as loop
    from accelerate import PartialState
    from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin
    make = loop.make_accelerator

    def sharding(config, out):
        accelerator = make(config, out)
        accelerator.state.fsdp_plugin = FullyShardedDataParallelPlugin(
            fsdp_version=2, auto_wrap_policy="transformer_based_wrap", cpu_ram_efficient_loading=False
        )
        accelerator.state.distributed_type = DistributedType.FSDP
        PartialState().distributed_type = DistributedType.FSDP  # what any later state is made from
        return accelerator

    loop.make_accelerator = sharding

trainer, exchanged, parts = Trainer(recipe(**settings), data(), out, validation=data(4)), [], 0

def counting(state, bucket):
    exchanged.append(trainer.progress.step)
    return allreduce_hook(state, bucket)

class Dying(Callback):
    def on_step_end(self, progress):
        if progress.step == 2 and trainer.accelerator.process_index == 1:
            os.kill(os.getpid(), signal.SIGKILL)

if how == "dying":
    trainer.loop.callbacks.insert(0, Dying())
elif how == "sharded":
    parts = sum(parameter.to_local().numel() for parameter in trainer.model.parameters())
else:
    trainer.net.register_comm_hook(None, counting)
try:
    trainer.train()
except Exception as error:
    sys.exit(_report(error))
if trainer.accelerator.is_main_process:
    (out / "seen.json").write_text(json.dumps({"exchanged": exchanged, "parts": parts}))
torch.distributed.destroy_process_group()
"""


@dataclass(frozen=True)
class Seen:
    """For each exchange of gradients the step that it happened in; the weights that the first process has."""

    exchanged: list[int]
    parts: int


def start(out: Path, how: str, **settings: object) -> subprocess.CompletedProcess[str]:
    program = out.with_suffix(".py")
    program.write_text(PROGRAM)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    paths = os.pathsep.join([str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "ACCELERATE_USE_CPU": "1", "PYTHONPATH": paths}
    command = [*launcher, str(program), json.dumps(settings), str(out), how]
    return subprocess.run(command, env=environment, timeout=300, text=True, capture_output=True)


def two_processes(out: Path, how: str = "", **settings: object) -> Seen:
    """Train."""
    done = start(out, how, **settings)
    assert done.returncode == 0, done.stderr
    return Seen(**json.loads((out / "seen.json").read_text()))


def assert_same_run(one: Path, two: Path, step: int) -> None:
    """But for rounding, which AdamW's first steps enlarge where a gradient is nearly zero."""
    ours, theirs = saved(one, step), saved(two, step)
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        if not name.startswith("optimizer"):
            torch.testing.assert_close(theirs[name], value, rtol=1e-2, atol=1e-4, msg=name)


@pytest.mark.slow
def test_two_processes_do_what_one_does_and_one_of_them_shows_it(tmp_path: Path) -> None:
    exchanged = {}
    Trainer(recipe(**SETTINGS), data(), tmp_path / "one", validation=data(4)).train()
    for accumulate in (1, 3):
        out = tmp_path / f"two-{accumulate}"
        exchanged[accumulate] = two_processes(out, **SETTINGS, accumulate=accumulate).exchanged
        assert_same_run(tmp_path / "one", out, 4)
        rows = read_rows(out / "metrics.jsonl")
        assert [row["macs"] for row in rows] == [row["macs"] for row in read_rows(tmp_path / "one" / "metrics.jsonl")]
        assert [row["step"] for row in read_rows(out / "validation.jsonl")] == [2, 4]
        assert len(list((out / "samples").iterdir())) == 2
        assert len(list((out / "tensorboard").iterdir())) == 1
    # Micro-batches are added up before anything is exchanged.
    assert exchanged[1] == exchanged[3]
    assert set(exchanged[1]) == {0, 1, 2, 3}


@pytest.mark.slow
def test_fifty_steps_have_the_losses_that_one_process_has_and_the_number_may_change_on_the_way(tmp_path: Path) -> None:
    settings = {**SETTINGS, "tracker": "none", "validate_every": 0, "sample_every": 0, "log_every": 1}
    settings |= {"learning_rate": 1e-3}
    Trainer(recipe(**{**settings, "steps": 50}), data(), tmp_path / "one").train()
    two_processes(tmp_path / "two", **{**settings, "steps": 30})
    Trainer(recipe(**{**settings, "steps": 40}), data(), tmp_path / "two").train()
    two_processes(tmp_path / "two", **{**settings, "steps": 50})
    one, two = ([row["loss"] for row in read_rows(tmp_path / name / "metrics.jsonl")] for name in ("one", "two"))
    assert len(one) == len(two) == 50
    assert two == pytest.approx(one, rel=1e-5)
    assert len(set(one)) > 40


@pytest.mark.slow
def test_a_process_that_dies_takes_the_other_down_with_a_word(tmp_path: Path) -> None:
    done = start(tmp_path / "run", "dying", **{**SETTINGS, "steps": 10**6, "checkpoint_every": 1})
    assert done.returncode != 0
    (line,) = (line for line in done.stderr.splitlines() if line.startswith("fpdm:"))
    assert "process 0 lost another one at step 2" in line
    # The one that is left may have saved step 2 before it needs the other again.
    assert re.search(r"last good checkpoint: .*step-00000000[12]$", line)


@pytest.mark.slow
def test_spread_weights_train_alike_and_are_saved_whole(tmp_path: Path) -> None:
    settings = {**SETTINGS, "steps": 6, "accumulate": 3, "checkpoint_every": 3}
    Trainer(recipe(**settings), data(), tmp_path / "one", validation=data(4)).train()
    seen = two_processes(tmp_path / "two", "sharded", **{**settings, "steps": 3})
    total = sum(value.numel() for name, value in saved(tmp_path / "two", 3).items() if name.startswith("model"))
    assert 0.4 * total < seen.parts < 0.7 * total
    two_processes(tmp_path / "two", "sharded", **settings)
    assert_same_run(tmp_path / "one", tmp_path / "two", 6)
    # At the end of each call there is a look more, so the two calls have one at step 3 too.
    one, two = (
        {row["step"]: row["loss"] for row in read_rows(tmp_path / name / "validation.jsonl")} for name in ("one", "two")
    )
    assert two.keys() == {*one, 3} == {2, 3, 4, 6}
    assert [two[step] for step in one] == pytest.approx([*one.values()], rel=1e-3)
    sheets = {path.name for path in (tmp_path / "one" / "samples").iterdir()}
    assert {path.name for path in (tmp_path / "two" / "samples").iterdir()} == {*sheets, "step-000000003.png"}
