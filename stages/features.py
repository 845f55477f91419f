"""Stage `features`: the frozen backbone's activations on every picture, computed once.

    data/records/*.tfrecord -> backbone -> data/features/*.npy, features.json

The notebook runs the frozen backbone on every step of every epoch of every variant; its answer
never changes, so here it runs once for each picture. One batch is in memory at a time.
"""

from collections.abc import Iterator
from functools import partial

from tqdm import tqdm

from stages.shared import activations, engine, errors, outputs, params, precision, vgg
from stages.shared.activations import FEATURES_DIR, FEATURES_FILE, Features, FeatureShard, Tap
from stages.shared.computation import ComputedShard, Moments, compute_shard, stored_backbone
from stages.shared.dataset import Dataset
from stages.shared.engine import Task
from stages.shared.records import RECORDS_DIR
from stages.shared.schema import SPLITS
from stages.shared.vgg import BackboneConfig


def features() -> None:
    """Run the backbone over all splits and store its taps, their statistics and the masks.

    Raises:
        UserError: a file is damaged, or the features do not fit on the disk.
    """
    settings = params.read("features")
    policy = precision.policy(params.read("precision"))
    dataset, config = Dataset.load(), vgg.load_config()
    shapes = vgg.tap_shapes(stored_backbone(config, policy), dataset.image_size)
    pictures = sum(dataset.pictures(split) for split in SPLITS)
    need = pictures * activations.sizes(shapes, dataset.image_size)
    made_from = outputs.origin(settings, policy, dataset, config)

    with (
        outputs.writing(FEATURES_DIR, made_from=made_from, need=need) as staging,
        engine.running() as chosen,
    ):
        folder = staging.folder(FEATURES_DIR)
        moments: dict[str, Moments] = {}
        shards: dict[str, list[FeatureShard]] = {}
        for split in SPLITS:
            with tqdm(
                total=dataset.pictures(split), desc=f"features {split}", unit="picture"
            ) as progress:
                todo = tasks(dataset, split, settings.batch_size, config, policy)
                made = engine.parts(todo, ComputedShard, chosen, staging, folder, progress.update)
                computed = list(made)
            for part in computed:
                for tap, of_shard in part.moments.items():
                    moments[tap] = moments.get(tap, Moments()) + of_shard
            shards[split] = [
                FeatureShard(number=number, pictures=shard.pictures, files=part.files)
                for number, (shard, part) in enumerate(
                    zip(dataset.shards[split], computed, strict=True)
                )
            ]
        Features(
            records=dataset.digest,
            backbone=config.weights,
            precision=policy,
            image_size=dataset.image_size,
            classes=dataset.classes,
            taps={
                tap: Tap(shape=shapes[tap], mean=found.mean, deviation=found.deviation)
                for tap, found in moments.items()
            },
            shards=shards,
        ).write(folder / FEATURES_FILE)


def tasks(
    dataset: Dataset, split: str, batch_size: int, config: BackboneConfig, policy: str
) -> Iterator[Task[ComputedShard]]:
    """A task for each shard of a split, in order."""
    for number, shard in enumerate(dataset.shards[split]):
        yield Task(
            name=f"{split}-{number:05d}",
            pictures=shard.pictures,
            make=partial(
                compute_shard, split, number, shard, dataset.image_size, batch_size, config, policy
            ),
            reads=(RECORDS_DIR / shard.file,),
            shares=(vgg.BACKBONE_DIR / vgg.CONFIG_FILE, vgg.BACKBONE_DIR / vgg.WEIGHTS_FILE),
        )


if __name__ == "__main__":
    errors.run_stage(features)
