"""Read `.npz` files that anyone may have made, and write many images as one, as in ADM's evaluation suite.

NumPy believes what an archive says of itself: a file of 10 MB may unpack to 11 GB, in an array or in its header. Here
the sizes that the archive declares, those in the array's header and those on the disk must agree before anything is
unpacked, and the CRC of whatever is read is checked. ADM is Dhariwal and Nichol 2021.
"""

from __future__ import annotations

import hashlib
import io
import lzma
import math
import os
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, BinaryIO, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor

from fpdm.files import open_regular, temporary_in

_ARRAY = "arr_0"
_DIRECTORY, _HEADER, _TEXT = 2**20, 2**14, 2**16  # bytes of an archive's directory, of an array's header, of a text
_SMALL, _RATIO = 2**26, 50  # more bytes than these may not have been packed more densely than this
_MAX_SIDE = 2**13  # pixels
_PART = 2**20  # bytes at once
_DAMAGE = (  # what reading an .npz may raise whose bytes are not what they were: RuntimeError says it is encrypted
    *(OSError, EOFError, ValueError, TypeError, AttributeError, LookupError, RuntimeError, OverflowError),
    *(MemoryError, SyntaxError, struct.error, zlib.error, lzma.LZMAError, zipfile.BadZipFile),
)


class Header(NamedTuple):
    """Shape and type of an array in an archive.

    Attributes:
        shape: The shape.
        dtype: The type of its numbers.
        fortran: Whether the first index runs fastest.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran: bool

    @property
    def bytes(self) -> int:
        """Size of the array."""
        return math.prod(self.shape) * self.dtype.itemsize


class Npz:
    """An open `.npz`. Its methods raise a `ValueError`, which does not name the file, whatever is wrong with it.

    Args:
        stream: The file.

    Attributes:
        names: Names of the arrays.
        digests: SHA-256 of each array that was read, by its name: of its type, its shape and its bytes.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._size = os.fstat(stream.fileno()).st_size
        file = _Limited(stream)
        self._archive = zipfile.ZipFile(cast(IO[bytes], file))
        file.limit = self._size
        members = self._archive.namelist()
        if len({*members}) < len(members):
            raise ValueError("two arrays have the same name")
        stream.seek(-22 - len(self._archive.comment), os.SEEK_END)
        listed = int.from_bytes(stream.read(22)[10:12], "little")
        if listed not in (len(members), 0xFFFF):  # zipfile takes what one entry swallows for that entry's comment
            raise ValueError(f"its directory lists {listed} arrays and has {len(members)}")
        self.names = frozenset(name.removesuffix(".npy") for name in members)
        self.digests: dict[str, str] = {}

    def header(self, name: str) -> Header:
        """Return the shape and type of an array, after checking that as many bytes can be there."""
        with self._open(name) as (_, found, _start):
            return found

    def numbers(self, name: str) -> Tensor:
        """Read an array of real numbers as float64."""
        with self._open(name) as (file, found, _):
            if found.dtype.kind not in "fiu":
                raise ValueError(f"its {name} is {found.dtype}; expected real numbers")
            values, place = torch.empty(math.prod(found.shape), dtype=torch.float64), 0
            for part in self._parts(name, file, found):
                numbers = np.frombuffer(part, found.dtype)
                values[place : place + len(numbers)] = torch.from_numpy(numbers.astype(np.float64))
                place += len(numbers)
        if found.fortran:
            return values.view(found.shape[::-1]).permute(*reversed(range(len(found.shape))))
        return values.view(found.shape)

    def text(self, name: str) -> str:
        """Read a text."""
        with self._open(name) as (file, found, _):
            if found.dtype.kind != "U" or found.shape or found.bytes > _TEXT:
                raise ValueError(f"its {name} is {found.dtype} {found.shape}; expected a text")
            return str(np.frombuffer(b"".join(self._parts(name, file, found)), found.dtype)[0])

    def check(self, name: str) -> None:
        """Read an array to the end, which checks its CRC."""
        with self._open(name) as (file, found, _):
            for _ in self._parts(name, file, found):
                pass

    def part(self, name: str, start: int, length: int) -> bytearray:
        """Return some of an array's bytes, fewer if it ends before. Their CRC is not checked."""
        with self._open(name) as (file, _, first):
            file.seek(first + start)
            return bytearray(file.read(length))

    @contextmanager
    def _open(self, name: str) -> Iterator[tuple[IO[bytes], Header, int]]:
        """Yield an array's file where its numbers begin, its header, and that place."""
        if name not in self.names:
            raise ValueError(f"it has no {name}")
        info = self._archive.getinfo(f"{name}.npy")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError(f"its {name} is packed by method {info.compress_type}; expected none, or deflate")
        stored = info.compress_type == zipfile.ZIP_STORED
        if info.header_offset + info.compress_size > self._size or (stored and info.file_size != info.compress_size):
            raise ValueError(f"its {name} is cut off")
        if info.file_size > _SMALL and info.file_size > _RATIO * info.compress_size:
            raise ValueError(
                f"its {name} says it has {info.file_size} bytes, packed in {info.compress_size}; expected no more than "
                f"{_RATIO} times as many"
            )
        with self._archive.open(info) as file:
            found = _read_header(file, name)
            start = file.tell()
            if start + found.bytes != info.file_size:
                raise ValueError(f"its {name} has {info.file_size - start} bytes; expected {found.bytes} by its header")
            yield file, found, start

    def _parts(self, name: str, file: IO[bytes], found: Header) -> Iterator[bytes]:
        """Yield an array's bytes, whole numbers at a time, and keep their hash."""
        digest = _digest(found)
        left = found.bytes
        step = max(1, _PART // max(1, found.dtype.itemsize)) * found.dtype.itemsize
        while left:
            part = file.read(min(step, left))
            if len(part) < min(step, left):
                raise ValueError(f"its {name} is cut off")
            digest.update(part)
            left -= len(part)
            yield part
        if file.read(1):  # at the end, the CRC is checked
            raise ValueError(f"its {name} is longer than its header says")
        self.digests[name] = digest.hexdigest()


def array_digest(array: np.ndarray) -> str:
    """Return the SHA-256 that `Npz.digests` has of an array once it was saved and read."""
    digest = _digest(Header(array.shape, array.dtype, fortran=False))
    digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _digest(found: Header) -> hashlib._Hash:
    return hashlib.sha256(f"{found.dtype.str} {found.shape} {found.fortran}\n".encode())


class _Limited:
    """A stream that refuses to read more than a limit at once, as the directory that a hostile archive claims."""

    def __init__(self, stream: BinaryIO) -> None:
        self.stream, self.limit = stream, _DIRECTORY

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def read(self, size: int = -1) -> bytes:
        if size > self.limit:
            raise ValueError(f"its directory says it has {size} bytes; expected at most {self.limit}")
        return self.stream.read(self.limit if size < 0 else size)


def _read_header(file: IO[bytes], name: str) -> Header:
    start = file.read(8)
    wide = start[6:7] != b"\x01"  # format versions 2 and 3 have a length of four bytes
    if start[:6] != b"\x93NUMPY" or start[6:8] not in (b"\x01\0", b"\x02\0", b"\x03\0"):
        raise ValueError(f"its {name} is no array of NumPy's")
    length = file.read(4 if wide else 2)
    size = int.from_bytes(length, "little")
    if size > _HEADER:
        raise ValueError(f"the header of its {name} has {size} bytes; expected at most {_HEADER}")
    read = np.lib.format.read_array_header_2_0 if wide else np.lib.format.read_array_header_1_0
    content = io.BytesIO(length + file.read(size))
    try:
        shape, fortran, dtype = read(content)
    except Exception as error:  # NumPy's parser raises nearly anything
        raise ValueError(f"the header of its {name} is damaged") from error
    if dtype.hasobject or dtype.fields is not None or not dtype.itemsize or min(shape, default=0) < 0:
        raise ValueError(f"its {name} is {dtype} {shape}; expected numbers")
    return Header(shape, dtype, fortran)


@contextmanager
def open_npz(path: Path) -> Iterator[Npz]:
    """Open an `.npz`; whatever goes wrong with it in the block becomes a `ValueError` that does not name it.

    Raises:
        ValueError: There is no such file, it is not a regular file, or it is damaged.
    """
    try:
        with open_regular(path) as stream:
            yield Npz(stream)
    except _DAMAGE as error:
        text = " ".join(str(error).split())[:160] or type(error).__name__
        raise ValueError(text.removeprefix(f"{path} ")) from error


def write_images(path: Path, images: Iterable[Tensor], count: int, size: tuple[int, int]) -> None:
    """Write `arr_0`, uint8 (N, H, W, 3), atomically; grey images are repeated to three channels.

    Args:
        path: The file.
        images: The images in order, in parts (B, C, H, W) uint8 with C of 1 or 3.
        count: Number of images, N.
        size: Size of the images, (H, W).
    """
    temporary = temporary_in(path.parent)
    try:
        with (
            zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive,
            archive.open(f"{_ARRAY}.npy", "w", force_zip64=True) as file,
        ):
            head = {"descr": "|u1", "fortran_order": False, "shape": (count, *size, 3)}
            np.lib.format.write_array_header_1_0(file, head)
            written = 0
            for part in images:
                rgb = part.expand(-1, 3, -1, -1).permute(0, 2, 3, 1)  # (B, H, W, 3)
                file.write(rgb.contiguous().numpy().tobytes())
                written += len(part)
            assert written == count
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


class ImageArchive:
    """The images of an `.npz`: `arr_0`, uint8 (N, H, W, 3).

    Args:
        path: The file.

    Raises:
        ValueError: The file has no such images, or they are damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with open_npz(path) as file:
                shape, dtype, fortran = file.header(_ARRAY)
                good = dtype == np.uint8 and not fortran and len(shape) == 4 and shape[3] == 3 and math.prod(shape)
                if good and max(shape[1:3]) <= _MAX_SIDE:
                    file.check(_ARRAY)
        except ValueError as error:
            raise ValueError(f"{path} holds no images: {error}; expected an .npz with {_ARRAY}") from error
        if not good:
            raise ValueError(f"{_ARRAY} of {path} is {dtype} {shape}; expected uint8 (N, H, W, 3)")
        if max(shape[1:3]) > _MAX_SIDE:
            raise ValueError(f"{_ARRAY} of {path} is {dtype} {shape}; expected at most {_MAX_SIDE} pixels a side")
        self.shape = cast(tuple[int, int, int, int], shape)

    def __len__(self) -> int:
        return self.shape[0]

    def read(self, places: range) -> Tensor:
        """Read the images in this range: (B, 3, H, W) uint8.

        Raises:
            ValueError: The file is damaged there.
        """
        each = math.prod(self.shape[1:])
        try:
            with open_npz(self.path) as file:
                content = file.part(_ARRAY, places.start * each, len(places) * each)
        except ValueError as error:
            raise ValueError(f"{self.path} is damaged: {error}") from error
        if len(content) != len(places) * each:
            raise ValueError(f"{self.path} is damaged: it ends before image {places.stop}")
        images = torch.frombuffer(content, dtype=torch.uint8).view(-1, *self.shape[1:])  # (B, H, W, 3)
        return images.permute(0, 3, 1, 2)  # (B, 3, H, W)
