"""Schedules, optimisers, class weights, early stopping."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np
import pytest

from stages.shared.networks.devices import Memory
from stages.shared.runtime import stopping
from stages.shared.runtime.errors import UserError
from stages.train.augmentation import RandomAugmentation
from stages.train.batches import Batches, Held
from stages.train.fit import NO_MEMORY, fit
from stages.train.losses import PixelLoss, class_weights
from stages.train.optimizers import optimizer, schedule
from stages.train.progress import MEASURES, Progress
from stages.train.sampling import Sampled
from stages.train.settings import Augmentation, Train
from stages.train.supplied import Resident, Supplied
from tests.conftest import ROOT

STEPS = 100


def settings(**changes) -> Train:
    basic = {"epochs": 3, "batch_size": 2, "learning_rate": 0.1, "weight_decay": 0, "dropout": 0}
    return Train(**basic | changes)


def rates(**changes) -> list[float]:
    """The learning rate at each step."""
    planned = schedule(settings(**changes), STEPS)
    return [float(planned(step)) for step in range(STEPS)]


def test_a_constant_schedule_is_constant():
    assert rates() == pytest.approx([0.1] * STEPS)


def test_a_cosine_falls_from_the_learning_rate_to_zero():
    expected = [0.05 * (1 + np.cos(np.pi * step / STEPS)) for step in range(STEPS)]
    assert rates(schedule="cosine") == pytest.approx(expected, abs=1e-6)


def test_a_polynomial_falls_as_deeplab_s():
    expected = [0.1 * (1 - step / STEPS) ** 0.9 for step in range(STEPS)]
    assert rates(schedule="polynomial") == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("name", ["constant", "cosine", "polynomial"])
def test_a_warmup_rises_in_a_straight_line_and_leaves_the_rest_alone(name: str):
    plain, warm = rates(schedule=name), rates(schedule=name, warmup=0.1)
    assert warm[:10] == pytest.approx([p * (i + 1) / 10 for i, p in enumerate(plain[:10])])
    assert warm[10:] == pytest.approx(plain[10:])


def test_the_optimisers_are_keras_s_with_the_settings():
    adamw = optimizer(settings(weight_decay=0.02, clip_norm=3), STEPS)
    assert isinstance(adamw, keras.optimizers.AdamW)
    assert (adamw.weight_decay, adamw.global_clipnorm) == (0.02, 3)
    sgd = optimizer(settings(optimizer="sgd"), STEPS)
    assert isinstance(sgd, keras.optimizers.SGD)
    assert sgd.momentum == 0.9
    assert sgd.global_clipnorm is None


def test_training_in_float16_scales_the_loss():
    wanted = settings(optimizer="sgd")
    scaled = optimizer(wanted, STEPS, "mixed_float16")
    assert isinstance(scaled, keras.optimizers.LossScaleOptimizer)
    assert isinstance(scaled.inner_optimizer, keras.optimizers.SGD)
    assert not isinstance(
        optimizer(wanted, STEPS, "mixed_bfloat16"), keras.optimizers.LossScaleOptimizer
    )


def test_balanced_weights_are_the_inverse_of_the_pixel_shares():
    pixels = {"pet": 500, "background": 250, "border": 250, "absent": 0}
    weights = class_weights("balanced", pixels)
    assert weights[:3] == pytest.approx([0.5, 1, 1])
    assert np.isfinite(weights[3])


def test_a_class_of_few_pixels_among_very_many_is_not_taken_for_absent():
    common, rare = class_weights("balanced", {"sky": 5_000_000_000, "bird": 2_400})
    assert rare / common == pytest.approx(5_000_000_000 / 2_400)


def test_weights_are_given_by_class_name():
    pixels = {"pet": 50, "background": 50}
    assert class_weights({"background": 3.0}, pixels) == [1.0, 3.0]
    assert class_weights(None, pixels) is None
    with pytest.raises(UserError, match="class_weights names dog, which is not a class"):
        class_weights({"dog": 2.0}, pixels)


class Pixels:
    """A reader of pictures of 4 x 4, each of one class and dark or bright as its class has it."""

    def __init__(self, pictures: int, bright: float = 1.0) -> None:
        self.masks = np.zeros((pictures, 4, 4), np.uint8)
        self.masks[::2] = 1
        self.inputs = np.repeat(self.masks[..., None] * bright, 3, axis=-1).astype(np.float32)

    def __len__(self) -> int:
        return len(self.masks)

    def take(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self.inputs[indices], self.masks[indices]


def test_an_epoch_takes_one_version_of_each_picture_by_chance():
    batches = Batches(Pixels(12), batch_size=5, seed=1, versions=2)
    assert len(batches) == 2
    taken = []
    for epoch in range(1, 9):
        order = np.concatenate(batches.epoch(epoch))
        assert sorted(order % 6) == list(range(6))
        taken.append(tuple(order))
    assert len(set(taken)) == len(taken)
    assert set(range(12)) == {index for order in taken for index in order}


def classifier() -> keras.Model:
    """A 1x1 score layer that starts at zero."""
    pixels = keras.Input((None, None, 3))
    return keras.Model(pixels, keras.layers.Conv2D(2, 1, kernel_initializer="zeros")(pixels))


class Last(keras.callbacks.Callback):
    """Keeps the weights of the last epoch, whether or not it is the best."""

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        network = self.model.network
        network.last = network.get_weights()


def train(
    model: keras.Model,
    folder: Path,
    wanted: Train,
    loss: PixelLoss | None = None,
    pictures: Pixels | None = None,
    augment: RandomAugmentation | None = None,
    memory: Memory = NO_MEMORY,
    part: Sampled | None = None,
    last: Last | None = None,
) -> list[dict]:
    batches = Batches(pictures or Pixels(8), wanted.batch_size, seed=0)
    validation = Batches(Pixels(12), wanted.batch_size)
    progress = Progress(folder / "state.npz", wanted.epochs, wanted.patience)
    loss = loss or PixelLoss(2)
    options = {"augment": augment, "memory": memory, "sampled": part, "callbacks": [last or Last()]}
    fit(model, loss, batches, validation, wanted, "x", progress, **options)
    (folder / "state.npz").unlink()
    return progress.rows


def test_training_stops_after_epochs_without_a_better_validation_mean_iou(tmp_path: Path):
    """All is right after the first epoch, so no later one is better."""
    rows = train(classifier(), tmp_path, settings(epochs=50, patience=2))
    assert float(rows[1]["val_mean_iou"]) == 1
    assert [row["epoch"] for row in rows] == [0, 1, 2, 3]


@pytest.mark.parametrize("kind", ["adamw", "sgd"])
def test_weight_decay_leaves_biases_and_normalisations_alone(kind: str):
    inputs = keras.Input((3,))
    outputs = keras.layers.BatchNormalization()(keras.layers.Dense(2)(inputs))
    model = keras.Model(inputs, outputs)
    model.set_weights([np.ones_like(weights) for weights in model.get_weights()])
    decaying = optimizer(settings(optimizer=kind, weight_decay=0.5), STEPS)
    decaying.build(model.trainable_variables)
    still = [keras.ops.zeros_like(variable) for variable in model.trainable_variables]
    decaying.apply(still)
    after = {
        variable.name: float(variable[0].numpy().max()) for variable in model.trainable_variables
    }
    assert after.pop("kernel") == pytest.approx(1 - 0.1 * 0.5)
    assert after == {"bias": 1, "gamma": 1, "beta": 1}


@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
@pytest.mark.parametrize("kind", ["adamw", "sgd"])
def test_a_weight_learns_at_its_share_of_the_rate(kind: str, policy: str):
    """As it does in an optimiser of its own with that rate."""

    def learned(rate: float, shares: Sequence[float]) -> list[np.ndarray]:
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
        model.set_weights([np.ones_like(weights) for weights in model.get_weights()])
        made = optimizer(settings(optimizer=kind, learning_rate=rate), STEPS, policy, shares)
        made.build(model.trainable_variables)
        for factor in (1.0, -3.0):
            gradients = [factor * keras.ops.ones_like(v) for v in model.trainable_variables]
            # Those of a scaled loss, which the optimiser scales back.
            made.apply([made.scale_loss(gradient) for gradient in gradients])
        return model.get_weights()

    kernel, bias = learned(0.1, [0.2, 1.0])
    slow_kernel, _ = learned(0.02, [])
    _, fast_bias = learned(0.1, [])
    np.testing.assert_allclose(kernel, slow_kernel, rtol=1e-6)
    np.testing.assert_allclose(bias, fast_bias, rtol=1e-6)
    assert not np.allclose(kernel, 1) and not np.allclose(kernel[0], bias)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_every_optimiser_learns(optimizer: str, tmp_path: Path):
    rows = train(classifier(), tmp_path, settings(optimizer=optimizer, schedule="cosine"))
    assert rows[-1]["val_loss"] < 0.8 * rows[0]["val_loss"]


class Steps(Last):
    """Keeps the weights that each step leaves, too."""

    def __init__(self) -> None:
        super().__init__()
        self.weights: list[list[np.ndarray]] = []

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        self.weights.append(self.model.network.get_weights())


@pytest.mark.parametrize("kind", ["adamw", "sgd"])
def test_the_average_of_the_weights_is_what_is_validated_and_kept(kind: str, tmp_path: Path):
    plain, steps, model = Steps(), Steps(), classifier()
    train(classifier(), tmp_path, settings(optimizer=kind), last=plain)
    rows = train(model, tmp_path, settings(optimizer=kind, ema_momentum=0.8), last=steps)
    # A step goes on from the weights themselves, not from their average.
    np.testing.assert_allclose(flat(steps.weights), flat(plain.weights), rtol=1e-4)
    averages = [flat(steps.weights[:1])[0]]
    for weights in flat(steps.weights[1:]):
        averages.append(0.8 * averages[-1] + 0.2 * weights)
    np.testing.assert_allclose(flat([model.last])[0], averages[-1], rtol=1e-5)
    kept, best = flat([model.get_weights()])[0], np.argmax([row["val_mean_iou"] for row in rows])
    np.testing.assert_allclose(kept, averages[4 * best - 1], rtol=1e-5)
    # Of the two classes one is black, whose logits are the biases, and one is of ones.
    for epoch in (1, 2, 3):
        kernel, bias = averages[4 * epoch - 1][:6].reshape(3, 2), averages[4 * epoch - 1][6:]
        black, white = bias, bias + kernel.sum(0)
        losses = np.log(np.exp(black).sum()) - black[0], np.log(np.exp(white).sum()) - white[1]
        assert rows[epoch]["val_loss"] == pytest.approx(np.mean(losses), rel=1e-4)


def test_under_jax_the_average_is_that_under_tensorflow(tmp_path: Path):
    program = """if True:
        import sys
        from pathlib import Path
        from tests.train.test_training import classifier, settings, train
        model = classifier()
        train(model, Path(sys.argv[1]), settings(ema_momentum=0.8))
        print(*model.last[0].ravel(), *model.last[1])
    """
    command = [sys.executable, "-c", program, str(tmp_path)]
    environment = os.environ | {"KERAS_BACKEND": "jax"}
    done = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, check=True)
    model = classifier()
    train(model, tmp_path, settings(ema_momentum=0.8))
    found = np.array(done.stdout.split()[-8:], np.float32)
    np.testing.assert_allclose(found, flat([model.last])[0], rtol=1e-3)


def flat(steps: Sequence[Sequence[np.ndarray]]) -> np.ndarray:
    """The weights of each step in one row."""
    return np.array([np.concatenate([w.ravel() for w in weights]) for weights in steps])


class Odd(Pixels):
    """Pictures of 4 x 4, no two of them alike, so that their order shows."""

    def __init__(self, pictures: int) -> None:
        super().__init__(pictures)
        self.inputs = np.random.default_rng(1).integers(0, 256, self.inputs.shape, np.uint8)


@pytest.mark.parametrize("augment", [False, True])
def test_wherever_a_split_lies_it_trains_a_network_to_the_same_last_bit(
    augment: bool, tmp_path: Path
):
    weights, rows = [], []
    for memory in (NO_MEMORY, Memory(0, 1e9), Memory(1e9, 0)):
        keras.utils.set_random_seed(1)
        changes = RandomAugmentation(Augmentation(), seed=1) if augment else None
        model = classifier()
        wanted = settings(batch_size=3, learning_rate=1e-3)
        rows.append(train(model, tmp_path, wanted, None, Odd(8), changes, memory))
        weights.append(model.last)
    assert rows[0][1:] == rows[1][1:] == rows[2][1:]
    for read, held, resident in zip(*weights, strict=True):
        np.testing.assert_array_equal(read, held)
        np.testing.assert_array_equal(read, resident)


# Of 8 and 4 pictures of 4 x 4 pixels, each with a label and three colours of a byte; the colours,
# the larger array, lie on the device three times while they are brought there.
HELD = (8 + 4) * 4 * 4 * (1 + 3)
RESIDENT = HELD + (8 + 4) * 4 * 4 * (3 + 3)


@pytest.mark.parametrize(
    ("memory", "expected"),
    [
        (Memory(RESIDENT, HELD), (True, False)),
        (Memory(RESIDENT - 1, HELD), (False, True)),
        (Memory(RESIDENT - 1, HELD - 1), (False, False)),
    ],
    ids=["the device's", "the machine's", "neither"],
)
def test_splits_lie_in_the_first_memory_that_all_their_bytes_fit_into(
    memory: Memory, expected: tuple[bool, bool], tmp_path: Path
):
    splits = Batches(Odd(8), 2, seed=0), Batches(Odd(4), 2)
    kept = []
    callback = keras.callbacks.LambdaCallback(
        on_train_begin=lambda logs: kept.append(callback.model.resident is not None)
    )
    fit(
        classifier(),
        PixelLoss(2),
        *splits,
        settings(epochs=1),
        "x",
        Progress(tmp_path / "state.npz", 1),
        memory=memory,
        callbacks=[callback],
    )
    resident, held = expected
    assert kept == [resident]
    assert [isinstance(split.reader, Held) for split in splits] == [held, held]


def test_the_state_of_a_training_has_no_pictures(tmp_path: Path):
    splits = [Batches(Odd(8), 2, seed=0), Batches(Odd(4), 2)]
    augment = RandomAugmentation(Augmentation(), seed=1)
    model = Supplied(classifier(), augment, Resident(splits))
    # A kernel and a bias, and the seed of the augmentation.
    assert [variable.shape for variable in model.state] == [(1, 1, 3, 2), (2,), (2,)]
    assert len(model.variables) == 5


def test_the_start_is_measured_on_the_validation_split_alone(tmp_path: Path):
    rows = train(classifier(), tmp_path, settings(epochs=1))
    assert rows[0]["val_loss"] == pytest.approx(np.log(2), abs=1e-6)
    assert all(np.isnan(rows[0][measure]) for measure in MEASURES)
    assert not any(np.isnan(value) for value in rows[1].values())


class Counted(Pixels):
    """A reader that counts the batches that are taken from it."""

    taken = 0

    def take(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        self.taken += 1
        return super().take(indices)


def test_of_the_validation_split_no_batch_is_read_that_nobody_measures(tmp_path: Path):
    pictures, epochs = Counted(12), 3
    validation = Batches(pictures, batch_size=4)
    progress = Progress(tmp_path / "state.npz", epochs)
    training = Batches(Pixels(8), 4, seed=0)
    fit(classifier(), PixelLoss(2), training, validation, settings(epochs=epochs), "x", progress)
    # Epoch 0 and the others.
    assert pictures.taken == len(validation) * (1 + epochs)


@pytest.mark.parametrize("kept", [True, False])
def test_what_an_interruption_leaves_is_said_if_it_outlasts_it(
    kept: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(stopping, "_standing", [])
    progress = Progress(tmp_path / "state.npz", 1, kept=kept)
    splits = (Batches(Pixels(8), 2, seed=0), Batches(Pixels(4), 2))
    fit(classifier(), PixelLoss(2), *splits, settings(epochs=1), "x", progress)
    assert ("1 of 1 epochs are finished and kept" in stopping.standing()) == kept
