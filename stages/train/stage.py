"""Stage `train@VARIANT`: one variant, trained as its `train` says.

    head:    data/features/BACKBONE/head/, models/PARENT/   -> models/VARIANT/
    network: data/records/, models/PARENT/                  -> models/VARIANT/
    both:    reports/VARIANT/history.csv, training.json

A variant starts from the head of its parent. A score layer of an fcn that the parent does not have
starts at zero, so that the first scores are nearly those of the parent: they are upsampled in one
more step. The start counts as epoch 0, and the weights of the epoch with the best validation mean
IoU are kept.

The reports are updated after each epoch: `dvc exp show` and `dvc plots show` read them while
a training runs. DVCLive would write a table for each measure, can't take back an epoch that was
logged but not kept when the process was killed, and takes 2 s of each training.
"""

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import keras

from stages.shared.formats.features import (
    FEATURES_FILE,
    FLIPPED,
    FeatureReader,
    Features,
    folder_of,
)
from stages.shared.formats.training import SETTINGS_FILE, Training
from stages.shared.networks import backbones, devices, heads, precision
from stages.shared.networks.devices import Memory
from stages.shared.networks.families import table
from stages.shared.networks.heads import HeadConfig
from stages.shared.networks.stored import on_stored
from stages.shared.records.dataset import Dataset
from stages.shared.records.shards import PictureReader
from stages.shared.runtime import digests, outputs
from stages.shared.runtime.console import counted
from stages.shared.runtime.errors import UserError
from stages.shared.runtime.outputs import Staging
from stages.shared.runtime.paths import DATASET_FILE, FEATURES_DIR, MODELS_DIR, REPORTS_DIR
from stages.shared.settings.reading import read
from stages.shared.settings.section import DEFAULT_MEMORY, Precision, Seed, Share
from stages.train import distribution, standardised
from stages.train.augmentation import RandomAugmentation
from stages.train.batches import Batches
from stages.train.fit import NO_MEMORY, fit
from stages.train.losses import PixelLoss, class_weights
from stages.train.progress import Progress
from stages.train.sampling import sampled
from stages.train.settings import Train, Variant
from stages.train.standardised import Statistics

STATE_FILE = "state.npz"
# Of the optimisers, each as large as the weights.
MOMENTS = {"adamw": 2, "sgd": 1}


def train(name: str) -> str:
    """Train the variant `name` and store it.

    Raises:
        UserError: the loss is not finite, a class weight names no class, a file is damaged or
            inconsistent with the others, or several processes would train a head.
    """
    variant = read(f"variants.{name}", Variant)
    settings = variant.training(read("train", Train))
    if variant.train == "head" and distribution.processes() > 1:
        raise UserError(
            f"{distribution.PROCESSES} is {distribution.processes()}, but {name} has train: head, "
            "which one process trains; unset it"
        )
    memory = allowed_memory()
    distribution.join()
    keras.utils.set_random_seed(read("seed", Seed))
    progress = TRAININGS[variant.train](name, variant, settings, memory)
    epochs, best = len(progress.rows) - 1, progress.best_epoch
    kept = f"the weights of epoch {best} are kept" if best else "none was better than the start"
    return (
        f"{name}: {counted(epochs, 'epoch')}; {kept}, with a validation mean IoU of "
        f"{progress.rows[best]['val_mean_iou']:.1%}"
    )


def train_head(name: str, variant: Variant, settings: Train, memory: Memory) -> Progress:
    """Train the head on the stored activations; they may fill so much memory."""
    features = Features.load(variant.backbone, variant.train)
    stored = folder_of(variant.backbone, variant.train)
    parents_backbone = backbone_of_parent(variant)
    features.require_backbone(backbones.load_config(parents_backbone).weights, parents_backbone)
    config, statistics = head_config(variant, features)
    head = standardised.head(config, statistics, settings.dropout, features.image_size)
    start_from_parent(head, variant, config, statistics)

    taps, seed, flipped = list(config.channels), read("seed", Seed), FLIPPED in features.shards
    with writing(name, variant, settings, head) as staging:
        folder = staging.folder(MODELS_DIR / name)
        backbones.link(parents_backbone, folder / backbones.BACKBONE_FOLDER)
        progress = shown_progress(name, settings, staging)
        fit(
            on_stored(head),
            pixel_loss(settings),
            Batches(
                FeatureReader(stored, features, "train", taps, flipped=flipped),
                settings.batch_size,
                seed,
                versions=1 + flipped,
            ),
            Batches(FeatureReader(stored, features, "validation", taps), settings.batch_size),
            settings,
            name,
            progress,
            memory=memory,
            sampled=sampled(on_stored(heads.scores(head)), variant.stride, settings.pixels, seed),
        )
        trained = standardised.folded(head, config, statistics)
        store(trained, config, variant, settings, folder)
    return progress


def train_network(name: str, variant: Variant, settings: Train, memory: Memory) -> Progress:
    """Train the backbone and the head together, on augmented pictures, which may fill so much
    memory."""
    features, dataset = Features.load(variant.backbone, variant.train), Dataset.load()
    config, statistics = head_config(variant, features)
    parents_backbone, policy = backbones.load_config(backbone_of_parent(variant)), dtype(variant)
    with distribution.scope():
        if variant.parent == variant.backbone:
            features.require_backbone(parents_backbone.weights, backbone_of_parent(variant))
        backbone = backbones.load(backbone_of_parent(variant), policy)
        head = standardised.head(config, statistics, settings.dropout)
        start_from_parent(
            head,
            variant,
            config.model_copy(update={"backbone_weights": parents_backbone.weights}),
            statistics,
        )
        network = heads.network(backbone, head)
        with writing(name, variant, settings, network) as staging:
            progress = shown_progress(name, settings, staging)
            fit(
                network,
                pixel_loss(settings),
                Batches(PictureReader(dataset, "train"), settings.batch_size, read("seed", Seed)),
                Batches(PictureReader(dataset, "validation"), settings.batch_size),
                settings,
                name,
                progress,
                policy,
                shares(network, backbone, variant.backbone_rate),
                RandomAugmentation(variant.augmentation, read("seed", Seed)),
                memory,
                sampled(
                    heads.scored(backbone, heads.scores(head)),
                    variant.stride,
                    settings.pixels,
                    read("seed", Seed),
                ),
            )
            folder = staging.folder(MODELS_DIR / name)
            own = backbones.save(backbone, parents_backbone, folder / backbones.BACKBONE_FOLDER)
            config = config.model_copy(update={"backbone_weights": own.weights, "frozen": False})
            trained = standardised.folded(head, config, statistics)
            store(trained, config, variant, settings, folder)
    return progress


def shares(network: keras.Model, backbone: keras.Model, of_backbone: float) -> list[float]:
    """The share of the learning rate of each trainable weight of a network."""
    slow = {id(weight) for weight in backbone.trainable_variables}
    return [of_backbone if id(w) in slow else 1.0 for w in network.trainable_variables]


def dtype(variant: Variant) -> str:
    """The Keras dtype policy of a variant's backbone."""
    config = backbones.load_config(backbone_of_parent(variant))
    network = table.network(config.network, config.preset)
    trains_depthwise = variant.train == "network" and network.depthwise
    return precision.policy(read("precision", Precision), trains_depthwise)


def allowed_memory() -> Memory:
    """What a training may fill with its splits."""
    # Processes that train together take shares of each batch, which they read.
    if distribution.processes() > 1:
        return NO_MEMORY
    return devices.memory(read("memory", Share, default=DEFAULT_MEMORY))


TRAININGS = {"head": train_head, "network": train_network}


def store(
    head: keras.Model, config: HeadConfig, variant: Variant, settings: Train, folder: Path
) -> None:
    """Write a trained head, its configuration, and what the model card says of the training."""
    heads.save(head, config, folder)
    shown: dict[str, Any] = {
        "parent": variant.parent,
        "backbone": variant.backbone,
        "decoder": variant.decoder,
    }
    if variant.decoder != "fcn":
        shown |= {"width": variant.width, "context": variant.context}
    shown |= settings.model_dump(mode="json")
    if variant.train == "network":
        shown["backbone_rate"] = variant.backbone_rate
        shown["augmentation"] = variant.augmentation.model_dump(mode="json")
    training = Training(
        train=variant.train, stride=variant.stride, settings=shown, seed=read("seed", Seed)
    )
    training.write(folder / SETTINGS_FILE)


def shown_progress(name: str, settings: Train, staging: Staging) -> Progress:
    """The callback that updates the reports of a training after each epoch."""
    history, summary = reports(name)

    def show(progress: Progress) -> None:
        staging.show(history, progress.write_history)
        staging.show(summary, progress.write_summary)

    state = staging.state(STATE_FILE)
    return Progress(state, settings.epochs, settings.patience, kept=staging.kept, show=show)


def reports(name: str) -> tuple[Path, Path]:
    """Paths of history.csv and training.json of a variant."""
    return REPORTS_DIR / name / "history.csv", REPORTS_DIR / name / "training.json"


def writing(
    name: str, variant: Variant, settings: Train, model: keras.Model
) -> AbstractContextManager[Staging]:
    """Write the outs of a training; the same training, interrupted earlier, is resumed."""
    manifests = [DATASET_FILE, folder_of(variant.backbone, variant.train) / FEATURES_FILE]
    manifests += [
        path
        for folder in (MODELS_DIR / variant.parent, backbone_of_parent(variant))
        for path in (folder / heads.CONFIG_FILE, folder / backbones.CONFIG_FILE)
        if path.exists()
    ]
    made_from = outputs.origin(
        name,
        variant,
        settings,
        read("seed", Seed),
        dtype(variant),
        devices.arithmetic(),
        [digests.digest(path) for path in manifests],
    )
    need = copies(settings) * backbones.weight_bytes(model)
    outs = (MODELS_DIR / name, *reports(name))
    # Processes that train together start together, so none resumes from its own state.
    kept = made_from if distribution.processes() == 1 else None
    return outputs.writing(*outs, made_from=kept, need=need)


def copies(settings: Train) -> int:
    """Largest number of copies of the weights on the disk: in the state one, one as the best, the
    optimiser's moments and the average; all of these twice while it is replaced; and the out."""
    return 2 * (2 + MOMENTS[settings.optimizer] + bool(settings.ema_momentum)) + 1


def backbone_of_parent(variant: Variant) -> Path:
    """Where the backbone lies that the variant starts from."""
    parent = MODELS_DIR / variant.parent
    return parent if variant.parent == variant.backbone else parent / backbones.BACKBONE_FOLDER


def head_config(variant: Variant, features: Features) -> tuple[HeadConfig, dict[str, Statistics]]:
    """Configuration of the variant's head, and the statistics of its taps, coarsest first."""
    taps = backbones.from_coarse(features.taps, variant.stride)
    statistics = {tap: Statistics.of(features.taps[tap]) for tap in taps}
    dataset = Dataset.load()
    config = HeadConfig(
        decoder=variant.decoder,
        width=variant.width if variant.decoder != "fcn" else 0,
        context=variant.context,
        stride=variant.stride,
        channels={tap: len(statistics[tap].mean) for tap in taps},
        classes=features.classes,
        image_size=features.image_size,
        fit=dataset.fit,
        tiling=dataset.tiling,
        cut_from=dataset.cut_from,
        greys=dataset.greys,
        backbone=variant.backbone,
        backbone_weights=features.backbone_weights,
    )
    return config, statistics


def start_from_parent(
    head: keras.Model, variant: Variant, config: HeadConfig, statistics: dict[str, Statistics]
) -> None:
    """Initialise a head on standardised activations from that of its parent.

    Args:
        head: to initialise.
        variant: of the head; names the parent.
        config: the head's classes and channels, and the backbone that the parent should have.
        statistics: of each tap.

    Raises:
        UserError: the parent has other classes, or was trained on another backbone.
    """
    if variant.parent == variant.backbone:
        return
    folder = MODELS_DIR / variant.parent
    parent = heads.load_config(folder)
    differences = {
        "backbone": parent.backbone_weights != config.backbone_weights,
        "number of channels": not parent.channels.items() <= config.channels.items(),
        "classes": parent.classes != config.classes,
    }
    for what, differs in differences.items():
        if differs:
            raise UserError(
                f"{folder}/ has another {what} than {FEATURES_DIR / variant.backbone}/; "
                f"`dvc repro train@{variant.parent}` trains it again"
            )
    heads.transfer(
        heads.load(folder), head, lambda tap, weights: standardised.unfold(weights, statistics[tap])
    )


def pixel_loss(settings: Train) -> PixelLoss:
    """The loss for these settings."""
    pixels = Dataset.load().pixels["train"]
    return PixelLoss(
        len(pixels),
        class_weights(settings.class_weights, pixels),
        settings.label_smoothing,
        settings.dice,
        settings.jaccard,
    )
