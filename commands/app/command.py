"""A local web page: drop a picture, see the masks of every trained variant side by side.

    python -m commands.app [--port 7860] [--max-megabytes 20]

It listens on localhost only and sends nothing to other machines.
"""

import html
import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np

from commands.arguments import command_line, count
from commands.predict.segmenter import Segmenter, together
from commands.trained import trained_variants
from stages.shared.formats import pictures
from stages.shared.formats.pictures import BadPictureError
from stages.shared.results.overlay import hex_colours, overlay
from stages.shared.results.pages import render
from stages.shared.results.variants import megabytes, seconds_of, variant_names
from stages.shared.runtime.console import figures, or_dash
from stages.shared.runtime.digests import marks_of_conflicts
from stages.shared.runtime.errors import UserError
from stages.shared.runtime.paths import REPORTS_DIR

ADDRESS = "127.0.0.1"
OPACITY = 0.5
# The longer side of what is shown, in pixels; the variants see all of the picture.
MOST_SHOWN = 1600
INTRODUCTION = "# Segmentation\nDrop a picture, and every trained variant segments it."
MEANING = (
    "A share is of the picture's pixels. The time is that of one pass: resizing the picture for "
    "the network, the network itself, and a class for each pixel of the picture. A first pass, "
    "which compiles the network, and reading the file are not counted. Variants with one frozen "
    "backbone share a pass, whose time is that of all of them."
)
# Of metrics.json: a title, and how the value is shown.
FACTS: dict[str, tuple[str, Callable[[float], str]]] = {
    "mean_iou": ("Mean IoU", "{:.4f}".format),
    "parameters": ("Parameters", "{:,}".format),
    "gflop": ("GFLOP, at the size of training", figures),
    "feature_bytes": ("MB of stored activations a picture", megabytes),
}
# Of `seconds_of`.
SECONDS = "Seconds of features", "Seconds of training"
# Gradio's own semi-bold file of this font lacks the Latin letters, so headings are bold.
THEME = gr.themes.Default(
    primary_hue="slate",
    font=[gr.themes.LocalFont("Source Sans Pro", weights=(400, 700)), "system-ui", "sans-serif"],
)
CSS_FILE = Path(__file__).with_name("app.css")
CLASSES_TEMPLATE = Path(__file__).with_name("classes.html.j2")


def load_segmenters() -> list[Segmenter]:
    """Segmenters of the variants of params.yaml that are trained.

    Raises:
        UserError: none is trained, or they were trained on other classes or sizes.
    """
    trained = trained_variants()
    shown = [name for name in variant_names() if name in trained]
    if not shown:
        raise UserError("no variant is trained yet; `dvc repro` trains them")
    return together(shown)


def timed(segmenter: Segmenter, picture: np.ndarray) -> tuple[dict[str, np.ndarray], float]:
    """Segment a picture, uint8 (height, width, 3), once the network is ready for its size.

    Returns:
        By variant the class map, uint8 (height, width), and the time that all took, in seconds.
    """
    resized = segmenter.resized(picture)
    # Keras compiles a network in its first call for a size.
    segmenter.class_maps(resized[None], [resized.shape[:2]])
    start = time.perf_counter()
    masks = segmenter(picture)
    return masks, time.perf_counter() - start


def class_table(
    classes: list[str],
    shares: dict[str, np.ndarray],
    times: dict[str, float],
    facts: dict[str, dict[str, str]],
) -> str:
    """The legend as HTML: a row for each class and fact, a column for each variant.

    Args:
        classes: their names.
        shares: of the classes among the pixels, float (classes,), by variant.
        times: in seconds, by variant.
        facts: of `facts`, by variant.
    """
    rows = [
        (name, colour, [f"{share[label]:.1%}" for share in shares.values()])
        for label, (name, colour) in enumerate(zip(classes, hex_colours(len(classes)), strict=True))
    ]
    return render(CLASSES_TEMPLATE, rows=rows, times=times, facts=facts)


def measured(variants: Iterable[str]) -> dict[str, dict[str, str]]:
    """What metrics.json says of some variants, and what they took here: by title, a text for each
    variant."""
    found: dict[str, dict[str, Any]] = {}
    for variant in variants:
        path = REPORTS_DIR / variant / "metrics.json"
        with marks_of_conflicts(path):
            found[variant] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    facts = {
        title: {v: or_dash(m.get(key), show) for v, m in found.items()}
        for key, (title, show) in FACTS.items()
    }
    took = {v: seconds_of(v) for v in found}
    for place, title in enumerate(SECONDS):
        facts[title] = {v: or_dash(t[place], "{:.1f}".format) for v, t in took.items()}
    return facts


def page(segmenters: list[Segmenter], max_megabytes: int) -> gr.Blocks:
    """The page, ready to be launched.

    Args:
        segmenters: of the variants.
        max_megabytes: size of the largest file, as the page says; `serve` refuses larger ones.
    """
    classes = segmenters[0].classes
    variants = [variant for segmenter in segmenters for variant in segmenter.variants]
    facts = measured(variants)

    def segment(path: str, opacity: float) -> list[Any]:
        name = Path(path).name
        try:
            picture = segmenters[0].decode(Path(path).read_bytes())
        except BadPictureError as error:
            raise gr.Error(html.escape(f"{name}: {error}"), print_exception=False) from None
        height, width = picture.shape[:2]
        scale = min(1, MOST_SHOWN / max(height, width))
        shown_size = max(1, round(height * scale)), max(1, round(width * scale))
        masks, shares, times = [], {}, {}
        for segmenter in segmenters:
            found, seconds = timed(segmenter, picture)
            for variant, mask in found.items():
                times[variant] = seconds
                shares[variant] = np.bincount(mask.ravel(), minlength=len(classes)) / mask.size
                shown, shown_mask = pictures.resize(picture, mask, shown_size)
                masks.append(shown_mask)
        return [
            (shown, masks),
            gr.Column(visible=True),
            gr.Image(shown, label=f"{name}, {width} x {height}"),
            class_table(classes, shares, times, facts),
            *lay_over((shown, masks), opacity),
        ]

    def lay_over(segmented: tuple[np.ndarray, list[np.ndarray]], opacity: float) -> list[Any]:
        picture, masks = segmented
        return [overlay(picture, mask, len(classes), opacity) for mask in masks]

    with gr.Blocks(title="Segmentation", analytics_enabled=False) as made:
        gr.Markdown(INTRODUCTION)
        drop = gr.File(
            label=f"Picture of at most {max_megabytes} MB", height=140, elem_classes="drop"
        )
        dropped, segmented = gr.State(), gr.State()
        with gr.Column(visible=False) as results:
            with gr.Row():
                original, *overlays = (
                    gr.Image(
                        label=name,
                        alt_text=name,
                        min_width=200,
                        interactive=False,
                        buttons=["download", "fullscreen"],
                        elem_classes="shown",
                    )
                    for name in ("Picture", *variants)
                )
            table = gr.HTML(elem_classes="classes", apply_default_css=False)
            gr.Markdown(MEANING)
            opacity = gr.Slider(0, 1, OPACITY, step=0.05, label="Opacity of the masks")
        # The drop zone is emptied first, so that it takes another picture even if this one fails.
        drop.upload(lambda file: (file, None), drop, [dropped, drop], show_progress="hidden").then(
            segment,
            [dropped, opacity],
            [segmented, results, original, table, *overlays],
            show_progress_on=drop,
        )
        opacity.input(
            lay_over,
            [segmented, opacity],
            overlays,
            show_progress="hidden",
            trigger_mode="always_last",
        )
    return made


def serve(made: gr.Blocks, port: int, max_megabytes: int) -> None:
    """Serve the page until Ctrl-C.

    Raises:
        UserError: the port is taken, or is none.
    """
    # Gradio asks itself whether it runs, which a proxy can't.
    for variable in ("no_proxy", "NO_PROXY"):
        os.environ[variable] = ",".join(filter(None, (os.environ.get(variable), ADDRESS)))
    try:
        made.launch(
            server_name=ADDRESS,
            server_port=port,
            max_file_size=max_megabytes * 2**20,
            share=False,
            quiet=True,
            prevent_thread_lock=True,
            footer_links=[],
            theme=THEME,
            css=CSS_FILE.read_text(),
        )
    except (OSError, OverflowError):
        raise UserError(f"port {port} is not available; choose another with --port") from None
    print(f"Open http://{ADDRESS}:{port} in a browser; Ctrl-C ends it", flush=True)
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
    finally:
        made.close(verbose=False)


def main() -> None:
    """Run the command."""
    parser = command_line(__doc__)
    parser.add_argument("--port", type=count, default=7860, help="to listen on (7860)")
    parser.add_argument(
        "--max-megabytes", type=count, default=20, help="size of the largest file (20)"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        # Gradio keeps dropped pictures here; in its own folder they would outlive the page.
        os.environ["GRADIO_TEMP_DIR"] = folder
        made = page(load_segmenters(), arguments.max_megabytes)
        serve(made, arguments.port, arguments.max_megabytes)
