"""The project's own programs, forked from processes that have imported what takes seconds.

A test run starts hundreds of stages and of DVC's commands, and most of their time is the import of
TensorFlow and of DVC. Here `python` and `dvc` are programs of a folder that comes first in the
tests' PATH (`client.py`). They have one of a few parents, which have done the imports, fork a child
(`parent.py`); that is given the caller's arguments, folder, environment and streams, and runs the
project's own modules, which no parent has imported. What these programs do not hand on, they run as
it is: `python -c`, other backends of Keras, and all with `COLD` in the environment.
"""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

from stages.shared.networks import backend

HERE = Path(__file__).resolve().parent
# In the environment of a command, which of the programs have a parent there and in all that it
# starts: none, or `python` alone. What is forked is in a session of its own, and what a signal to a
# process group, or a look at a session, is to find must be DVC itself.
COLD = {"WARM_PROGRAMS": "none"}
COLD_DVC = {"WARM_PROGRAMS": "python"}
# Without ONNX Runtime, which starts threads when it is imported: a forked child would wait for them
# when it ends.
KERAS = (
    "fsspec h5py jinja2 keras matplotlib.backends.backend_agg matplotlib.figure matplotlib.patches "
    "matplotlib.ticker multiprocessing.synchronize onnx PIL.Image PIL.JpegImagePlugin "
    "PIL.PngImagePlugin pydantic.fields pydantic.main pydantic.root_model tensorflow tf2onnx tqdm "
    "yaml"
)
# With what DVC itself imports when a command needs it.
DVC = (
    "configobj dulwich.index dulwich.worktree dvc.cachemgr dvc.cli dvc.cli.parser dvc.data_cloud "
    "dvc.repo.experiments.queue.celery dvc.repo.graph dvc.repo.index dvc.repo.plots "
    "dvc.repo.reproduce dvc.repo.stage dvc.utils.strictyaml dvc_data.hashfile.db.local "
    "dvc_render.vega fsspec.implementations.memory networkx ruamel.yaml"
)
# Read by TensorFlow when it is imported, as the stages set it.
FOR_TENSORFLOW = backend.ENVIRONMENT | {"TF_CPP_MIN_LOG_LEVEL": "3"}
PROGRAMS = ("python", "dvc")
# What each parent has imported, and with what in its environment. Python reads the seed of its
# hashes when it starts; dvc.yaml sets it for export.
PARENTS = {
    "keras": (KERAS, FOR_TENSORFLOW),
    "keras-0": (KERAS, FOR_TENSORFLOW | {"PYTHONHASHSEED": "0"}),
    "dvc": (DVC, {}),
}


class Programs:
    """A folder with `python` and `dvc`, and the parents that they ask.

    The parents import nothing before they are asked for the first time, and end with this process.
    """

    def __init__(self) -> None:
        # The path of a socket must be short.
        self.folder = Path(tempfile.mkdtemp(prefix="warm-"))
        self.parents = [self._start(name, *of) for name, of in PARENTS.items()]
        for program in PROGRAMS:
            real = Path(sys.executable).with_name(program)
            command = [sys.executable, "-I", "-S", HERE / "client.py", self.folder, program, real]
            quoted = " ".join(f"'{part}'" for part in command)
            (self.folder / program).write_text(f'#!/bin/sh\nexec {quoted} "$@"\n')
            (self.folder / program).chmod(0o755)

    def _start(self, name: str, modules: str, environment: dict[str, str]) -> subprocess.Popen:
        mixed_up = ("PYTHON", "COVERAGE_", "TF_", "KERAS_")
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(mixed_up)}
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(self.folder / f"{name}.socket"))
            listener.listen(64)
            command = [sys.executable, HERE / "parent.py", str(listener.fileno()), *modules.split()]
            return subprocess.Popen(
                command,
                cwd=self.folder,
                env=inherited | environment,
                # It ends when nobody holds the other end of this any more.
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=(self.folder / f"{name}.log").open("w"),
                pass_fds=[listener.fileno()],
                start_new_session=True,
            )

    def stop(self) -> None:
        """End the parents, and what they have forked."""
        for parent in self.parents:
            parent.stdin.close()
        for parent in self.parents:
            parent.wait()
        shutil.rmtree(self.folder)


def programs() -> list[Path]:
    """The programs that this test run's commands find first."""
    return [Path(os.environ["WARM_FOLDER"], name) for name in PROGRAMS]
