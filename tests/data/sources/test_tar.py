"""Tar shards against the files that they were made from."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from fpdm.data.sources.source import Source
from tests.data.sources.small import PIXELS, opened, pack, png, read


def test_tar_shards_are_read_without_being_unpacked(tmp_path: Path) -> None:
    pack(
        tmp_path / "0.tar",
        {
            "a/0.png": png(PIXELS[0]),
            "a/0.cls": b"4",
            "b/0.cls": b"2\n",
            "b/0.seg.txt": b"text",
            "b/0.PNG": png(PIXELS[1]),
            "../outside.png": png(PIXELS[2]),
            "../outside.json": b'{"label": 1}',
            "none.png": png(PIXELS[3]),
            "text.txt": b"text",
        },
    )
    pack(tmp_path / "1.tar", {"x.json": b'{"label": 0}', "x.png": png(PIXELS[4])})
    with tarfile.open(tmp_path / "1.tar", "a") as archive:
        link = tarfile.TarInfo("y.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
        archive.addfile(link)
    source = opened(tmp_path)
    assert read(source) == [(0, 4), (1, 2), (2, 1), (4, 0)]
    assert read(source, 2, 4) == [(2, 1), (4, 0)]
    assert [(str(one.path), one.reason) for one in source.skipped] == [
        ("0.tar/none.png", "without a class, which others have")
    ]
    assert {path.name for path in tmp_path.iterdir()} == {"0.tar", "1.tar"}
    assert not (tmp_path.parent / "outside.png").exists()


def test_a_truncated_tar_is_used_up_to_there(tmp_path: Path) -> None:
    pack(tmp_path / "0.tar", {f"{i}.png": png(PIXELS[i]) for i in range(3)})
    whole = (tmp_path / "0.tar").read_bytes()
    (tmp_path / "0.tar").write_bytes(whole[:1600])
    source = opened(tmp_path)
    assert read(source, 0, 1) == [(0, 0)]
    assert not source.labelled
    assert "damaged" in source.skipped[0].reason
    (tmp_path / "0.tar").write_bytes(b"no archive")
    with pytest.raises(ValueError, match="hold no image"):
        opened(tmp_path)


def header(tar: Path, name: str) -> int:
    """Where a member's header begins."""
    with tarfile.open(tar) as archive:
        return archive.getmember(name).offset


@pytest.mark.parametrize("how", ["header", "zeros", "cut before", "cut within", "no end"])
def test_a_tar_that_does_not_end_is_no_whole_one(how: str, tmp_path: Path) -> None:
    tar = tmp_path / "0.tar"
    pack(tar, {f"{i}.png": png(PIXELS[i]) for i in range(5)})
    whole, place = tar.read_bytes(), header(tar, "3.png")
    changed = {
        "header": whole[:place] + b"?" + whole[place + 1 :],
        "zeros": whole[:place] + bytes(1024) + whole[place + 1024 :],
        "cut before": whole[:place],
        "cut within": whole[: place + 100],
        "no end": whole[: len(whole.rstrip(b"\0")) // 512 * 512 + 512],
    }
    tar.write_bytes(changed[how])
    source = opened(tmp_path)
    assert read(source, 0, 2) == [(0, 0), (1, 0)]
    assert [str(one.path) for one in source.skipped] == ["0.tar"]
    assert "damaged, read up to there" in source.skipped[0].reason


def test_whole_tars_of_any_program_pass(tmp_path: Path) -> None:
    files = {f"{i}.png": png(PIXELS[i]) for i in range(3)}
    pack(tmp_path / "0.tar", files)  # padded to 10240 bytes
    end = header(tmp_path / "0.tar", "2.png") + 512 + -(-len(files["2.png"]) // 512) * 512
    padded = (tmp_path / "0.tar").read_bytes()
    assert len(padded) % 10240 == 0
    (tmp_path / "1.tar").write_bytes(padded[: end + 1024])
    (tmp_path / "2.tar").write_bytes(padded[: end + 512])
    shards = 3
    if shutil.which("tar"):
        for name, value in files.items():
            (tmp_path / name).write_bytes(value)
        for blocks in ("1", "20", "128"):
            subprocess.run(["tar", "-b", blocks, "-cf", f"{shards}.tar", *files], cwd=tmp_path, check=True)
            shards += 1
    source = opened(tmp_path)
    assert not source.skipped
    assert read(source) == [(0, 0), (1, 0), (2, 0)] * shards


def labelled(tmp_path: Path, labels: dict[str, bytes], images: int = 4) -> Source:
    """A tar of images with files of labels beside them."""
    members = {f"{i}.png": png(PIXELS[i]) for i in range(images)}
    pack(tmp_path / "0.tar", dict(sorted((members | labels).items())))
    return opened(tmp_path)


def classes(source: Source) -> list[str]:
    """The class of each image, by its name."""
    return [source.used_classes({raw.label: 1})[raw.label] for raw in source.parts["train"].read(0, 100)]


@pytest.mark.parametrize("ending", ["cls", "class", "label", "CLS", "json", "txt"])
@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (["cat", "dog", "cat", "dog\r\n"], ["cat", "dog", "cat", "dog"]),
        (["0.0", "1.0", "1", "0."], ["0", "1", "1", "0"]),
        (["3", "7", " 3\n", "+7"], ["3", "7", "3", "7"]),
        (["3", "dog", "dog", "3.0"], ["3", "dog", "dog", "3"]),
        (["a b", "\ufeffcafé", "a b", "café"], ["a b", "café", "a b", "café"]),
    ],
)
def test_classes_are_numbers_or_words(tmp_path: Path, labels: list[str], names: list[str], ending: str) -> None:
    content = [json.dumps({"label": one}) if ending == "json" else one for one in labels]
    source = labelled(tmp_path, {f"{i}.{ending}": one.encode() for i, one in enumerate(content)})
    assert source.labelled
    assert not source.skipped
    assert classes(source) == names
    assert bool(source.classes) == any(not name.isdecimal() for name in names)


def test_labels_of_json_are_single_classes_wherever_they_begin(tmp_path: Path) -> None:
    labels = [b"[]", b'{"label": true}', b'{"label": 2}', b'{"label": 1.0, "id": 7}', b'{"label": [0, 1]}', b"{"]
    members = {f"{i}.json": label for i, label in enumerate(labels)}
    source = labelled(tmp_path, members, images=7)
    assert classes(source) == ["true", "2", "1"]
    none = "without a class, which others have"
    assert [(str(one.path), one.reason) for one in source.skipped] == [
        ("0.tar/0.png", none),
        ("0.tar/4.png", "its label is an array; expected one class"),
        ("0.tar/5.png", none),
        ("0.tar/6.png", none),
    ]
    with pytest.raises(ValueError, match=r"4 of the 7 images in .* have no class, and would be left out"):
        labelled(tmp_path, members | {"3.json": b"{}"}, images=7)


def test_labels_that_are_no_classes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"are no classes: 0\.tar/1\.png: its label is an object; expected one"):
        labelled(tmp_path, {"1.json": b'{"label": {"a": 1}}'})
    with pytest.raises(ValueError, match=r"0\.tar/0\.png: its class is a long text"):
        labelled(tmp_path, {"0.cls": b"word " * 100})


def test_labels_may_come_after_all_images(tmp_path: Path) -> None:
    members = {f"{i}.png": png(PIXELS[i]) for i in range(3)} | {f"{i}.cls": str(i % 2).encode() for i in range(3)}
    pack(tmp_path / "0.tar", members)
    assert read(opened(tmp_path)) == [(0, 0), (1, 1), (2, 0)]


def test_archives_that_were_joined_have_the_images_of_both(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "0.tar", "w") as archive:
        for i in range(4):
            for name, value in ((f"{i % 2}.png", png(PIXELS[i])), (f"{i % 2}.cls", str(i).encode())):
                info = tarfile.TarInfo(name)
                info.size = len(value)
                archive.addfile(info, io.BytesIO(value))
    assert read(opened(tmp_path)) == [(0, 0), (1, 1), (2, 2), (3, 3)]


def test_captions_are_no_classes(tmp_path: Path) -> None:
    with pytest.warns(RuntimeWarning, match=r"taken as captions and not as classes: 4 texts for 4 images"):
        source = labelled(tmp_path, {f"{i}.txt": f"a photo of {i}".encode() for i in range(4)})
    assert not source.labelled
    labels = {f"{i}.txt": f"a photo of {i}".encode() for i in range(4)} | {f"{i}.cls": b"3" for i in range(4)}
    assert classes(labelled(tmp_path, labels)) == ["3"] * 4


@pytest.mark.parametrize("others", [{"0.xml": b"<class/>"}, {"0.json": b'{"class": 1}'}, {"0.cls": b" "}])
def test_files_that_may_have_classes_but_say_none_are_warned_of(tmp_path: Path, others: dict[str, bytes]) -> None:
    (ending,) = (name[1:] for name in others)
    with pytest.warns(RuntimeWarning, match=rf"no classes: the other files of .* \(1 \{ending}\) say none"):
        assert not labelled(tmp_path, others).labelled


@pytest.mark.parametrize("root", ["", "./", "set/images/", "/set/"])
def test_folders_in_a_tar_are_classes_if_nothing_else_is(tmp_path: Path, root: str) -> None:
    names = ["cat/0.png", "cat/deep/1.png", "dog/0.png"]
    pack(tmp_path / "0.tar", {f"{root}{name}": png(PIXELS[i]) for i, name in enumerate(names)})
    pack(tmp_path / "1.tar", {f"{root}owl/0.png": png(PIXELS[3])})
    assert classes(opened(tmp_path)) == ["cat", "cat", "dog", "owl"]
    for tar, name in (("0.tar", "cat/0"), ("1.tar", "owl/0")):
        pack(tmp_path / tar, {f"{root}{name}.png": png(PIXELS[3]), f"{root}{name}.cls": b"4"})
    assert classes(opened(tmp_path)) == ["4", "4"]


def test_folders_in_a_tar_are_judged_as_those_of_images(tmp_path: Path) -> None:
    tar = tmp_path / "0.tar"
    pack(tar, {"train/0.png": png(PIXELS[0]), "val/0.png": png(PIXELS[1])})
    with pytest.raises(ValueError, match="which are splits and no classes"):
        opened(tar)
    pack(tar, {f"{i}.png": png(PIXELS[i]) for i in range(3)} | {"a/0.png": png(PIXELS[3])})
    with pytest.raises(ValueError, match="3 images and the sub-folder a with 1: are these classes"):
        opened(tar)
    pack(tar, {f"{i}.png": png(PIXELS[i]) for i in range(3)} | {"a/0.png": b"no image"})
    source = opened(tar)
    assert read(source) == [(0, 0), (1, 0), (2, 0)]
    assert not source.labelled
    assert [str(one.path) for one in source.skipped] == ["0.tar/a/0.png"]
    pack(tar, {f"a/{i}.png": png(PIXELS[i]) for i in range(3)} | {"0.png": b"no image"})
    assert classes(opened(tar)) == ["a"] * 3


def test_the_folder_of_a_shard_is_no_class(tmp_path: Path) -> None:
    for i in range(3):
        pack(tmp_path / f"0000{i}.tar", {f"0000{i}/0.png": png(PIXELS[i])})
    source = opened(tmp_path)
    assert read(source) == [(0, 0), (1, 0), (2, 0)]
    assert not source.labelled


def test_a_second_image_of_a_sample_is_left_out(tmp_path: Path) -> None:
    members = {}
    for i in range(3):
        members |= {f"{i}.mask.png": png(PIXELS[i + 3]), f"{i}.png": png(PIXELS[i]), f"{i}.cls": b"1"}
    pack(tmp_path / "0.tar", members)
    source = opened(tmp_path)
    assert read(source) == [(0, 1), (1, 1), (2, 1)]
    assert {one.reason for one in source.skipped} == {f"a second image of the sample {i}" for i in range(3)}


@pytest.mark.parametrize("kind", [b"x", b"L", b"K"])
@pytest.mark.parametrize("size", [2**40, 2**62, 2**24, -512])
def test_headers_of_absurd_size_are_damage(tmp_path: Path, kind: bytes, size: int) -> None:
    """A pax header, a long name and a long link, for which memory would be reserved."""
    pack(tmp_path / "0.tar", {"0.png": png(PIXELS[0])})
    info = tarfile.TarInfo("bomb")
    info.type, info.size = kind, size
    place = header(tmp_path / "0.tar", "0.png")
    content = (tmp_path / "0.tar").read_bytes()
    length = 512 + -(-len(png(PIXELS[0])) // 512) * 512
    (tmp_path / "0.tar").write_bytes(content[place : place + length] + info.tobuf(tarfile.GNU_FORMAT) + bytes(2048))
    source = opened(tmp_path)
    assert read(source) == [(0, 0)]
    assert "damaged, read up to there" in source.skipped[0].reason


@pytest.mark.parametrize("size", [2**40, 2**70, -512])
def test_members_of_absurd_size_are_damage(tmp_path: Path, size: int) -> None:
    with tarfile.open(tmp_path / "0.tar", "w", format=tarfile.PAX_FORMAT) as archive:
        for i, pax in enumerate([{}, {"size": str(size)}]):
            info = tarfile.TarInfo(f"{i}.png")
            info.size, info.pax_headers = len(png(PIXELS[i])), pax
            archive.addfile(info, io.BytesIO(png(PIXELS[i])))
    source = opened(tmp_path)
    assert read(source) == [(0, 0)]
    assert "damaged, read up to there" in source.skipped[0].reason


def test_sparse_members_are_skipped(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "0.tar", "w", format=tarfile.PAX_FORMAT) as archive:
        for i, pax in enumerate([{}, {"GNU.sparse.map": "0,9", "GNU.sparse.size": str(2**50)}]):
            info = tarfile.TarInfo(f"{i}.png")
            info.size, info.pax_headers = len(png(PIXELS[i])), pax
            archive.addfile(info, io.BytesIO(png(PIXELS[i])))
    source = opened(tmp_path)
    assert read(source) == [(0, 0)]
    assert [(str(one.path), one.reason) for one in source.skipped] == [("0.tar/1.png", "a sparse file")]


def test_a_pipe_or_a_file_of_holes_is_no_tar(tmp_path: Path) -> None:
    pack(tmp_path / "0.tar", {"0.png": png(PIXELS[0])})
    os.mkfifo(tmp_path / "1.tar")
    with (tmp_path / "2.tar").open("wb") as stream:
        stream.truncate(2**42)
    source = opened(tmp_path)
    assert read(source) == [(0, 0)]
    assert [str(one.path) for one in source.skipped] == ["1.tar", "2.tar"]
