"""Mistakes, damaged files and bad surroundings, and what each command says of them."""

from __future__ import annotations

import gzip
import io
import json
import math
import os
import shutil
import socket
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors.torch
import torch
from PIL import Image

from fpdm.files import sha256_of
from tests.autoencoders import tiny
from tests.faults.world import NETWORK, TRAINING, make_images
from tests.fid.bombs import add_zeros

Setup = Callable[[Path, Path], None]
"""Prepares the folder that a command is called in; the second folder is the world's, of which it may copy."""


class Case(NamedTuple):
    """A command line, what it says as a regular expression, its exit code, and what is there before."""

    line: str
    says: str
    code: int = 2
    setup: Setup | None = None
    about: str = ""

    @property
    def name(self) -> str:
        """A name that tells one case from another."""
        return (f"{self.about}: {self.line}" if self.about else self.line)[:120]


# ---------------------------------------------------------------------------------------- what is there before


def copied(*names: str) -> Setup:
    """Copies of the world's."""

    def setup(here: Path, world: Path) -> None:
        for name in names:
            copy = shutil.copytree if (world / name).is_dir() else shutil.copy
            copy(world / name, here / name)

    return setup


def copied_as(name: str, new: str) -> Setup:
    """A copy of a file of the world's, with another name."""
    return lambda here, world: shutil.copy(world / name, here / new) and None


def then(*setups: Setup) -> Setup:
    """One after the other."""

    def setup(here: Path, world: Path) -> None:
        for one in setups:
            one(here, world)

    return setup


def written(name: str, content: str | bytes = "of the user") -> Setup:
    """A file with this content, its folder included."""

    def setup(here: Path, _: Path) -> None:
        path = here / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)

    return setup


def edited(name: str, change: Callable[[Any], Any]) -> Setup:
    """A JSON file with other values; what `change` returns replaces them all, unless it is None."""

    def setup(here: Path, _: Path) -> None:
        values = json.loads((here / name).read_text())
        changed = change(values)
        (here / name).write_text(json.dumps(values if changed is None else changed))

    return setup


def put(*keys: str | int, value: Any) -> Callable[[Any], None]:
    """A change of the value at these keys."""

    def change(values: Any) -> None:
        for key in keys[:-1]:
            values = values[key]
        values[keys[-1]] = value

    return change


def dropped(*keys: str | int) -> Callable[[Any], None]:
    """A change that leaves the value at these keys out."""

    def change(values: Any) -> None:
        for key in keys[:-1]:
            values = values[key]
        del values[keys[-1]]

    return change


def folder(name: str) -> Setup:
    """An empty folder."""
    return lambda here, _: (here / name).mkdir(parents=True)


def gone(name: str) -> Setup:
    """A file that is missing."""
    return lambda here, _: (here / name).unlink()


def pipe(name: str) -> Setup:
    """A pipe that nobody writes to, in the place of a file."""

    def setup(here: Path, _: Path) -> None:
        path = here / name
        path.unlink(missing_ok=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        os.mkfifo(path)

    return setup


def truncated(name: str, bytes: int = 7) -> Setup:
    """A file without its last bytes."""

    def setup(here: Path, _: Path) -> None:
        content = (here / name).read_bytes()
        (here / name).write_bytes(content[:-bytes])

    return setup


def flipped(name: str, place: int = -9) -> Setup:
    """A file with one bit changed."""

    def setup(here: Path, _: Path) -> None:
        content = bytearray((here / name).read_bytes())
        content[place] ^= 1
        (here / name).write_bytes(content)

    return setup


def link(name: str, target: str) -> Setup:
    """A symbolic link."""

    def setup(here: Path, _: Path) -> None:
        (here / name).unlink(missing_ok=True)
        (here / name).symlink_to(target)

    return setup


def tensors(name: str, change: Callable[[dict[str, torch.Tensor]], Any]) -> Setup:
    """A safetensors file with other tensors."""

    def setup(here: Path, _: Path) -> None:
        values = safetensors.torch.load_file(here / name)
        change(values)
        safetensors.torch.save_file(values, here / name)

    return setup


def first(change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[dict[str, torch.Tensor]], None]:
    """A change of the first tensor."""

    def of(values: dict[str, torch.Tensor]) -> None:
        name = min(values)
        values[name] = change(values[name])

    return of


STEP = "checkpoints/step-000000002"


def signed(run: str, step: str = STEP) -> Setup:
    """A manifest with the hashes that the files have now, as whoever changes a file on purpose would write it."""

    def setup(here: Path, _: Path) -> None:
        root = here / run / step
        values = json.loads((root / "manifest.json").read_text())
        for name, entry in values["files"].items():
            entry["bytes"], entry["sha256"] = (root / name).stat().st_size, sha256_of(root / name)
        (root / "manifest.json").write_text(json.dumps(values))

    return setup


def damaged(run: str, name: str, change: Callable[[str], Setup], *, sign: bool = False) -> Setup:
    """A copy of a run, one file of whose checkpoint is changed."""
    rest = (signed(run),) if sign else ()
    return then(copied(run), change(f"{run}/{STEP}/{name}"), *rest)


def images(name: str = "images", count: int = 24) -> Setup:
    """Images of two classes."""
    return lambda here, _: make_images(here / name, count) and None


def arrays(name: str, **values: Any) -> Setup:
    """An archive of NumPy."""
    return lambda here, _: np.savez(here / name, **values)


def bomb(name: str, array: str, shape: tuple[int, ...], descr: str) -> Setup:
    """A small archive of NumPy that unpacks to something large."""

    def setup(here: Path, _: Path) -> None:
        with zipfile.ZipFile(here / name, "w") as archive:
            add_zeros(archive, f"{array}.npy", shape, descr)

    return setup


def foreign(name: str, content: Any) -> Setup:
    """A file of PyTorch's."""
    return lambda here, _: torch.save(content, here / name)  # noqa: TID251  # a foreign file


def torch_saved(name: str, change: Callable[[dict[str, torch.Tensor]], Any]) -> Setup:
    """The world's foreign checkpoint with other tensors."""

    def setup(here: Path, world: Path) -> None:
        values = torch.load(world / "dit.pt", weights_only=True)  # noqa: TID251  # a foreign file
        change(values)
        torch.save(values, here / name)  # noqa: TID251  # a foreign file

    return setup


def tar(name: str, members: dict[str, bytes]) -> Setup:
    """A tar file."""

    def setup(here: Path, _: Path) -> None:
        (here / name).parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(here / name, "w") as archive:
            for member, content in members.items():
                info = tarfile.TarInfo(member)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))

    return setup


def table(name: str, labels: list[int | None]) -> Setup:
    """A Parquet file of images with these labels."""

    def setup(here: Path, _: Path) -> None:
        import pyarrow
        import pyarrow.parquet

        (here / name).parent.mkdir(parents=True, exist_ok=True)
        pictures = [{"bytes": png(), "path": "a.png"} for _ in labels]
        pyarrow.parquet.write_table(pyarrow.table({"image": pictures, "label": labels}), here / name)

    return setup


def listening(name: str) -> Setup:
    """A socket in the place of a file."""

    def setup(here: Path, _: Path) -> None:
        (here / name).parent.mkdir(parents=True, exist_ok=True)
        with socket.socket(socket.AF_UNIX) as one:
            before = os.getcwd()
            os.chdir((here / name).parent)  # whose path may be too long for a socket
            one.bind(Path(name).name)
            os.chdir(before)

    return setup


def png(mode: str = "L", size: tuple[int, int] = (8, 8)) -> bytes:
    """An image as bytes."""
    stream = io.BytesIO()
    Image.new(mode, size).save(stream, "PNG")
    return stream.getvalue()


def mostly_bad(here: Path, _: Path) -> None:
    """16 images, and 30 that are none."""
    (here / "images").mkdir()
    for number in range(46):
        (here / "images" / f"{number:02}.png").write_bytes(png() if number % 3 == 0 else b"no image")


# ---------------------------------------------------------------------------------------- words that are wrong

SAMPLE = "sample @run --out out --budget 8 --iterations 2"
TRAIN = "train digits --out out --steps 2"
FOLDER = f"train --data images --size 8 --channels 1 --steps 2 --out out {NETWORK} {TRAINING}"
EVALUATE = "evaluate @run --reference @ref.npz --extractor @small.pt --num-images 8 --budget 8 --iterations 2 --out out"
COMPARE = "compare @run --budgets 8 --iterations 2 --num-images 12 --choosing-images 12 --out out"
PREPARE = "prepare @images --autoencoder @ae --size 8 --out out"
SHARDS = PREPARE.replace("@images", "shards")
ARRAY = "reference x.npz --extractor @small.pt --out out.npz"
REFERENCE = "reference digits --split test --extractor @small.pt --out out.npz"
AUTOENCODER = "train-autoencoder digits --steps 1 --out out"
IMPORT = "import @dit.pt --heads 3 --out out"

WORDS = [
    Case("", "a command is missing"),
    Case("''", "there is no command ''"),
    Case("--out x", "there is no command '--out'"),
    Case("TRAIN digits", "there is no command 'TRAIN'"),
    Case("samples @run", r"did you mean sample\?"),
    Case("train", "--out is missing|--recipe|recipe is missing|RECIPE"),
    Case("train digits", "--out"),
    Case("train nonsense --out out", "nonsense"),
    Case("train none.json --out out", "none.json"),
    Case("train '' --out out", "expected"),
    Case("train digits digits --out out", "unexpected argument 'digits'"),
    Case(f"{TRAIN} --lr 1", "did you mean --learning-rate "),
    Case(f"{TRAIN} --fp16", "did you mean --mixed-precision "),
    Case(f"{TRAIN} --resolution 8", "did you mean --size "),
    Case(f"{TRAIN} --epochs 3", "did you mean --steps "),
    Case(f"{TRAIN} --batch-size", "--batch-size"),
    Case(f"{TRAIN} --batch-size 1.5", "--batch-size is '1.5'; expected an integer"),
    Case(f"{TRAIN} --batch-size 1e3", "--batch-size is '1e3'; expected an integer"),
    Case(f"{TRAIN} --batch-size -1", "batch_size is -1"),
    Case(f"{TRAIN} --batch-size 1000000000000", "batch_size is 1000000000000"),
    Case(f"{TRAIN} --learning-rate 0", "learning_rate is 0"),
    Case(f"{TRAIN} --learning-rate nan", "learning_rate is nan"),
    Case(f"{TRAIN} --learning-rate inf", "learning_rate is inf"),
    Case(f"{TRAIN} --learning-rate -1e-4", "learning_rate is -0.0001"),
    Case(f"{TRAIN} --ema-decay 1", "ema_decay is 1"),
    Case(f"{TRAIN} --label-dropout 2", "label_dropout is 2"),
    Case(f"{TRAIN} --seed -1", "seed is -1"),
    Case(f"{TRAIN} --seed 18446744073709551616", "seed is 18446744073709551616"),
    Case(f"{TRAIN} --keep 1", "keep is 1"),
    Case(f"{TRAIN} --log-every 0", "log_every is 0"),
    Case(f"{TRAIN} --gradient none", "gradient is 'none'; expected one of|--gradient is 'none'"),
    Case(f"{TRAIN} --grad-iters 0", "grad_iters is 0"),
    Case(f"{TRAIN} --no-grad-iters 1000000000000", "no_grad_iters is 1000000000000"),
    Case(f"{TRAIN} --tracker mlflow", "'mlflow'; expected one of"),
    Case(f"{TRAIN} --mixed-precision fp8", "'fp8'; expected one of"),
    Case(f"{TRAIN} --width 17 --heads 4", "width"),
    Case(f"{TRAIN} --width 0", "width is 0"),
    Case(f"{TRAIN} --patch-size 3", "3"),
    Case(f"{TRAIN} --model dit-0", "0 blocks is too shallow"),
    Case(f"{TRAIN} --model dit--3", "dit--3"),
    Case(f"{TRAIN} --model ''", "there is no model ''"),
    Case(f"{TRAIN} --num-timesteps 0", "num_timesteps is 0"),
    Case(f"{TRAIN} --num-timesteps 1000000000000000000000000000000", "num_timesteps is 10+;?"),
    Case(f"{TRAIN} --prediction x", "'x'; expected one of"),
    Case("train digits --out out --steps 0", "steps, seconds and macs are all 0"),
    Case(f"{TRAIN} --workers 0", "workers is 0"),
    Case(f"{TRAIN} --size 8", "--size is for image files"),
    Case(f"{TRAIN} --channels 1", "--channels is for image files"),
    Case(f"{TRAIN} --crop adm", "--crop is for image files"),
    Case("train-autoencoder digits --steps 1 --size 8 --out out", "--size is for image files"),
    Case(f"{TRAIN} --name ''", "expected a text that is not empty"),
    Case(f"{TRAIN} --init-block 1", "init_block"),
    Case(f"{TRAIN} --init-from none", "none"),
    Case(f"{SAMPLE} --num-images 0", "num_images is 0"),
    Case(f"{SAMPLE} --num-images -5", "num_images is -5"),
    Case(f"{SAMPLE} --num-samples 5", "did you mean --num-images "),
    Case(f"{SAMPLE} --steps 5", "did you mean --budget "),
    Case(f"{SAMPLE} --cfg-scale 5", "did you mean --guidance "),
    Case(f"{SAMPLE} --sampling-method ddim", "did you mean --sampler "),
    Case(f"{SAMPLE} --scheduler pndm", "PNDMScheduler does not end in pure noise"),
    Case(f"{SAMPLE} --scheduler eulr", r"did you mean Euler\w+\?"),
    Case(f"{SAMPLE} --seed -1", "seed is -1"),
    Case(f"{SAMPLE} --seed 9223372036854775808", "seed is 9223372036854775808"),
    Case(f"{SAMPLE} --batch-size 0", "batch_size is 0"),
    Case(f"{SAMPLE} --class 10", "10"),
    Case(f"{SAMPLE} --class -1", "-1"),
    Case(f"{SAMPLE} --class cat", "cat"),
    Case(f"{SAMPLE} --class ''", "class"),
    Case(f"{SAMPLE} --sampler euler", "'euler'; expected one of"),
    Case(f"{SAMPLE} --grid phi^0", "phi"),
    Case(f"{SAMPLE} --grid phi^nan", "phi"),
    Case(f"{SAMPLE} --grid phi^", "phi"),
    Case(f"{SAMPLE} --guidance -1", "guidance is -1"),
    Case(f"{SAMPLE} --guidance nan", "guidance is nan"),
    Case("sample @run --out out --budget 0", "budget is 0"),
    Case("sample @run --out out --budget 6 --iterations 5", "a budget of 6 block passes is below one step"),
    Case("sample @run --out out --budget 10000000000000", "budget is 10000000000000"),
    Case("sample @run --out out --budget 100000 --iterations 5", "100000|steps"),
    Case("sample @run @run --out out", "unexpected argument"),
    Case("sample @run", "--out"),
    Case(f"{EVALUATE} --num-images 1", "num_images is 1"),
    Case(f"{EVALUATE} --labels none", "'none'; expected one of"),
    Case(f"{EVALUATE} --piece-size 0", "piece_size is 0"),
    Case(f"{EVALUATE} --manifold-images 3", "manifold_images is 3"),
    Case("evaluate @run --out out", "--reference"),
    Case(f"{COMPARE} --budgets", "budgets is empty"),
    Case(f"{COMPARE} --budgets 0", "budgets"),
    Case(f"{COMPARE} --num-images 5", "num_images"),
    Case(f"{COMPARE} --num-images 20 20 20", "expected one number, or one for each budget"),
    Case(f"{COMPARE} --seed 18446744073709551616", "seed is 18446744073709551616"),
    Case(f"{COMPARE} --reuse sometimes", "'sometimes'; expected one of"),
    Case(f"{COMPARE} --redraw other", "leave out the runs and --out"),
    Case("compare --out out", "RUNS|runs|no run"),
    Case(f"{PREPARE} --dtype float64", "'float64'; expected one of"),
    Case(f"{PREPARE} --shard-size 0", "shard_size is 0"),
    Case(f"{PREPARE} --holdout -1", "holdout is -1"),
    Case(f"{PREPARE} --device gpu", "gpu"),
    Case(f"{PREPARE} --device cuda:99", "cuda:99"),
    Case(f"{PREPARE} --pad -1", "pad is -1"),
    Case(f"{PREPARE} --crop round", "'round'; expected one of"),
    Case("prepare digits --autoencoder @ae --size 16 --out out", "--size is for image files"),
    Case("prepare @images --out out", "--autoencoder"),
    Case("prepare @images --autoencoder '' --out out", "--autoencoder is empty"),
    Case(f"{REFERENCE} --split other", "'other'; expected one of"),
    Case(f"{REFERENCE} --features -1", "features is -1"),
    Case(f"{REFERENCE} --channels 2", "--channels is '2'; expected one of 1, 3"),
    Case("reference digits", "--out"),
    Case(f"{AUTOENCODER} --stage-channels", "stage_channels is empty"),
    Case(f"{AUTOENCODER} --stage-channels 3 --groups 2", "stage_channels"),
    Case(f"{AUTOENCODER} --stage-channels 4 4 4 4 4", "not divisible by the factor 16"),
    Case(f"{AUTOENCODER} --kl-weight -1", "kl_weight is -1"),
    Case(f"{AUTOENCODER} --reconstruction lpips", "'lpips'; expected one of"),
    Case("train-autoencoder digits --steps 0 --out out", "steps and seconds are both 0"),
    Case(f"{IMPORT} --weights raw", "raw.*expected one of"),
    Case(f"{IMPORT} --heads 5", "5"),
    Case(f"{IMPORT} --heads 0", "heads is 0"),
    Case("import @dit.pt --out out", "--heads"),
    Case(f"{IMPORT} --prediction epsilon --zero-terminal-snr", "epsilon"),
    Case("describe", "MODEL is missing"),
    Case("describe fpdm-xxl/2", "there is no model 'fpdm-xxl/2'"),
    Case("describe fpdm-xl/3", "there is no model 'fpdm-xl/3'"),
    Case("describe fpdm-xl/2 --iterations 1000000000000000000000000", "iterations is 1000000000000000000000000"),
    Case("describe fpdm-xl/2 --json --json yes", "unexpected argument 'yes'|yes"),
    Case("reproduce table99 --out out", "table99"),
    Case("reproduce --out out", "names|NAMES"),
    Case("reproduce table1 --quick --workers 0 --out out", "workers is 0"),
    Case("reproduce table2 --pictures none --out out", "none"),
    Case("reproduce table1 --autoencoder ./none --out out", "the autoencoder ./none does not exist"),
    Case("reproduce table1 --data-root none --out out", "data-root is none; expected the folder"),
    Case("tune @run --candidates 1000000000000 --out out", "candidates is 1000000000000; expected at most 1080"),
]

LONG = "n" * 300
NAMES = [
    Case(f"sample {LONG} --out out", "no run with a checkpoint|name too long"),
    Case(f"train --data {LONG} --out out", "name too long|does not exist|no folder"),
    Case(f"train digits --steps 2 --out {LONG}", "name too long"),
    Case(f"reference {LONG} --extractor @small.pt --out out.npz", "name too long|does not exist|no folder|nor"),
    Case(f"import {LONG}.pt --out out", "name too long|does not exist"),
    Case(f"prepare @images --autoencoder {LONG} --size 8 --out out", "name too long|autoencoder|n…n"),
    Case("sample 'a\x1b[31mb' --out out", r"a\\x1b\[31mb"),
    Case("sample 'a\nb' --out out", r"there is no model 'a\\nb'"),
    Case("train --data 'a\x00b' --out out", "null|a.x00b"),
    Case("sample 'a\x00b' --out out", "null|a.x00b"),
    Case("sample @run --budget 8 --out 'a\x00b'", "null|a.x00b"),
    Case("sample \udcff --out out", "is no text in UTF-8"),
    Case("train digits --steps 2 --out out --name \udcff", "is no text in UTF-8"),
]

# ---------------------------------------------------------------------------------------- places to write to

_FILE, _MINE = written("file"), written("mine/notes.txt")
_OTHER_COMMAND = "was made by fpdm "
PLACES = [
    *(
        Case(line.replace("--out out", f"--out {place}"), says, setup=setup)
        for line in (SAMPLE, TRAIN, IMPORT, PREPARE, AUTOENCODER)
        for place, says, setup in (
            ("file", "file is a file; expected a folder", _FILE),
            ("file/under", "file is a file; expected a folder", _FILE),
            ("mine", "has other files, such as notes.txt", _MINE),
        )
    ),
    *(
        Case(line.replace("--out out", f"--out {place}"), says, setup=setup)
        for line in (EVALUATE, COMPARE)
        for place, says, setup in (
            ("file/under", "file is a file; expected a folder", _FILE),
            ("mine", "has other files, such as notes.txt", _MINE),
            ("sampled", _OTHER_COMMAND + "sample", copied("sampled")),
        )
    ),
    Case(SAMPLE.replace("--out out", "--out ''"), "--out is empty; expected a path"),
    Case(SAMPLE.replace("--out out", "--out ' '"), "--out is empty; expected a path"),
    *(
        Case(line.replace("--out out", "--out new/../.."), r"there is no new, so that \.\. in it leads nowhere")
        for line in (SAMPLE, TRAIN, PREPARE, EVALUATE, "export @run --out out")
    ),
    Case(SAMPLE.replace("--out out", "--out ."), "has other files", setup=written("notes.txt")),
    Case(SAMPLE.replace("--out out", "--out run"), _OTHER_COMMAND + "train", setup=copied("run")),
    *(
        Case(f"{line} --out run/{name}/new", f"lies in the run's {name}", setup=copied("run"))
        for line, name in (
            ("sample run --budget 8 --iterations 2", "samples"),
            ("sample run --budget 8 --iterations 2", "checkpoints"),
            ("evaluate run --reference @ref.npz --extractor @small.pt --num-images 8 --budget 8", "checkpoints"),
            ("compare @dit run --budgets 8 --iterations 2", "tensorboard"),
        )
    ),
    Case(f"{SAMPLE.replace('out out', 'out sampled')} --seed 7", "another seed", setup=copied("sampled")),
    Case(
        f"{SAMPLE.replace('out out', 'out out')}", "000001.png", setup=written("out/000001.png", png()), about="foreign"
    ),
    *(
        Case(
            SAMPLE.replace("out out", "out sampled"),
            says,
            setup=then(copied("sampled"), change),
            about=f"image {about}",
        )
        for about, says, change in (
            ("of others", "an image of 3 x 8 x 8", written("sampled/000001.png", png("RGB"))),
            ("of another size", "an image of 1 x 9 x 8", written("sampled/000001.png", png(size=(8, 9)))),
            ("a pipe", "is a pipe", pipe("sampled/000001.png")),
            ("a folder", "is a folder", then(gone("sampled/000001.png"), folder("sampled/000001.png"))),
        )
    ),
    Case("train --data images --size 8 --steps 2 --out images/run", "lies in the image folder", setup=images()),
    Case("train --data images --size 8 --steps 2 --out images", "lies in the image folder", setup=images()),
    Case("prepare images --autoencoder @ae --size 8 --out images/c", "lies in the image folder", setup=images()),
    Case("train-autoencoder images --size 8 --steps 1 --out images/c", "lies in the image folder", setup=images()),
    Case("import model --out model", "lies in the checkpoint model|model", setup=folder("model")),
    Case(PREPARE.replace("--size 8", "--size 16").replace("out out", "out cache"), "size", setup=copied("cache")),
    Case(f"{TRAIN.replace('out out', 'out run')} --batch-size 7 --width 32", "another recipe", setup=copied("run")),
    Case(REFERENCE, "exists already", setup=written("out.npz")),
    Case(REFERENCE, "is a folder; expected a file", setup=folder("out.npz"), about="a folder"),
    Case("reference ref.npz --extractor @small.pt --out ref.npz", "ref.npz", setup=copied("ref.npz")),
    Case(REFERENCE.replace("out.npz", "file/out.npz"), "file is a file; expected a folder", setup=_FILE),
    Case(REFERENCE.replace("out.npz", "''"), "--out is empty; expected a path"),
    Case(EVALUATE.replace("out out", "out evaluated") + " --seed 3", "another seed", setup=copied("evaluated")),
    Case("compare --redraw sampled", "sampled", setup=copied("sampled")),
    Case("compare --redraw none", "none"),
    Case(
        "compare --redraw compared", "images.png is a pipe", setup=then(copied("compared"), pipe("compared/images.png"))
    ),
    Case(
        "compare --redraw compared",
        "images.png is damaged: it is no PNG",
        setup=then(copied("compared"), written("compared/images.png")),
        about="text",
    ),
    Case(
        "compare --redraw compared",
        "images.png is damaged: .*; expected 0 x",
        setup=then(copied("compared"), edited("compared/compare.json", put("images", "columns", value=0))),
        about="no columns",
    ),
    Case(
        "compare --redraw compared",
        "compare.json.* nan",
        setup=then(copied("compared"), edited("compared/compare.json", put("rows", 0, "distance", value=math.nan))),
        about="a distance of nan",
    ),
    Case("sample @run --budget 8 --iterations 2 --out loop", "loop|symbolic links", setup=link("loop", "loop")),
    Case("reproduce table1 --quick --out mine", "has other files, such as notes.txt", setup=_MINE),
]

# ---------------------------------------------------------------------------------------- images

DATA = [
    Case(FOLDER, "images", about="missing"),
    Case(FOLDER, "no image|images", setup=folder("images"), about="empty"),
    Case(FOLDER, "no image", setup=written("images/readme.txt"), about="no images"),
    Case(FOLDER, "no image", setup=written("images/a/0.png", "no image"), about="all bad"),
    Case(FOLDER, "no image", setup=written("images/a/0.png", b""), about="all empty"),
    Case(FOLDER, "expected|too few|at least", setup=images(count=1), about="one image"),
    Case(FOLDER, "images", setup=written("images"), about="a file"),
    Case(FOLDER, "images", setup=link("images", "images"), about="a loop"),
    Case(FOLDER, "images", setup=link("images", "nowhere"), about="a broken link"),
    Case(FOLDER, "no image", setup=pipe("images/a/0.png"), about="a pipe"),
    Case(FOLDER, "no image", setup=listening("images/a/0.png"), about="a socket"),
    Case(f"{FOLDER} --strict", "5.png", setup=then(images(), written("images/ant/5.png", "no")), about="one bad"),
    Case(f"{FOLDER} --strict", "5.png", setup=then(images(), pipe("images/ant/5.png")), about="one pipe"),
    Case(FOLDER.replace("images", "x.tar"), "fpdm prepare", setup=tar("x.tar", {"0.png": png()})),
    Case(FOLDER.replace("images", "x.parquet"), "fpdm prepare", setup=written("x.parquet", b"PAR1")),
    Case(FOLDER.replace("images", "x.tar.gz"), "fpdm prepare", setup=written("x.tar.gz", gzip.compress(b"x"))),
    Case(
        FOLDER,
        "only the sub-folder a/b, which has 2 of its own",
        setup=lambda here, _: make_images(here / "images/a/b") and None,
        about="classes below",
    ),
    Case(FOLDER.replace("images", "x.zip"), "x.zip", setup=written("x.zip", b"PK\5\6" + bytes(18))),
    Case("train --data none --size 8 --steps 2 --out out", "none"),
    Case("train fashion-mnist --steps 2 --data-root none --out out", "none"),
    Case("train fashion-mnist --steps 2 --data-root here --out out", "here", setup=folder("here")),
    Case(
        "train fashion-mnist --steps 2 --data-root here --out out",
        "here has no train-labels-idx1-ubyte",
        setup=written("here/train-images-idx3-ubyte.gz", gzip.compress(bytes(40))),
        about="files missing",
    ),
    Case("train-autoencoder none --steps 1 --out out", "none"),
    Case(
        "train-autoencoder images --size 8 --steps 1 --out out",
        "expected at least 2 of each",
        setup=images(count=4),
    ),
    *(
        Case(line, "30 of the 46 images in .*images cannot be used", setup=mostly_bad, about="most bad")
        for line in (
            FOLDER,
            "train --data images --minutes 1 --out out",
            "train-autoencoder images --size 8 --steps 1 --out out",
            "reference images --size 8 --extractor @small.pt --out out.npz",
        )
    ),
    Case("prepare none --autoencoder @ae --size 8 --out out", "none"),
    Case(PREPARE.replace("@images", "images"), "no image|images", setup=folder("images")),
    Case(
        "prepare images --autoencoder @ae --size 8 --out out", "image", setup=written("images/a.png", "x"), about="bad"
    ),
    Case(SHARDS, "shards", setup=written("shards/0.tar", b"x" * 600)),
    Case(SHARDS, "shards", setup=written("shards/0.tar", b""), about="0"),
    Case(SHARDS, "image", setup=tar("shards/0.tar", {}), about="none"),
    Case(
        SHARDS,
        "image",
        setup=tar("shards/0.tar", {"a.txt": b"text"}),
        about="text",
    ),
    Case(SHARDS, "shards|0.tar", setup=pipe("shards/0.tar"), about="pipe"),
    Case("prepare set --autoencoder @ae --size 8 --out out", "set", setup=written("set/0.parquet", b"PAR1x")),
    Case("prepare set --autoencoder @ae --size 8 --out out", "set", setup=written("set/0.arrow", b"ARROW1")),
    Case(
        "prepare set --autoencoder @ae --size 8 --out out",
        "3 of the 4 images in .*set have no class",
        setup=table("set/0.parquet", [0, None, -1, None]),
        about="classes missing",
    ),
    Case("reference none --extractor @small.pt --out out.npz", "none"),
    Case("reference images --extractor @small.pt --out out.npz", "image", setup=folder("images")),
    Case(
        "reference images --extractor @small.pt --size 8 --out out.npz", "2|image", setup=images(count=1), about="one"
    ),
]

# ---------------------------------------------------------------------------------------- runs

DEEP = "[" * 100_000
WEIGHTS = "ema/diffusion_pytorch_model.safetensors"
CHECKPOINT = "only checkpoint in"
RUN = "sample run --budget 8 --iterations 2 --out out"


def _text(content: str | bytes) -> Callable[[str], Setup]:
    return lambda name: written(name, content)


def _values(change: Callable[[Any], Any]) -> Callable[[str], Setup]:
    return lambda name: edited(name, change)


RUNS = [
    Case("sample none --budget 8 --out out", "there is no model 'none'"),
    Case("sample '' --budget 8 --out out", "there is no model ''"),
    Case("sample ./a/b --budget 8 --out out", "there is no model './a/b'"),
    Case("sample file --budget 8 --out out", "no run with a checkpoint in file|file", setup=_FILE),
    Case("sample @images --budget 8 --out out", "no run with a checkpoint"),
    Case("sample @ae --budget 8 --out out", "no run with a checkpoint"),
    Case("sample @autoencoder --budget 8 --out out", f"{CHECKPOINT}|recipe", 3),
    Case(f"{RUN}", "no run with a checkpoint", setup=folder("run/checkpoints"), about="no checkpoint"),
    Case(f"{RUN}", "no run with a checkpoint|checkpoints", setup=written("run/checkpoints"), about="a file"),
    Case(f"{RUN}", CHECKPOINT, 3, folder(f"run/{STEP}"), "empty checkpoint"),
    *(
        Case(RUN, CHECKPOINT, 3, damaged("run", name, change), f"{name} {about}")
        for name in ("manifest.json", "state.json", "recipe.json", WEIGHTS)
        for about, change in (
            ("gone", gone),
            ("empty", _text("")),
            ("garbage", _text(b"\xff\xfe\x00garbage")),
            ("deep", _text(DEEP)),
            ("a pipe", pipe),
            ("a loop", lambda name: link(name, Path(name).name)),
            ("truncated", truncated),
            ("a folder", lambda name: then(gone(name), folder(name))),
        )
    ),
    *(
        Case(RUN, CHECKPOINT, 3, damaged("run", WEIGHTS, change, sign=True), f"signed weights {about}")
        for about, change in (
            ("empty", _text("")),
            ("garbage", _text(b"\xff" * 100)),
            ("nan", lambda name: tensors(name, first(lambda x: x * float("nan")))),
            ("complex", lambda name: tensors(name, first(lambda x: x.to(torch.complex64)))),
            ("float8", lambda name: tensors(name, first(lambda x: x.to(torch.float8_e4m3fn)))),
            ("integers", lambda name: tensors(name, first(lambda x: x.to(torch.int32)))),
            ("flat", lambda name: tensors(name, first(lambda x: x.flatten()[:1].clone()))),
            ("one too few", lambda name: tensors(name, lambda values: values.pop(min(values)))),
            ("one too many", lambda name: tensors(name, lambda values: values.update(more=torch.ones(1)))),
        )
    ),
    *(
        Case(RUN, CHECKPOINT, 3, damaged("run", "manifest.json", _values(change)), f"manifest {about}")
        for about, change in (
            ("a list", lambda _: [1]),
            ("without files", dropped("files")),
            ("no files", put("files", value={})),
            ("files a list", put("files", value=[1, 2])),
            ("a file a number", put("files", WEIGHTS, value=3)),
            ("a hash a number", put("files", WEIGHTS, "sha256", value=3)),
            ("a size a text", put("files", WEIGHTS, "bytes", value="many")),
            ("negative size", put("files", WEIGHTS, "bytes", value=-1)),
            ("without averaged weights", dropped("files", WEIGHTS)),
            ("without state", dropped("files", "state.json")),
            ("a path upwards", put("files", "../../x", value={"bytes": 1, "sha256": "0"})),
            ("an absolute path", put("files", "/etc/passwd", value={"bytes": 1, "sha256": "0"})),
            ("format a text", put("format", value="two")),
            ("format of the future", put("format", value=99)),
        )
        if about != "format of the future"
    ),
    Case(RUN, "newer|format 99", 3, damaged("run", "manifest.json", _values(put("format", value=99))), "newer"),
    *(
        Case(RUN, CHECKPOINT, 3, damaged("run", "recipe.json", _values(change), sign=True), f"signed recipe {about}")
        for about, change in (
            ("a list", lambda _: [1]),
            ("without a model", dropped("model")),
            ("model a text", put("model", value="dit")),
            ("width negative", put("model", "width", value=-8)),
            ("width a text", put("model", "width", value="8")),
            ("width another", put("model", "width", value=32)),
            ("an unknown key", put("model", "sprockets", value=1)),
            ("timesteps too many", put("schedule", "num_timesteps", value=10**30)),
            ("data without a source", put("data", "source", value="")),
        )
    ),
    *(
        Case(RUN, CHECKPOINT, 3, damaged("run", "state.json", _values(change), sign=True), f"signed state {about}")
        for about, change in (
            ("a list", lambda _: [1]),
            ("step a text", put("step", value="two")),
            ("step negative", put("step", value=-2)),
            ("seconds a list", put("seconds", value=[])),
            ("format a list", put("format", value=[])),
        )
    ),
    Case(
        RUN,
        f"warning|{CHECKPOINT}",
        3,
        then(damaged("run", WEIGHTS, flipped), lambda here, _: (here / f"run/{STEP}/extra").touch()),
        "flipped",
    ),
    Case(
        f"{RUN} --class ant",
        "data.json is of other images than the model's",
        setup=then(copied("run"), copied_as("folder-run/data.json", "run/data.json")),
    ),
    Case(
        f"{RUN.replace('run ', 'folder-run ')} --class ant",
        "data.json is of other images than the model's",
        setup=then(copied("folder-run"), copied_as("latent-run/data.json", "folder-run/data.json")),
    ),
    Case("sample @latent-run --autoencoder none --budget 8 --iterations 2 --out out", "none"),
    Case("sample @latent-run --autoencoder ae --budget 8 --iterations 2 --out out", "ae", setup=folder("ae")),
    Case(
        "sample @latent-run --autoencoder ae --budget 8 --iterations 2 --out out",
        "sha256|another|not the one",
        setup=lambda here, _: tiny(here / "ae", channels=1, scaling_factor=0.9) and None,
        about="another",
    ),
    Case(f"{TRAIN.replace('out out', 'out run')} --steps 4", "another recipe|recipe", setup=copied("run")),
    *(
        Case(
            f"train run/recipe.json --steps {steps} --out run",
            "|".join(("metrics.jsonl", CHECKPOINT)),
            code,
            then(copied("latent-run"), lambda here, _: (here / "latent-run").rename(here / "run"), change),
            f"logs {about}",
        )
        for steps, code, about, change in (
            (2, 2, "garbage", written("run/metrics.jsonl", "garbage\n")),
            (2, 2, "a blank line", written("run/metrics.jsonl", "\n\n")),
            (2, 2, "other bytes", written("run/metrics.jsonl", b"\xff\xfe\n")),
            (2, 2, "a pipe", pipe("run/metrics.jsonl")),
            (2, 2, "a changed figure", flipped("run/metrics.jsonl", 12)),
            (2, 2, "a folder", then(gone("run/metrics.jsonl"), folder("run/metrics.jsonl"))),
        )
    ),
]

# ---------------------------------------------------------------------------------------- caches and autoencoders

CACHED = f"train --data cache --steps 2 --out out {NETWORK} {TRAINING}"
SHARD = "cache/train-00001.safetensors"
CACHES = [
    *(
        Case(CACHED, "cache", setup=then(copied("cache"), change), about=f"cache.json {about}")
        for about, change in (
            ("empty", written("cache/cache.json", "")),
            ("garbage", written("cache/cache.json", b"\xff\xfe")),
            ("deep", written("cache/cache.json", DEEP)),
            ("a list", edited("cache/cache.json", lambda _: [1])),
            ("a number", edited("cache/cache.json", lambda _: 3)),
            ("a pipe", pipe("cache/cache.json")),
            ("without format", edited("cache/cache.json", dropped("format"))),
            ("format a text", edited("cache/cache.json", put("format", value="x"))),
            ("newer", edited("cache/cache.json", put("format", value=99))),
            ("without splits", edited("cache/cache.json", dropped("splits"))),
            ("splits a list", edited("cache/cache.json", put("splits", value=[]))),
            ("no shards", edited("cache/cache.json", put("splits", "train", value=[]))),
            ("shape a text", edited("cache/cache.json", put("shape", value="abc"))),
            ("shape short", edited("cache/cache.json", put("shape", value=[4]))),
            ("shape absurd", edited("cache/cache.json", put("shape", value=[10**9] * 3))),
            ("shape negative", edited("cache/cache.json", put("shape", value=[-4, 4, 4]))),
            ("classes a number", edited("cache/cache.json", put("classes", value=3))),
            ("labels a text", edited("cache/cache.json", put("labels", value="ab"))),
            ("one class too few", edited("cache/cache.json", put("classes", value=["ant"]))),
            ("images negative", edited("cache/cache.json", put("splits", "train", 0, "images", value=-6))),
            ("images a text", edited("cache/cache.json", put("splits", "train", 0, "images", value="6"))),
            ("a file upwards", edited("cache/cache.json", put("splits", "train", 0, "file", value="../../x"))),
            ("mean a text", edited("cache/cache.json", put("mean", value="x"))),
            ("std zero", edited("cache/cache.json", put("std", value="0"))),
        )
    ),
    *(
        Case(CACHED, "train-00001", setup=then(copied("cache"), change), about=f"shard {about}")
        for about, change in (
            ("gone", gone(SHARD)),
            ("truncated", truncated(SHARD)),
            ("flipped", flipped(SHARD)),
            ("empty", written(SHARD, "")),
            ("a pipe", pipe(SHARD)),
            ("a folder", then(gone(SHARD), folder(SHARD))),
        )
    ),
    *(
        Case(PREPARE.replace("out out", "out cache"), "plan.json", setup=then(copied("cache"), change), about=about)
        for about, change in (
            ("plan empty", written("cache/plan.json", "")),
            ("plan deep", written("cache/plan.json", DEEP)),
            ("plan a list", edited("cache/plan.json", lambda _: [1])),
            ("plan without data", edited("cache/plan.json", dropped("data"))),
            ("plan a pipe", pipe("cache/plan.json")),
        )
    ),
]

ENCODE = "prepare @images --autoencoder ae --size 8 --out out"
AE_WEIGHTS = "ae/diffusion_pytorch_model.safetensors"
AUTOENCODERS = [
    Case(ENCODE, "ae", about="missing"),
    Case(ENCODE, "ae", setup=folder("ae"), about="empty folder"),
    Case(ENCODE, "ae", setup=written("ae"), about="a file"),
    *(
        Case(ENCODE, r"\bae|the autoencoder", setup=then(copied("ae"), change), about=about)
        for about, change in (
            ("config gone", gone("ae/config.json")),
            ("config empty", written("ae/config.json", "")),
            ("config deep", written("ae/config.json", DEEP)),
            ("config a list", edited("ae/config.json", lambda _: [1])),
            ("config a pipe", pipe("ae/config.json")),
            ("another class", edited("ae/config.json", put("_class_name", value="AutoencoderDC"))),
            ("a UNet", edited("ae/config.json", put("_class_name", value="UNet2DModel"))),
            ("channels a text", edited("ae/config.json", put("block_out_channels", value="many"))),
            ("channels absurd", edited("ae/config.json", put("block_out_channels", value=[10**9] * 2))),
            ("groups wrong", edited("ae/config.json", put("norm_num_groups", value=3))),
            ("scale a text", edited("ae/config.json", put("scaling_factor", value="x"))),
            ("scale zero", edited("ae/config.json", put("scaling_factor", value=0))),
            ("shift a text", edited("ae/config.json", put("shift_factor", value="x"))),
            ("shift infinite", edited("ae/config.json", put("shift_factor", value=float("inf")))),
            ("means a text", edited("ae/config.json", put("latents_mean", value="x"))),
            ("means too few", edited("ae/config.json", put("latents_mean", value=[0.0]))),
            ("unknown blocks", edited("ae/config.json", put("down_block_types", value=["None"] * 2))),
            ("weights gone", gone(AE_WEIGHTS)),
            ("weights empty", written(AE_WEIGHTS, "")),
            ("weights truncated", truncated(AE_WEIGHTS)),
            ("weights a pipe", pipe(AE_WEIGHTS)),
            ("weights nan", tensors(AE_WEIGHTS, first(lambda x: x * float("nan")))),
            ("weights complex", tensors(AE_WEIGHTS, first(lambda x: x.to(torch.complex64)))),
            ("weights flat", tensors(AE_WEIGHTS, first(lambda x: x.flatten()[:1].clone()))),
            ("one too few", tensors(AE_WEIGHTS, lambda values: values.pop(min(values)))),
            ("fpdm.json a list", written("ae/fpdm.json", "[1]")),
            ("fpdm.json negative", written("ae/fpdm.json", '{"pad": -1}')),
            ("fpdm.json a text", written("ae/fpdm.json", '{"pad": "1"}')),
            ("fpdm.json deep", written("ae/fpdm.json", DEEP)),
        )
    ),
    Case("prepare images --autoencoder @ae --size 7 --out out", "7", setup=images(), about="not divisible"),
]

# ---------------------------------------------------------------------------------------- references and networks

MEASURE = EVALUATE.replace("@ref.npz", "ref.npz")
_HALF = np.zeros(6), np.eye(6)
REFERENCES = [
    *(
        Case(MEASURE, "ref.npz", setup=setup, about=f"reference {about}")
        for about, setup in (
            ("missing", lambda *_: None),
            ("a folder", folder("ref.npz")),
            ("empty", written("ref.npz", "")),
            ("text", written("ref.npz")),
            ("a pipe", pipe("ref.npz")),
            ("truncated", then(copied("ref.npz"), truncated("ref.npz", 100))),
            ("flipped", then(copied("ref.npz"), flipped("ref.npz", 200))),
            ("an empty archive", written("ref.npz", b"PK\5\6" + bytes(18))),
            ("other arrays", arrays("ref.npz", x=np.zeros(3))),
            ("mean alone", arrays("ref.npz", mu=_HALF[0])),
            ("shapes", arrays("ref.npz", mu=np.zeros(5), sigma=_HALF[1])),
            ("not square", arrays("ref.npz", mu=_HALF[0], sigma=np.zeros((6, 5)))),
            ("nan", arrays("ref.npz", mu=_HALF[0] * np.nan, sigma=_HALF[1])),
            ("not symmetric", arrays("ref.npz", mu=_HALF[0], sigma=np.triu(np.ones((6, 6))))),
            ("negative", arrays("ref.npz", mu=_HALF[0], sigma=-_HALF[1])),
            ("complex", arrays("ref.npz", mu=_HALF[0] * 1j, sigma=_HALF[1])),
            ("text arrays", arrays("ref.npz", mu=np.array(["a"] * 6), sigma=_HALF[1])),
            ("another size", arrays("ref.npz", mu=np.zeros(2048), sigma=np.eye(2048))),
            ("objects", arrays("ref.npz", mu=np.array([{}, []], dtype=object), sigma=_HALF[1])),
            ("a bomb of mu", bomb("ref.npz", "mu", (10**10,), "<f8")),
            ("a bomb of sigma", bomb("ref.npz", "sigma", (10**5, 10**5), "<f8")),
            ("a bomb of images", bomb("ref.npz", "arr_0", (10**7, 256, 256, 3), "|u1")),
        )
    ),
    *(
        Case(EVALUATE.replace("@small.pt", "net.pt"), "net.pt", setup=setup, about=f"network {about}")
        for about, setup in (
            ("missing", lambda *_: None),
            ("a folder", folder("net.pt")),
            ("empty", written("net.pt", "")),
            ("text", written("net.pt")),
            ("a pipe", pipe("net.pt")),
            ("weights", foreign("net.pt", {"a": torch.ones(1)})),
            (
                "truncated",
                then(copied_as("small.pt", "net.pt"), truncated("net.pt", 99)),
            ),
        )
    ),
    Case("evaluate @run --reference @ref.npz --weights none.pth --num-images 8 --budget 8 --out out", "none.pth|small"),
    Case(ARRAY, "x.npz", setup=written("x.npz")),
    Case(ARRAY, "arr_0", setup=arrays("x.npz", x=np.ones(3)), about="x"),
    Case(
        ARRAY,
        "uint8|arr_0",
        setup=arrays("x.npz", arr_0=np.ones((4, 8, 8, 3))),
        about="floats",
    ),
    Case(
        ARRAY,
        "arr_0",
        setup=arrays("x.npz", arr_0=np.ones((4, 8, 8), np.uint8)),
        about="grey",
    ),
]

# ---------------------------------------------------------------------------------------- foreign checkpoints

TAKE = "import x.pt --heads 3 --out out"
FOREIGN = [
    Case("import none.pt --out out", "none.pt does not exist|none.pt"),
    Case("import x --out out", "x", setup=folder("x"), about="an empty folder"),
    Case("import @run --out out", "run"),
    Case("import @ae --out out", "Autoencoder"),
    Case("import ../.. --out out", r"\.\."),
    *(
        Case(TAKE, "x.pt", setup=setup, about=about)
        for about, setup in (
            ("empty", written("x.pt", "")),
            ("text", written("x.pt")),
            ("a folder", folder("x.pt")),
            ("a pipe", pipe("x.pt")),
            ("an old pickle", written("x.pt", b"\x80\x02}q\x00.")),
            ("a list", foreign("x.pt", [1, 2])),
            ("a number", foreign("x.pt", 3)),
            ("no weights", foreign("x.pt", {})),
            ("other weights", foreign("x.pt", {"conv.weight": torch.ones(3, 3)})),
            ("numbers for names", foreign("x.pt", {1: torch.ones(3)})),
            ("truncated", then(copied_as("dit.pt", "x.pt"), truncated("x.pt", 999))),
            ("nan", torch_saved("x.pt", first(lambda x: x * float("nan")))),
            ("complex", torch_saved("x.pt", first(lambda x: x.to(torch.complex64)))),
            ("integers", torch_saved("x.pt", first(lambda x: x.to(torch.int32)))),
            ("flat", torch_saved("x.pt", first(lambda x: x.flatten()[:1].clone()))),
            ("one too few", torch_saved("x.pt", lambda values: values.pop("x_embedder.proj.bias"))),
            ("one too many", torch_saved("x.pt", lambda values: values.update(more=torch.ones(1)))),
            ("a block too few", torch_saved("x.pt", lambda values: [values.pop(n) for n in [*values] if ".0." in n])),
            ("no tensor", torch_saved("x.pt", lambda values: values.update({"x_embedder.proj.bias": 3}))),
        )
    ),
    Case("import x.safetensors --out out", "x.safetensors", setup=written("x.safetensors", "")),
    Case("import x.safetensors --out out", "x.safetensors", setup=written("x.safetensors", b"\xff" * 64), about="huge"),
    Case("import x.txt --out out", "x.txt", setup=written("x.txt")),
    Case("import x --out out", "x", setup=written("x/config.json", DEEP), about="deep"),
    Case("import x --out out", "x", setup=written("x/config.json", "[]"), about="a list"),
    Case("import x --out out", "UNet", setup=written("x/config.json", '{"_class_name": "UNet2DModel"}'), about="UNet"),
    Case(
        "import x --out out",
        "x",
        setup=written("x/config.json", '{"_class_name": "DiTTransformer2DModel"}'),
        about="no weights",
    ),
    Case(
        "import x --out out", "x", setup=written("x/model_index.json", '{"_class_name": "DiTPipeline"}'), about="pipe"
    ),
]

# ---------------------------------------------------------------------------------------- recipes


def recipe(change: Callable[[Any], Any]) -> Setup:
    """A recipe of the user's, made from one of a run's."""

    def setup(here: Path, world: Path) -> None:
        shutil.copy(world / "run" / "recipe.json", here / "r.json")
        edited("r.json", change)(here, world)

    return setup


OF_RECIPE = "train r.json --out out"
RECIPES = [
    *(
        Case(OF_RECIPE, "r.json", setup=setup, about=about)
        for about, setup in (
            ("missing", lambda *_: None),
            ("empty", written("r.json", "")),
            ("garbage", written("r.json", b"\xff\xfe")),
            ("text", written("r.json", "text")),
            ("deep", written("r.json", DEEP)),
            ("a pipe", pipe("r.json")),
            ("a list", written("r.json", "[]")),
            ("a number", written("r.json", "3")),
            ("no keys", written("r.json", "{}")),
            ("a key twice", written("r.json", '{"name": "a", "name": "b"}')),
            ("digits without end", written("r.json", '{"name": ' + "1" * 10_000 + "}")),
            ("an unknown key", recipe(put("sprockets", value=1))),
            ("an unknown key within", recipe(put("train", "sprockets", value=1))),
            ("a key too few", recipe(dropped("train"))),
            ("steps a text", recipe(put("train", "steps", value="3"))),
            ("steps true", recipe(put("train", "steps", value=True))),
            ("steps null", recipe(put("train", "steps", value=None))),
            ("rate infinite", recipe(put("train", "learning_rate", value=float("inf")))),
            ("rate nan", recipe(put("train", "learning_rate", value=float("nan")))),
            ("a list for a table", recipe(put("model", value=[]))),
            ("heads do not divide", recipe(put("model", "heads", value=3))),
        )
    ),
    Case("train r.json --model dit --out out", "--model dit is for a recipe with a name", setup=recipe(lambda _: None)),
    Case("train . --out out", "is a folder; to train on the images in it", setup=folder("x")),
    Case("train r.json --data none --out out", "none", setup=recipe(lambda _: None), about="other data"),
]


def every() -> Iterator[Case]:
    """All cases that are tried in one process."""
    for some in (WORDS, NAMES, PLACES, DATA, RUNS, CACHES, AUTOENCODERS, REFERENCES, FOREIGN, RECIPES):
        yield from some
