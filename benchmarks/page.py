"""Write docs/performance.md from the records of the benchmarks.

python -m benchmarks.page results/speed > docs/performance.md
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

_INTRO = """# Performance

[Generated](../benchmarks/page.py) from the records in [results/speed](../results/speed) by `make docs/performance.md`;
`make bench` records all of them anew. Every figure is a ratio taken within one run, where the subjects ran in turn;
absolute seconds depend on the machine.

## What is done for speed

- What does not change over the iterations of a timestep is computed once: the modulation, and the part of the injection
  that depends on the input alone.
- Iterations without gradient save nothing for a backward pass, and a solve of fixed count never waits for the device.
- On an x86 CPU, images are drawn with packed copies of the weights (`sampling/packed.py`): oneDNN multiplies faster by
  them, and adds the bias and the GELU within the product. They exist while images are drawn only, take as much memory
  as the linear layers of the blocks and the iterations, and the model, what is saved of it and its training do not
  know of them. A packed layer gives an image the same values in any batch. Everything that draws does so, unless the
  model is compiled or not in float32.
- `--compile` and `model.compile_iterations()` compile one iteration, once per shape, with gradient and without; numbers
  of iterations and budgets change nothing. `compile_iterations(graphs=True)` replays it as a CUDA graph.
- With an adaptive allocation, samples are drawn in slots that refill (`sampling/engine.py`): a sample leaves its solve
  when it has converged, goes on to its own next timestep, and its slot takes the next sample when it is done. The rows
  that are evaluated are exactly the iterations that count in the budget.
- Writing images overlaps with sampling.
- Loading a model initialises nothing that its weights replace.
- `fpdm describe RUN --budget 280` (or `30GMAC`, `0.5s`) predicts seconds and memory from MACs and a calibration of a
  few seconds.
"""

_NAMES = {"fpdm": "FPDM", "dit": "DiT"}
_TIMES = {
    "speed.json": "Time",
    "drawing.json": "Drawing images",
    "folder.json": "A folder of images, and what its decoder takes",
}


def page(folder: Path) -> str:
    """Return the page as Markdown."""
    parts = [_INTRO]
    for name, title in _TIMES.items():
        if (folder / name).exists():
            parts += _speed(title, json.loads((folder / name).read_text(encoding="utf-8")))
    if (folder / "attempts.json").exists():
        parts += _attempts(json.loads((folder / "attempts.json").read_text(encoding="utf-8")))
    if (folder / "cold.json").exists():
        parts += _cold(json.loads((folder / "cold.json").read_text(encoding="utf-8")))
    return "\n".join(parts)


def _made_by(record: dict[str, Any]) -> str:
    return f"`{record['command']}` with {record['threads']} threads of {record['machine']}, PyTorch {record['torch']}"


def _speed(title: str, record: dict[str, Any]) -> list[str]:
    lines = [
        f"## {title}",
        "",
        f"{_made_by(record)}." + (f" {record['note']}" if record["note"] else ""),
        "",
        "`best` divides the fastest rounds of each.",
        "",
        "| row | median (quartiles) | best | bound | |",
        "|---|---|---|---|---|",
    ]
    for row in record["rows"]:
        ratio, sign = row["ratio"], "≤" if row["at_most"] else "≥"
        value = f"{ratio['median']:.3f} ({ratio['low']:.3f} to {ratio['high']:.3f})"
        holds = "holds" if row["holds"] else "missed"
        note = f"; {row['note']}" if row["note"] else ""
        lines.append(f"| {row['what']}{note} | {value} | {row['best']:.3f} | {sign} {row['bound']:g} | {holds} |")
    return [*lines, ""]


def _attempts(record: dict[str, Any]) -> list[str]:
    sizes = record["sizes"]
    ways = list(next(iter(sizes.values()))["over_floor"])
    lines = [
        "## What was tried for the rows that miss their bounds",
        "",
        f"{_made_by(record)}: a "
        f"sampling step over its floor, median (quartiles). The ways are explained in the head of "
        "[attempts.py](../benchmarks/attempts.py); the package packs layers on a CPU, and compiles them if asked to.",
        "",
        "| | " + " | ".join(ways) + " |",
        "|---" * (len(ways) + 1) + "|",
    ]
    for name, found in sizes.items():
        values = (found["over_floor"][way] for way in ways)
        cells = (f"{one['median']:.2f} ({one['low']:.2f} to {one['high']:.2f})" for one in values)
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    lines += ["", "Where the time of a step goes:", ""]
    for name, found in sizes.items():
        for way, shares in found["profile"].items():
            parts = ", ".join(f"`{one}` {share:.0%}" for one, share in shares.items())
            lines.append(f"- {name}, {way}: {parts}.")
    return [*lines, ""]


def _cold(record: dict[str, Any]) -> list[str]:
    limits, free, ratio = record["smallest_limit"], record["without_limit"], record["dit_over_fpdm"]
    lines = [
        "## Cold start to the first image",
        "",
        f"{_made_by(record)}: "
        "random weights in float32, one image with 28 block passes, from the start of the process.",
        "",
        "| | FPDM | DiT |",
        "|---|---|---|",
        f"| smallest limit on its data that it survives | {limits['fpdm']:,} MiB | {limits['dit']:,} MiB |",
        f"| peak resident memory without a limit | {free['fpdm']['mebibytes']:,.0f} MiB "
        f"| {free['dit']['mebibytes']:,.0f} MiB |",
        f"| seconds without a limit | {free['fpdm']['seconds']:.1f} | {free['dit']['seconds']:.1f} |",
        "",
        f"DiT takes {ratio['median']:.2f} ({ratio['low']:.2f} to {ratio['high']:.2f}) times the seconds of FPDM under "
        f"the limit that both survive; FPDM's own smallest limit is {record['limit_ratio']:.2f} of DiT's.",
    ]
    return [*lines, "", *_bits(record.get("bits", {}))]


def _bits(found: dict[str, dict[str, dict[str, float]]]) -> list[str]:
    """Describe the starts with weights of fewer bits, if they are recorded."""
    if not found:
        return []
    lines = [
        "The same with weights of 32, 16 and 8 bits, read one tensor after the other: float32, bfloat16, and PyTorch's "
        "dynamic quantization of linear layers (`torch.ao`), which is no option of the package: it will be removed, "
        "and its effect on images is not measured.",
        "",
        "| | bits | smallest limit | peak resident memory | seconds |",
        "|---|---|---|---|---|",
    ]
    for kind, rows in found.items():
        for bits, row in rows.items():
            limit, memory = f"{row['smallest_limit']:,} MiB", f"{row['mebibytes']:,.0f} MiB"
            lines.append(f"| {_NAMES[kind]} | {bits} | {limit} | {memory} | {row['seconds']:.1f} |")
    plot = "![Seconds to the first image over the smallest memory limit](../results/speed/cold.png)"
    return [*lines, "", plot, "", "From the right to the left: 32, 16 and 8 bits.", ""]


if __name__ == "__main__":
    print(page(Path(sys.argv[1])), end="")
