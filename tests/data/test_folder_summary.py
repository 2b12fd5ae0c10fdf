"""What is said of a folder after it was read."""

from pathlib import Path

from fpdm.data.folder_summary import ClassCount, FolderSummary, Span
from fpdm.data.loading import load_folder
from fpdm.data.sources.source import Skipped
from tests.data.image_files import plain, put


def test_the_sizes_are_counted_and_the_text_says_it_all(tmp_path):
    root = tmp_path / "set"
    for place, (height, width) in enumerate(2 * [(3, 9), (8, 4), (6, 5), (7, 6)]):
        put(root / ("cats" if place else "dogs") / f"{place}.png", plain(place, height, width))
    (root / "owls").mkdir()
    (root / "cats" / "list.csv").touch()
    for place in range(7):
        (root / "cats" / f"{place}.jpg").touch()
    summary = load_folder(root, 4).summary
    assert summary.width == Span(4, 5.5, 9)
    assert summary.height == Span(3, 6.5, 8)
    assert summary.enlarged == 2
    assert summary.classes == (ClassCount("cats", 7), ClassCount("dogs", 1))
    assert summary.skipped[0] == Skipped(summary.skipped[0].path, "empty (0 bytes)")
    assert summary.to_text().split("\n") == [
        f"{root}: 8 images, 4 x 4 RGB",
        "  classes   2: cats (7), dogs (1)",
        "  empty     1 class folder without a usable image, left out: owls",
        "  width     4 to 9 pixels, median 5.5",
        "  height    3 to 8 pixels, median 6.5",
        "  enlarged  2 images with a side below 4 pixels",
        "  others    1 file with an ending that is not an image's",
        "  skipped   7",
        *(f"    cats/{place}.jpg: empty (0 bytes)" for place in range(5)),
        "    and 2 more",
    ]


def test_long_lists_are_cut_and_names_stay_on_their_line():
    classes = tuple(ClassCount(f"class {i}", i) for i in range(1, 14))
    summary = FolderSummary(
        folder=Path("set"),
        images=91,
        size=8,
        channels=1,
        classes=classes,
        empty=tuple(f"empty\n{i}" for i in range(12)),
        width=Span(1, 2, 3),
        height=Span(4, 5, 6),
        enlarged=0,
        skipped=(),
        others=0,
    )
    named = ", ".join(f"class {i + 1} ({i + 1})" for i in range(10))
    assert summary.to_text().split("\n") == [
        "set: 91 images, 8 x 8 grey",
        f"  classes   13: {named} and 3 more",
        "  empty     12 class folders without a usable image, left out: "
        + ", ".join(f"empty\\n{i}" for i in range(10))
        + " and 2 more",
        "  width     1 to 3 pixels, median 2",
        "  height    4 to 6 pixels, median 5",
    ]
