"""Stage `features@BACKBONE`: the frozen backbone's activations on every picture, computed once.

    data/records/*.tfrecord, models/BACKBONE/, data/taps/BACKBONE.json
        -> data/features/BACKBONE/head/{*.npy, features.json}, network/features.json

The keras.io example runs the frozen backbone in every step of every epoch of every variant. Its
output never changes, so here it runs once per picture. A few batches are in memory at a time.

What a head reads lies apart from what a network reads, so that neither is trained again for the
other's sake, and what no head reads is not stored.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from stages.features.encoding import sizes
from stages.features.settings import FeaturesSettings
from stages.features.shard import ComputedShard, Moments, compute_shard, stored
from stages.shared.engines import choice, engine
from stages.shared.engines.engine import ShardTask
from stages.shared.formats import taps
from stages.shared.formats.features import (
    FEATURES_FILE,
    FLIPPED,
    HEAD,
    NETWORK,
    Features,
    FeatureShard,
    Tap,
    folder_of,
)
from stages.shared.networks import backbones, devices, precision
from stages.shared.networks.backbones import CONFIG_FILE, WEIGHTS_FILE, BackboneConfig
from stages.shared.records.dataset import Dataset
from stages.shared.results import cost
from stages.shared.runtime import outputs
from stages.shared.runtime.console import bar, counted, size
from stages.shared.runtime.paths import MODELS_DIR, RECORDS_DIR
from stages.shared.settings.reading import read
from stages.shared.settings.section import SPLITS, Precision


def features(name: str) -> str:
    """Run the backbone `name` over all splits; store the taps that heads read, the masks, and the
    statistics of all taps.

    Where no head reads any, over the training split, for the statistics.

    Raises:
        UserError: a file is damaged, or the features do not fit on the disk.
    """
    settings = read("features", FeaturesSettings)
    policy = precision.policy(read("precision", Precision))
    where, head, network = MODELS_DIR / name, folder_of(name, HEAD), folder_of(name, NETWORK)
    dataset, config = Dataset.load(), backbones.load_config(where)
    backbone = stored(where, config, policy).backbone
    shapes = backbones.tap_shapes(backbone, dataset.image_size)
    # Of each part of the features, the split of the records that it comes from.
    parts = {split: split for split in SPLITS} | ({FLIPPED: "train"} if settings.flip else {})
    kept = [backbones.tap(stride) for stride in taps.StoredTaps.read(taps.file(name)).strides]
    if not kept:
        parts = {"train": "train"}
    pictures = sum(dataset.records(split) for split in parts.values())
    need = pictures * sizes([shapes[tap] for tap in kept], dataset.image_size)
    made_from = outputs.origin(settings, kept, policy, devices.arithmetic(), dataset, config)

    with (
        outputs.writing(head, network, made_from=made_from, need=need) as staging,
        choice.running(devices.threads()) as chosen,
    ):
        folder = staging.folder(head)
        moments: dict[str, Moments] = {}
        shards: dict[str, list[FeatureShard]] = {}
        for part_name, split in parts.items():
            with bar(f"{name} {part_name}", dataset.records(split)) as progress:
                todo = tasks(
                    dataset, part_name, split, settings.batch_size, where, config, policy, kept
                )
                made = engine.parts(todo, ComputedShard, chosen, staging, folder, progress.update)
                computed = list(made)
            for part in computed:
                for tap, of_shard in part.moments.items():
                    moments[tap] = moments.get(tap, Moments()) + of_shard
            shards[part_name] = [
                FeatureShard(number=number, pictures=shard.pictures, files=part.files)
                for number, (shard, part) in enumerate(
                    zip(dataset.shards[split], computed, strict=True)
                )
            ]
        statistics = Features(
            records=dataset.digest,
            backbone_weights=config.weights,
            precision=policy,
            image_size=dataset.image_size,
            classes=dataset.classes,
            parameters=backbone.count_params(),
            flop=cost.flop(backbone, {"pictures": (*dataset.image_size, 3)}),
            taps={
                tap: Tap(shape=shape, mean=moments[tap].mean, deviation=moments[tap].deviation)
                for tap, shape in shapes.items()
            },
            shards={},
        )
        statistics.write(staging.folder(network) / FEATURES_FILE)
        of_heads = {"taps": {tap: statistics.taps[tap] for tap in kept}, "shards": shards}
        statistics.model_copy(update=of_heads).write(folder / FEATURES_FILE)
    stored_taps = ", ".join(f"{shapes[tap][-1]} channels at {tap}" for tap in kept)
    what = stored_taps or "statistics alone, as no variant with train: head reads activations"
    return f"{name}: {what}, of {counted(pictures, 'picture')}, {size(head)}"


def tasks(
    dataset: Dataset,
    part: str,
    split: str,
    batch_size: int,
    where: Path,
    config: BackboneConfig,
    policy: str,
    kept: Sequence[str],
) -> Iterator[ShardTask[ComputedShard]]:
    """A task for each shard of a part of the features, from the records of a split, in order."""
    for number, shard in enumerate(dataset.shards[split]):
        yield ShardTask(
            name=f"{part}-{number:05d}",
            pictures=shard.pictures,
            make=partial(
                compute_shard,
                part,
                number,
                shard,
                dataset.image_size,
                batch_size,
                where,
                config,
                policy,
                kept,
            ),
            reads=(RECORDS_DIR / shard.file,),
            shares=(where / CONFIG_FILE, where / WEIGHTS_FILE),
        )
