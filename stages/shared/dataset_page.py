"""reports/dataset/: a page that shows whether a data set is what its owner thinks it is."""

from collections import Counter
from html import escape
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from stages.shared import facts as dataset_facts
from stages.shared.dataset import Dataset
from stages.shared.facts import Facts, Warning
from stages.shared.outputs import PNG_METADATA, REPORTS_DIR
from stages.shared.overlay import colours, overlay
from stages.shared.records import PictureReader
from stages.shared.schema import SPLITS

PAGE_DIR = REPORTS_DIR / "dataset"
PICTURES_OF_A_SPLIT = 24
# How many pictures a warning lists at once, and behind a click.
FIRST_LISTED, MOST_LISTED = 5, 200
OPACITY = 0.5
JPEG_QUALITY = 85

STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem;
  color: #222; background: #fff; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
table { border-collapse: collapse; } td, th { padding: .25rem .8rem; text-align: right; }
td:first-child, th:first-child, .shares :is(td, th) { text-align: left; }
.shares td { font-variant-numeric: tabular-nums; } tr + tr td { border-top: 1px solid #ddd; }
.swatch { display: inline-block; width: .8em; height: .8em; margin-right: .5em; }
.bar { display: inline-block; height: .6em; margin-left: .6em; width: 8rem; text-align: left; }
.bar i { display: block; height: 100%; }
.warning { background: #fff4d6; border-left: 4px solid #e69f00; margin: .6rem 0;
  padding: .5rem 1rem; } .warning ul { margin: .3rem 0; } .fine { color: #186a3b; }
.sheet { display: grid; grid-template-columns: repeat(auto-fill, minmax(9rem, 1fr)); gap: .6rem; }
figure { margin: 0; } figure img, .sizes { width: 100%; height: auto; }
figcaption { color: #666; font-size: .75rem; overflow-wrap: anywhere; }
.table { overflow-x: auto; }
"""


def write(dataset: Dataset, facts: list[Facts], records: Path, folder: Path) -> None:
    """Write the page, index.html, with the pictures that it shows beside it.

    Args:
        dataset: what the records hold.
        facts: of every picture.
        records: folder of the records.
        folder: of the page; there is nothing in it.
    """
    (folder / "pictures").mkdir(exist_ok=True)
    found = dataset_facts.warnings(facts, dataset)
    sheets = {}
    for split in SPLITS:
        names = [fact.name for fact in facts if fact.split == split]
        sheets[split] = _contact_sheet(PictureReader(dataset, split, records), names, split, folder)
    _sizes(facts).savefig(folder / "sizes.png", dpi=100, metadata=PNG_METADATA)
    page = _page(dataset, facts, found, sheets)
    (folder / "index.html").write_text(page, encoding="utf-8")
    for warning in found:
        print(f"warning: {warning.text}: {_shortened(warning.pictures, 3)}")
    if found:
        print(f"see {PAGE_DIR / 'index.html'}")


def _contact_sheet(
    reader: PictureReader, names: list[str], split: str, folder: Path
) -> dict[str, str]:
    """Write pictures evenly spaced over a split, masks over them; their files and names."""
    count = min(PICTURES_OF_A_SPLIT, len(reader))
    sheet = {}
    for number, index in enumerate(np.linspace(0, len(reader) - 1, count).round().astype(int)):
        images, masks = reader.take(np.array([index]))
        file = f"pictures/{split}-{number + 1:02d}.jpg"
        shown = overlay(images[0], masks[0], reader.classes, OPACITY)
        Image.fromarray(shown).save(folder / file, quality=JPEG_QUALITY)
        sheet[file] = names[index]
    return sheet


def _sizes(facts: list[Facts]) -> Figure:
    """Histograms of width, height and aspect."""
    heights, widths = (np.array(side) for side in zip(*(fact.size for fact in facts), strict=True))
    figure = Figure(figsize=(11, 2.8), layout="constrained")
    axes = figure.subplots(1, 3)
    panels = {
        "width (pixels)": widths,
        "height (pixels)": heights,
        "width / height": widths / heights,
    }
    for axis, (title, values) in zip(axes, panels.items(), strict=True):
        axis.hist(values, bins=30, color="C0")
        axis.set(xlabel=title, ylabel="pictures")
    return figure


def _page(
    dataset: Dataset, facts: list[Facts], found: list[Warning], sheets: dict[str, dict[str, str]]
) -> str:
    told = [dataset.source.get(key) for key in ("source", "name", "pictures")]
    of = escape(", ".join(str(value) for value in told if value))
    height, width = dataset.image_size
    parts = [
        "<!doctype html>",
        '<html lang="en"><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>Data set</title><style>{STYLE}</style>",
        "<h1>Data set</h1>",
        f"<p>Source: {of}. Records are {width} wide, {height} high; fit: {dataset.fit}.</p>",
        *(_warning(warning) for warning in found),
        "" if found else '<p class="fine">No warnings.</p>',
        "<h2>Pictures</h2>",
        _counts(dataset, facts),
        "<h2>Share of the pixels that count</h2>",
        _shares(dataset),
        "<h2>Sizes before they were fitted</h2>",
        '<img class="sizes" src="sizes.png" alt="Histograms of width, height and aspect">',
    ]
    for split, sheet in sheets.items():
        parts += [f"<h2>{split}: {len(sheet)} of {dataset.pictures(split)} pictures</h2>"]
        parts += ['<div class="sheet">']
        for file, caption in sheet.items():
            text = escape(caption)
            parts.append(
                f'<figure><img src="{file}" alt="{text}"><figcaption>{text}</figcaption></figure>'
            )
        parts += ["</div>"]
    return "\n".join(parts) + "\n</html>\n"


def _warning(warning: Warning) -> str:
    """The first pictures open to view, more of them behind a click."""
    items = [f"<li>{escape(picture)}</li>" for picture in warning.pictures]
    if (more := len(items) - MOST_LISTED) > 0:
        items[MOST_LISTED:] = [f"<li>and {more} more</li>"]
    shown, hidden = "".join(items[:FIRST_LISTED]), "".join(items[FIRST_LISTED:])
    heading = f"{escape(warning.text)} ({len(warning.pictures)})"
    rest = f"<details><summary>more</summary><ul>{hidden}</ul></details>" if hidden else ""
    return f'<div class="warning"><b>{heading}</b><ul>{shown}</ul>{rest}</div>'


def _counts(dataset: Dataset, facts: list[Facts]) -> str:
    left_out = Counter(left.split for left in dataset.left_out)
    sizes = Counter(fact.size for fact in facts)
    (height, width), most = sizes.most_common(1)[0]
    rows = [[s, f"{dataset.pictures(s):,}", f"{left_out[s]:,}"] for s in SPLITS]
    rows.append(["all", f"{len(facts):,}", f"{len(dataset.left_out):,}"])
    common = f"{width} wide, {height} high"
    several = f"{len(sizes):,} different sizes; {most:,} pictures are {common}."
    text = several if len(sizes) > 1 else f"All are {common}."
    return _table(["split", "pictures", "left out"], rows) + f"<p>{text}</p>"


def _shares(dataset: Dataset) -> str:
    rows = []
    for name, colour in zip(dataset.classes, colours(len(dataset.classes)), strict=True):
        css = "rgb({}, {}, {})".format(*colour)
        cells = [f'<span class="swatch" style="background: {css}"></span>{escape(name)}']
        for split in SPLITS:
            percent = 100 * dataset.pixel_share[split][name]
            bar = f'<i style="width: {percent:.1f}%; background: {css}"></i>'
            cells.append(f'{percent:.2f}%<span class="bar">{bar}</span>')
        rows.append(cells)
    return f'<div class="shares">{_table(["class", *SPLITS], rows)}</div>'


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = ["<tr>" + "".join(f"<th>{cell}" for cell in head)]
    lines += ["<tr>" + "".join(f"<td>{cell}" for cell in row) for row in rows]
    return '<div class="table"><table>' + "\n".join(lines) + "</table></div>"


def _shortened(items: list[str], most: int) -> str:
    more = len(items) - most
    return "; ".join(items[:most]) + (f"; and {more} more" if more > 0 else "")
