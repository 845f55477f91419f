"""Stage `features`: the frozen backbone's activations on every picture, computed once.

    data/records/*.tfrecord -> backbone -> data/features/*.npy, features.json

The notebook runs the frozen backbone on every step of every epoch of every variant; its answer
never changes, so here it runs once for each picture. One batch is in memory at a time.
"""

import keras
import numpy as np
from tqdm import tqdm

from stages.shared import activations, errors, outputs, params, precision, records, vgg
from stages.shared.activations import FEATURES_DIR, Features, Tap
from stages.shared.dataset import Dataset
from stages.shared.records import RECORDS_DIR
from stages.shared.schema import SPLITS


class Moments:
    """Running mean and deviation of each channel, in float64.

    Batches are merged as in Chan, Golub, LeVeque, "Updating Formulae and a Pairwise Algorithm for
    Computing Sample Variances" (1979), equation 2.1.
    """

    def __init__(self, channels: int) -> None:
        self.count = 0
        self.mean = np.zeros(channels)
        self.squares = np.zeros(channels)

    def add(self, batch: np.ndarray) -> None:
        """Take in a batch of activations, (..., channels)."""
        values = batch.reshape(-1, batch.shape[-1])
        mean = values.mean(axis=0, dtype=np.float64)
        squares = np.square(values - mean.astype(values.dtype)).sum(axis=0, dtype=np.float64)
        total = self.count + len(values)
        shift = mean - self.mean
        self.squares += squares + shift**2 * (self.count * len(values) / total)
        self.mean += shift * (len(values) / total)
        self.count = total

    @property
    def deviation(self) -> np.ndarray:
        """Standard deviation of each channel, (channels,)."""
        return np.sqrt(self.squares / self.count)


def features() -> None:
    """Run the backbone over all splits and store its taps, their statistics and the masks."""
    settings = params.read("features")
    policy = precision.policy(params.read("precision"))
    dataset = Dataset.load()
    backbone = vgg.load(dtype=policy)
    outputs.fresh_folder(FEATURES_DIR)

    moments: dict[str, Moments] = {}
    for split in SPLITS:
        progress = tqdm(total=dataset.pictures(split), desc=f"features {split}", unit="picture")
        for number, shard in enumerate(dataset.shards[split]):
            writer = activations.ShardWriter(split, number, shard.pictures)
            path = RECORDS_DIR / shard.file
            for batch in records.batches(path, dataset.image_size, settings.batch_size):
                taps = run(backbone, batch.images)
                if split == "train":
                    for tap, values in taps.items():
                        moments.setdefault(tap, Moments(values.shape[-1])).add(values)
                writer.append(taps, batch.masks)
                progress.update(len(batch.names))
            writer.close()
        progress.close()

    Features(
        precision=policy,
        image_size=dataset.image_size,
        classes=dataset.classes,
        taps={
            tap: Tap(mean=m.mean.tolist(), deviation=m.deviation.tolist())
            for tap, m in moments.items()
        },
        shards={split: [s.pictures for s in dataset.shards[split]] for split in SPLITS},
    ).save()


def run(backbone: keras.Model, images: np.ndarray) -> dict[str, np.ndarray]:
    """The taps' activations on a batch of pictures, float32."""
    taps = backbone.predict_on_batch(images)
    return {tap: np.asarray(values, np.float32) for tap, values in taps.items()}


if __name__ == "__main__":
    errors.run_stage(features)
