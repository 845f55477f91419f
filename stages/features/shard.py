"""A shard of features: the backbone's activations on a shard of records."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Literal

import numpy as np
from pydantic import BaseModel

from stages.features.encoding import Encoded, Encoder, ShardWriter, encoder
from stages.shared.formats.features import FLIPPED
from stages.shared.manifest import Part
from stages.shared.networks import backbones, devices, precision
from stages.shared.networks.backbones import BackboneConfig
from stages.shared.networks.compiled import Answer, in_turn
from stages.shared.records import shards
from stages.shared.records.dataset import Shard
from stages.shared.runtime.errors import UserError


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
    def of(cls, encoded: Encoded) -> "Moments":
        """Those of some pictures' activations."""
        _, height, width, _ = encoded.values.shape
        means = np.asarray(encoded.mean, np.float64)
        mean = means.mean(0)
        squares = np.asarray(encoded.squares, np.float64) + height * width * (means - mean) ** 2
        count = len(means) * height * width
        return cls(count=count, mean=mean.tolist(), squares=squares.sum(0).tolist())

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

    schema_version: Literal[5] = 5
    moments: dict[str, Moments]


def compute_shard(
    split: str,
    number: int,
    shard: Shard,
    image_size: tuple[int, int],
    batch_size: int,
    where: Path,
    config: BackboneConfig,
    policy: str,
    kept: Sequence[str],
    folder: Path,
    tick: Callable[[int], object],
) -> ComputedShard:
    """Run the backbone over a shard of records and write some of its taps.

    Args:
        split: `train`, `validation`, `test` or `FLIPPED`.
        number: of the shard in its split.
        shard: of records.
        image_size: (height, width) of its pictures.
        batch_size: pictures at once.
        where: the backbone is stored.
        config: of it.
        policy: Keras dtype policy that it runs under.
        kept: the taps that are written; the statistics are of all.
        folder: where to.
        tick: is called with the number of finished pictures.

    Raises:
        UserError: a file is damaged, or an activation is not finite.
    """
    with devices.one_for_a_thread() as device:
        return write_shard(
            stored(where, config, policy).encoder(device, batch_size),
            split,
            shards.batches(shard, image_size, batch_size),
            policy,
            kept,
            ShardWriter(folder, split, number, shard.pictures) if kept else None,
            tick,
        )


def write_shard(
    encoder: Encoder,
    split: str,
    batches: Iterable[shards.Batch],
    policy: str,
    kept: Sequence[str],
    writer: ShardWriter | None,
    tick: Callable[[int], object],
) -> ComputedShard:
    """Write the activations of batches of records.

    Args:
        encoder: of the backbone.
        split: as that of `compute_shard`.
        batches: of the records.
        policy: for messages.
        kept: the taps that are written.
        writer: of the shard; None: only moments are computed.
        tick: is called with the number of finished pictures.
    """
    moments: dict[str, Moments] = {}
    with writer or nullcontext():
        seen = map(flipped, batches) if split == FLIPPED else batches
        for batch, answer in in_turn(encoder, ((batch, batch.images) for batch in seen)):
            taps = {tap: known(parts, answer) for tap, parts in answer.tensors.items()}
            require_finite(taps, batch.names, policy)
            for tap, parts in taps.items() if split == "train" else ():
                moments[tap] = moments.get(tap, Moments()) + Moments.of(parts)
            if writer:
                writer.append({tap: taps[tap] for tap in kept}, batch.masks)
            tick(len(batch.names))
        return ComputedShard(files=writer.close() if writer else {}, moments=moments)


def flipped(batch: shards.Batch) -> shards.Batch:
    """Pictures and masks the other way round."""
    return batch._replace(images=batch.images[:, :, ::-1], masks=batch.masks[:, :, ::-1])


def known(parts: Encoded, answer: Answer) -> Encoded:
    """A tap of an answer, once it is computed; its activations may still be on the device."""
    scale, mean, squares = map(answer.array, (parts.scale, parts.mean, parts.squares))
    return Encoded(parts.values, scale, mean, squares)


def require_finite(taps: Mapping[str, Encoded], names: Sequence[str], policy: str) -> None:
    """Fail on activations that are infinite or not a number.

    Raises:
        UserError: names the tap, the first such picture and the way out.
    """
    for tap, parts in taps.items():
        # The lowest and the step are finite if all activations are.
        finite = np.isfinite(parts.scale).all((1, 2))
        if not finite.all():
            raise UserError(
                f"the activations of {tap} on {names[finite.argmin()]} are not finite under "
                f"{policy}; set precision to float32, or to mixed_bfloat16, whose range is as "
                "large, or use other weights of the backbone"
            )


class Stored:
    """A stored backbone, and itself with the encoding of its taps, one for each device.

    Args:
        where: it is stored.
        policy: Keras dtype policy that it runs under.

    Raises:
        UserError: a file is damaged.
    """

    def __init__(self, where: Path, policy: str) -> None:
        # On a worker of a cluster, nothing has set up the hardware yet.
        self.where, self.policy = where, precision.policy(policy)
        self.backbone = backbones.load(where, self.policy)
        self._lock = Lock()
        self._encoders: dict[str | None, Encoder] = {}

    def encoder(self, device: str | None, batch_size: int) -> Encoder:
        """The encoder on a device, in a scope of it; None: on the only one. All callers have the
        same batch size."""
        with self._lock:
            if device not in self._encoders:
                own = backbones.load(self.where, self.policy) if device else self.backbone
                self._encoders[device] = encoder(own, batch_size)
            return self._encoders[device]


@lru_cache(maxsize=1)
def stored(where: Path, config: BackboneConfig, policy: str) -> Stored:
    """The backbone of a configuration, loaded once for all shards of a process."""
    return Stored(where, policy)
