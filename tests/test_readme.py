"""The documents' commands run as they are written, and their figures are those of their sources.

They run on a built tiny project, not on the demo, which takes minutes to build. Its `.venv` is this
Python's environment, with the marks by which make knows that everything is installed.
"""

import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from stages.shared.sources import demo

from .conftest import ROOT, Project, copy_project

DOCUMENTS = ("README.md", "CONTRIBUTING.md", "docs/measured.md", "docs/trouble.md")
# What the commands need beside the tiny project.
COPIED = (".gitignore", "Makefile", "requirements.txt", "constraints.txt", "app", "extras", "tests")
MARKS = ("installed", "app-installed", "tests-installed")

BUCKET = "it wants a bucket; tests/test_sharing.py runs it against a server of its own"
CLUSTER = "it leaves a cluster behind; tests/test_ray.py runs the stages on one of its own"
NOT_RUN = {
    "make test": "it is what runs this test",
    "make check": "it is run beside the tests",
    "make pets": "it downloads a data set and weights, and wants a GPU",
    "dvc repro, Your own pictures": "the profile's backbone has ImageNet's weights",
    "make app": "it serves until it is stopped; tests/test_app.py opens its page",
    "make reproduce": "it takes minutes; tests/test_reproduce.py runs what it runs",
    "make benchmark": "it takes minutes; tests/test_benchmark.py runs what it runs",
    ".venv/bin/python -m benchmarks.run --backend jax": "it takes minutes; see `make benchmark`",
    "dvc queue start": "it leaves a worker behind; tests/test_experiments.py waits for one",
    "make sweep": "it takes minutes; tests/test_sweep.py runs what it runs",
    "pip install -c constraints.txt -r extras/s3.txt": "the tests' own environment has it",
    "pip install -c constraints.txt -r extras/ray.txt": "the tests' own environment has it",
    "dvc remote add --default shared s3://bucket/folder": BUCKET,
    "dvc remote modify --local shared access_key_id KEY": BUCKET,
    "dvc remote modify --local shared secret_access_key SECRET": BUCKET,
    "make share": BUCKET,
    "dvc repro --pull": BUCKET,
    "ray start --head": CLUSTER,
    "dvc exp run -S engine=ray -S ray.address=auto": CLUSTER,
    "python -m pytest tests/test_scores.py -n 1": "it is run beside this test",
}


def commands(section: str) -> list[str]:
    """The commands of a section: the lines of its indented blocks, outside of fences."""
    prose = re.sub(r"^```.*?^```$", "", section, flags=re.MULTILINE | re.DOTALL)
    blocks = re.findall(r"(?<=\n\n)(?: {4}\S.*\n)+", prose)
    return [line.strip() for block in blocks for line in block.splitlines()]


def bare(command: str) -> str:
    """A command without the comment behind it."""
    return re.sub(r"\s+#.*", "", command)


def reason_not_to_run(command: str, title: str) -> str | None:
    """Why a command of a section is not run; None if it is."""
    return NOT_RUN.get(f"{bare(command)}, {title}", NOT_RUN.get(bare(command)))


# Title and commands of each section that has any, by document and title.
SECTIONS = {
    f"{document}: {title}": (title, found)
    for document in DOCUMENTS
    for section in re.split(r"^#+ ", (ROOT / document).read_text(encoding="utf-8"), flags=re.M)
    for title, found in [(section.partition("\n")[0], commands(section))]
    if found
}
# The commands that are run, in order.
RUN = {
    name: lines
    for name, (title, found) in SECTIONS.items()
    if (lines := [line for line in found if not reason_not_to_run(line, title)])
}


def picture(path: Path, seed: int) -> np.ndarray:
    """Write a drawn picture; its mask."""
    image, mask = demo.draw((90, 120), (5, seed))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)
    return mask


def write_pictures(folder: Path) -> None:
    """What a user has: pictures to predict, and labelled ones as profiles/folder.yaml has them."""
    picture(folder / "photo.jpg", 0)
    picture(folder / "folder/another.jpg", 1)
    for number in range(20):
        mask = picture(folder / f"data/pictures/images/{number}.jpg", number)
        path = folder / f"data/pictures/masks/{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((mask > 0).astype(np.uint8)).save(path)


def link_environment(folder: Path) -> None:
    """A .venv that is this Python's environment, marked as installed just now."""
    folder.mkdir()
    for part in Path(sys.prefix).iterdir():
        if part.name not in MARKS:
            (folder / part.name).symlink_to(part)
    for mark in MARKS:
        (folder / mark).touch()


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A tiny project after `dvc repro` and a commit, that exports what the README ships."""
    project = copy_project(tmp_path_factory.mktemp("readme") / "project")
    for name in COPIED:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, project.folder / name)
    for key in ("name", "email"):
        project.run("git", "config", f"user.{key}", "test@localhost")
    project.set_params({"export.variants": ["fcn8s"]})
    project.repro()
    project.commit()
    link_environment(project.folder / ".venv")
    write_pictures(project.folder)
    return project


@pytest.fixture
def copy(built: Project, tmp_path: Path) -> Project:
    """A copy of it with its history, its cache and their links."""
    built.run("cp", "--archive", ".", str(tmp_path / "copy"))
    return Project(tmp_path / "copy")


@pytest.mark.parametrize("section", RUN)
def test_the_commands_of_a_section_run_in_order(section: str, copy: Project):
    for line in RUN[section]:
        copy.run("bash", "-c", line)


def test_a_command_that_is_not_run_is_in_a_document():
    there = {bare(line) for _, found in SECTIONS.values() for line in found}
    there |= {f"{bare(line)}, {title}" for title, found in SECTIONS.values() for line in found}
    assert NOT_RUN.keys() <= there


def test_what_predicting_and_exporting_are_said_to_leave_is_there(copy: Project):
    for line in RUN["README.md: Predicting"] + RUN["README.md: Exporting"]:
        copy.run("bash", "-c", line)
    predicted = {path.name for path in (copy.folder / "predicted").iterdir()}
    assert predicted >= {"photo.png", "another.png", "shares.csv", "classes.csv"}
    assert (copy.folder / "shipped/model.onnx").is_file()


README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_graph_is_as_dvc_draws_it(fresh_project: Project):
    shutil.copy(ROOT / "profiles/demo.yaml", fresh_project.folder / "params.yaml")
    (drawn,) = re.findall(r"^```mermaid\n(.+?)^```$", README, re.MULTILINE | re.DOTALL)
    printed = fresh_project.run("dvc", "dag", "--mermaid").stdout
    assert drawn.split() == printed.split()


def test_the_benchmark_s_figures_are_those_that_it_wrote():
    results = (ROOT / "benchmarks/results.md").read_text(encoding="utf-8")
    head_to_head = results[: results.index("\n| pictures |")]
    assert head_to_head in README


PAGES = ("README.md", "CONTRIBUTING.md", *(f"docs/{p.name}" for p in (ROOT / "docs").glob("*.md")))


@pytest.mark.parametrize("page", sorted(PAGES))
def test_links_lead_to_files(page: str):
    path = ROOT / page
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8"))
    for link in links:
        assert "://" in link or (path.parent / link).exists(), link
