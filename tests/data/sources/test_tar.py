"""Tar shards against the files that they were made from."""

from __future__ import annotations

import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

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


def test_labels_of_tar_shards_are_integers_wherever_they_begin(tmp_path: Path) -> None:
    labels = [None, b'{"label": true}', b'{"label": 2}', b'{"label": 1.0}']
    members = {f"{i}.png": png(PIXELS[i]) for i in range(4)}
    members |= {f"{i}.json": label for i, label in enumerate(labels) if label}
    pack(tmp_path / "0.tar", dict(sorted(members.items())))
    source = opened(tmp_path)
    assert source.labelled
    assert read(source) == [(2, 2)]
    assert [str(one.path) for one in source.skipped] == ["0.tar/0.png", "0.tar/1.png", "0.tar/3.png"]
