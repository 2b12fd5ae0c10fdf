"""Memory and disk space that are free, and the check of what a plan needs before any of it is taken."""

from __future__ import annotations

import contextlib
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil

_GROUPS = Path("/sys/fs/cgroup")


def check_memory(needed: float, what: str, instead: str, *, device: str = "cpu") -> None:
    """Check that something fits in memory.

    Args:
        needed: Bytes that it needs at the least: nothing that would fit may be refused.
        what: What needs them: the beginning of the message.
        instead: What to use instead: its end.
        device: Where it needs them.

    Raises:
        ValueError: It does not fit.
    """
    free = free_memory(device)
    if needed > free:
        place = "GPU" if device.startswith("cuda") else "machine"
        raise ValueError(
            f"{what} needs at least {_short(needed)} of memory; this {place} has {_short(free)} to give: use {instead}"
        )


def check_disk(needed: float, folder: Path, what: str) -> None:
    """Check that files fit on the disk of a folder, which need not exist yet.

    Args:
        needed: Bytes that they need at the least.
        folder: Where they will be.
        what: What they are: the beginning of the message.

    Raises:
        ValueError: They do not fit.
    """
    nearest = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    disk = shutil.disk_usage(nearest)
    if disk.total and needed > disk.free:  # some file systems say nothing about themselves
        raise ValueError(f"{what} takes at least {_short(needed)} on disk; {nearest} has {_short(disk.free)} free")


def free_memory(device: str = "cpu") -> int:
    """Return the bytes that can still be allocated on a device, at most.

    Of a machine under Linux they are what is available now, within the limits of control groups. Elsewhere swap space
    grows as it is needed, and all of the machine's memory counts.
    """
    if device.startswith("cuda"):
        import torch  # only where there is a GPU

        return torch.cuda.mem_get_info(device)[0]
    memory = psutil.virtual_memory()
    if not sys.platform.startswith("linux"):
        return memory.total
    return max(0, min([memory.available, *_left_in_groups()])) + psutil.swap_memory().free


def _left_in_groups(groups: Path = _GROUPS, own: Path = Path("/proc/self/cgroup")) -> Iterator[int]:
    """Yield what is left of each memory limit that holds for this process, as containers and batch systems set it."""
    with contextlib.suppress(OSError, ValueError):
        for line in own.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers and "memory" not in controllers.split(","):
                continue
            root = groups / "memory" if controllers else groups  # version 1, version 2
            limit, used = (
                ("memory.limit_in_bytes", "memory.usage_in_bytes") if controllers else ("memory.max", "memory.current")
            )
            place = root / path.lstrip("/")  # a container may see its own group at the root
            for group in (place, *place.parents):
                with contextlib.suppress(OSError, ValueError):  # no such file, or a limit of "max"
                    yield int((group / limit).read_text()) - int((group / used).read_text()) + _cached(group)
                if group == root:
                    break


def _cached(group: Path) -> int:
    """Return the bytes that a group gives up when it needs them: files in memory, and what the kernel keeps of them."""
    values = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    kinds = ("inactive_file", "active_file", "slab_reclaimable")
    return sum(int(values.get(f"total_{kind}", values.get(kind, 0))) for kind in kinds)


def _short(size: float) -> str:
    amount = size / 2**30
    return f"{amount:,.0f} GiB" if 100 <= amount < 1e6 else f"{amount:.3g} GiB"
