"""The page of `dvc plots`, in a real browser without a network, and the Vega that it draws with."""

import hashlib
import re
import shutil
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.conftest import ROOT, Project

VEGA = ROOT / "reports/vega"
NO_FILE = "net::ERR_FILE_NOT_FOUND"
WIDTHS = {"desktop": 1280, "phone": 390}


def plots_page(project: Project, command: str = "show", out: str = "dvc_plots") -> Path:
    """The page that `dvc plots show` or `diff` writes."""
    project.run("dvc", "plots", command, "--out", out)
    return project.folder / out / "index.html"


def expect_drawn(page: Page, charts: int) -> None:
    """Wait until so many charts are there, and every one has marks in it."""
    drawn = page.locator(".vega-embed svg.marks")
    expect(drawn).to_have_count(charts)
    for chart in drawn.all():
        shapes = chart.locator(".role-mark path, .role-mark text, .role-mark rect")
        assert shapes.count() > 0
        assert chart.bounding_box()["width"] > 100


def scrolls_sideways(page: Page) -> bool:
    return page.evaluate("document.documentElement.scrollWidth > window.innerWidth")


@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS)
def test_every_chart_and_picture_is_drawn_without_a_network(width, project: Project, open_file):
    path = plots_page(project)
    asked_for = re.findall(r"vegaEmbed\('#", path.read_text())
    page = open_file(path, within=project.folder, width=width)
    assert len(asked_for) == 13
    expect_drawn(page, len(asked_for))
    pictures = page.locator("#plots img")
    names = pictures.evaluate_all("all => all.map(one => one.naturalWidth > 0 && one.alt)")
    assert names == [
        "reports/comparison/learning_curves.png, workspace",
        "reports/comparison/pictures/picture-1.png, workspace",
        "reports/comparison/pictures/picture-2.png, workspace",
    ]
    assert not scrolls_sideways(page)


def test_a_difference_is_drawn_with_both_revisions(project: Project, open_file):
    history = project.folder / "reports/fcn8s/history.csv"
    history.write_text(history.read_text() + "3,0.5,0.5,0.5,0.5,0.5,0.5\n")
    page = open_file(plots_page(project, "diff"), within=project.folder)
    charts = page.locator(".vega-embed").filter(has_text="fcn8s, mean IoU")
    expect(charts).to_have_count(1)
    for revision in ("HEAD", "workspace"):
        expect(charts.get_by_text(revision, exact=True)).to_be_visible()


def test_a_chart_can_be_saved_and_leads_nowhere_else(project: Project, open_file):
    page = open_file(plots_page(project), within=project.folder)
    chart = page.locator(".vega-embed").first
    chart.locator("summary").click()
    assert chart.locator(".vega-actions a").all_inner_texts() == ["Save as SVG", "Save as PNG"]
    with page.expect_download() as download:
        chart.get_by_text("Save as SVG").click()
    assert download.value.path().read_text().startswith("<svg")


@pytest.mark.parametrize("place", ["sent/vega", "vega"])
def test_vega_may_lie_beside_the_page_or_a_folder_above(place: str, project, tmp_path, open_file):
    shutil.copytree(plots_page(project).parent, tmp_path / "sent")
    shutil.copytree(VEGA, tmp_path / place)
    page = open_file(tmp_path / "sent/index.html", within=tmp_path, tolerated=NO_FILE)
    expect_drawn(page, 13)


def test_a_page_below_another_folder_finds_the_project_s(project, open_file):
    (project.folder / "pages").mkdir()
    path = plots_page(project, out="pages/plots")
    page = open_file(path, within=project.folder, tolerated=NO_FILE)
    expect_drawn(page, 13)


def test_without_vega_the_page_says_where_it_belongs(project: Project, open_file):
    shutil.rmtree(project.folder / "reports/vega")
    # It looks in the folder above the project too.
    path, within = plots_page(project), project.folder.parent
    page = open_file(path, within=within, tolerated=NO_FILE)
    expect(page.get_by_role("alert")).to_contain_text("reports/vega")
    expect(page.get_by_role("alert")).to_be_visible()
    assert page.locator(".vega-embed").count() == 0


def test_a_chart_that_cannot_be_drawn_says_why_and_the_others_are_there(project, open_file):
    template = project.folder / ".dvc/plots/iou_bars.json"
    template.write_text(template.read_text().replace('"type": "bar"', '"type": "no such mark"'))
    page = open_file(plots_page(project), within=project.folder)
    expect(page.get_by_role("alert")).to_contain_text("This chart can't be drawn")
    expect_drawn(page, 12)


def vendored() -> dict[str, str]:
    """What reports/vega/README.md says of each file: its SHA-256."""
    table = (VEGA / "README.md").read_text()
    return dict(
        re.findall(r"^\| `(\S+)` \| `vega\S*@\d+\.\d+\.\d+` \| `(\w{64})` \|$", table, re.M)
    )


def test_the_stored_files_are_those_that_are_written_down():
    found = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in VEGA.glob("*.js")}
    assert len(found) == 3
    assert found == vendored()


def test_they_name_no_source_map_which_a_browser_would_ask_for():
    for file in vendored():
        assert "sourceMappingURL" not in (VEGA / file).read_text(encoding="utf-8")


@pytest.mark.parametrize("package", ["vega", "vega-lite", "vega-embed"])
def test_every_package_s_licence_is_kept(package: str):
    licence = (VEGA / f"LICENSE.{package}.txt").read_text()
    assert "University of Washington Interactive Data Lab" in licence
    assert "Redistributions of source code must retain the above copyright notice" in licence


def test_the_licences_of_what_they_contain_are_kept():
    kept = (VEGA / "LICENSES.bundled.txt").read_text()
    for package in ("d3-scale", "topojson-client", "delaunator", "semver", "fast-json-patch"):
        assert re.search(rf"\b{package}\b", kept)
