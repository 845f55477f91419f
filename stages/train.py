"""Stage `train@VARIANT`: one variant, trained as its `train` says.

    head:    data/features/, models/PARENT/                -> models/VARIANT/
    network: data/records/, models/backbone/, models/PARENT/ -> models/VARIANT/
    both:    reports/VARIANT/history.csv

A variant starts from its parent's scores, and the score layer that it adds starts at zero, so
before its first step it says what its parent says. The start counts as epoch 0, and the weights of
the epoch with the best validation mean IoU are kept.
"""

import keras

from stages.shared import activations, devices, errors, fcn, params, precision, training, vgg
from stages.shared.activations import Features, SplitReader
from stages.shared.augmentation import Augmentation
from stages.shared.dataset import Dataset
from stages.shared.fcn import HeadConfig, Statistics
from stages.shared.losses import PixelLoss
from stages.shared.outputs import MODELS_DIR, REPORTS_DIR
from stages.shared.params import Train, Variant
from stages.shared.records import PictureReader
from stages.shared.training import Batches


def train(name: str) -> None:
    """Train the variant `name` and store it.

    Raises:
        UserError: the loss is not finite, or a class weight is for no class.
    """
    variant = params.read(f"variants.{name}")
    settings = variant.training(params.read("train"))
    keras.utils.set_random_seed(params.read("seed"))
    TRAININGS[variant.train](name, variant, settings)


def train_head(name: str, variant: Variant, settings: Train) -> None:
    """Train the score layers on the stored activations."""
    features = Features.load()
    config, statistics = head_config(variant, features)
    head = fcn.head(config, statistics, settings.dropout, features.image_size)
    start_from_parent(head, variant, statistics)

    taps, seed = list(config.channels), params.read("seed")
    training.fit(
        activations.on_stored(head),
        pixel_loss(settings),
        Batches(SplitReader(features, "train", taps), settings.batch_size, seed),
        Batches(SplitReader(features, "validation", taps), settings.batch_size),
        settings,
        name,
        REPORTS_DIR / name / "history.csv",
    )
    fcn.save_head(fcn.folded(head, config, statistics), config, MODELS_DIR / name)


def train_network(name: str, variant: Variant, settings: Train) -> None:
    """Train the backbone and the score layers together, on augmented pictures."""
    features, dataset, seed = Features.load(), Dataset.load(), params.read("seed")
    config, statistics = head_config(variant, features)
    policy = precision.policy(params.read("precision"))
    with devices.all_gpus():
        parents_backbone = vgg.backbone_dir(MODELS_DIR / variant.parent)
        backbone = vgg.load(parents_backbone, policy)
        head = fcn.head(config, statistics, settings.dropout)
        start_from_parent(head, variant, statistics)
        network = fcn.network(backbone, head)
        training.fit(
            network,
            pixel_loss(settings),
            Batches(
                PictureReader(dataset, "train"),
                settings.batch_size,
                seed,
                Augmentation(variant.augmentation),
            ),
            Batches(PictureReader(dataset, "validation"), settings.batch_size),
            settings,
            name,
            REPORTS_DIR / name / "history.csv",
            policy,
        )
    folder = MODELS_DIR / name
    fcn.save_head(fcn.folded(head, config, statistics), config, folder)
    vgg.save(backbone, vgg.load_config(parents_backbone), folder / vgg.OWN_BACKBONE)


TRAININGS = {"head": train_head, "network": train_network}


def head_config(variant: Variant, features: Features) -> tuple[HeadConfig, dict[str, Statistics]]:
    """What the variant's head is, and the statistics of the taps that it scores."""
    taps = fcn.taps_of(variant.stride)
    statistics = {tap: features.taps[tap].statistics for tap in taps}
    config = HeadConfig(
        stride=variant.stride,
        channels={tap: len(statistics[tap].mean) for tap in taps},
        classes=features.classes,
    )
    return config, statistics


def start_from_parent(
    head: keras.Model, variant: Variant, statistics: dict[str, Statistics]
) -> None:
    """Give a head on standardised activations its parent's scores."""
    if variant.parent != "backbone":
        parent = fcn.scores(fcn.load_head(MODELS_DIR / variant.parent))
        fcn.set_scores(head, {t: fcn.unfold(s, statistics[t]) for t, s in parent.items()})


def pixel_loss(settings: Train) -> PixelLoss:
    """The loss that the settings ask for."""
    pixel_share = Dataset.load().pixel_share["train"]
    return PixelLoss(
        len(pixel_share),
        training.class_weights(settings.class_weights, pixel_share),
        settings.label_smoothing,
        settings.dice,
    )


if __name__ == "__main__":
    errors.run_stage(train, "VARIANT")
