"""The local page, in a real browser: Debian's chromium, headless."""

import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import numpy as np
import pytest

from stages.shared.results.variants import seconds_of
from tests.conftest import ROOT, Project, encoded

START_LIMIT = ANSWER_LIMIT = 180  # seconds
NO_PICTURE = "the picture is not an image in a known format"

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = pytest.mark.skipif(
    not importlib.util.find_spec("gradio"), reason="gradio is not installed"
)


class App(NamedTuple):
    """The running page: its process, where it listens, its messages and temporary files."""

    process: subprocess.Popen
    port: int
    messages: Path
    temporary: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


def environment(temporary: Path) -> dict[str, str]:
    # The folder comes first in Python's path, so that `stages` is the project's and `app` ours.
    # A proxy that does not answer, as many companies have one that does not know this machine.
    proxy = {"http_proxy": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9"}
    return os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": str(temporary)} | proxy


def heed_ctrl_c() -> None:
    """What a shell starts in the background, these tests maybe, ignores Ctrl-C, and so do its
    children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def running(project: Project, folder: Path) -> Iterator[App]:
    """The page of a project; it takes files of up to 1 MB."""
    port = free_port()
    messages, temporary = folder / "messages", folder / "temporary"
    temporary.mkdir()
    with (
        messages.open("w") as stderr,
        subprocess.Popen(
            [sys.executable, "-m", "commands.app", f"--port={port}", "--max-megabytes=1"],
            cwd=project.folder,
            env=environment(temporary),
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            preexec_fn=heed_ctrl_c,
        ) as process,
    ):
        limit = threading.Timer(START_LIMIT, process.kill)
        limit.start()
        line = process.stdout.readline()
        limit.cancel()
        assert f"http://127.0.0.1:{port} " in line, messages.read_text()
        yield App(process, port, messages, temporary)
        process.kill()


@pytest.fixture(scope="module")
def app(built_project: Project, tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """The page of the built project."""
    with running(built_project, tmp_path_factory.mktemp("app")) as started:
        yield started


@pytest.fixture
def page(browser: "playwright.Browser", app: App) -> Iterator["playwright.Page"]:
    """The page, newly opened; what fails in its scripts or leaves the machine fails the test."""
    opened = browser.new_page()
    opened.set_default_timeout(ANSWER_LIMIT * 1000)
    faults = []
    opened.on("pageerror", lambda error: faults.append(str(error)))
    opened.on("console", lambda said: faults.append(said.text) if said.type == "error" else None)
    opened.on(
        "request",
        lambda request: (
            faults.append(request.url)
            if urlsplit(request.url).hostname not in ("127.0.0.1", None)
            else None
        ),
    )
    opened.goto(app.url)
    yield opened
    opened.close()
    assert faults == []


def drop(page: "playwright.Page", name: str, content: bytes) -> None:
    file = {"name": name, "mimeType": "image/png", "buffer": content}
    page.locator("input[type=file]").set_input_files(file)


def sees(locator: "playwright.Locator") -> None:
    playwright.expect(locator).to_be_visible(timeout=ANSWER_LIMIT * 1000)


def picture(height: int = 48, width: int = 80) -> bytes:
    return encoded(np.random.default_rng(7).integers(0, 256, (height, width, 3), np.uint8), "PNG")


def cells(page: "playwright.Page") -> list[list[str]]:
    """The table's rows."""
    sees(page.locator(".classes table"))
    rows = page.locator(".classes tr").all()
    return [row.locator("th, td").all_inner_texts() for row in rows]


def test_a_dropped_picture_shows_a_mask_of_every_variant(page, built_project):
    drop(page, "noise.png", picture())
    sees(page.get_by_text("noise.png, 80 x 48"))
    for variant in built_project.params["variants"]:
        mask = page.get_by_alt_text(variant, exact=True)
        sees(mask)
        size = mask.evaluate(
            "image => image.decode().then(() => [image.naturalWidth, image.naturalHeight])"
        )
        assert size == [80, 48]


def test_a_table_gives_colours_and_names_of_the_classes_their_shares_and_the_times(
    page, built_project, monkeypatch
):
    monkeypatch.chdir(built_project.folder)
    drop(page, "noise.png", picture())
    head, *classes, times, mean_iou, parameters, gflop, stored, features, training = cells(page)
    assert head == ["Class", *built_project.params["variants"]]
    names = (built_project.folder / "reports/fcn8s/confusion.csv").read_text()
    assert classes and all(row[0] in names for row in classes)
    swatches = page.locator(".classes i").evaluate_all(
        "all => all.map(one => getComputedStyle(one).backgroundColor)"
    )
    assert len(set(swatches)) == len(classes)
    for column in range(1, len(head)):
        shares = [float(row[column].removesuffix("%")) for row in classes]
        assert sum(shares) == pytest.approx(100, abs=0.05 * len(classes) + 1e-6)
    for row, key in ((mean_iou, "mean_iou"), (parameters, "parameters"), (gflop, "gflop")):
        for variant, text in zip(head[1:], row[1:], strict=True):
            metrics = json.loads(
                (built_project.folder / f"reports/{variant}/metrics.json").read_text()
            )
            assert float(text.replace(",", "")) == pytest.approx(metrics[key], rel=5e-3)
    for column, variant in enumerate(head[1:], 1):
        kept = built_project.folder / f"reports/{variant}/metrics.json"
        feature_bytes = json.loads(kept.read_text())["feature_bytes"]
        assert stored[column] == ("-" if feature_bytes is None else f"{feature_bytes / 1e6:.3f}")
        for text, seconds in zip((features, training), seconds_of(variant), strict=True):
            assert text[column] == f"{seconds:.1f}"
    assert times[0] == "Time"
    assert all(time.endswith(" s") and float(time[:-2]) >= 0 for time in times[1:])


def test_a_frozen_backbone_is_loaded_once_for_all_of_its_variants(built_project, monkeypatch):
    # They import Gradio, which may be missing.
    from commands.app.command import load_segmenters
    from commands.predict.segmenter import together

    monkeypatch.chdir(built_project.folder)
    loaded = load_segmenters()
    variants = list(built_project.params["variants"])
    assert [one.variants for one in loaded] == [one.variants for one in together(variants)]
    assert len(loaded) < len(variants)


def test_a_large_picture_is_shown_smaller(page):
    drop(page, "wide.png", encoded(np.zeros((40, 3200, 3), np.uint8), "PNG"))
    sees(page.get_by_text("wide.png, 3200 x 40"))
    mask = page.get_by_alt_text("fcn8s", exact=True)
    assert mask.evaluate("image => image.decode().then(() => image.naturalWidth)") == 1600


def test_the_slider_makes_the_masks_opaque(page):
    drop(page, "noise.png", picture())
    mask = page.get_by_alt_text("fcn8s", exact=True)
    sees(mask)
    before = mask.get_attribute("src")
    page.get_by_role("slider").fill("1")
    playwright.expect(mask).not_to_have_attribute("src", before)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"dear diary", NO_PICTURE),
        (picture()[:2000], "the picture does not decode"),
        (encoded(np.full((9, 9), 30000, np.uint16), "PNG"), "save it with 8 bits a channel"),
    ],
    ids=["text", "truncated", "16 bits"],
)
def test_a_file_that_is_no_picture_gets_a_sentence(page, app, content, sentence):
    drop(page, "notes.jpg", content)
    sees(page.get_by_test_id("toast-text").filter(has_text="notes.jpg: ").filter(has_text=sentence))
    assert "Traceback" not in page.content() + app.messages.read_text()


def test_the_next_picture_can_be_dropped_after_a_bad_one(page):
    drop(page, "notes.jpg", b"dear diary")
    sees(page.get_by_text(NO_PICTURE))
    sees(page.get_by_text("Click to Upload"))
    drop(page, "noise.png", picture())
    sees(page.get_by_text("noise.png, 80 x 48"))


def test_a_file_over_the_limit_is_refused_by_page_and_server(page, app):
    sees(page.get_by_text("Picture of at most 1 MB"))
    large = picture(700, 700)
    assert len(large) > 2**20
    drop(page, "large.png", large)
    sees(page.get_by_text('exceed the maximum allowed size of 1.0 Mb: "large.png"'))
    file = {"name": "large.png", "mimeType": "image/png", "buffer": large}
    answer = page.request.post(f"{app.url}/gradio_api/upload", multipart={"files": file})
    assert answer.status == 413


def test_it_listens_on_this_machine_alone(app):
    listening = []
    for table in ("tcp", "tcp6"):
        for line in Path("/proc/net", table).read_text().splitlines()[1:]:
            address, port = line.split()[1].split(":")
            if line.split()[3] == "0A" and int(port, 16) == app.port:
                listening.append(address)
    assert listening == ["0100007F"]  # 127.0.0.1, its bytes in reverse


def test_names_with_html_in_them_are_shown_as_they_are():
    from commands.app.command import class_table

    table = class_table(["<b>&"], {"<i>": np.ones(1)}, {"<i>": 0.5}, {})
    assert "&lt;b&gt;&amp;" in table and "&lt;i&gt;" in table
    assert "<b>" not in table and "<i>" not in table


def test_without_a_trained_variant_it_says_so(fresh_project, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "commands.app"],
        cwd=fresh_project.folder,
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.endswith("error: no variant is trained yet; `dvc repro` trains them\n")
    assert "Traceback" not in done.stderr


@pytest.fixture
def app_of_its_own(built_project: Project, tmp_path: Path) -> Iterator[App]:
    """A page that the test may end."""
    with running(built_project, tmp_path) as started:
        yield started


def test_ctrl_c_ends_it_without_an_error_and_no_picture_stays_behind(page, app_of_its_own):
    app = app_of_its_own
    page.goto(app.url)
    drop(page, "noise.png", picture())
    sees(page.get_by_text("noise.png, 80 x 48"))
    assert any(app.temporary.rglob("noise.png"))
    page.goto("about:blank")
    app.process.send_signal(signal.SIGINT)
    assert app.process.wait(START_LIMIT) == 0
    messages = app.messages.read_text()
    assert messages.endswith("\nstopped\n")
    assert "Traceback" not in messages
    assert not any(app.temporary.rglob("noise.png"))
