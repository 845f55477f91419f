"""The documents: their commands run as written, their figures, links and names are right.

The commands run in a built tiny project, not in the demo, which takes minutes to build. Its `.venv`
is this Python's environment, with the marks by which make knows that everything is installed.
"""

import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stages.prepare.sources import demo
from tests import warm
from tests.conftest import ROOT, Project, copy_of

DOCUMENTS = (
    "README.md",
    "CONTRIBUTING.md",
    *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")),
)
# What the commands need besides the tiny project.
COPIED = (
    ".gitignore",
    "Makefile",
    "requirements.txt",
    "constraints.txt",
    "commands",
    "extras",
    "tests",
)
MARKS = ("installed", "app-installed", "tests-installed")

BUCKET = "it needs a bucket; tests/commands/test_sharing.py runs it against a server of its own"
CLUSTER = (
    "it leaves a cluster behind; tests/shared/engines/test_ray.py runs the stages on one of its own"
)
INSTALLED = "the environment of the tests has it"
PROCESSES = "it needs a second process; tests/train/test_processes.py trains with two"
NOT_RUN = {
    "make test": "it runs this test",
    "make check": "it is run beside the tests",
    "make coverage": "it runs this test",
    "make campaign": "it takes long, and runs tests",
    "make pets": "it downloads a data set and weights, and needs a GPU",
    "make app": "it serves until it is stopped; tests/commands/test_app.py opens its page",
    "make reproduce": "it takes minutes; tests/commands/test_reproduce.py runs what it runs",
    "make benchmark": "it takes minutes; tests/benchmarks/test_benchmark.py runs what it runs",
    "make benchmark-peers": "it installs PyTorch and takes an hour; see tests/benchmarks",
    "python -m benchmarks.families": "it takes minutes; see `make benchmark`",
    "KERAS_BACKEND=jax python -m benchmarks.accelerator": "it needs a GPU; see tests/benchmarks",
    "python -m benchmarks.folder": "it takes minutes; see tests/benchmarks",
    "python -m benchmarks.host": "it takes minutes; see `make benchmark`",
    "make soak": "it takes minutes; tests/benchmarks/test_soak.py runs what it runs",
    ".venv/bin/python -m benchmarks.run --backend jax": "it takes minutes; see `make benchmark`",
    "dvc queue start": "its worker stays; tests/pipeline/test_experiments.py waits for one",
    "make sweep": "it takes minutes; tests/commands/test_sweep.py runs what it runs",
    "pip install -c constraints.txt -r extras/jax.txt": INSTALLED,
    "pip install -c constraints.txt -r extras/ray.txt": INSTALLED,
    "pip install -c constraints.txt -r extras/s3.txt": INSTALLED,
    "dvc remote add --default shared s3://bucket/folder": BUCKET,
    "dvc remote modify --local shared access_key_id KEY": BUCKET,
    "dvc remote modify --local shared secret_access_key SECRET": BUCKET,
    "make share": BUCKET,
    "dvc repro --pull": BUCKET,
    "ray start --head": CLUSTER,
    "dvc exp run -S engine=ray -S ray.address=auto": CLUSTER,
    "dvc repro, A GPU": "tests/pipeline/test_without_tensorflow.py runs the stages on JAX",
    "git pull && dvc pull": "the tiny project has no remote",
    "export KERAS_BACKEND=jax": PROCESSES,
    "export KERAS_DISTRIBUTION_JOB_ADDRESSES=10.0.0.1:1234": PROCESSES,
    "export KERAS_DISTRIBUTION_NUM_PROCESSES=2": PROCESSES,
    "export KERAS_DISTRIBUTION_PROCESS_ID=0": PROCESSES,
    "dvc repro --single-item train@fcn8s-finetuned": PROCESSES,
    "python -m pytest tests/shared/results -n 1": "it is run beside this test",
}


# What is edited by hand, as the README says that it can be.
EDITED = {"make new DATA=data/pictures": {"train.epochs": 2}}


def text_of(document: str) -> str:
    """A document without its fenced blocks."""
    text = (ROOT / document).read_text(encoding="utf-8")
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


def commands(section: str) -> list[str]:
    """The commands of a section: the lines of its indented blocks."""
    blocks = re.findall(r"(?<=\n\n)(?: {4}\S.*\n)+", section)
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
    for section in re.split(r"^#+ ", text_of(document), flags=re.M)
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
        if part.name not in (*MARKS, "bin"):
            (folder / part.name).symlink_to(part)
    (folder / "bin").mkdir()
    # With the `python` and the `dvc` that all tests' commands find.
    own = {path.name: path for path in warm.programs()}
    for program in (Path(sys.prefix) / "bin").iterdir():
        (folder / "bin" / program.name).symlink_to(own.get(program.name, program))
    for mark in MARKS:
        (folder / mark).touch()


@pytest.fixture(scope="module")
def built(built_project: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A tiny project after `dvc repro` and a commit, that exports what the documents ship."""
    project = copy_of(built_project, tmp_path_factory.mktemp("readme") / "project")
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, project.folder / name, dirs_exist_ok=True)
        else:
            shutil.copy(ROOT / name, project.folder / name)
    for key in ("name", "email"):
        project.run("git", "config", f"user.{key}", "test@localhost")
    project.set_params({"export.variants": ["fcn8s"]})
    shutil.rmtree(project.folder / "models/export/fcn32s")
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
        if changes := EDITED.get(bare(line)):
            copy.set_params(changes)


def test_a_command_that_is_not_run_is_in_a_document():
    there = {bare(line) for _, found in SECTIONS.values() for line in found}
    there |= {f"{bare(line)}, {title}" for title, found in SECTIONS.values() for line in found}
    assert NOT_RUN.keys() <= there


def test_a_restored_workspace_keeps_other_uncommitted_changes(copy: Project):
    (restore,) = (
        bare(line)
        for line in RUN["docs/experiments.md: Experiments"]
        if line.startswith("git restore")
    )
    before = copy.digests("params.yaml", "dvc.lock", "models", "reports")
    experiment = ("dvc", "exp", "run", "--set-param", "++variants.fcn8s.dropout=0.25")
    copy.run(*experiment, "evaluate@fcn8s")
    with (copy.folder / "dvc.yaml").open("a") as file:
        file.write("# mine\n")
    assert copy.digests("params.yaml", "dvc.lock", "models", "reports") != before
    copy.run("bash", "-c", restore)
    assert copy.digests("params.yaml", "dvc.lock", "models", "reports") == before
    assert copy.run("git", "status", "--porcelain", "--", "dvc.yaml", "reports").stdout.split() == [
        "M",
        "dvc.yaml",
    ]


def test_what_predicting_and_exporting_are_said_to_leave_is_there(copy: Project):
    for line in RUN["docs/prediction.md: Predict"] + RUN["docs/prediction.md: Export"]:
        copy.run("bash", "-c", line)
    predicted = {path.name for path in (copy.folder / "predicted").iterdir()}
    assert predicted >= {"photo.png", "another.png", "shares.csv", "classes.csv"}
    assert (copy.folder / "shipped/model.onnx").is_file()


README = text_of("README.md")


def test_the_graph_is_as_dvc_draws_it(fresh_project: Project):
    shutil.copy(ROOT / "profiles/demo.yaml", fresh_project.folder / "params.yaml")
    page = (ROOT / "docs/pipeline.md").read_text(encoding="utf-8")
    (drawn,) = re.findall(r"^```mermaid\n(.+?)^```$", page, re.MULTILINE | re.DOTALL)
    printed = fresh_project.run("dvc", "dag", "--mermaid").stdout
    assert drawn.split() == printed.split()


def test_the_benchmark_s_figures_are_those_that_it_wrote():
    results = (ROOT / "benchmarks/results.md").read_text(encoding="utf-8")
    sentence = r"pipeline takes (\S+) s\..+? take (\S+) s, which\s+is (\S+) times as long"
    ((ours, theirs, ratio),) = re.findall(sentence, README, re.DOTALL)
    assert re.search(rf"^\| all \| {ours} s \| \d+ s \| {theirs} s \|$", results, re.MULTILINE)
    assert f"| ratio | **{ratio}** |" in results


@pytest.mark.parametrize("page", ["README.md", "docs/measured.md"])
def test_the_table_beside_the_peer_is_the_one_that_was_measured(page: str):
    measured = (ROOT / "benchmarks/peers.md").read_text(encoding="utf-8")
    assert measured[measured.index("|") :] in text_of(page)


def test_the_demo_s_scores_are_those_that_are_committed():
    rows = dict(re.findall(r"^\| `(\S+)` \| .+ \| (0\.\d{3}) \|$", README, re.MULTILINE))
    found = {
        path.parent.name: f"{json.loads(path.read_text())['mean_iou']:.3f}"
        for path in (ROOT / "reports").glob("*/metrics.json")
    }
    assert rows == found


def anchors(path: Path) -> set[str]:
    """The anchors of a page, as GitHub makes them of its headings."""
    titles = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title).strip().lower().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", DOCUMENTS)
def test_links_lead_to_files_and_their_sections(page: str):
    path = ROOT / page
    for link, anchor in re.findall(r"\]\(([^)#\s]*)(?:#([^)]*))?\)", text_of(page)):
        if "://" in link:
            continue
        target = (path.parent / link).resolve() if link else path
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), f"{link}#{anchor}"


def test_the_readme_links_to_every_page():
    linked = set(re.findall(r"\]\(([^)#\s]+)", README))
    assert linked >= set(DOCUMENTS) - {"README.md"}


# A path of this project, but not one with a placeholder or a pattern.
PATH = re.compile(r"`((?:benchmarks|commands|docs|extras|profiles|stages|tests)/[\w./-]+)`")
PLACEHOLDERS = re.compile(r"NAME|VARIANT|SPLIT")


@pytest.mark.parametrize("page", DOCUMENTS)
def test_modules_targets_and_paths_that_a_page_names_are_there(page: str):
    text = text_of(page)
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^(?:\$\(VENV\)/)?([\w-]+):", makefile, re.MULTILINE))
    named = re.findall(r"(?:`|^ {4})make (?:PYTHON=\S+ )?([\w./-]+)", text, re.MULTILINE)
    assert {target.removeprefix(".venv/") for target in named} <= targets
    for module in re.findall(r"python -m ([a-z_]+\.[a-z_.]+\b)", text):
        path = ROOT / module.replace(".", "/")
        assert path.with_suffix(".py").exists() or (path / "__main__.py").exists(), module
    for name in PATH.findall(text):
        assert PLACEHOLDERS.search(name) or (ROOT / name).exists(), name
