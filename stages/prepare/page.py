"""reports/dataset/: a page about the data set, with warnings of likely mistakes."""

from collections import Counter
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from stages.prepare import facts as dataset_facts
from stages.prepare.facts import Facts, Warning
from stages.shared.records.dataset import Dataset
from stages.shared.records.shards import PictureReader, spaced
from stages.shared.results import pages
from stages.shared.results.overlay import colours, overlay, save
from stages.shared.runtime.paths import REPORTS_DIR
from stages.shared.settings.section import SPLITS

PAGE_DIR = REPORTS_DIR / "dataset"
TEMPLATE = Path(__file__).with_name("page.html.j2")
PICTURES_OF_A_SPLIT = 24
# How many pictures a warning lists at once, and behind a click.
FIRST_LISTED, MOST_LISTED = 5, 200
OPACITY = 0.5
JPEG_QUALITY = 85


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
        sheets[split] = _contact_sheet(PictureReader(dataset, split, records), split, folder)
    if len({fact.size for fact in facts}) > 1:
        save(_sizes(facts), folder / "sizes.png")
    page = _page(dataset, facts, found, sheets)
    (folder / "index.html").write_text(page, encoding="utf-8")
    for warning in found:
        print(f"warning: {warning.text}: {_shortened(warning.pictures, 3)}")
    if found:
        print(f"see {PAGE_DIR / 'index.html'}")


def _contact_sheet(reader: PictureReader, split: str, folder: Path) -> dict[str, str]:
    """Write pictures evenly spaced over a split, masks over them; their files and names."""
    sheet = {}
    for number, index in enumerate(spaced(PICTURES_OF_A_SPLIT, len(reader)), 1):
        name, image, mask = reader[index]
        file = f"pictures/{split}-{number:02d}.jpg"
        shown = overlay(image, mask, reader.classes, OPACITY)
        Image.fromarray(shown).save(folder / file, quality=JPEG_QUALITY)
        sheet[file] = name
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
    sizes = Counter(fact.size for fact in facts)
    css = ["rgb({}, {}, {})".format(*colour) for colour in colours(len(dataset.classes))]
    return pages.render(
        TEMPLATE,
        source=", ".join(str(value) for value in told if value),
        dataset=dataset,
        splits=SPLITS,
        tiles=sum(map(dataset.records, SPLITS)),
        left_out=Counter(left.split for left in dataset.left_out),
        warnings=found,
        first=FIRST_LISTED,
        most=MOST_LISTED,
        sizes=sizes,
        common=sizes.most_common(1)[0],
        classes=dict(zip(dataset.classes, css, strict=True)),
        sheets=sheets,
    )


def _shortened(items: list[str], most: int) -> str:
    more = len(items) - most
    return "; ".join(items[:most]) + (f"; and {more} more" if more > 0 else "")
