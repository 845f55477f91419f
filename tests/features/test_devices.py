"""Features on several devices: a shard each, the same bytes."""

import json
import os
import subprocess
import sys

from stages.shared.networks import backend
from tests.conftest import Project

TWO_DEVICES = """
import json, threading
import tensorflow as tf
cpus = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpus[0], [tf.config.LogicalDeviceConfiguration()] * 2)
from stages.shared.networks import backend, devices
backend.configure()
devices.gpus = lambda: ["cpu:0", "cpu:1"]
from stages.features import encoding
from stages.features.stage import features

both, used, compiled = threading.Barrier(2, timeout=60), [], encoding.Compiled
def noted(model, batch_size):
    predict = compiled(model, batch_size)
    placed = sorted({variable.value.device[-5:] for variable in model.variables})
    def run(images):
        # Two shards are under way: each waits for the other, once.
        if len(used) < 2:
            both.wait()
        used.append(placed)
        return predict(images)
    return run
encoding.Compiled = noted
features("vgg19")
print(json.dumps(used))
"""


def test_two_devices_make_two_shards_at_once_with_the_bytes_of_one(in_project: Project):
    """What is done on two GPUs, on two logical CPU devices."""
    before = in_project.digests("data/features/vgg19")
    done = subprocess.run(
        [sys.executable, "-c", TWO_DEVICES],
        capture_output=True,
        text=True,
        check=False,
        # XLA adds in another order.
        env=os.environ | backend.ENVIRONMENT | {"XLA": "off"},
    )
    assert done.returncode == 0, done.stderr
    used = json.loads(done.stdout.splitlines()[-1])
    assert {tuple(placed) for placed in used} == {("CPU:0",), ("CPU:1",)}
    assert in_project.digests("data/features/vgg19") == before
