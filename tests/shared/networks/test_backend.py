"""Keras's backend, as the environment names it."""

import os
import subprocess
import sys

from tests.conftest import ROOT


def test_a_backend_that_keras_cannot_import_is_named():
    done = subprocess.run(
        [sys.executable, "-m", "stages.train", "fcn8s"],
        cwd=ROOT,
        env=os.environ | {"KERAS_BACKEND": "jx"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: KERAS_BACKEND is 'jx', and Keras can't")
    assert "extras/jax.txt" in done.stderr
