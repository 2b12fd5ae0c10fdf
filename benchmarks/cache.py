"""Benchmark of reading latents: safetensors against Arrow, and the reader against the training step that it feeds.

    python -m benchmarks.cache --out benchmarks/cache.json

The cache holds random latents of 4 x 32 x 32 float16, those of 256-pixel images, in shards of 4,096. Rows are read one
by one in random order, as in an epoch, with everything in the page cache, so that the cost of the format is measured
and not that of the disk. The formats are

- safetensors: memory-mapped by `safetensors.torch.load_file`, as in `fpdm.data.LatentSet`;
- arrow: the same bytes in a memory-mapped Arrow file, a column of fixed-size binary, read by pyarrow;
- datasets: the same file read with the library `datasets` and its NumPy format.

A training step is forward, loss and backward of FPDM-B/2 with two iterations without gradient and two with gradient.
That is less than the mean of S-JFB even at N = M = 3, so no real training consumes images faster. The reader draws each
latent from its distribution and checks it, in one thread. The result is the ratio of images read to images consumed in
the same time, measured alternately in one run.
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from benchmarks.steps import Batch, Ours, Ratio, in_turn
from fpdm.autoencoder.config import AutoencoderConfig
from fpdm.data.config import CacheSettings, DataConfig
from fpdm.data.latents import LatentSet
from fpdm.data.manifest import Manifest
from fpdm.models.config import preset
from fpdm.models.transformer import DiffusionTransformer
from fpdm.randomness import Stream, generator

SHAPE = (4, 32, 32)
SHARD = 4096
READ = 2048  # rows per measurement


@dataclass(frozen=True)
class Result:
    """Result of the benchmark; times are medians over the rounds.

    Attributes:
        microseconds: Time to read a random row, by format.
        over_arrow: Time of arrow over that of safetensors.
        over_datasets: Time of datasets over that of safetensors.
        consumed: Images per second that a training step consumes.
        read: Images per second that the reader provides.
        ratio: Images read over images consumed.
    """

    microseconds: dict[str, float]
    over_arrow: Ratio
    over_datasets: Ratio
    consumed: float
    read: float
    ratio: Ratio


def write_latents(folder: Path, rows: int) -> tuple[LatentSet, Path]:
    """Write the same random moments as safetensors shards and as an Arrow file."""
    import pyarrow as pa
    from safetensors.numpy import save_file
    from safetensors.torch import load_file

    rng = np.random.default_rng(0)
    kind = pa.binary(2 * int(np.prod(SHAPE)) * 2)
    arrow, shards = folder / "rows.arrow", []
    with pa.OSFile(str(arrow), "wb") as sink, pa.ipc.new_stream(sink, pa.schema([("moments", kind)])) as writer:
        for start in range(0, rows, SHARD):
            moments = rng.random((min(SHARD, rows - start), 1, 2, *SHAPE), np.float32).astype(np.float16)
            path = folder / f"train-{start // SHARD:05d}.safetensors"
            save_file({"moments": moments}, path)
            shards.append(load_file(path)["moments"].numpy())
            writer.write_batch(pa.record_batch([pa.array([row.tobytes() for row in moments], kind)], ["moments"]))
    autoencoder = AutoencoderConfig("random", "0" * 64, 0)
    manifest = Manifest(DataConfig("random"), "folder", "", (3, 256, 256), SHAPE, autoencoder, CacheSettings(), {})
    return LatentSet("random", torch.zeros(rows, dtype=torch.int64), 0, tuple(shards), manifest), arrow


def measure(folder: Path, rows: int, batch_size: int, rounds: int) -> Result:
    import datasets
    import pyarrow as pa

    latents, arrow = write_latents(folder, rows)
    places = np.random.default_rng(1).permutation(rows)[: min(READ, rows)]
    column = pa.ipc.open_stream(pa.memory_map(str(arrow))).read_all()["moments"]
    library = datasets.Dataset.from_file(str(arrow)).with_format("numpy")
    shards = latents.shards

    def safetensors_rows() -> None:
        for place in places:
            np.array(shards[place // SHARD][place % SHARD])

    def arrow_rows() -> None:
        for place in places:
            np.frombuffer(column[place].as_buffer(), np.float16).copy()

    def datasets_rows() -> None:
        for place in places:
            np.frombuffer(library[int(place)]["moments"], np.float16)

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    shape = preset("fpdm-b/2")
    model = DiffusionTransformer.from_shape(shape)
    torch.nn.Module.to(model, device)
    subject = Ours(model, Batch.random(shape, batch_size, device))
    draws = [generator(0, Stream.TRAIN, i) for i in range(len(places))]
    reader = partial(latents.batch, places.tolist(), draws)

    formats = dict(
        zip(
            ("safetensors", "arrow", "datasets"),
            in_turn([safetensors_rows, arrow_rows, datasets_rows], rounds),
            strict=True,
        )
    )
    step, read = in_turn([partial(subject.train, [(2, 2)]), reader], rounds)
    consumed, given = batch_size / np.array(step), len(places) / np.array(read)
    return Result(
        {name: round(float(np.median(taken)) / len(places) * 1e6, 2) for name, taken in formats.items()},
        Ratio.of(formats["arrow"], formats["safetensors"]),
        Ratio.of(formats["datasets"], formats["safetensors"]),
        round(float(np.median(consumed)), 2),
        round(float(np.median(given)), 1),
        Ratio.of(given.tolist(), consumed.tolist()),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=16_384)
    parser.add_argument("--batch", type=int, default=0, help="images per training step (default: 4, or 256 on a GPU)")
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    batch_size = arguments.batch or (256 if torch.cuda.is_available() else 4)
    with tempfile.TemporaryDirectory() as folder:
        result = measure(Path(folder), arguments.rows, batch_size, arguments.rounds)
    for name, taken in result.microseconds.items():
        print(f"{taken:>10.2f} microseconds per row, {name}")
    print(f"arrow / safetensors     {result.over_arrow}")
    print(f"datasets / safetensors  {result.over_datasets}")
    print(f"read / consumed         {result.ratio}   ({result.read:g} / {result.consumed:g} images per second)")
    gpu = torch.cuda.is_available()
    record = {
        "command": f"python -m benchmarks.cache --rows {arguments.rows} --batch {batch_size}"
        f" --rounds {arguments.rounds}",
        "machine": torch.cuda.get_device_name() if gpu else platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        **asdict(result),
    }
    arguments.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
