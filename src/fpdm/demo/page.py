"""The page, made with gradio."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from typing import Any

from fpdm.demo.charts import MEASURED, MOST_ITERATIONS, bars, describe, trade
from fpdm.demo.stream import Request, Update, stream
from fpdm.errors import RunError
from fpdm.pipeline import FPDMPipeline
from fpdm.sampling.images import sample_shape

WAITING = 8  # requests in the queue; a further one is told to come back
_IN_TURN = -1
_CSS = """
footer { display: none !important }
.facts { min-height: 3em }
.sheet { padding-top: 2.2em !important }
.sheet .icon-button-wrapper { transform: translateY(-2em) }
.sheet img { image-rendering: pixelated }
"""  # the name and the buttons of a sheet stand above its images
_HEAD = """
<script>
new MutationObserver(() => {
  for (const image of document.querySelectorAll(".sheet img"))
    image.alt ||= `Images of ${image.closest(".sheet").id.at(-1)}`;
}).observe(document, { childList: true, subtree: true });
</script>
"""  # gradio leaves out what an image is, and the button around it has no other name
_COLOURS = {  # gradio's own have too little contrast to be read by everybody
    "body_text_color_subdued": "*neutral_600",
    "button_primary_background_fill": "*primary_700",
    "button_primary_background_fill_dark": "*primary_700",
    "button_primary_background_fill_hover": "*primary_800",
    "button_primary_background_fill_hover_dark": "*primary_800",
}
_PLANS = ({"iterations": 3}, {"iterations": 12})  # many shallow steps, and few deep ones
_SIDES = ("A", "B")


def check_installed() -> Any:
    """Return the library gradio, told to tell nobody of its use.

    Raises:
        ValueError: It is not installed.
    """
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # it looks for a newer version when it is imported
    try:
        import gradio
    except ImportError as error:
        raise ValueError(f"the page needs {error.name}, which is not installed: pip install 'fpdm[demo]'") from error
    return gradio


def check_pair(first: FPDMPipeline, second: FPDMPipeline) -> None:
    """Check that two models can draw the same classes from the same noise.

    Raises:
        ValueError: They cannot.
    """
    ours, theirs = first.transformer, second.transformer
    for what, one, other in (
        ("samples of the shape", sample_shape(ours), sample_shape(theirs)),
        ("classes, in number", ours.shape.num_classes, theirs.shape.num_classes),
    ):
        if one != other:
            raise ValueError(f"the second model has {what} {other}; expected {one}, as the first has")


def make_page(first: FPDMPipeline, second: FPDMPipeline | None = None) -> Any:
    """Make the page.

    Args:
        first: The model.
        second: Another model to compare it with; None compares two plans of the first.

    Returns:
        A `gradio.Blocks`, to launch.

    Raises:
        ValueError: gradio is not installed, or the models do not go together.
    """
    gradio = check_installed()
    if second is not None:
        check_pair(first, second)
    pipes = (first, second or first)
    for pipe in pipes:
        pipe.set_progress_bar_config(disable=True)
    stops: dict[str, threading.Event] = {}
    names, classes = [pipe.config["name"] for pipe in pipes], first.transformer.shape.num_classes
    known = first.config["id2label"]
    labels = [("all classes in turn", _IN_TURN), *((known.get(str(i), str(i)), i) for i in range(classes))]

    def charts(side: int, *values: Any) -> str:
        try:
            given = _plan(pipes[side], *values)
            sampler = pipes[side].sampler(given.pop("guidance"), **given)
        except (ValueError, TypeError) as error:
            return f'<p class="facts">{_plain(str(error))}</p>'
        plan, curve = sampler.plan, ""
        if sampler.cost.middle.adjustable:
            curve = trade(sampler.cost, plan.budget, plan.iterations, MEASURED.get(names[side]))
        return f"{curve}<p>{describe(sampler)}</p>{bars(sampler.table)}"

    def draw(request: Any, label: int, count: int, seed: float, both: bool, *values: Any) -> Iterator[Any]:
        stop = stops[str(request.session_hash)] = threading.Event()
        half = len(values) // 2
        try:
            yield None, "", None, "", "drawing A"
            for side in (0, 1) if both else (0,):
                plan = _plan(pipes[side], *values[side * half : (side + 1) * half])
                wanted = Request(
                    None if label == _IN_TURN else int(label), int(count), _whole(seed), plan.pop("guidance"), plan
                )
                for update in stream(pipes[side], wanted, stop):
                    own, other = (update.sheet, _facts(update)), (gradio.skip(), gradio.skip())
                    yield *(own + other if side == 0 else other + own), f"drawing {_SIDES[side]}"
                if stop.is_set():
                    break
            yield *(gradio.skip() for _ in range(4)), "stopped" if stop.is_set() else "done"
        except (ValueError, TypeError, RunError) as error:
            raise gradio.Error(_plain(str(error)), title="That is not possible") from error
        finally:
            stops.pop(str(request.session_hash), None)

    def halt(request: Any) -> None:
        if (stop := stops.get(str(request.session_hash))) is not None:
            stop.set()

    # gradio looks for its request by the type, which is not known where annotations are evaluated.
    draw.__annotations__["request"] = halt.__annotations__["request"] = gradio.Request

    with gradio.Blocks(title=f"fpdm: {names[0]}", analytics_enabled=False) as page:
        gradio.Markdown(
            f"# Spend a budget\n**{' against '.join(dict.fromkeys(names))}**. A budget of block passes pays for many "
            "shallow denoising steps or for few deep ones. Choose two ways to spend it, and see what each makes of the "
            "same noise."
        )
        with gradio.Row():
            label = gradio.Dropdown(
                labels, value=_IN_TURN, label="Class", elem_id="label", interactive=True, min_width=240
            )
            seed = gradio.Number(0, label="Seed", precision=0, elem_id="seed")
            count = gradio.Slider(1, 16, value=8, step=1, label="Images", elem_id="count")
            both = gradio.Checkbox(True, label="Two side by side", elem_id="both")
        controls, plots, columns = [], [], []
        with gradio.Row():
            for side, (pipe, plan) in enumerate(zip(pipes, _PLANS, strict=True)):
                with gradio.Column(min_width=300, variant="panel") as column:
                    own = _controls(gradio, pipe, names[side], side, plan["iterations"])
                    plots.append(
                        gradio.HTML(charts(side, *(one.value for one in own)), elem_id=f"charts-{_SIDES[side]}")
                    )
                controls.append(own)
                columns.append(column)
        with gradio.Row():
            go = gradio.Button("Draw", variant="primary", elem_id="draw")
            end = gradio.Button("Stop", elem_id="stop")
        state = gradio.Textbox("ready", label="State", elem_id="state", interactive=False, max_lines=1)
        results = []
        with gradio.Row():
            for side in (0, 1):
                with gradio.Column(min_width=300) as column:
                    sheet = gradio.Image(
                        label=f"{_SIDES[side]}: {names[side]}",
                        format="png",
                        buttons=["download", "fullscreen"],
                        interactive=False,
                        elem_id=f"sheet-{_SIDES[side]}",
                        elem_classes="sheet",
                    )
                    results += [sheet, gradio.Markdown(elem_id=f"facts-{_SIDES[side]}", elem_classes="facts")]
                columns.append(column)
        gradio.Markdown(
            "Seconds are without previews. Guidance evaluates the network twice in each step, which is counted in "
            "multiply-accumulates and not in block passes. Download an image with the button in its corner."
        )
        for side, own in enumerate(controls):
            for one in own:
                one.change(
                    lambda *values, side=side: charts(side, *values),
                    own,
                    plots[side],
                    show_progress="hidden",
                    trigger_mode="always_last",
                    queue=False,
                    api_visibility="private",
                )
        both.change(
            lambda on: [gradio.update(visible=on)] * 2,
            both,
            [columns[1], columns[3]],
            queue=False,
            api_visibility="private",
        )
        inputs = [label, count, seed, both, *controls[0], *controls[1]]
        go.click(draw, inputs, [*results, state], concurrency_limit=1, show_progress="hidden", api_name="draw")
        end.click(halt, queue=False, api_visibility="private")
    return page.queue(max_size=WAITING, default_concurrency_limit=1)


def launch(page: Any, *, host: str = "127.0.0.1", port: int = 0, block: bool = True) -> str:
    """Serve a page on this machine, without anything from elsewhere.

    Args:
        page: The page.
        host: Address to listen at.
        port: Port; 0 for the first free one from 7860.
        block: Serve until the process is stopped.

    Returns:
        The address of the page, if it does not block.

    Raises:
        ValueError: The port or the address cannot be used.
    """
    gradio = check_installed()
    fonts = {"font": ("system-ui", "sans-serif"), "font_mono": ("ui-monospace", "monospace")}  # not Google's
    try:
        _, address, _ = page.launch(
            server_name=host,
            server_port=port or None,
            share=False,
            quiet=True,
            show_error=True,
            ssr_mode=False,
            footer_links=[],
            prevent_thread_lock=True,
            theme=gradio.themes.Default(**fonts).set(**_COLOURS),
            css=_CSS,
            head=_HEAD,
        )
    except OSError as error:
        raise ValueError(f"the page cannot listen at {host}, port {port or '7860 to 7959'}: {error}") from error
    if block:
        print(f"the page is at {address} (Ctrl-C ends it)", flush=True)
        page.block_thread()
    return address


def _controls(gradio: Any, pipe: FPDMPipeline, name: str, side: int, iterations: int) -> list[Any]:
    """Make the controls of a plan, in the order of the arguments of `_plan`."""
    cost, tag = pipe.transformer.cost(), _SIDES[side]
    least, free = cost.passes(cost.middle.iterations.start), cost.middle.adjustable
    marks = MEASURED.get(name)
    info = f"Block passes for each image{f'; measured at {_listed(marks[0])}' if marks else ''}"
    many = f"Fixed-point iterations per step{f'; measured at {_listed(marks[1])}' if marks and marks[1] else ''}"
    gradio.Markdown(f"### {tag}: {name}")
    budget = gradio.Slider(
        least, max(560, 20 * least), value=max(140, least), step=1, label="Budget", info=info, elem_id=f"budget-{tag}"
    )
    each = gradio.Slider(
        1, MOST_ITERATIONS, value=iterations, step=1, label="Iterations", info=many, visible=free, elem_id=f"each-{tag}"
    )
    allocation = gradio.Dropdown(
        ["constant", "increasing", "decreasing"],
        value="constant",
        label="Allocation",
        info="Iterations from noise to clean",
        visible=free,
        elem_id=f"allocation-{tag}",
        interactive=True,
    )
    reuse = gradio.Checkbox(True, label="Start each step from the last solution", visible=free, elem_id=f"reuse-{tag}")
    with gradio.Accordion("Guidance", open=False, elem_id=f"guiding-{tag}"):
        guidance = gradio.Slider(
            1,
            5,
            value=1,
            step=0.1,
            label="Classifier-free guidance",
            info="1 is off",
            elem_id=f"guidance-{tag}",
            visible=pipe.transformer.shape.num_classes > 0,
        )
        own = gradio.Slider(
            0,
            3,
            value=0,
            step=0.1,
            label="Self-guidance",
            info="0 is off; its passes are within the budget",
            elem_id=f"own-{tag}",
        )
    return [budget, each, allocation, reuse, guidance, own]


def _plan(
    pipe: FPDMPipeline,
    budget: float,
    iterations: float,
    allocation: str,
    reuse: bool,
    guidance: float,
    self_guidance: float,
) -> dict[str, Any]:
    """Return the plan that the controls describe, and its guidance; a stack ignores what it cannot choose."""
    values: dict[str, Any] = {"budget": _whole(budget), "guidance": guidance, "self_guidance": self_guidance}
    if not pipe.transformer.cost().middle.adjustable:
        return values
    return {**values, "iterations": _whole(iterations), "allocation": allocation, "reuse": reuse}


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value // 1:
        raise ValueError(f"{value!r} is not a whole number")
    return int(value)


def _facts(update: Update) -> str:
    """Say under a picture how far it is, or what it cost."""
    if update.passes is None or update.macs is None:
        return f"step {update.step} of {update.steps}"
    head = f"stopped after {update.step} of {update.steps} steps: " if update.stopped else ""
    return (
        f"{head}**{update.passes:g} block passes**, {update.macs / 1e6:,.0f} million multiply-accumulates for "
        f"each image, {update.seconds:.2f} s in all"
    )


def _listed(numbers: Any) -> str:
    return f"{', '.join(map(str, numbers[:-1]))} and {numbers[-1]}"


def _plain(text: str) -> str:
    """Escape a text for HTML."""
    import html

    return html.escape(" ".join(text.split()))
