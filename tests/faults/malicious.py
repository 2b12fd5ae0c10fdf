"""Files that want to run code, write elsewhere or fill the memory."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import resource
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tests.faults.cases import (
    ARRAY,
    CACHED,
    ENCODE,
    EVALUATE,
    FOLDER,
    MEASURE,
    RUN,
    SAMPLE,
    SHARDS,
    TAKE,
    Case,
    Setup,
    bomb,
    copied,
    edited,
    folder,
    foreign,
    put,
    tar,
    then,
    written,
)
from tests.faults.kills import started, waited
from tests.faults.world import called, words_of

CANARY = "canary"
SECONDS, BYTES = 10, 2**30


class Evil:
    """Runs code when it is unpickled."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.mkdir, (CANARY,)


def png_bomb(bits: int, colour: int, side: int = 50_000) -> bytes:
    """An image of few bytes that unpacks to billions of pixels."""
    channels = {0: 1, 2: 3, 3: 1, 6: 4}[colour]
    packer = zlib.compressobj(9)
    row = bytes(1 + (side * channels * bits + 7) // 8)
    packed = b"".join(packer.compress(row) for _ in range(64)) + packer.flush()

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    palette = chunk(b"PLTE", bytes(6)) if colour == 3 else b""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, bits, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + palette + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def png_into(path: Path) -> None:
    """Replace a file by an image that unpacks to billions of pixels."""
    path.write_bytes(png_bomb(8, 6))


def odd_tar(change: Callable[[tarfile.TarInfo], None]) -> Setup:
    """A shard whose member lies or points elsewhere."""

    def setup(here: Path, _: Path) -> None:
        (here / "shards").mkdir()
        with tarfile.open(here / "shards" / "0.tar", "w", format=tarfile.PAX_FORMAT) as archive:
            info = tarfile.TarInfo("a.png")
            change(info)
            archive.addfile(info, io.BytesIO(bytes(min(info.size, 512))) if info.size <= 512 else None)

    return setup


def _pickled_in(name: str, inner: str) -> Setup:
    def setup(here: Path, _: Path) -> None:
        with zipfile.ZipFile(here / name, "w") as archive:
            archive.writestr(inner, pickle.dumps(Evil()))

    return setup


def _objects(here: Path, _: Path) -> None:
    np.savez(here / "x.npz", arr_0=np.array([Evil(), 3], dtype=object))


def _header(length: int, content: bytes = b"") -> bytes:
    return struct.pack("<Q", length) + content


_HUGE = b'{"a":{"dtype":"F32","shape":[1099511627776],"data_offsets":[0,4398046511104]}}'
_SCRIPT = "import os\nos.mkdir('canary')\n"
FILES = [
    Case(TAKE, "x.pt", setup=foreign("x.pt", Evil()), about="pickle"),
    Case(TAKE, "x.pt", setup=written("x.pt", pickle.dumps(Evil())), about="bare pickle"),
    Case(TAKE, "x.pt", setup=foreign("x.pt", {"ema": {"a": Evil()}}), about="pickle within weights"),
    Case(TAKE, "x.pt", setup=_pickled_in("x.pt", "archive/data.pkl"), about="zip with a pickle"),
    Case(ARRAY, "x.npz", setup=_objects, about="pickle in an array"),
    Case(MEASURE, "ref.npz", setup=_pickled_in("ref.npz", "mu.npy"), about="pickle for an array"),
    Case("import x --out out", "x", setup=written("x/diffusers.py", _SCRIPT), about="module in a folder"),
    Case(
        "import x --out out",
        "x",
        setup=written("x/model_index.json", '{"_class_name": ["evil", "Evil"], "transformer": ["evil", "Evil"]}'),
        about="pipeline with a module",
    ),
    Case("prepare set --autoencoder @ae --size 8 --out out", "set", setup=written("set/set.py", _SCRIPT), about="hub"),
    Case(ENCODE, "ae", setup=then(copied("ae"), edited("ae/config.json", put("_class_name", value="os.mkdir")))),
    Case("import x.safetensors --out out", "x", setup=written("x.safetensors", _header(2**60)), about="header 2^60"),
    Case(
        "import x.safetensors --out out",
        "x",
        setup=written("x.safetensors", _header(len(_HUGE), _HUGE)),
        about="tensor of 4 TiB",
    ),
    Case(MEASURE, "ref.npz", setup=bomb("ref.npz", "sigma", (10**5, 10**5), "<f8"), about="bomb of statistics"),
    Case(ARRAY, "x.npz", setup=bomb("x.npz", "arr_0", (10**6, 256, 256, 3), "|u1"), about="bomb of images"),
    *(
        Case(FOLDER, "image", setup=written("images/a/0.png", png_bomb(bits, colour)), about=f"PNG {bits} {colour}")
        for bits, colour in ((1, 0), (16, 0), (8, 3), (8, 6))
    ),
    *(
        Case(
            line,
            says,
            setup=then(copied(name), lambda here, _, path=path: png_into(here / path)),
            about=f"PNG in {name}",
        )
        for line, says, name, path in (
            (SAMPLE.replace("out out", "out sampled"), "far too many pixels", "sampled", "sampled/000001.png"),
            ("compare --redraw compared", "images.png is damaged", "compared", "compared/images.png"),
        )
    ),
    Case(SHARDS, "shards|0.tar|image", setup=tar("shards/0.tar", {"../../evil.png": b"x", "/evil.png": b"x"})),
    Case(SHARDS, "shards|0.tar|image", setup=odd_tar(lambda one: setattr(one, "size", 2**40)), about="size 2^40"),
    Case(
        SHARDS,
        "shards|0.tar|image",
        setup=odd_tar(lambda one: (setattr(one, "type", tarfile.SYMTYPE), setattr(one, "linkname", "/etc/passwd"))[0]),
        about="link",
    ),
    Case(
        "train fashion-mnist --steps 2 --data-root here --out out",
        "here",
        setup=then(folder("here"), written("here/train-images-idx3-ubyte.gz", gzip.compress(bytes(2**26)) * 64)),
        about="gz bomb",
    ),
    Case(RUN, "lies outside|only checkpoint", 3, then(copied("run"), lambda here, _: _outside(here)), "manifest"),
    Case("train r.json --out out", "r.json", setup=written("r.json", '{"a":' * 200_000), about="deep"),
    Case("train r.json --out out", "larger|r.json", setup=written("r.json", b"[" + b"0," * 2**24), about="large"),
    Case(CACHED, "cache", setup=then(copied("cache"), edited("cache/cache.json", put("shape", value=[2**40] * 3)))),
    Case(EVALUATE.replace("@small.pt", "n.pt"), "n.pt", setup=foreign("n.pt", Evil()), about="pickle as a network"),
]


def _outside(here: Path) -> None:
    name = "run/checkpoints/step-000000002/manifest.json"
    edited(name, put("files", "../../../../../etc/passwd", value={"bytes": 1, "sha256": "0"}))(here, here)


def tried(case: Case, world: Path, here: Path) -> tuple[int, str, int]:
    """Call a command in a process with little memory and time; returns its code, what it said and its peak memory."""
    report = here.with_name(f"{here.name}.report")
    code = waited(started(_within_limits, words_of(case.line, world), here, report))
    peak, _, said = (report.read_text() if report.exists() else "0\n").partition("\n")
    return code, said, int(peak)


def _within_limits(words: list[str], here: Path, report: Path) -> int:
    os.chdir(here)
    start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + BYTES, size + BYTES))
    spent = int(sum(os.times()[:2])) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (spent + SECONDS, spent + SECONDS))
    said = called(words)
    peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - start) * 1024
    report.write_text(f"{peak}\n{said.err}")
    return said.code
