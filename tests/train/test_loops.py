"""What keeps a GPU from waiting for Python: several steps in one computation, answers that land in
the machine's memory, and callbacks that Keras does not wait for."""

import os
import subprocess
import sys
from functools import partial
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from tqdm import tqdm

from stages.shared.runtime import console
from stages.train.batches import Batches
from stages.train.progress import EpochLines
from stages.train.supplied import Resident
from tests.conftest import ROOT
from tests.train.test_training import Odd

# This machine's processor in the place of a GPU.
AS_ON_A_GPU = """
import sys
from pathlib import Path
import keras
import numpy as np
from stages.shared.networks import devices
from stages.shared.networks.compiled import Compiled
from stages.shared.networks.devices import Memory
from stages.train import fit
from stages.train.augmentation import RandomAugmentation
from stages.train.settings import Augmentation
from tests.train.test_training import Odd, classifier, settings, train
devices.gpus = lambda: ["cpu:0"]
"""
# Of 4 batches, the last of 1 of 3 pictures; 3 at once, so that of the second 3 only 1 is meant.
TRAINED = """
def trained(loops):
    fit.distribution.loops = lambda: loops
    fit.AT_ONCE = 3
    keras.utils.set_random_seed(1)
    model, wanted = classifier(), settings(batch_size=3, learning_rate=1e-3, ema_momentum=0.8)
    augment = RandomAugmentation(Augmentation(), seed=1)
    rows = train(model, Path(sys.argv[1]), wanted, None, Odd(10), augment, Memory(1e9, 0))
    return rows[1:], [weights.tolist() for weights in model.last]
loops = fit.distribution.loops()
print(loops, trained(True) == trained(False))
"""
AHEAD = """
import threading
class Threads(keras.callbacks.Callback):
    async_safe = True
    seen = []
    def on_train_batch_end(self, batch, logs=None):
        self.seen.append(threading.current_thread())
fit.distribution.loops = lambda: False
train(classifier(), Path(sys.argv[1]), settings(epochs=4, batch_size=2), last=Threads())
print(len(Threads.seen), threading.main_thread() in Threads.seen)
"""
LANDED = """
inputs = keras.Input((2,))
doubled = keras.Model(inputs, {"a": 2 * inputs, "b": keras.layers.Dense(3)(inputs)})
pictures = np.arange(6, dtype="float32").reshape(3, 2)
answer = Compiled(doubled, batch_size=4)(pictures)
print({tensor.sharding.memory_kind for tensor in answer.tensors.values()})
print(all(np.allclose(array, doubled(pictures)[n]) for n, array in answer.arrays().items()))
"""


def printed(program: str, *arguments: str) -> list[str]:
    """The last lines that a program prints under JAX."""
    pytest.importorskip("jax")
    done = subprocess.run(
        [sys.executable, "-c", AS_ON_A_GPU + program, *arguments],
        cwd=ROOT,
        env=os.environ | {"KERAS_BACKEND": "jax"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()


def test_steps_in_one_computation_lead_to_the_same_last_bit_as_one_by_one(tmp_path: Path):
    assert printed(TRAINED, str(tmp_path))[-1] == "True True"


def test_what_a_gpu_answers_lands_in_memory_that_it_writes_to_itself():
    assert printed(LANDED)[-2:] == ["{'pinned_host'}", "True"]


def test_batches_at_once_are_those_one_by_one_in_their_order():
    batches = Batches(Odd(10), 3, seed=0)
    # Under XLA all batches are as large.
    batches.compiled = True
    Resident([batches, Batches(Odd(2), 3)])
    single = [batch["indices"] for (batch,) in batches.stream(2, epochs=2)]
    batches.at_once = 3
    together = [batch for (batch,) in batches.stream(2, epochs=2)]
    assert [int(batch["batches"]) for batch in together] == [3, 1, 3, 1]
    assert {batch["indices"].shape for batch in together} == {(3, 3)}
    meant = [row for batch in together for row in batch["indices"][: batch["batches"]]]
    np.testing.assert_array_equal(meant, single)
    assert batches.steps == 2


def test_the_next_step_does_not_wait_for_what_is_called_after_a_step(tmp_path: Path):
    assert printed(AHEAD, str(tmp_path))[-1] == "16 False"


def test_the_bar_counts_batches_however_many_are_at_once(monkeypatch):
    shown = partial(tqdm, file=StringIO(), total=20)
    monkeypatch.setattr(console, "bar", lambda *_: shown())
    lines = EpochLines("x", epochs=1, batches=20, at_once=16)
    lines.on_train_begin()
    counted = []
    for step in range(2):
        lines.on_train_batch_end(step)
        counted.append(lines.bar.n)
    assert counted == [16, 20]
