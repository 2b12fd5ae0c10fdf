"""Feature shards on disk: which count as there, and that they come back as they were, in order."""

import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fpdm.errors import Interrupted
from fpdm.evaluation.features import Features
from fpdm.fid.feature_shards import FeatureShards, ShardImages, extract_features, shard_size


class Mean:
    """The channels' means."""

    identity = "mean"

    def features(self, images: torch.Tensor, batch_size: int) -> Features:
        return Features(images.double().mean(dim=(2, 3)), self.identity)  # (B, C)


def image(index: int) -> torch.Tensor:
    return torch.full((3, 2, 2), index, dtype=torch.uint8)


def make(piece: range) -> ShardImages:
    return ShardImages(torch.stack([image(index) for index in piece]), {"first": piece.start})


@pytest.fixture
def pieces(tmp_path: Path) -> FeatureShards:
    return FeatureShards(tmp_path / "pieces", 10, 4, "print", "mean", with_images=True)


def run(pieces: FeatureShards) -> list[int]:
    """Make what is missing; the first image of each piece that was made."""
    made: list[int] = []

    def noted(piece: range) -> ShardImages:
        made.append(piece.start)
        return make(piece)

    extract_features(pieces, noted, Mean(), batch_size=2, what="test")
    return made


def test_all_comes_back_in_order(pieces: FeatureShards) -> None:
    assert run(pieces) == [0, 4, 8]
    assert torch.equal(torch.cat([*pieces.images()]), torch.stack([image(i) for i in range(10)]))
    assert torch.cat([part.values for part in pieces.features()])[:, 0].tolist() == [float(i) for i in range(10)]
    assert [notes["first"] for notes in pieces.notes()] == [0, 4, 8]
    pieces.delete()
    assert not pieces.folder.exists()


def test_only_what_is_missing_is_made(pieces: FeatureShards) -> None:
    run(pieces)
    assert run(pieces) == []
    assert run(replace(pieces, count=9)) == [8]  # the last one was longer
    assert run(replace(pieces, with_images=False)) == []
    assert run(replace(pieces, fingerprint="other")) == [0, 4, 8]


@pytest.mark.parametrize("damage", [lambda b: b[:-1], lambda b: b[:20], lambda b: b"", lambda b: b"\xff" * 40])
def test_a_damaged_piece_is_made_again(pieces: FeatureShards, damage) -> None:
    run(pieces)
    path = sorted(pieces.folder.iterdir())[1]
    path.write_bytes(damage(path.read_bytes()))
    assert run(pieces) == [4]


def test_a_flipped_bit_anywhere_is_found(pieces: FeatureShards) -> None:
    run(pieces)
    path = sorted(pieces.folder.iterdir())[1]
    good = path.read_bytes()
    for place in range(len(good)):
        path.write_bytes(good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :])
        assert pieces.missing() == [range(4, 8)], f"byte {place}"


def test_pieces_of_another_writer_are_not_mixed_in(pieces: FeatureShards, tmp_path: Path) -> None:
    run(pieces)
    other = replace(pieces, folder=tmp_path / "other", fingerprint="other")
    run(other)
    path = sorted(pieces.folder.iterdir())[1]
    shutil.copy(other.folder / path.name, path)
    for read in (pieces.features, pieces.images, pieces.notes):
        with pytest.raises(ValueError, match="another command wrote"):
            list(read())
    path.unlink()
    with pytest.raises(ValueError, match="give the same command again"):
        list(pieces.features())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_stops_after_the_piece_under_way(pieces: FeatureShards, number: signal.Signals) -> None:
    def stopping(piece: range) -> ShardImages:
        if piece.start == 4:
            os.kill(os.getpid(), number)
        return make(piece)

    with pytest.raises(Interrupted, match=f"stopped by {number.name}.*the same command continues") as caught:
        extract_features(pieces, stopping, Mean(), batch_size=2, what="test")
    assert caught.value.exit_code == 128 + number
    assert run(pieces) == [8]


def test_pieces_without_images_do_not_serve_where_they_are_wanted(pieces: FeatureShards) -> None:
    run(replace(pieces, with_images=False))
    assert run(pieces) == [0, 4, 8]


def test_a_piece_of_bad_images_only_counts_as_made(pieces: FeatureShards) -> None:
    empty = ShardImages(torch.empty((0, 3, 2, 2), dtype=torch.uint8), {"skipped": ["a"]})
    extract_features(
        pieces, lambda piece: empty if piece.start == 4 else make(piece), Mean(), batch_size=2, what="test"
    )
    assert run(pieces) == []
    assert sum(len(part.values) for part in pieces.features()) == 6


def test_a_pipe_in_the_place_of_a_shard_is_replaced(pieces: FeatureShards) -> None:
    run(pieces)
    path = sorted(pieces.folder.iterdir())[1]
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(ValueError, match="is a pipe; expected a file"):
        pieces.notes()
    assert run(pieces) == [4]
    assert [note["first"] for note in pieces.notes()] == [0, 4, 8]


def test_a_shard_has_fewer_images_if_they_are_large() -> None:
    assert shard_size(192, (3, 256, 256)) == 192
    assert shard_size(192, (3, 8192, 8192)) == 1
    assert shard_size(512, (3, 1024, 1024)) == 2**28 // (3 * 2**20)
    assert shard_size(5, (3, 10**6, 10**6)) == 1
