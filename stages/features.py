"""Stage `features`: the frozen backbone's activations on every picture, computed once.

    data/records/*.tfrecord -> backbone -> data/features/*.npy, features.json

The notebook runs the frozen backbone on every step of every epoch of every variant; its answer
never changes, so here it runs once for each picture. One batch is in memory at a time.
"""

from functools import partial

import keras
import numpy as np
from pydantic import BaseModel
from tqdm import tqdm

from stages.shared import activations, errors, outputs, params, precision, records, vgg
from stages.shared.activations import FEATURES_DIR, FEATURES_FILE, Features, FeatureShard, Tap
from stages.shared.dataset import Dataset, Shard
from stages.shared.outputs import Part, Staging
from stages.shared.schema import SPLITS


class Moments(BaseModel):
    """Mean and spread of each channel over some activations, in float64.

    Attributes:
        count: of activations of each channel.
        mean: of them.
        squares: sum of the squared distances from the mean.
    """

    count: int = 0
    mean: list[float] = [0.0]
    squares: list[float] = [0.0]

    @classmethod
    def of(cls, activations: np.ndarray) -> "Moments":
        """Those of a batch of activations, (..., channels)."""
        values = activations.reshape(-1, activations.shape[-1])
        mean = values.mean(axis=0, dtype=np.float64)
        squares = np.square(values - mean.astype(values.dtype)).sum(axis=0, dtype=np.float64)
        return cls(count=len(values), mean=mean.tolist(), squares=squares.tolist())

    def __add__(self, other: "Moments") -> "Moments":
        """Those of both together.

        Chan, Golub, LeVeque, "Updating Formulae and a Pairwise Algorithm for Computing Sample
        Variances" (1979), equation 2.1.
        """
        total = self.count + other.count
        mean, shift = np.array(self.mean), np.array(other.mean) - np.array(self.mean)
        squares = np.array(self.squares) + np.array(other.squares)
        squares = squares + shift**2 * (self.count * other.count / total)
        mean = mean + shift * (other.count / total)
        return Moments(count=total, mean=mean.tolist(), squares=squares.tolist())

    @property
    def deviation(self) -> list[float]:
        """Standard deviation of each channel."""
        return np.sqrt(np.array(self.squares) / self.count).tolist()


class ComputedShard(Part):
    """A finished shard of features.

    Attributes:
        moments: of each tap, if it is of the training split.
    """

    moments: dict[str, Moments]


class Computation:
    """Runs the backbone over shards of records.

    Args:
        backbone: from `vgg`.
        dataset: what the records hold.
        batch_size: pictures at once.
        staging: of the features.

    Attributes:
        moments: of each tap over the training split so far.
    """

    def __init__(
        self, backbone: keras.Model, dataset: Dataset, batch_size: int, staging: Staging
    ) -> None:
        self.backbone, self.dataset, self.batch_size = backbone, dataset, batch_size
        self.staging, self.folder = staging, staging.folder(FEATURES_DIR)
        self.moments: dict[str, Moments] = {}

    def shards(self, split: str) -> list[FeatureShard]:
        """Compute the features of a split, shard by shard."""
        computed = []
        pictures = self.dataset.pictures(split)
        with tqdm(total=pictures, desc=f"features {split}", unit="picture") as progress:
            for number, shard in enumerate(self.dataset.shards[split]):
                make = partial(self._shard, split, number, shard, progress)
                part = self.staging.part(f"{split}-{number:05d}", ComputedShard, make)
                for tap, moments in part.moments.items():
                    self.moments[tap] = self.moments.get(tap, Moments()) + moments
                computed.append(
                    FeatureShard(number=number, pictures=shard.pictures, files=part.files)
                )
                # The pictures of a shard that was taken over have not been counted.
                progress.n = sum(s.pictures for s in self.dataset.shards[split][: number + 1])
                progress.refresh()
        return computed

    def _shard(self, split: str, number: int, shard: Shard, progress: tqdm) -> ComputedShard:
        writer = activations.ShardWriter(self.folder, split, number, shard.pictures)
        moments: dict[str, Moments] = {}
        for batch in records.batches(shard, self.dataset.image_size, self.batch_size):
            taps = run(self.backbone, batch.images)
            for tap, values in taps.items() if split == "train" else ():
                moments[tap] = moments.get(tap, Moments()) + Moments.of(values)
            writer.append(taps, batch.masks)
            progress.update(len(batch.names))
        return ComputedShard(files=writer.close(), moments=moments)


def features() -> None:
    """Run the backbone over all splits and store its taps, their statistics and the masks.

    Raises:
        UserError: a file is damaged, or the features do not fit on the disk.
    """
    settings = params.read("features")
    policy = precision.policy(params.read("precision"))
    dataset, config = Dataset.load(), vgg.load_config()
    backbone = vgg.load(dtype=policy)

    shapes = vgg.tap_shapes(backbone, dataset.image_size)
    pictures = sum(dataset.pictures(split) for split in SPLITS)
    need = pictures * activations.sizes(shapes, dataset.image_size)
    made_from = outputs.origin(settings, policy, dataset, config)
    with outputs.writing(FEATURES_DIR, made_from=made_from, need=need) as staging:
        computation = Computation(backbone, dataset, settings.batch_size, staging)
        shards = {split: computation.shards(split) for split in SPLITS}
        Features(
            records=dataset.digest,
            backbone=config.weights,
            precision=policy,
            image_size=dataset.image_size,
            classes=dataset.classes,
            taps={
                tap: Tap(shape=shapes[tap], mean=moments.mean, deviation=moments.deviation)
                for tap, moments in computation.moments.items()
            },
            shards=shards,
        ).write(staging.folder(FEATURES_DIR) / FEATURES_FILE)


def run(backbone: keras.Model, images: np.ndarray) -> dict[str, np.ndarray]:
    """The taps' activations on a batch of pictures, float32."""
    taps = backbone.predict_on_batch(images)
    return {tap: np.asarray(values, np.float32) for tap, values in taps.items()}


if __name__ == "__main__":
    errors.run_stage(features)
